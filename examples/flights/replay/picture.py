"""The picture of a replay: how well it predicts, drift, alerts and releases over the months."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.kinds import LOWER_IS_BETTER, metric_name
from slipway.components.contracts.splits import LABEL, TIME
from slipway.components.support.pages import digits
from slipway.components.support.pages.palette import colour

if TYPE_CHECKING:
    import polars as pl

    from slipway.components.metrics.kinds.base import LabelType
    from slipway.examples.flights.replay.records import Released, Served

SERVED, KEPT, ALARM, QUIET, BELOW = (
    colour(name) for name in ("model", "other", "bad", "good", "line")
)
_ABOVE: dict[str, object] = {
    "loc": "lower left", "bbox_to_anchor": (0, 1), "fontsize": 8, "frameon": False, "ncols": 3,
    "borderaxespad": 0.2, "columnspacing": 1.2,
}  # fmt: skip
"""Where legends stand: above their axes, where no line is."""
_BELOW, _OVER = 0.25, 0.08
"""Of what is drawn, how much more the first axis has below, where the versions are named, and above."""


def draw(
    path: Path,
    windows: list["Served"],
    released: list["Released"],
    rows: "pl.DataFrame",
    label: "LabelType",
) -> None:
    """Writes the picture.

    Args:
        path: the PNG.
        windows: what was monitored so far.
        released: the models, and what each learnt from and was tested on.
        rows: all rows: what a constant answer would have by week stands in the background.
        label: their kind; its `lead` has the first panel, its first headline metric besides the second.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        5, 1, figsize=(11, 11.5), sharex=True, height_ratios=[2.6, 1.8, 1.4, 1.4, 1.6],
        layout="constrained",
    )  # fmt: skip
    first = next(name for name in label.headline if name != label.lead)
    _lead(axes[0], windows, label.lead)
    _second(axes[1], windows, first)
    _constant(axes[1], _weekly(rows, released, label, first), first)
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
    figure.suptitle(_title(windows, released, label.lead), x=0.01, ha="left", fontsize=11)
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    partial.replace(path)


def _title(windows: list["Served"], released: list["Released"], lead: str) -> str:
    """What the picture says, counted from what its first panel shows."""
    better, compared = _count_better(windows, lead)
    return (
        f"Retrained past the gate, what is served has a better {metric_name(lead)} than the first"
        f" model, had it stayed,\nin {better} of {compared} windows."
        f" {digits.counted(len(released), 'model')} passed the gate."
    )


def _count_better(windows: list["Served"], name: str) -> tuple[int, int]:
    """Windows in which what was served was better, of those that another model served than the first."""
    pairs = [
        (own, kept)
        for w in windows
        if w.version != windows[0].version
        and (own := w.metrics[name]) is not None
        and (kept := w.kept[name]) is not None
    ]
    lower = name in LOWER_IS_BETTER
    return sum(own < kept if lower else own > kept for own, kept in pairs), len(pairs)


def _lead(axis: Any, windows: list["Served"], name: str) -> None:
    """What is served with its interval, what it had at its release, and what the first model has."""
    known = [(w, value) for w in windows if (value := w.metrics[name]) is not None]
    middle = [_middle(w) for w, _ in known]
    spans = [w.intervals.get(name, (value, value)) for w, value in known]
    if known:
        values = [value for _, value in known]
        errors = [
            [value - low for value, (low, _) in zip(values, spans, strict=True)],
            [high - value for value, (_, high) in zip(values, spans, strict=True)],
        ]
        axis.errorbar(
            middle,
            values,
            errors,
            color=SERVED,
            marker="o",
            capsize=3,
            label="served, 95 %" if any(name in w.intervals for w, _ in known) else "served",
        )
        axis.plot(
            middle, [w.kept[name] for w, _ in known], color=KEPT, marker="x", linestyle=":",
            label="the first model, had it stayed",
        )  # fmt: skip
    drawn = [
        number
        for (w, value), span in zip(known, spans, strict=True)
        for number in (value, *span, w.kept[name], w.release[name])
        if number is not None
    ]
    low, high = (min(drawn), max(drawn)) if drawn else (0.0, 1.0)
    room = (high - low) or abs(high) or 1.0
    for (window, value), at in zip(known, middle, strict=True):
        if window.release[name] is not None:
            axis.hlines(
                window.release[name], *_span(window), color=SERVED, linewidth=0.8, linestyle="--",
                label="at its release" if window is known[0][0] else None,
            )  # fmt: skip
        axis.annotate(
            f"v{window.version}\n{digits.number(value)}", (at, low - 0.22 * room), ha="center",
            fontsize=8, color=SERVED,
        )  # fmt: skip
    axis.plot([], [], color=QUIET, linewidth=1.2, linestyle="--", label="a model is released")
    if any(w.retrained == "fail" for w in windows):
        axis.plot([], [], color=ALARM, linewidth=1.2, linestyle=":", label="the gate refuses one")
    axis.set_ylabel(metric_name(name))
    axis.set_ylim(low - _BELOW * room, high + _OVER * room)
    axis.legend(**_ABOVE)


def _weekly(
    rows: "pl.DataFrame", released: list["Released"], label: "LabelType", name: str
) -> list[tuple[datetime, float]]:
    """What the best constant answer has of a metric, week by week; of a number the training's mean."""
    import polars as pl

    told = rows.drop_nulls(LABEL)
    start, end = (_at(text) for text in released[0].parts["train"])
    train = told.filter(pl.col(TIME) >= start, pl.col(TIME) < end)[LABEL]
    facts = label.describe(train.to_numpy())
    found: list[tuple[datetime, float]] = []
    for (week,), group in told.sort(TIME).group_by_dynamic(TIME, every="1w"):
        best = label.constants(label.describe(group[LABEL].to_numpy()), facts)
        value = best.get(name)  # type: ignore[call-overload]
        if value and isinstance(week, datetime):
            found.append((week, value[0]))
    return found


def _constant(axis: Any, weekly: list[tuple[datetime, float]], name: str) -> None:
    """The side of a constant answer that a model must not be on."""
    far = axis.get_ylim()[1 if name in LOWER_IS_BETTER else 0]
    if weekly:
        axis.fill_between(
            [week for week, _ in weekly], [value for _, value in weekly], far, color=BELOW, alpha=0.5,
            step="post", linewidth=0, label="worse than the best constant answer",
        )  # fmt: skip
    axis.legend(**_ABOVE)


def _second(axis: Any, windows: list["Served"], name: str) -> None:
    """Another metric of both; of classes one that moves with the threshold too."""
    known = [w for w in windows if w.metrics[name] is not None]
    middle = [_middle(w) for w in known]
    axis.plot(
        middle,
        [w.metrics[name] for w in known],
        color=SERVED,
        marker="o",
        label="served: better in {} of {} windows".format(*_count_better(windows, name)),
    )
    axis.plot(
        middle, [w.kept[name] for w in known], color=KEPT, marker="x", linestyle=":",
        label="the first model, had it stayed",
    )  # fmt: skip
    axis.set_ylabel(metric_name(name))
    # As it is now: what a constant answer has may lie far beyond, and is no reason to flatten the lines.
    axis.set_ylim(*axis.get_ylim())


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
            axis.annotate("no alert", (_middle(window), -0.9), ha="center", fontsize=8, color=QUIET)
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
                *(
                    f"{metric_name(name)} {digits.number(value)}"
                    for name, value in r.metrics.items()
                    if value is not None
                ),
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
