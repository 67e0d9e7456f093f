"""The history of a training as a CSV file, one row an epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from mekiki.storage.atomic import write_text
from mekiki.training.fit import History


def write_history(path: Path, history: History) -> None:
    """Write a history so that `read_history` gives the same numbers back."""
    rows = zip(*history.values(), strict=True)
    lines = [",".join(history)]
    for row in rows:
        cells = zip(history, row, strict=True)
        lines.append(",".join(str(int(value)) if name == "epoch" else repr(value) for name, value in cells))
    write_text(path, "\n".join(lines) + "\n")


def read_history(path: Path) -> History:
    """Read a `history.csv`.

    Raises:
        ValueError: the file is cut short, or is something else.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        rows = [[float(value) for value in row] for row in reader]
    if not rows or any(len(row) != len(names) for row in rows):
        raise ValueError(f"{path.name} is cut short")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}
