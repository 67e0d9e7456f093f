"""The empty figure and the text style of every picture, without pyplot and without global settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mekiki.report.figures.fonts import drawable_text, families
from mekiki.report.figures.palette import FAINT_INK, GRID, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """A figure of `width` × `height` inches on solid white, 144 dots an inch, with an optional title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(drawable_text(title), **text_style(11, fontweight="bold"), x=0.01, ha="left")
    return figure


def text_style(size: float = 9.5, colour: str = INK, **more: Any) -> dict[str, Any]:
    """Keywords of a text: fonts with Japanese where installed, and `$` taken as a letter, not as mathematics."""
    return {"fontfamily": list(families()), "parse_math": False, "fontsize": size, "color": colour, **more}


def style_axes(axes: Axes, x: str = "", y: str = "", title: str = "", grid: bool = True) -> None:
    """Set axis names, title, light spines and a light grid behind the data."""
    axes.set_facecolor(PAPER)
    axes.set_xlabel(drawable_text(x), **text_style())
    axes.set_ylabel(drawable_text(y), **text_style())
    if title:
        axes.set_title(drawable_text(title), **text_style(11, fontweight="bold"), loc="left", pad=8)
    axes.tick_params(labelsize=8.5, color=FAINT_INK, labelcolor=INK, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9AA3AC")
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, color=GRID, linewidth=0.8)
    else:
        axes.grid(False)


def annotate_line(
    axes: Axes, x: float, text: str, style: dict[str, Any], offset: float = 4, height: float = 0.97
) -> None:
    """Write beside a vertical line at `x`: `offset` points away from it, at a share `height` of the axes."""
    axes.annotate(
        text,
        (x, height),
        xycoords=("data", "axes fraction"),
        xytext=(offset, 0),
        textcoords="offset points",
        **{"ha": "left" if offset > 0 else "right", "va": "top"} | style,
    )
