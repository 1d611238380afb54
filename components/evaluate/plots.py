"""What the model card shows besides its text: plots as SVG that stands alone, and tables.

Here is what all kinds of label share, and the plots of two classes.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipway.components.config.kinds import Metric, metric_name
from slipway.components.evaluate.rules import SliceEvidence
from slipway.components.metrics.binary import from_counts
from slipway.components.metrics.tally import Tally

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"model": "#1f5fa8", "champion": "#c0562f"}
_OTHER = "#8a8f98"
_POINTS = 300
_SHOWN_SLICES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the card: its caption, the columns' names, and cells as they are shown."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibits:
    """What the card shows of a model's answers.

    Attributes:
        title: of the section. figures: caption and SVG of each.
    """

    title: str
    figures: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()


def draw(paint: "Callable[[Axes], None]", width: float = 5.2, height: float = 3.9) -> str:
    """One plot as an SVG element. Its text stays text, so that it can be read and searched."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "slipway"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.5)
        paint(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def _colour(name: str) -> str:
    return _COLOURS.get(name, _OTHER)


def colours() -> tuple[str, str]:
    """Of the model, and of what it is held against."""
    return _COLOURS["model"], _OTHER


def roc_plot(tallies: dict[str, Tally]) -> str:
    """ROC curves of all models."""

    def paint(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=_OTHER, linewidth=0.8, linestyle=":")
        for name, tally in tallies.items():
            false, true, _ = tally.roc(_POINTS)
            label = f"{name} ({tally.measure()['auc']:.4f})"
            axes.plot(false, true, label=label, color=_colour(name))
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.legend(loc="lower right", frameon=False)

    return draw(paint)


def precision_recall_plot(tallies: dict[str, Tally]) -> str:
    """Precision against recall of all models."""

    def paint(axes: "Axes") -> None:
        for name, tally in tallies.items():
            _, counts = tally.reached()
            # The first rows alone say nothing about precision: their handful of counts only jumps.
            counts = counts[counts.sum(1) >= 50]
            recall = counts[:, 1] / max(tally.class_rows()[1], 1)
            axes.plot(recall, counts[:, 1] / counts.sum(1), label=name, color=_colour(name))
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper right", frameon=False)

    return draw(paint)


def calibration_plot(tallies: dict[str, Tally]) -> str:
    """What share was positive where the model said p; the bars below show where its rows are."""
    import numpy as np

    def paint(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=_OTHER, linewidth=0.8, linestyle=":")
        bars = next(iter(tallies.values())).calibration[0, :, :, 0].sum(0)
        places = (np.arange(len(bars)) + 0.5) / len(bars)
        heights = 0.2 * bars / max(bars.max(), 1)
        axes.bar(places, heights, 0.9 / len(bars), color=_colour("model"), alpha=0.15)
        for name, tally in tallies.items():
            rows, said, positive = tally.calibration[0].sum(0).T
            seen = rows >= 20
            axes.plot(
                said[seen] / rows[seen],
                positive[seen] / rows[seen],
                marker="o",
                markersize=3,
                label=f"{name} (error {tally.measure()['calibration_error']:.4f})",
                color=_colour(name),
            )
        axes.set(xlabel="predicted probability", ylabel="share that was positive")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left", frameon=False)

    return draw(paint)


def threshold_plot(tally: Tally, threshold: float) -> str:
    """Accuracy, F1, precision and recall at every threshold, and the one that the model uses."""

    def paint(axes: "Axes") -> None:
        import numpy as np

        thresholds, counts = tally.reached()
        false, true = counts.T
        negatives, positives = counts[-1]
        lines = from_counts(true, false, positives, negatives + positives)
        # The first rows alone say nothing about precision: their handful of counts only jumps.
        lines["precision"] = np.where(false + true >= 50, lines["precision"], np.nan)
        for (name, values), style in zip(lines.items(), ("-", "--", "-.", ":"), strict=True):
            axes.plot(
                thresholds, values, style, label=name.replace("f1", "F1"), color=_colour("model")
            )
        axes.axvline(threshold, color=_COLOURS["champion"], linewidth=1)
        axes.set(xlabel=f"threshold (the model's: {threshold:.3f})", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)

    return draw(paint)


def slice_plot(slices: list[SliceEvidence], overall: float | None, metric: Metric = "auc") -> str:
    """A metric of each slice with its interval, against the champion's on the same rows."""
    shown = [part for part in slices if part.metrics][:_SHOWN_SLICES]

    def paint(axes: "Axes") -> None:
        for row, part in enumerate(reversed(shown)):
            own = part.metrics[metric]
            if own.value is None:
                continue
            if own.low is not None and own.high is not None:
                axes.plot([own.low, own.high], [row, row], color=_colour("model"), linewidth=1.5)
            axes.plot(own.value, row, "o", markersize=4, color=_colour("model"))
            difference = part.differences.get(metric)
            if difference is not None and difference.value is not None:
                axes.plot(own.value - difference.value, row, "|", color=_colour("champion"), ms=9)
        names = [f"{part.column} = {part.value}  ({part.rows:,})" for part in reversed(shown)]
        axes.set_yticks(range(len(shown)), names)
        if overall is not None:
            axes.axvline(overall, color=_OTHER, linewidth=0.8, linestyle=":")
        axes.set(xlabel=metric_name(metric), ylim=(-0.7, len(shown) - 0.3))

    return draw(paint, width=7.4, height=1.0 + 0.22 * max(len(shown), 1))


def show_binary(tallies: dict[str, Tally], threshold: float) -> Exhibits:
    """The curves of two classes; `tallies` has the model first."""
    model = next(iter(tallies.values()))
    return Exhibits(
        title="Curves",
        figures=(
            ("ROC", roc_plot(tallies)),
            ("Precision and recall", precision_recall_plot(tallies)),
            ("Calibration", calibration_plot(tallies)),
            ("What each threshold would give", threshold_plot(model, threshold)),
        ),
    )
