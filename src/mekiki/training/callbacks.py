"""Callbacks of the training loop: progress, mean loss, checkpoints, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mekiki.console import Progress
from mekiki.training.checkpoints import save_checkpoint
from mekiki.training.fit import Callback, TrainingState


class AfterEpoch(Callback):
    """Calls a function with the state after each epoch."""

    def __init__(self, function: Callable[[TrainingState], None]) -> None:
        self.function = function

    def on_epoch_end(self, state: TrainingState) -> None:
        """Call the function."""
        self.function(state)


class StepProgress(Callback):
    """Shows the number of steps done in an epoch.

    Args:
        progress: called after each step.
        label: what is trained.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.label = progress, label

    def on_step_end(self, state: TrainingState) -> None:
        """Show the step."""
        self.progress(f"{self.label}, epoch {state.epoch + 1}", state.step + 1, state.steps)


class MeanLoss(Callback):
    """The mean training loss of the examples of an epoch.

    Attributes:
        value: of the epoch so far; NaN before the first step.
    """

    value = math.nan

    def on_epoch_start(self, state: TrainingState) -> None:
        """Start at zero."""
        self._total, self._items = 0.0, 0

    def on_step_end(self, state: TrainingState) -> None:
        """Add the loss of a step."""
        self._total += float(state.loss) * state.items
        self._items += state.items
        self.value = self._total / self._items


class SaveCheckpoint(Callback):
    """Writes a checkpoint after each epoch.

    Args:
        path: the file.
        settings: what must be equal for a resumption.
        model: its weights are saved.
        optimizer: its state is saved.
        loss: where it has weights of its own.
        when: whether to write after this epoch; `None` writes always.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        model: nn.Module,
        optimizer: Optimizer,
        loss: nn.Module | None = None,
        when: Callable[[], bool] | None = None,
    ) -> None:
        self.path, self.settings = path, settings
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.when = when

    def on_epoch_end(self, state: TrainingState) -> None:
        """Write the file in one step."""
        if self.when is None or self.when():
            save_checkpoint(
                self.path,
                model=self.model,
                loss=self.loss,
                optimizer=self.optimizer,
                history=state.history,
                settings=self.settings,
            )


class EarlyStopping(Callback):
    """Keeps the weights of the best epoch, and stops when later ones are no better.

    Args:
        model: its weights are copied.
        column: of the history; smaller is better.
        patience: epochs without gain after which to stop.
        values: of the column before the next epoch: of a history that is resumed, or of the model as it is.

    Attributes:
        best: the weights of the best epoch so far, by name.
        improved: whether the last epoch was the best.
    """

    def __init__(self, model: nn.Module, column: str, patience: int, values: Iterable[float] = ()) -> None:
        self.model, self.column, self.patience = model, column, patience
        self.best = copy_weights(model)
        self.improved = False
        self._least, self._since = math.inf, 0
        for value in values:
            self._count(value)

    def should_stop(self) -> bool:
        """Whether the best is `patience` epochs old."""
        return self._since >= self.patience

    def on_epoch_end(self, state: TrainingState) -> None:
        """Keep the weights if the epoch is the best."""
        self._count(state.history[self.column][-1])
        if self.improved:
            self.best = copy_weights(self.model)

    def restore(self) -> None:
        """Load the best weights into the model."""
        self.model.load_state_dict(self.best)

    def _count(self, value: float) -> None:
        self.improved = value < self._least
        self._since = 0 if self.improved else self._since + 1
        self._least = min(value, self._least)


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now, by name; training on does not change them."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
