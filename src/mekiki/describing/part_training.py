"""Training on texts about parts: settings, split of the parts, and what a describer and a localiser share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.console import Progress, silent
from mekiki.describing.texts import PartText
from mekiki.errors import InputError
from mekiki.training.callbacks import AfterEpoch, EarlyStopping, MeanLoss, SaveCheckpoint, StepProgress
from mekiki.training.checkpoints import continue_from, read_checkpoint
from mekiki.training.fit import Callback, History, fit
from mekiki.training.schedules import one_cycle

Batch = TypeVar("Batch")
OnEpoch = Callable[[dict[str, float]], None]

LEAST_PARTS = 40
"""Parts with a text that training needs."""
CLIP_NORM = 1.0
"""Largest norm of the gradients of a training with early stopping."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training of a describer or a localiser.

    Attributes:
        epochs: maximum number of epochs.
        patience: epochs without improvement after which a describer's training stops.
        batch: answers (describer) or photographs (localiser) in one step.
        rate: highest learning rate of AdamW.
        decay: weight decay.
        held_out: share of the parts for validation; as many are for the test.
        no_vector: share of a small model's training answers that get zeros in place of their vector.
        seed: seed of the split, the weights and the order.
    """

    epochs: int = 30
    patience: int = 5
    batch: int = 32
    rate: float = 2e-3
    decay: float = 0.01
    held_out: float = 0.1
    no_vector: float = 0.1
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The settings under the keys of the stored files, where `no_vector` is called `blind`."""
        settings = asdict(self)
        return settings | {"blind": settings.pop("no_vector")}


@dataclass(frozen=True, eq=False)
class PartSplit:
    """Rows of the parts for training, for validation (when to stop), and for the test (used for neither)."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def split_parts(texts: Sequence[PartText], config: TrainConfig) -> PartSplit:
    """Split the parts that have a text, keeping the parts of a group together.

    Raises:
        InputError: there are fewer than `LEAST_PARTS`.

    Example:
        >>> split = split_parts([PartText(part, "a", "en", {}) for part in range(100)], TrainConfig())
        >>> len(split.train), len(split.validation), len(split.test)
        (80, 10, 10)
    """
    group_of = {text.part: text.group if text.group is not None else f"\0{text.part}" for text in texts}
    groups: dict[str, list[int]] = {}
    for part in sorted(group_of):
        groups.setdefault(group_of[part], []).append(part)
    if len(groups) < LEAST_PARTS:
        raise InputError(
            f"{len(groups)} parts with a text are too few to train on, which takes {LEAST_PARTS}; until then "
            "`mekiki describe` answers from the nearest past cases"
        )
    order = np.random.default_rng(config.seed).permutation(len(groups))
    size = max(8, round(config.held_out * len(groups)))
    members = list(groups.values())

    def rows(chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.array([part for number in chosen for part in members[number]], np.intp)

    return PartSplit(rows(order[2 * size :]), rows(order[:size]), rows(order[size : 2 * size]))


def fit_model(
    model: nn.Module,
    batches: Callable[[int], tuple[int, Iterable[Batch]]],
    step: Callable[[Batch], tuple[Tensor, int]],
    measure: Callable[[], dict[str, float]],
    config: TrainConfig,
    *,
    label: str,
    settings: dict[str, Any],
    early_stopping: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> History:
    """Train by AdamW with a one-cycle schedule; for `batches` and `step` see `mekiki.training.fit.fit`.

    Args:
        model: its parameters that need a gradient are trained.
        batches: for an epoch, the number of its batches and the batches.
        step: the loss of a batch and the number of its examples.
        measure: numbers of an epoch beside the mean training `loss`.
        config: settings of the training.
        label: what progress shows.
        settings: further settings that must be equal for a resumption.
        early_stopping: column of the history by which training stops and the best epoch is restored; empty for neither.
        checkpoint: file of the state after each epoch; `None` for none.
        resume: continue from the checkpoint.
        progress: called after each step.
        on_epoch: called with the history's row after each epoch.

    Raises:
        InputError: the checkpoint is of other settings.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.rate, weight_decay=config.decay)
    settings = config.to_dict() | settings
    history: History = {}
    if resume and checkpoint is not None:
        history = continue_from(checkpoint, settings, model=model, optimizer=optimizer)
    mean = MeanLoss()
    callbacks: list[Callback] = [mean, StepProgress(progress, label)]
    if early_stopping:
        early = EarlyStopping(model, early_stopping, config.patience, history.get(early_stopping, ()))
        callbacks.append(early)
    if checkpoint is not None:
        if early_stopping:
            best = checkpoint.with_name(f"best-{checkpoint.name}")
            if resume:
                early.best = read_checkpoint(best).weights("model")
            # Before the other: a crash between the two leaves a best newer than the state, never a state without one.
            save_best = SaveCheckpoint(
                best, settings, model=model, optimizer=optimizer, when=lambda: early.improved
            )
            callbacks.append(save_best)
        callbacks.append(SaveCheckpoint(checkpoint, settings, model=model, optimizer=optimizer))
    if on_epoch is not None:
        callbacks.append(AfterEpoch(lambda state: on_epoch(state.row)))

    def backward(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        if early_stopping:
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)

    fit(
        batches,
        step,
        optimizer,
        epochs=config.epochs,
        rate=lambda epoch, step, steps: config.rate * one_cycle(epoch + step / steps, config.epochs),
        measure=lambda state: {"loss": mean.value} | measure(),
        seed=config.seed,
        history=history,
        callbacks=callbacks,
        backward=backward,
    )
    if early_stopping:
        early.restore()
    return history
