"""The training loop that the embedder, the adapter, the describer and the localiser share.

`fit` runs the steps; what else happens in an epoch is done by callbacks (see `mekiki.training.callbacks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

History = dict[str, list[float]]
"""Numbers of a training by name, one an epoch; `epoch` counts from 1."""

Item = TypeVar("Item")


@dataclass
class TrainingState:
    """The state of a training, as callbacks read it.

    Attributes:
        epochs: passes over the examples in all.
        history: of the epochs that are done.
        row: the numbers of the last of these.
        epoch: the current epoch, from 0.
        step: the current step in the epoch, from 0.
        steps: steps of the epoch.
        rate: learning rate of the current step.
        loss: loss of the current step, a tensor with one number.
        items: how many examples that loss is the mean of.
        end_epoch: set by a callback to leave out the remaining steps of the epoch.
        sample: labels int64 `[n]` and vectors float32 `[n, d]` of some examples after the epoch, where a training has
            them; the same examples each time.
    """

    epochs: int
    history: History
    row: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    steps: int = 0
    rate: float = 0.0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    items: int = 0
    end_epoch: bool = False
    sample: tuple[Tensor, Tensor] | None = None


class Callback:
    """Work around the steps of a training. Each method does nothing unless it is overridden."""

    def should_stop(self) -> bool:
        """Whether no further epoch is to start."""
        return False

    def on_epoch_start(self, state: TrainingState) -> None:
        """Called before the first step of an epoch."""

    def on_step_end(self, state: TrainingState) -> None:
        """Called after each step."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Called when the numbers of the epoch are in the history."""


def fit(
    batches: Callable[[int], tuple[int, Iterable[Item]]],
    step: Callable[[Item], tuple[Tensor, int]],
    optimizer: Optimizer,
    *,
    epochs: int,
    rate: Callable[[int, int, int], float],
    measure: Callable[[TrainingState], dict[str, float]],
    seed: int = 0,
    history: History | None = None,
    callbacks: Sequence[Callback] = (),
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> History:
    """Train, epoch by epoch.

    torch's global random state is seeded at the start of each epoch by the seed and the number of the epoch, and put
    back at the end, so a resumed training equals an uninterrupted one if `batches` does likewise.

    Args:
        batches: for an epoch (from 0), the number of its batches and the batches.
        step: the loss of a batch, to take the gradient of, and the number of its examples.
        optimizer: of the parameters that are trained.
        epochs: how many epochs there are in all.
        rate: learning rate by epoch (from 0), step (from 0) and number of steps.
        measure: numbers of the epoch, for the history; called after its last step.
        seed: of torch's global random state.
        history: of the epochs that are done already; it is continued in place.
        callbacks: called in this order.
        backward: computes the gradients of a loss.

    Returns:
        The history, the epochs before a resumption included.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> history = fit(
        ...     lambda epoch: (5, range(5)),
        ...     lambda batch: (weight.square(), 1),
        ...     torch.optim.SGD([weight]),
        ...     epochs=3,
        ...     rate=lambda epoch, step, steps: 0.1,
        ...     measure=lambda state: {"weight": round(weight.item(), 3)},
        ... )
        >>> history
        {'epoch': [1.0, 2.0, 3.0], 'weight': [0.328, 0.107, 0.035]}
    """
    state = TrainingState(epochs, {} if history is None else history)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with torch.random.fork_rng(devices=[]):
        first = len(state.history.get("epoch", ()))
        for epoch in range(first, epochs):
            if any(callback.should_stop() for callback in callbacks):
                break
            state.epoch, state.end_epoch = epoch, False
            torch.manual_seed(epoch_seed(seed, epoch))
            state.steps, epoch_batches = batches(epoch)
            for callback in callbacks:
                callback.on_epoch_start(state)
            for state.step, batch in enumerate(epoch_batches):
                state.rate = rate(epoch, state.step, state.steps)
                for group in optimizer.param_groups:
                    group["lr"] = state.rate
                loss, state.items = step(batch)
                for parameter in parameters:  # zero_grad does the same, but its profiling hook takes longer
                    parameter.grad = None
                backward(loss)
                optimizer.step()
                state.loss = loss.detach()
                for callback in callbacks:
                    callback.on_step_end(state)
                if state.end_epoch:
                    break
            state.row = {"epoch": epoch + 1.0} | measure(state)
            for name, value in state.row.items():
                state.history.setdefault(name, []).append(value)
            for callback in callbacks:
                callback.on_epoch_end(state)
    return state.history


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of what is random in an epoch (from 0)."""
    return seed * 1_000_003 + epoch
