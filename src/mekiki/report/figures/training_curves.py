"""The loss curve of a training history, with accuracy and learning-rate steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError
from mekiki.report.figures.canvas import annotate_line, new_figure, style_axes, text_style
from mekiki.report.figures.palette import DIFFERENT, FAINT_INK, INK, SAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACIES = {"accuracy": "accuracy", "pair_accuracy": "pairs judged rightly"}


class Panel(NamedTuple):
    """One panel of the loss curve: its unit, and the values by epoch of `training` and `validation`."""

    unit: str
    curves: dict[str, NDArray[np.float64]]


def loss_curve(history: Mapping[str, Sequence[float | None]], title: str = "Loss by epoch") -> Figure:
    """Training and validation loss by epoch; accuracy below where the history holds it.

    Args:
        history: columns of one length: `epoch`, `train_loss`, and optionally `val_loss`, `lr` (its steps are
            marked), `accuracy` and `val_accuracy`, or `pair_accuracy` and `val_pair_accuracy` (shares, 0 to 1).
            `None` and NaN are gaps.
        title: set above the figure.

    Raises:
        InputError: no epochs, or columns of different lengths.

    Example:
        >>> figure = loss_curve({"epoch": [1, 2], "train_loss": [0.05, 0.03], "accuracy": [0.8, 0.9]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss (mean per sample)', 'accuracy (%)']
    """
    from matplotlib.ticker import MaxNLocator

    columns = history_columns(history)
    epochs, panels = columns["epoch"], history_panels(columns)
    figure = new_figure(7.4, 4.2 if len(panels) == 1 else 6.2)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _draw_curves(axes, epochs, panel)
        style_axes(
            axes,
            "epoch" if axes is rows[-1] else "",
            panel.unit,
            title if axes is rows[0] else "",
        )
    least = min((float(np.nanmin(values)) for values in panels[0].curves.values()), default=0.0)
    rows[0].set_ylim(bottom=0 if least >= 0 else None)
    for epoch, rate in rate_steps(columns):
        rows[0].axvline(epoch - 0.5, color=FAINT_INK, linewidth=1, linestyle=(0, (3, 3)))
        style = text_style(8, FAINT_INK, rotation=90, va="bottom")
        annotate_line(rows[0], epoch - 0.5, f"rate {rate:.3g}", style, height=0.03)
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    rows[-1].set_xlim(float(epochs.min()) - 0.6, float(epochs.max()) + 0.6)
    return figure


def history_columns(history: Mapping[str, Sequence[float | None]]) -> dict[str, NDArray[np.float64]]:
    """The columns of a history as float arrays with NaN for gaps; columns without a finite value are left out.

    Raises:
        InputError: no epochs, or columns of different lengths.

    Example:
        >>> history_columns({"train_loss": [0.2, None], "val_loss": [None, None]})
        {'train_loss': array([0.2, nan]), 'epoch': array([1., 2.])}
    """
    columns = {
        name: np.array([math.nan if value is None else float(value) for value in values])
        for name, values in history.items()
    }
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or not max(lengths.values()):
        raise InputError("loss curve: the history holds no epochs")
    if len(set(lengths.values())) > 1:
        raise InputError(f"loss curve: the columns differ in length: {lengths}")
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    columns.setdefault("epoch", np.arange(1.0, max(lengths.values()) + 1))
    return columns


def rate_steps(columns: Mapping[str, NDArray[np.float64]]) -> list[tuple[float, float]]:
    """Where the learning rate changes, as (epoch, new rate): none where it changes at most epochs.

    Example:
        >>> rate_steps({"epoch": np.arange(1.0, 5), "lr": np.array([0.1, 0.1, 0.01, 0.01])})
        [(3.0, 0.01)]
    """
    if "lr" not in columns:
        return []
    rate = columns["lr"]
    places = [i for i in range(1, len(rate)) if np.isfinite(rate[i]) and rate[i] != rate[i - 1]]
    if len(places) > max(1, (len(rate) - 1) // 2) or len(places) > 8:  # a continuous schedule has no steps
        return []
    return [(float(columns["epoch"][i]), float(rate[i])) for i in places]


def history_panels(columns: Mapping[str, NDArray[np.float64]]) -> list[Panel]:
    """The panel of the loss, and one of the first accuracy (%) that the columns hold.

    Example:
        >>> [panel.unit for panel in history_panels(history_columns({"train_loss": [0.2], "accuracy": [0.9]}))]
        ['loss (mean per sample)', 'accuracy (%)']
    """
    loss = {"training": "train_loss", "validation": "val_loss"}
    panels = [Panel("loss (mean per sample)", {name: columns[k] for name, k in loss.items() if k in columns})]
    for key, label in ACCURACIES.items():
        accuracy = {"training": key, "validation": f"val_{key}"}
        curves = {name: 100 * columns[k] for name, k in accuracy.items() if k in columns}
        if curves:
            return [*panels, Panel(f"{label} (%)", curves)]
    return panels


def _draw_curves(axes: Axes, epochs: NDArray[np.float64], panel: Panel) -> None:
    for name, colour, marker in (("training", SAME, "o"), ("validation", DIFFERENT, "s")):
        if name in panel.curves:
            axes.plot(
                epochs,
                panel.curves[name],
                color=colour,
                marker=marker if len(epochs) <= 40 else None,
                markersize=4.5,
                linewidth=1.8,
                label=name,
            )
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    else:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", **text_style())
