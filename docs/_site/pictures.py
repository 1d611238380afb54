"""The pictures of the pages, drawn from a few lines each: run this file.

Committed as SVG, so that they show on a page without any script, offline, in print and in a repository's browser. Boxes
are light with dark text, lines in a middle grey: they read on a light page and on a dark one.
"""

import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "pictures"
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 166, 54, 62, 46, 14
LINE = "#7b8794"
# Kind of box: fill and border.
KINDS = {
    "stage": ("#dbe7ff", "#3b6fd4"),
    "data": ("#e6f4ea", "#3c9a5f"),
    "gate": ("#ffe9d6", "#d9772b"),
    "store": ("#efe6fa", "#8358c4"),
    "stop": ("#fde2e2", "#c94a4a"),
    "person": ("#fff6cf", "#b8920f"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Boxes on a grid, and arrows between them.

    Attributes:
        title: what it shows, for those who do not see it.
        boxes: name to column, row, kind and text; lines of the text are parted by "/".
        arrows: from, to, and the text beside it.
    """

    title: str
    boxes: dict[str, tuple[float, float, str, str]]
    arrows: list[tuple[str, str, str]] = field(default_factory=list)


PICTURES = {
    "pipeline": Picture(
        title="Tables go through ingest, validate, features and train to the gate; what passes is registered, deployed and"
        " monitored, and monitoring starts the next training.",
        boxes={
            "tables": (0, 0, "data", "your tables"),
            "ingest": (1, 0, "stage", "ingest"),
            "validate": (2, 0, "stage", "validate"),
            "features": (3, 0, "stage", "features"),
            "train": (4, 0, "stage", "train"),
            "quarantine": (2, 1, "stop", "quarantine:/bad rows, with reasons"),
            "feast": (3, 1, "store", "Feast"),
            "evaluate": (4, 1, "gate", "evaluate: the gate"),
            "stop": (4, 2, "stop", "nothing changes"),
            "register": (3, 2, "stage", "register"),
            "deploy": (2, 2, "stage", "deploy"),
            "endpoint": (1, 2, "data", "endpoint"),
            "monitor": (0, 2, "stage", "monitor"),
        },
        arrows=[
            ("tables", "ingest", ""), ("ingest", "validate", ""), ("validate", "features", ""), ("features", "train", ""),
            ("validate", "quarantine", ""), ("features", "feast", ""), ("train", "evaluate", ""), ("evaluate", "stop", "fail"),
            ("evaluate", "register", "pass"), ("register", "deploy", ""), ("deploy", "endpoint", ""), ("endpoint", "monitor", "log"),
            ("monitor", "tables", "retraining"),
        ],
    ),
    "point-in-time": Picture(
        title="A prediction sees what was known at its moment; what became known later is not used.",
        boxes={
            "old": (0, 0, "data", "landed at 8:40:/known, used"),
            "near": (1, 0, "data", "landed at 9:55:/known, used"),
            "moment": (2, 0, "gate", "10:00/the prediction is made"),
            "late": (3, 0, "stop", "lands at 10:30:/not known yet"),
            "label": (4, 0, "person", "12:00 arrival:/the label"),
        },
        arrows=[("old", "near", ""), ("near", "moment", ""), ("moment", "late", ""), ("late", "label", "time")],
    ),
    "parts": Picture(
        title="The window is cut by time into train, validation and test; each has its use.",
        boxes={
            "train": (0, 0, "stage", "train/learns the weights"),
            "validation": (1, 0, "data", "validation/threshold, calibration"),
            "test": (2, 0, "gate", "test/the gate judges"),
            "later": (3, 0, "store", "later/monitoring compares"),
        },
        arrows=[("train", "validation", "time"), ("validation", "test", "time"), ("test", "later", "time")],
    ),
    "gate": Picture(
        title="The gate measures, applies every rule, and rehearses the predictor; one failed rule is a refusal.",
        boxes={
            "model": (0, 0, "data", "model"),
            "test": (0, 1, "data", "test part"),
            "champion": (0, 2, "store", "champion"),
            "measure": (1, 1, "stage", "measure,/with intervals"),
            "rules": (2, 1, "gate", "every rule:/a value it can check"),
            "rehearse": (2, 0, "stage", "rehearse/the predictor"),
            "pass": (3, 0, "data", "pass: register"),
            "fail": (3, 1, "stop", "fail: what, and/what to do"),
            "person": (3, 2, "person", "override: a named/person, a reason"),
        },
        arrows=[
            ("model", "measure", ""), ("test", "measure", ""), ("champion", "measure", ""), ("measure", "rules", ""),
            ("rules", "rehearse", ""), ("rehearse", "pass", ""), ("rules", "fail", ""), ("fail", "person", ""),
        ],
    ),
    "champion": Picture(
        title="A registered version is the challenger; it becomes the champion once it has answered as an endpoint.",
        boxes={
            "registered": (0, 0, "store", "version 4/challenger"),
            "asked": (1, 0, "stage", "asked golden rows/beside version 3"),
            "champion": (2, 0, "data", "version 4/champion"),
            "old": (2, 1, "store", "version 3/kept for rollback"),
            "refused": (1, 1, "stop", "answers wrongly or/slowly: version 3 stays"),
        },
        arrows=[("registered", "asked", ""), ("asked", "champion", "answers"), ("asked", "refused", ""), ("champion", "old", "rollback")],
    ),
    "monitoring": Picture(
        title="A window of the inference log is compared with the reference of the release; labels come later.",
        boxes={
            "log": (0, 0, "data", "inference log:/one window"),
            "reference": (0, 1, "store", "reference/of the release"),
            "labels": (0, 2, "data", "late labels"),
            "drift": (1, 0, "stage", "drift, skew"),
            "accuracy": (1, 2, "stage", "accuracy"),
            "record": (2, 1, "data", "record and report"),
            "alert": (3, 0, "person", "alert"),
            "retrain": (3, 1, "stage", "retraining:/the same gate"),
            "unknown": (3, 2, "stop", "too little data:/NO_DATA"),
        },
        arrows=[
            ("log", "drift", ""), ("reference", "drift", ""), ("labels", "accuracy", ""), ("log", "accuracy", ""),
            ("drift", "record", ""), ("accuracy", "record", ""), ("record", "alert", ""), ("record", "retrain", ""),
            ("record", "unknown", ""),
        ],
    ),
    "levels": Picture(
        title="Level 0 is a person at a command, level 1 a pipeline that runs by itself, level 2 changes that reach production"
        " by review.",
        boxes={
            "zero": (0, 0, "person", "level 0/slipway run"),
            "one": (1.15, 0, "stage", "level 1/slipway schedule"),
            "two": (2.3, 0, "gate", "level 2/a merged change"),
            "who0": (0, 1, "data", "one person,/one machine"),
            "who1": (1.15, 1, "data", "a cluster;/retrains itself"),
            "who2": (2.3, 1, "data", "dev, staging,/production"),
        },
        arrows=[("zero", "one", ""), ("one", "two", ""), ("zero", "who0", ""), ("one", "who1", ""), ("two", "who2", "")],
    ),
}  # fmt: skip


def draw(picture: Picture) -> str:
    """A picture as SVG text."""
    columns = max(box[0] for box in picture.boxes.values()) + 1
    rows = max(box[1] for box in picture.boxes.values()) + 1
    width = columns * WIDTH + (columns - 1) * ACROSS + 2 * MARGIN
    height = rows * HEIGHT + (rows - 1) * DOWN + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" font-family="system-ui,'
        f' sans-serif" font-size="13">\n<title>{escape(picture.title)}</title>\n<defs><marker id="end" viewBox="0 0 8 8"'
        f' refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="{LINE}"/>'
        "</marker></defs>\n"
    ]
    parts += [
        _arrow(picture.boxes[start], picture.boxes[end], text)
        for start, end, text in picture.arrows
    ]
    parts += [_box(*box) for box in picture.boxes.values()]
    return "".join(parts) + "</svg>\n"


def _corner(column: float, row: float) -> tuple[float, float]:
    return MARGIN + column * (WIDTH + ACROSS), MARGIN + row * (HEIGHT + DOWN)


def _box(column: float, row: float, kind: str, text: str) -> str:
    x, y = _corner(column, row)
    fill, border = KINDS[kind]
    lines = text.split("/")
    middle = y + HEIGHT / 2 + 4.5 - 8.5 * (len(lines) - 1)
    words = "".join(
        f'<text x="{x + WIDTH / 2:g}" y="{middle + 17 * i:g}" text-anchor="middle" fill="#1c2733">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="{border}"'
        f' stroke-width="1.5"/>{words}\n'
    )


def _arrow(
    start: tuple[float, float, str, str], end: tuple[float, float, str, str], text: str
) -> str:
    (x1, y1), (x2, y2) = (_corner(*box[:2]) for box in (start, end))
    x1, y1, x2, y2 = x1 + WIDTH / 2, y1 + HEIGHT / 2, x2 + WIDTH / 2, y2 + HEIGHT / 2
    a, b = _edge(x1, y1, x2, y2), _edge(x2, y2, x1, y1)
    line = (
        f'<line x1="{a[0]:g}" y1="{a[1]:g}" x2="{b[0]:g}" y2="{b[1]:g}" stroke="{LINE}" stroke-width="1.6"'
        ' marker-end="url(#end)"/>'
    )
    if text:
        upright = abs(x2 - x1) < abs(y2 - y1)
        x, y = (a[0] + b[0]) / 2 + (8 if upright else 0), (a[1] + b[1]) / 2 + (4 if upright else -7)
        anchor = "start" if upright else "middle"
        line += f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="12" fill="{LINE}">{escape(text)}</text>'
    return line + "\n"


def _edge(x: float, y: float, to_x: float, to_y: float) -> tuple[float, float]:
    """Where a line from a box's middle leaves the box, a little outside of it."""
    dx, dy = to_x - x, to_y - y
    share = min(
        (WIDTH / 2 + 3) / abs(dx) if dx else math.inf,
        (HEIGHT / 2 + 3) / abs(dy) if dy else math.inf,
    )
    return round(x + dx * share, 1), round(y + dy * share, 1)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(picture), encoding="utf-8")
