"""The picture of a replay: accuracy, drift, alerts and releases over the months."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.support.pages.palette import colour

if TYPE_CHECKING:
    import polars as pl

    from slipway.examples.flights.replay.records import Released, Served

SERVED, KEPT, ALARM, QUIET, BELOW = (
    colour(name) for name in ("model", "other", "bad", "good", "line")
)
_ABOVE: dict[str, Any] = {
    "loc": "lower left", "bbox_to_anchor": (0, 1), "fontsize": 8, "frameon": False, "ncols": 3,
    "borderaxespad": 0.2, "columnspacing": 1.2,
}  # fmt: skip
"""Where legends stand: above their axes, where no line is."""
_FLOOR, _NAMED = 0.55, 0.565
"""Where the accuracy's axis begins, and where the versions are named: below every line."""


def draw(
    path: Path, windows: list["Served"], released: list["Released"], rows: "pl.DataFrame"
) -> None:
    """Writes the picture.

    Args:
        path: the PNG.
        windows: what was monitored so far.
        released: the models, and what each learnt from and was tested on.
        rows: all rows: the share of positives among the labelled by week stands in the background.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        5, 1, figsize=(11, 11.5), sharex=True, height_ratios=[3, 1.4, 1.4, 1.4, 1.6],
        layout="constrained",
    )  # fmt: skip
    _accuracy(axes[0], windows, rows)
    _auc(axes[1], windows)
    _drift(axes[2], windows)
    _alerts(axes[3], windows)
    _releases(axes[4], released)
    refused = [window for window in windows if window.retrained == "fail"]
    for axis in axes:
        for release in released:
            axis.axvline(_at(release.at), color=QUIET, linewidth=1.2, linestyle="--")
        for window in refused:
            axis.axvline(_span(window)[1], color=ALARM, linewidth=1.2, linestyle=":")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_title(windows, released), x=0.01, ha="left", fontsize=11)
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    partial.replace(path)


def _title(windows: list["Served"], released: list["Released"]) -> str:
    """What the picture says, counted from what it shows: for retraining and against it."""
    pairs = {
        name: [
            (own, kept)
            for w in windows
            if (own := getattr(w, name)) is not None and (kept := w.kept[name]) is not None
        ]
        for name in ("auc", "accuracy")
    }
    ranked, called = (sum(own > kept for own, kept in pairs[name]) for name in pairs)
    known = pairs["auc"]
    return (
        f"Against the first model, had it stayed: retrained models rank better (AUC) in {ranked} of"
        f" {len(known)} windows,\nand are more accurate, each at its own threshold, in {called}."
        f" {len(released)} models passed the gate."
    )


def _accuracy(axis: Any, windows: list["Served"], rows: "pl.DataFrame") -> None:
    import polars as pl

    from slipway.components.contracts.splits import LABEL, TIME

    weekly = rows.group_by_dynamic(TIME, every="1w").agg(pl.col(LABEL).mean())
    axis.fill_between(
        weekly[TIME].to_list(), 1 - weekly[LABEL], 0, color=BELOW, alpha=0.5, step="post", linewidth=0,
        label="always answering no",
    )  # fmt: skip
    known = [w for w in windows if w.accuracy is not None]
    middle = [_middle(w) for w in known]
    values = [w.accuracy for w in known]
    if known:
        errors = [
            [w.accuracy - (w.interval or (w.accuracy,) * 2)[0] for w in known],  # type: ignore[operator]
            [(w.interval or (w.accuracy,) * 2)[1] - w.accuracy for w in known],  # type: ignore[operator]
        ]
        axis.errorbar(
            middle, values, errors, color=SERVED, marker="o", capsize=3, label="served, 95 %"
        )
        axis.plot(
            middle, [w.kept["accuracy"] for w in known], color=KEPT, marker="x", linestyle=":",
            label="the first model, had it stayed",
        )  # fmt: skip
    for window, at in zip(known, middle, strict=True):
        axis.hlines(
            window.release_accuracy, *_span(window), color=SERVED, linewidth=0.8, linestyle="--",
            label="at its release" if window is known[0] else None,
        )  # fmt: skip
        axis.annotate(
            f"v{window.version}\n{window.accuracy:.3f}", (at, _NAMED), ha="center", fontsize=8,
            color=SERVED,
        )  # fmt: skip
    axis.plot([], [], color=QUIET, linewidth=1.2, linestyle="--", label="a model is released")
    axis.plot([], [], color=ALARM, linewidth=1.2, linestyle=":", label="the gate refuses one")
    axis.set_ylabel("accuracy")
    axis.set_ylim(_FLOOR, 0.92)
    axis.legend(**_ABOVE)


def _auc(axis: Any, windows: list["Served"]) -> None:
    """What retraining gives whatever threshold was chosen."""
    known = [w for w in windows if w.auc is not None]
    middle = [_middle(w) for w in known]
    axis.plot(middle, [w.auc for w in known], color=SERVED, marker="o", label="served")
    axis.plot(
        middle, [w.kept["auc"] for w in known], color=KEPT, marker="x", linestyle=":",
        label="the first model, had it stayed",
    )  # fmt: skip
    axis.set_ylabel("AUC")
    axis.legend(**_ABOVE)


def _drift(axis: Any, windows: list["Served"]) -> None:
    for window in windows:
        start, end = _span(window)
        fired = "DATA_DRIFT" in window.alerts
        axis.bar(
            start, window.drift or 0, width=(end - start) * 0.96, align="edge",
            color=ALARM if fired else KEPT,
        )  # fmt: skip
    from matplotlib.patches import Patch

    axis.legend(
        handles=[
            Patch(color=ALARM, label="beyond the limit: DATA_DRIFT"),
            Patch(color=KEPT, label="within it"),
        ],
        **_ABOVE,
    )
    axis.set_ylabel("features drifted")
    axis.set_ylim(0, 1)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])


def _alerts(axis: Any, windows: list["Served"]) -> None:
    names = sorted({name for window in windows for name in window.alerts})
    for i, name in enumerate(names):
        for window in windows:
            if name in window.alerts:
                axis.plot(_middle(window), i, marker="s", markersize=11, color=ALARM)
    for window in windows:
        if not window.alerts:
            axis.annotate("nothing", (_middle(window), -0.9), ha="center", fontsize=8, color=QUIET)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(-1.2, max(len(names) - 0.4, 0.5))


def _releases(axis: Any, released: list["Released"]) -> None:
    shades = {"train": "#c9d8ea", "validation": "#e3d9b8", "test": "#cfe3d3"}
    for i, release in enumerate(released):
        for part, (start, end) in release.parts.items():
            axis.barh(
                -i, _at(end) - _at(start), left=_at(start), height=0.6, color=shades[part],
                label=part if i == 0 else None,
            )  # fmt: skip
    # Beside the axis, where no line crosses them.
    said = [
        ", ".join(
            [
                f"v{r.version}",
                *(f"{name} {value:.3f}" for name, value in r.metrics.items() if value),
            ]
        )
        for r in released
    ]
    axis.set_yticks([-i for i in range(len(released))], said, fontsize=8)
    axis.set_ylabel("releases")
    axis.set_ylim(-len(released) + 0.3, 0.7)
    axis.legend(**_ABOVE)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _span(window: "Served") -> tuple[datetime, datetime]:
    return _at(window.window[0]), _at(window.window[1])


def _middle(window: "Served") -> datetime:
    start, end = _span(window)
    return start + (end - start) / 2
