"""Training of a localiser: attributes that texts name, and, where there are masks, which defect covers which cell.

A network trained to tell defect types apart has no reason to keep place and extent, and the description cannot contain
what the embedding discarded. So a copy of its convolutions is trained further, with a small head behind it. Masks are
predicted on a grid of `MARKS` × `MARKS` cells a patch. Photographs are rotated and flipped in training where their
places can be mapped along.

References:
    Long, Shelhamer and Darrell, *Fully Convolutional Networks for Semantic Segmentation*, 2015, arXiv 1411.4038.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mekiki.console import Progress, silent
from mekiki.describing.localiser import Localiser, Orientation, moved_places, rotate
from mekiki.describing.train_config import PartSplit, TrainConfig
from mekiki.training.callbacks import AfterEpoch, MeanLoss, SaveCheckpoint, StepProgress
from mekiki.training.checkpoints import continue_from
from mekiki.training.fit import Callback, History, fit
from mekiki.training.schedules import one_cycle

MASK_WEIGHT = 2.0
"""Weight of the masks' loss beside the attributes' loss."""


@dataclass(frozen=True, eq=False)
class LocaliserData:
    """Training data of a localiser.

    Attributes:
        images: as stored, uint8 `[N, …]`.
        targets: number of the value of each attribute, int64 `[N]`; −1 where it is not known.
        marks: uint8 `[N, 2h, 2w]`, 0 for no defect, else 1 + number of the defect; `None` without masks.
    """

    images: Tensor
    targets: Mapping[str, NDArray[np.int64]]
    marks: Tensor | None = None


def fit_localiser(
    localiser: Localiser,
    data: LocaliserData,
    split: PartSplit,
    config: TrainConfig,
    checkpoint: Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Train a localiser; the history has the training loss and the validation accuracy of each attribute.

    Raises:
        InputError: with `resume`, the checkpoint is of other settings or texts.
    """
    optimizer = torch.optim.AdamW(localiser.parameters(), lr=config.rate, weight_decay=config.decay)
    settings: dict[str, Any] = config.to_dict() | {"parts": len(split.train), "values": localiser.values}
    history: History = {}
    if resume:
        history = continue_from(checkpoint, settings, model=localiser, optimizer=optimizer)
    mean = MeanLoss()
    callbacks: list[Callback] = [
        mean,
        StepProgress(progress, "training the localiser"),
        SaveCheckpoint(checkpoint, settings, model=localiser, optimizer=optimizer),
    ]
    if on_epoch is not None:
        callbacks.append(AfterEpoch(lambda state: on_epoch(state.row)))

    def batches(epoch: int) -> tuple[int, Iterable[tuple[NDArray[np.intp], Orientation]]]:
        rng = np.random.default_rng((config.seed, epoch))
        localiser.train()
        order = rng.permutation(split.train)
        rows = [order[start : start + config.batch] for start in range(0, len(order), config.batch)]
        rows = [each for each in rows if len(each) > 1]  # batch normalisation cannot train on a single image
        numbers = [int(rng.integers(len(localiser.orientations))) for _ in rows]
        return -(-len(order) // config.batch), zip(
            rows, [localiser.orientations[number] for number in numbers], strict=True
        )

    def step(batch: tuple[NDArray[np.intp], Orientation]) -> tuple[Tensor, int]:
        return _loss(localiser, data, *batch), len(batch[0])

    fit(
        batches,
        step,
        optimizer,
        epochs=config.epochs,
        rate=lambda epoch, step, steps: config.rate * one_cycle(epoch + step / steps, config.epochs),
        measure=lambda state: {"loss": mean.value} | _accuracy(localiser, data, split.validation),
        seed=config.seed,
        history=history,
        callbacks=callbacks,
    )
    localiser.eval()
    return history


def _loss(
    localiser: Localiser, data: LocaliserData, rows: NDArray[np.intp], orientation: Orientation
) -> Tensor:
    _, marks, logits = localiser(rotate(data.images[rows], orientation))
    loss = torch.zeros(())
    for name, scores in logits.items():
        target = torch.from_numpy(data.targets[name][rows])
        known = target >= 0
        if name == "place":
            target = torch.where(known, moved_places(localiser.values, orientation)[target], target)
        if known.any():
            loss = loss + functional.cross_entropy(scores, target, ignore_index=-1)
    if marks is not None and data.marks is not None:
        covered = rotate(data.marks[rows], orientation).long()
        loss = loss + MASK_WEIGHT * functional.cross_entropy(marks, covered)
    return loss


def _accuracy(localiser: Localiser, data: LocaliserData, rows: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy of each attribute, from the photographs in their own orientation only."""
    localiser.eval()
    scores: dict[str, list[Tensor]] = {name: [] for name in localiser.values}
    with torch.inference_mode():
        for start in range(0, len(rows), 256):
            _, _, logits = localiser(data.images[rows[start : start + 256]])
            for name, batch in logits.items():
                scores[name].append(batch)
    return _share_right(data, rows, {name: torch.cat(each).numpy() for name, each in scores.items()})


def localiser_accuracy(localiser: Localiser, data: LocaliserData, rows: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy of each attribute, predicted as by `Localiser.extract`."""
    predictions, _ = localiser.extract([image.numpy() for image in data.images[rows]])
    ends = np.cumsum([len(each) for each in localiser.values.values()])[:-1]
    return _share_right(
        data, rows, dict(zip(localiser.values, np.split(predictions, ends, axis=1), strict=True))
    )


def _share_right(
    data: LocaliserData, rows: NDArray[np.intp], scores: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """Share of the known values with the highest score; NaN where none is known."""
    shares = {}
    for name, columns in scores.items():
        target = data.targets[name][rows]
        right = (columns.argmax(1) == target)[target >= 0]
        shares[name] = float(right.mean()) if len(right) else float("nan")
    return shares
