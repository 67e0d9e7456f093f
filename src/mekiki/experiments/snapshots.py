"""Positions of the same images after each epoch, which show how clusters form.

`epochs.f32` in the run folder grows by one block an epoch: little-endian float32 `[count, 2]`. `epochs.json` has the
labels of the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.report.figures.projection import project
from mekiki.storage.atomic import write_text
from mekiki.storage.run_folder import EPOCH_POINTS, EPOCHS
from mekiki.training.fit import Callback, TrainingState

NOTE = (
    "Vectors of more than two dimensions are drawn by the PCA of their epoch, turned and mirrored to lie as in the "
    "epoch before."
)


@dataclass(frozen=True, eq=False)
class Snapshots:
    """The positions that a run has.

    Attributes:
        labels: int64 `[count]`, positions in `class_names`.
        class_names: of the run.
        points: float32 `[epochs, count, 2]`; NaN for an epoch without positions.
    """

    labels: NDArray[np.int64]
    class_names: list[str]
    points: NDArray[np.float32]


class SaveSnapshots(Callback):
    """Writes the positions of the sample after each epoch.

    Args:
        folder: the run folder.
        class_names: of the run.
        classes: the class of each code that the training uses; asked for after the first epoch.
    """

    def __init__(
        self, folder: Path, class_names: Sequence[str], classes: Callable[[], NDArray[np.int64]]
    ) -> None:
        self.folder, self.class_names, self.classes = folder, class_names, classes

    def on_epoch_end(self, state: TrainingState) -> None:
        """Write the positions."""
        assert state.sample is not None
        codes, vectors = (part.numpy() for part in state.sample)
        save_snapshot(self.folder, state.epoch + 1, vectors, self.classes()[codes], self.class_names)


def save_snapshot(
    folder: Path,
    epoch: int,
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
) -> None:
    """Write the positions after an epoch; those of later epochs, of a training that was cut off, are dropped.

    Args:
        folder: the run folder.
        epoch: counted from 1.
        vectors: float32 `[count, d]`, of the same images each time.
        labels: int64 `[count]`, positions in `class_names`.
        class_names: of the run.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_snapshot(folder, 1, np.array([[0, 1], [2, 3]], np.float32), np.array([0, 1]), ["ok", "ng"])
        >>> read_snapshots(folder).points.tolist()
        [[[0.0, 1.0], [2.0, 3.0]]]
    """
    before = read_snapshots(folder)
    last = None
    if before is None or not np.array_equal(before.labels, labels):
        (folder / EPOCH_POINTS).unlink(missing_ok=True)
        about = {"labels": labels.tolist(), "class_names": list(class_names)}
        write_text(folder / EPOCHS, json.dumps(about, ensure_ascii=False) + "\n")
    elif 2 <= epoch <= len(before.points) + 1:
        last = before.points[epoch - 2]
    points = vectors if vectors.shape[1] == 2 else _project_like(vectors, last)
    size = 8 * len(labels)
    with (folder / EPOCH_POINTS).open("ab") as handle:
        end = handle.seek(0, 2) // size
        handle.truncate(size * min(end, epoch - 1))
        if end < epoch - 1:
            handle.write(np.full((epoch - 1 - end, len(labels), 2), np.nan, "<f4").tobytes())
        handle.write(points.astype("<f4").tobytes())


def read_snapshots(folder: Path, since: int = 0) -> Snapshots | None:
    """The positions of a run after epoch `since`; `None` if it has none that can be read."""
    try:
        about = json.loads((folder / EPOCHS).read_text(encoding="utf-8"))
        labels = np.array(about["labels"], np.int64)
        size = 8 * len(labels)
        with (folder / EPOCH_POINTS).open("rb") as handle:
            handle.seek(since * size)
            content = handle.read()
        whole = content[: len(content) // size * size]  # the last block may be half written
        points = np.frombuffer(whole, "<f4").astype(np.float32).reshape(-1, len(labels), 2)
        return Snapshots(labels, [str(name) for name in about["class_names"]], points)
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return None


def _project_like(vectors: NDArray[np.float32], last: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Points by PCA, turned and mirrored onto the last ones (orthogonal Procrustes; Schönemann 1966)."""
    points = project(vectors).points
    if last is not None and np.isfinite(last).all():
        left, _, right = np.linalg.svd((points - points.mean(axis=0)).T @ (last - last.mean(axis=0)))
        points = points @ (left @ right)
    return points
