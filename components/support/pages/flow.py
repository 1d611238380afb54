"""Steps and what each waited for, drawn as boxes with arrows: an SVG that follows the page's colours."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

_LONG, _SHORT = (101.0, 54.0), (210.0, 46.0)
_GAP, _ROOM, _HEAD = 16.0, 12.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A box.

    Attributes:
        name: what it is called.
        says: the line below, such as how long it took.
        state: of the palette; empty: it says nothing, and "skipped": it was not reached.
        needs: the steps that it waited for.
    """

    name: str
    says: str
    state: str = ""
    needs: tuple[str, ...] = ()


def draw_flow(steps: Sequence[Step], describes: str, *, down: bool) -> str:
    """The steps in columns from left to right, or in rows from top to bottom.

    Args:
        steps: in an order in which they can run; those that one needs come before it.
        describes: what the picture shows, for who cannot see it.
        down: from top to bottom, for a narrow page.
    """
    width, height = _SHORT if down else _LONG
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = max((depth[n] + 1 for n in step.needs), default=0)
    beside: dict[int, list[str]] = {}
    for name, level in depth.items():
        beside.setdefault(level, []).append(name)
    along, across = (height + _GAP, width + _ROOM) if down else (width + _GAP, height + _ROOM)
    corner = {}
    for level, names in beside.items():
        for place, name in enumerate(names):
            corner[name] = (
                (place * across, level * along) if down else (level * along, place * across)
            )
    shapes = [
        _arrow(corner[need], corner[step.name], (width, height), down)
        for step in steps
        for need in _nearest(step, steps)
    ]
    shapes += [_box(step, corner[step.name], (width, height)) for step in steps]
    right = max(x for x, _ in corner.values()) + width + 2
    below = max(y for _, y in corner.values()) + height + 2
    return (
        f'<svg viewBox="-1 -1 {right:.0f} {below:.0f}" width="{right:.0f}" role="img"'
        f' aria-label="{html.escape(describes)}">{"".join(shapes)}</svg>'
    )


def _nearest(step: Step, steps: Sequence[Step]) -> list[str]:
    """What a step needs and nothing else that it needs does: the rest follows."""
    needs = {one.name: one.needs for one in steps}
    further: set[str] = set()
    found = [need for name in step.needs for need in needs[name]]
    while found:
        name = found.pop()
        if name not in further:
            further.add(name)
            found += needs[name]
    return [name for name in step.needs if name not in further]


def _box(step: Step, at: tuple[float, float], size: tuple[float, float]) -> str:
    (x, y), (width, height) = at, size
    skipped = step.state == "skipped"
    colour = "soft" if step.state in ("", "skipped") else step.state
    dashes = ' stroke-dasharray="4 3"' if skipped else ""
    panel = "paper" if skipped else "panel"
    ink = "soft" if skipped else "ink"
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.0f}" height="{height:.0f}" rx="5"{dashes}'
        f' style="fill:var(--{panel});stroke:var(--{colour});stroke-width:1.5"/>'
        f'<text x="{x + 9:.1f}" y="{y + height / 2 - 4:.1f}" font-size="13" font-weight="600"'
        f' style="fill:var(--{ink})">{html.escape(step.name)}</text>'
        f'<text x="{x + 9:.1f}" y="{y + height / 2 + 13:.1f}" font-size="12"'
        f' style="fill:var(--soft)">{html.escape(step.says)}</text>'
    )


def _arrow(
    start: tuple[float, float], end: tuple[float, float], size: tuple[float, float], down: bool
) -> str:
    """From the side of a box to the facing side of a later one."""
    width, height = size
    if down:
        x, y = start[0] + width / 2, start[1] + height
        to_x, to_y = end[0] + width / 2, end[1]
        tip = f"{to_x:.1f},{to_y:.1f} {to_x - _HEAD:.1f},{to_y - 7:.1f} {to_x + _HEAD:.1f},{to_y - 7:.1f}"
        to_y -= 6
    else:
        x, y = start[0] + width, start[1] + height / 2
        to_x, to_y = end[0], end[1] + height / 2
        tip = f"{to_x:.1f},{to_y:.1f} {to_x - 7:.1f},{to_y - _HEAD:.1f} {to_x - 7:.1f},{to_y + _HEAD:.1f}"
        to_x -= 6
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
        ' style="stroke:var(--soft);stroke-width:1.5"/>'
        f'<polygon points="{tip}" style="fill:var(--soft)"/>'
    )
