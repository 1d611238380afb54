"""What the model card shows of a number: answers against labels, residuals, and coverage."""

from typing import TYPE_CHECKING

from slipway.components.evaluate.card.plots import CardTable, Exhibits
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.support.pages import digits
from slipway.components.support.pages.palette import colour
from slipway.components.support.pages.plots import draw

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

_POINTS = 1000
_PARTS = 10


def show_numbers(labels: "np.ndarray", answers: "np.ndarray", label: LabelType) -> Exhibits:
    """Plots and a table of test rows with labels.

    Args:
        labels: float [N], at least one.
        answers: float [N, 3].
        label: the kind of label.
    """
    parts = _parts(answers[:, 0])
    return Exhibits(
        title="Answers against labels",
        figures=(
            ("Predicted against actual", scatter_plot(labels, answers)),
            ("Residuals by tenths of the predicted value", residual_plot(labels, answers, parts)),
        ),
        tables=(_table(labels, answers, parts, label),),
    )


def _parts(values: "np.ndarray") -> list["np.ndarray"]:
    """Rows in the order of their values, in tenths."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    return [part for part in np.array_split(order, _PARTS) if len(part)]


def scatter_plot(labels: "np.ndarray", answers: "np.ndarray") -> str:
    """Every n-th row: what was predicted, what it was, and the line where both are equal."""
    step = -(-len(labels) // _POINTS)
    values, actual = answers[::step, 0], labels[::step]

    def paint(axes: "Axes") -> None:
        ends = [min(values.min(), actual.min()), max(values.max(), actual.max())]
        axes.plot(
            ends, ends, color=colour("other"), linewidth=0.8, linestyle=":", label="exactly right"
        )
        axes.plot(
            actual, values, ".", markersize=3, alpha=0.4, color=colour("model"), label="a test row"
        )
        axes.set(xlabel="actual", ylabel="predicted")
        axes.legend(loc="upper left")

    return draw(paint, "What was predicted against what it was, of single test rows")


def residual_plot(labels: "np.ndarray", answers: "np.ndarray", parts: "list[np.ndarray]") -> str:
    """Median, quartiles, and 5 to 95 % of label less value in each tenth."""
    import numpy as np

    residuals = labels - answers[:, 0].astype(np.float64)
    spread = [np.quantile(residuals[part], [0.05, 0.25, 0.5, 0.75, 0.95]) for part in parts]

    def paint(axes: "Axes") -> None:
        axes.axhline(0, color=colour("other"), linewidth=0.8, linestyle=":")
        for place, (low, first, middle, third, high) in enumerate(spread, 1):
            names = ("5 to 95 %", "the middle half", "median") if place == 1 else (None,) * 3
            axes.plot(
                [place, place], [low, high], color=colour("model"), linewidth=1, label=names[0]
            )
            axes.plot(
                [place, place], [first, third], color=colour("model"), linewidth=6, label=names[1]
            )
            axes.plot(place, middle, "o", markersize=4, color=colour("champion"), label=names[2])
        axes.set(
            xlabel="tenth of the predicted value, lowest first", ylabel="actual less predicted"
        )
        axes.set_xticks(range(1, len(parts) + 1))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)

    return draw(paint, "How far the labels lie from the predicted value, by tenths of it")


def _table(
    labels: "np.ndarray", answers: "np.ndarray", parts: "list[np.ndarray]", label: LabelType
) -> CardTable:
    import numpy as np

    rows = []
    places = digits.decimals(float(np.abs(labels).mean()))
    for place, part in enumerate([*parts, np.arange(len(labels))], 1):
        measured = label.measure(labels[part], answers[part])
        rows.append(
            (
                str(place) if place <= len(parts) else "all",
                f"{len(part):,}",
                digits.number(answers[part, 0].mean(), places),
                digits.number(labels[part].mean(), places),
                digits.number(measured["mae"]),
                digits.share(measured["coverage"]),
                digits.number(measured["interval_width"]),
            )
        )
    level = label.settings["level"]
    return CardTable(
        caption="How many labels the intervals hold, by tenths of the predicted value:"
        f" {digits.share(level, 0)} is what they promise",
        header=("Tenth", "Rows", "Predicted", "Actual", "MAE", "Coverage", "Interval's width"),
        rows=tuple(rows),
    )
