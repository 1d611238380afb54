"""What the model card shows besides its text: plots as SVG that stands alone, and tables.

Here is what all kinds of label share, and the plots of two classes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipway.components.metrics.binary import from_counts
from slipway.components.metrics.tally import Tally
from slipway.components.support.pages.palette import colour
from slipway.components.support.pages.plots import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
"""Where a legend stands whose plot has lines everywhere."""
_POINTS = 300
_LINES = {"precision": "third", "recall": "champion", "accuracy": "other", "f1": "model"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardTable:
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
    tables: tuple[CardTable, ...] = ()


def _colour(name: str) -> str:
    return colour(name if name in ("model", "champion") else "other")


def _line(name: str) -> str:
    """The model and the champion are drawn through; what they are held against is dashed."""
    return "-" if name in ("model", "champion") else "--"


def _pad(axes: "Axes") -> None:
    """Room for the ends, so that no curve lies on the frame."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def roc_plot(tallies: dict[str, Tally]) -> str:
    """ROC curves of all models."""

    def paint(axes: "Axes") -> None:
        axes.plot(
            [0, 1], [0, 1], color=colour("other"), linewidth=0.8, linestyle=":", label="chance"
        )
        for name, tally in tallies.items():
            false, true, _ = tally.roc(_POINTS)
            label = f"{name} (AUC {tally.measure()['auc']:.3f})"
            axes.plot(false, true, _line(name), label=label, color=_colour(name))
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        _pad(axes)
        axes.legend(loc="lower right")

    return draw(paint, "ROC curve: true positive rate against false positive rate")


def precision_recall_plot(tallies: dict[str, Tally]) -> str:
    """Precision against recall of all models."""

    def paint(axes: "Axes") -> None:
        for name, tally in tallies.items():
            _, counts = tally.reached()
            all_rows = counts[-1]
            # The first rows alone say nothing about precision: their handful of counts only jumps.
            counts = counts[counts.sum(1) >= 50]
            recall = counts[:, 1] / max(all_rows[1], 1)
            axes.plot(
                recall, counts[:, 1] / counts.sum(1), _line(name), label=name, color=_colour(name)
            )
        negatives, positives = next(iter(tallies.values())).reached()[1][-1]
        rate = positives / max(negatives + positives, 1)
        axes.axhline(rate, color=colour("other"), linewidth=0.8, linestyle=":", label="chance")
        axes.set(xlabel="recall", ylabel="precision")
        _pad(axes)
        axes.legend(**_ABOVE, ncols=3)

    return draw(paint, "Precision against recall")


def calibration_plot(tallies: dict[str, Tally]) -> str:
    """What share was positive where the model said p; the bars below show where its rows are."""
    import numpy as np

    def paint(axes: "Axes") -> None:
        axes.plot(
            [0, 1], [0, 1], color=colour("other"), linewidth=0.8, linestyle=":", label="perfect"
        )
        bars = next(iter(tallies.values())).calibration[0, :, :, 0].sum(0)
        places = (np.arange(len(bars)) + 0.5) / len(bars)
        heights = 0.2 * bars / max(bars.max(), 1)
        axes.bar(places, heights, 0.9 / len(bars), color=colour("model"), alpha=0.25, label="rows")
        for name, tally in tallies.items():
            rows, said, positive = tally.calibration[0].sum(0).T
            seen = rows >= 20
            axes.plot(
                said[seen] / rows[seen],
                positive[seen] / rows[seen],
                _line(name),
                marker="o",
                markersize=3,
                label=f"{name} (error {tally.measure()['calibration_error']:.3f})",
                color=_colour(name),
            )
        axes.set(xlabel="predicted probability", ylabel="share that was positive")
        _pad(axes)
        axes.legend(**_ABOVE, ncols=2)

    return draw(paint, "Calibration: share that was positive against the predicted probability")


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
            shown = name.replace("f1", "F1")
            axes.plot(thresholds, values, style, label=shown, color=colour(_LINES[name]))
        axes.axvline(threshold, color=colour("ink"), linewidth=1, label="in use")
        axes.set(xlabel=f"threshold (the model's: {threshold:.3f})")
        _pad(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.1, 1), ncols=5, columnspacing=1)

    return draw(paint, "Accuracy, F1, precision and recall at every threshold")


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
