"""Checkpoints: weights, optimizer state and history after an epoch, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from mekiki.errors import InputError, first_line
from mekiki.storage.tensors import read_tensors, write_tensors
from mekiki.training.fit import History

LONGEST_VALUE = 60
"""Characters of a setting that an error message quotes."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch.

    Attributes:
        epoch: epochs done.
        history: `epoch` numbers a column.
        settings: what must be equal for a resumption.
        tensors: weights (`model.…`, `loss.…`) and optimizer state (`optimizer.<i>.<name>`).
    """

    epoch: int
    history: History
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def weights(self, part: str) -> dict[str, Tensor]:
        """The tensors of `"model"`, `"loss"` or `"optimizer"`, by their names in it."""
        start = f"{part}."
        return {name[len(start) :]: value for name, value in self.tensors.items() if name.startswith(start)}


def save_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    history: History,
    settings: Mapping[str, Any],
    loss: nn.Module | None = None,
) -> None:
    """Write the state after the last epoch of `history`; a crash leaves the previous file."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if loss is not None:
        tensors |= {f"loss.{name}": value for name, value in loss.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    content = save(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
        metadata={"mekiki": json.dumps({"history": history, "settings": dict(settings)})},
    )
    write_tensors(path, content)


def read_checkpoint(path: Path, *, tensors: bool = True) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Args:
        path: the file.
        tensors: whether to read the tensors too, or history and settings alone.

    Raises:
        InputError: there is no such file, or it is not a checkpoint.
    """
    try:
        content, about = read_tensors(path)
        metadata = json.loads(about["mekiki"])
        weights = load(content) if tensors else {}
        history: History = {str(name): [*map(float, column)] for name, column in metadata["history"].items()}
        return Checkpoint(len(history["epoch"]), history, dict(metadata["settings"]), weights)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no checkpoint here; leave out --resume to start from the beginning"
        ) from None
    except Exception as error:  # damaged files raise nearly anything
        why = "it is damaged" if isinstance(error, InputError) else first_line(error)
        raise InputError(
            f"{path}: not a readable checkpoint ({why}); delete it to start from the beginning"
        ) from None


def check_settings(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a checkpoint was made with the settings that are wanted.

    Raises:
        InputError: it was not; the message names what differs.
    """
    different = [key for key in sorted({*saved, *wanted}) if saved.get(key) != wanted.get(key)]
    if not different:
        return
    # The thresholds of the collapse check follow from the other settings and mean nothing to a reader.
    named = [key for key in different if key != "doctor"] or different
    changes = ", ".join(
        f"{key} was {_quote(saved.get(key))} and is now {_quote(wanted.get(key))}" for key in named
    )
    raise InputError(
        f"{path.parent}: cannot be resumed with other settings: {changes}; give the same settings, or start from the "
        "beginning elsewhere"
    )


def restore(
    checkpoint: Checkpoint, *, model: nn.Module, optimizer: Optimizer, loss: nn.Module | None = None
) -> None:
    """Load the state of a checkpoint into the objects it was saved from."""
    model.load_state_dict(checkpoint.weights("model"))
    if loss is not None:
        loss.load_state_dict(checkpoint.weights("loss"))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in checkpoint.weights("optimizer").items():
        index, _, rest = name.partition(".")
        state.setdefault(int(index), {})[rest] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def continue_from(
    path: Path, settings: Mapping[str, Any], *, model: nn.Module, optimizer: Optimizer
) -> History:
    """Restore the state that a checkpoint holds, and give its history.

    Raises:
        InputError: there is no readable checkpoint, or it was made with other settings.
    """
    checkpoint = read_checkpoint(path)
    check_settings(path, checkpoint.settings, settings)
    restore(checkpoint, model=model, optimizer=optimizer)
    return checkpoint.history


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
