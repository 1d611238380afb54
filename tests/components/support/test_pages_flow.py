"""The picture of a run's stages: every box, and an arrow for each wait that no other wait explains."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from slipway.components.support.pages.flow import Step, draw_flow

STEPS = (
    Step(name="features", says="1 s", state="good"),
    Step(name="train", says="2 s", state="good", needs=("features",)),
    Step(name="look <again>", says="3 s", state="bad", needs=("features",)),
    Step(
        name="register",
        says="skipped",
        state="skipped",
        needs=("features", "train", "look <again>"),
    ),
)


def points(svg: str, tag: str) -> list[dict[str, str]]:
    return [one.attrib for one in ElementTree.fromstring(svg) if one.tag == tag]


@pytest.mark.parametrize("down", [False, True])
def test_boxes_lie_apart_and_arrows_lead_from_what_was_waited_for(down: bool) -> None:
    svg = draw_flow(STEPS, "A & B", down=down)
    boxes = points(svg, "rect")
    assert len(boxes) == 4
    along, across = ("y", "x") if down else ("x", "y")
    first, train, look, register = (float(box[along]) for box in boxes)
    assert first < train == look < register
    assert boxes[1][across] != boxes[2][across]
    # features → register is left out: it follows from the two between.
    assert len(points(svg, "line")) == len(points(svg, "polygon")) == 4
    assert [box for box in boxes if "stroke-dasharray" in box] == [boxes[3]]
    assert "var(--bad)" in boxes[2]["style"] and "var(--good)" in boxes[1]["style"]
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "A & B"
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    for box in boxes:
        assert float(box["x"]) + float(box["width"]) < width
        assert float(box["y"]) + float(box["height"]) < height
    assert "look &lt;again&gt;" in svg and not re.search(r"#[0-9a-f]{6}", svg)
