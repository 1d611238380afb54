"""What the model card shows of several classes: each of them, and which are taken for which."""

from typing import TYPE_CHECKING

from slipway.components.evaluate.card.plots import CardTable, Exhibits
from slipway.components.support.pages import digits
from slipway.components.support.pages.palette import colour
from slipway.components.support.pages.plots import draw

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from slipway.components.metrics.multiclass_tally import MulticlassTally

MAX_DRAWN_CLASSES = 30
"""With more classes a confusion matrix is no picture that can be read."""
_MOST_WRITTEN = 12
_UPRIGHT = 36
"""Letters of all names together that stand side by side below a matrix."""
_LONGEST = 24
_DENSEST = 0.5
"""How opaque a full cell is: what is written on it can be read in light and in dark."""
_SHOWN_CLASSES = 100
_SHOWN_PAIRS = 30


def show_classes(tally: "MulticlassTally", names: tuple[str, ...]) -> Exhibits:
    """A table of the classes, and the confusion matrix or, of many classes, its largest mistakes."""
    import numpy as np

    counts = np.array(tally.confusion())
    tables = [_class_table(tally, names, counts)]
    figures = []
    if len(names) <= MAX_DRAWN_CLASSES:
        figures.append(("Which class is called which", confusion_plot(counts, names)))
    else:
        tables.append(_pair_table(counts, names))
    return Exhibits(title="Classes", figures=tuple(figures), tables=tuple(tables))


def _class_table(
    tally: "MulticlassTally", names: tuple[str, ...], counts: "np.ndarray"
) -> CardTable:
    import numpy as np

    measured = tally.measure_classes()
    worst = np.argsort(measured["f1"], kind="stable")[:_SHOWN_CLASSES]
    shown = range(len(names)) if len(names) <= _SHOWN_CLASSES else [int(place) for place in worst]
    caption = (
        "Each class"
        if len(names) <= _SHOWN_CLASSES
        else (f"The {_SHOWN_CLASSES} of {len(names):,} classes with the lowest F1")
    )
    rows = tuple(
        (
            names[place],
            f"{counts[place].sum():,}",
            f"{counts[:, place].sum():,}",
            *(_share(measured[name][place]) for name in ("precision", "recall", "f1", "auc")),
        )
        for place in shown
    )
    header = ("Class", "Rows", "Called", "Precision", "Recall", "F1", "AUC against the rest")
    return CardTable(caption=caption, header=header, rows=rows)


def _pair_table(counts: "np.ndarray", names: tuple[str, ...]) -> CardTable:
    """The mistakes that are made most often."""
    import numpy as np

    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN_PAIRS]
    pairs = [divmod(int(cell), len(names)) for cell in order]
    return CardTable(
        caption="The classes that are confused most often",
        header=("Class", "Called", "Rows", "Of the class"),
        rows=tuple(
            (
                names[true],
                names[called],
                f"{wrong[true, called]:,}",
                digits.share(wrong[true, called] / counts[true].sum()),
            )
            for true, called in pairs
            if wrong[true, called]
        ),
    )


def confusion_plot(counts: "np.ndarray", names: tuple[str, ...]) -> str:
    """The share of each class's rows that are called each class; the counts are written in.

    Args:
        counts: [K, K], rows the true class, columns the called one.
        names: of the classes.
    """
    import numpy as np

    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def paint(axes: "Axes") -> None:
        from matplotlib.patches import Rectangle

        # Patches, not an image: an image within an SVG is a file of another kind. Of one colour, more
        # or less of it, so that they and what is written on them follow the page's scheme.
        for (true, called), share in np.ndenumerate(shares):
            axes.add_patch(
                Rectangle(
                    (called, true),
                    1,
                    1,
                    facecolor=colour("model"),
                    alpha=_DENSEST * share,
                    linewidth=0,
                )
            )
        axes.set(xlim=(0, len(names)), ylim=(len(names), 0))
        axes.grid(visible=False)
        places = np.arange(len(names)) + 0.5
        said = [n if len(n) <= _LONGEST else f"{n[: _LONGEST - 1]}…" for n in names]
        crowded = len(names) * max(map(len, said)) > _UPRIGHT
        axes.set_xticks(places, said, rotation=90 if crowded else 0)
        axes.set_yticks(places, said)
        axes.set(xlabel="called", ylabel="label", aspect="equal")
        if len(names) > _MOST_WRITTEN:
            return
        for (true, called), count in np.ndenumerate(counts):
            axes.text(called + 0.5, true + 0.5, f"{count:,}", ha="center", va="center")

    size = 3.0 + 0.28 * len(names)
    return draw(paint, "How many rows of each class are called which class", size + 0.6, size)


def _share(value: float) -> str:
    return digits.number(value, 3)
