"""The empty figure that every picture starts from, free of pyplot and of global settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mekiki.report.figures.lettering import families, legible
from mekiki.report.figures.palette import FAINT_INK, GRID, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` × `height` inches on solid white, 144 dots an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def lettering(size: float = 9.5, colour: str = INK, **more: Any) -> dict[str, Any]:
    """Keywords of a text: fonts with Japanese where installed, and `$` taken as a letter, not as mathematics."""
    return {"fontfamily": list(families()), "parse_math": False, "fontsize": size, "color": colour, **more}


def dress(axes: Axes, x: str = "", y: str = "", title: str = "", grid: bool = True) -> None:
    """Axis names, title, quiet spines and a light grid behind the data."""
    axes.set_facecolor(PAPER)
    axes.set_xlabel(legible(x), **lettering())
    axes.set_ylabel(legible(y), **lettering())
    if title:
        axes.set_title(legible(title), **lettering(11, fontweight="bold"), loc="left", pad=8)
    axes.tick_params(labelsize=8.5, color=FAINT_INK, labelcolor=INK, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9AA3AC")
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, color=GRID, linewidth=0.8)
    else:
        axes.grid(False)
