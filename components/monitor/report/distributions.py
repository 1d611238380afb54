"""Both distributions of a feature, as a picture with axes."""

import html
import itertools

import numpy as np

from slipway.components.monitor.measures.sketch import CategorySketch, NumericSketch, Sketch
from slipway.components.support.pages import digits

BARS = 24
VALUES = 8
_WIDTH, _HEIGHT, _LEFT, _BELOW = 320.0, 96.0, 34.0, 14.0
_LINE = 16.0


def picture(reference: Sketch, window: Sketch, name: str) -> str:
    """An SVG of both: the reference's bars wide behind, the window's narrow before them."""
    if isinstance(reference, NumericSketch) and isinstance(window, NumericSketch):
        names, old, new = _numeric_bars(reference, window)
        return _upright(name, names, old, new) if names else ""
    assert isinstance(reference, CategorySketch)  # noqa: S101 - same kind on both sides
    assert isinstance(window, CategorySketch)  # noqa: S101
    names, old, new = _category_bars(reference, window)
    return _lying(name, names, old, new) if names else ""


def _bars(shapes: list[str], name: str, width: float, height: float) -> str:
    said = html.escape(f"Distribution of {name}: reference and window")
    return (
        f'<svg class="dist" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{said}">'
        f"{''.join(shapes)}</svg>"
    )


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        f' style="fill:var(--{colour})"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _title(name: str, before: float, after: float) -> str:
    said = f"{name}: {digits.share(before)} in the reference, {digits.share(after)} in the window"
    return f"<title>{html.escape(said)}</title>"


def _upright(name: str, names: list[str], old: list[float], new: list[float]) -> str:
    top = max(*old, *new, 1e-9)
    room, high = _WIDTH - _LEFT, _HEIGHT - _BELOW - 8
    step, floor = room / len(names), _HEIGHT - _BELOW
    shapes = [_rect(_LEFT, floor, room, 1, "soft"), _rect(_LEFT, 8, 1, high, "line")]
    for i, (bin_, before, after) in enumerate(zip(names, old, new, strict=True)):
        x, a, b = _LEFT + i * step, high * before / top, high * after / top
        shapes.append(
            f"<g>{_title(bin_, before, after)}{_rect(x, floor - a, step * 0.9, a, 'other')}"
            f"{_rect(x + step * 0.25, floor - b, step * 0.4, b, 'champion')}</g>"
        )
    first, middle, last = names[0], names[len(names) // 2], names[-1]
    shapes += [
        _text(_LEFT, _HEIGHT - 3, first.split(" to ")[0]),
        _text(_LEFT + room / 2, _HEIGHT - 3, middle.split(" to ")[0], "middle"),
        _text(_WIDTH, _HEIGHT - 3, last.split(" to ")[1], "end"),
        _text(_LEFT - 3, 14, digits.share(top, 0), "end"),
        _text(_LEFT - 3, floor, "0 %", "end"),
    ]
    return _bars(shapes, name, _WIDTH, _HEIGHT)


def _lying(name: str, names: list[str], old: list[float], new: list[float]) -> str:
    top, left = max(*old, *new, 1e-9), 110.0
    room = _WIDTH - left - 40
    shapes = []
    for i, (value, before, after) in enumerate(zip(names, old, new, strict=True)):
        y = i * _LINE
        shown = value if len(value) <= 18 else value[:17] + "…"
        shapes.append(
            f"<g>{_title(value, before, after)}{_text(left - 4, y + 10, shown, 'end')}"
            f"{_rect(left, y + 1, room * before / top, 12, 'other')}"
            f"{_rect(left, y + 4, room * after / top, 6, 'champion')}"
            f"{_text(left + room * max(before, after) / top + 4, y + 10, digits.share(after))}</g>"
        )
    return _bars(shapes, name, _WIDTH, len(names) * _LINE)


def _numeric_bars(
    reference: NumericSketch, window: NumericSketch
) -> tuple[list[str], list[float], list[float]]:
    if not reference.rows or not window.rows:
        return [], [], []
    low, high = _quantile(reference, 0.01), _quantile(reference, 0.99)
    low = min(low, max(_quantile(window, 0.01), low - (high - low)))
    high = max(high, min(_quantile(window, 0.99), high + (high - low)))
    if low >= high:
        low, high = low - 0.5, high + 0.5
    cuts = np.linspace(low, high, BARS + 1)
    shares = []
    for sketch in (reference, window):
        share = np.diff([_below(sketch, cut) for cut in cuts[:-1]] + [1.0])
        share[0] += _below(sketch, cuts[0])
        shares.append([float(value) for value in share])
    names = [f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(cuts)]
    return names, shares[0], shares[1]


def _quantile(sketch: NumericSketch, share: float) -> float:
    bin_ = int(np.searchsorted(np.cumsum(sketch.counts), share * sketch.rows))
    ends = np.clip(sketch.edges, sketch.low, sketch.high)
    return float(ends[min(bin_, len(ends) - 1)])


def _below(sketch: NumericSketch, value: float) -> float:
    """Share of the values below `value`, linear inside bins."""
    ends = np.concatenate(
        [[sketch.low], np.clip(sketch.edges, sketch.low, sketch.high), [sketch.high]]
    )
    shares = np.concatenate([[0.0], np.cumsum(sketch.counts) / sketch.rows])
    return float(np.interp(value, ends, shares))


def _category_bars(
    reference: CategorySketch, window: CategorySketch
) -> tuple[list[str], list[float], list[float]]:
    n, m = max(reference.rows, 1), max(window.rows, 1)
    share = {
        value: (reference.counts.get(value, 0) / n, window.counts.get(value, 0) / m)
        for value in reference.counts.keys() | window.counts.keys()
    }
    shown = sorted(share, key=lambda value: (-max(share[value]), value))[:VALUES]
    old, new = [share[v][0] for v in shown], [share[v][1] for v in shown]
    if len(share) > VALUES:
        shown.append(f"{len(share) - VALUES} other values")
        old.append(max(1 - sum(old), 0.0))
        new.append(max(1 - sum(new), 0.0))
    return shown, old, new
