"""Tables and lines that the commands of experiments print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mekiki import console
from mekiki.experiments.headline import in_metrics

if TYPE_CHECKING:
    from mekiki.experiments.train import OnEpoch

HISTORY_COLUMNS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "spread": "spread",
    "effective_rank": "effective rank",
    "zero_loss_share": "pairs without loss",
}
COMPARISON_COLUMNS = (
    ("knn", "5-NN %", 100.0),
    ("eer", "EER %", 100.0),
    ("pair_accuracy", "pairs %", 100.0),
    ("overlap_max", "overlap %", 100.0),
    ("seconds", "seconds", 1.0),
)
"""Columns of a comparison that fit a terminal: key, heading, factor."""


def print_metrics(metrics: Mapping[str, Any], title: str) -> None:
    """Print the main numbers of a run."""
    rows = [
        (each.label, console.number(metrics[each.key], each.factor, each.unit))
        for each in in_metrics(metrics)
    ]
    console.print_table(("name", "value"), rows, right=("value",), title=title, show_headings=False)


def print_comparison(comparison: Mapping[str, Any], title: str) -> None:
    """Print trainings side by side, mean ± standard deviation over the seeds, and what follows from them.

    Args:
        comparison: as `mekiki.experiments.compare` returns it.
        title: above the table.
    """
    headings = [heading for _, heading, _ in COMPARISON_COLUMNS]
    rows = []
    for name, values in comparison["compared"].items():
        cells = []
        for key, _, factor in COMPARISON_COLUMNS:
            mean, sd = values[key]["mean"], values[key]["sd"]
            cells.append(console.number(mean, factor) + (f" ±{factor * sd:.2g}" if sd is not None else ""))
        rows.append((name, *cells))
    console.print_table(("", *headings), rows, right=headings, title=title)
    for sentence in comparison["findings"]:
        console.out().print(sentence)


def print_history(history: Mapping[str, Sequence[float]], title: str) -> None:
    """Print the numbers of the collapse check, epoch by epoch."""
    headings = ("epoch", *HISTORY_COLUMNS.values())
    rows = []
    for row, epoch in enumerate(history["epoch"]):
        values = [history[name][row] if name in history else None for name in HISTORY_COLUMNS]
        cells = [console.number(value) for value in values[:-1]] + [console.number(values[-1], 100, "%")]
        rows.append((str(int(epoch)), *cells))
    console.print_table(headings, rows, right=headings, title=title)


def print_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """Print the findings of the collapse check."""
    words = {"problem": ("problem", "bold red"), "notice": ("notice", "yellow"), "ok": ("well", "green")}
    for finding in findings:
        word, style = words[finding["severity"]]
        text = console.styled_text((f"{word}: ", style), finding["message"])
        if finding["advice"]:
            text.append(f" Try: {finding['advice']}")
        console.out().print(text)


def print_report_path(folder: Path) -> None:
    """Print where the report is."""
    console.out().print(f"report: {folder / 'report.html'}")


def epoch_printer(epochs: int | None, folder: Path | None = None) -> OnEpoch:
    """A callback that prints a line an epoch on standard error, and a problem when it is first found.

    Args:
        epochs: how many there will be, where that is the same for all runs.
        folder: the run folder, named before the first epoch.
    """
    shown: set[str] = set()
    folders = [] if folder is None else [folder]

    def show(row: Mapping[str, float], findings: Sequence[Any]) -> None:
        while folders:
            console.line("run", str(folders.pop()), "bold")
        _print_epoch(row, epochs)
        if row["epoch"] == 1:
            shown.clear()
        for finding in findings:
            if finding.severity == "problem" and finding.code not in shown:
                shown.add(finding.code)
                console.line("doctor", f"{finding.message} Try: {finding.advice}", "bold red")

    return show


def _print_epoch(row: Mapping[str, float], epochs: int | None) -> None:
    of = f"/{epochs}" if epochs else ""
    parts = [f"epoch {int(row['epoch'])}{of}", f"train loss {row['train_loss']:.4f}"]
    if math.isfinite(row.get("val_loss", math.nan)):
        parts.append(f"val loss {row['val_loss']:.4f}")
    for name, value in row.items():
        if name.endswith("accuracy"):
            parts.append(f"{name.replace('_', ' ')} {100 * value:.2f} %")
    parts.append(f"{row['seconds']:.1f} s")
    parts.append(f"{row['images_per_second']:,.0f} images/s")
    console.err().print(" · ".join(parts), style="dim")
