"""Colours and marks, shared by the pictures and the HTML report."""

from __future__ import annotations

from typing import NamedTuple

COLOURS = (
    "#4477AA",
    "#FFA90E",
    "#BD1F01",
    "#44AA99",
    "#832DB6",
    "#A96B59",
    "#33BBEE",
    "#999933",
    "#882255",
    "#BBBBBB",
)
"""Ten colours for classes, chosen from the palettes of Tol (2021) and Petroff (2021, arXiv 2107.02270).

Of their 37 colours that are visible on white and on near-black, these ten lie farthest apart in normal, protan, deutan
and tritan vision: at least 0.085 in OKLab after the simulation of Machado (2009). The two source palettes reach 0.061
and 0.052.
"""

MARKS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
    ("<", "triangle-left"),
    (">", "triangle-right"),
    ("*", "star"),
)
"""One mark for every ten classes, as (matplotlib, plotly) names: with the colours, 100 classes look different."""

SAME, DIFFERENT = "#4477AA", "#E07B00"
"""Pairs of one class and pairs of two classes; also training and validation."""

ACCENT = "#0B6E75"
INK, FAINT_INK, GRID, PAPER = "#1C2126", "#5B6570", "#E4E7EA", "#FFFFFF"


class ClassStyle(NamedTuple):
    """Colour and mark of one class; the mark has a name in matplotlib and one in plotly."""

    colour: str
    marker: str
    symbol: str


def class_style(index: int) -> ClassStyle:
    """Colour and mark of class number `index`; from 100 classes on they repeat.

    Example:
        >>> class_style(0)
        ClassStyle(colour='#4477AA', marker='o', symbol='circle')
        >>> class_style(10).marker, class_style(10).colour == class_style(0).colour
        ('s', True)
    """
    marker, symbol = MARKS[index // len(COLOURS) % len(MARKS)]
    return ClassStyle(COLOURS[index % len(COLOURS)], marker, symbol)


def overlap_colours(steps: int = 16) -> tuple[str, ...]:
    """A perceptually uniform scale from light (0) to dark (1) as hex colours: matplotlib's magma, reversed.

    Example:
        >>> overlap_colours(2)
        ('#fcfdbf', '#000004')
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["magma_r"]
    return tuple(to_hex(scale(step / (steps - 1))) for step in range(steps))
