"""Plots as SVG that stands alone, in the page's own colours."""

import functools
import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slipway.components.support.pages.palette import colour, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(
    paint: "Callable[[Axes], None]", describes: str, width: float = 5.2, height: float = 3.9
) -> str:
    """One plot as an SVG element. Its text stays text: it can be read and searched.

    Args:
        paint: draws on the axes.
        describes: what the plot shows, for who cannot see it.
        width: inches.
        height: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        paint(axes)
        return _to_svg(figure, describes)


@functools.cache
def _style() -> Any:
    ink, soft, line = colour("ink"), colour("soft"), colour("line")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "slipway",
        "font.size": 10,
        "font.family": "sans-serif",
        "text.color": ink,
        "axes.labelcolor": soft,
        "axes.edgecolor": line,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "xtick.color": soft,
        "ytick.color": soft,
        "axes.grid": True,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 9,
    }


def _to_svg(figure: "Figure", describes: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # matplotlib names a font that the reader may not have; the page's own follows it.
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return themed(
        svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(describes)}" ', 1)
    )
