"""Checkpoints: weights, optimizer and history of the last whole epoch in one safetensors file, written in one step."""

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
from mekiki.storage.manifest import read_tensors, write_tensors

History = dict[str, list[float]]


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch.

    Attributes:
        epoch: epochs done.
        history: one list an item of the history, `epoch` numbers each.
        settings: what the training was started with; resuming with others is refused.
        tensors: weights (`model.…`, `loss.…`) and optimizer state (`optimizer.<i>.<name>`).
    """

    epoch: int
    history: History
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    history: History,
    settings: Mapping[str, Any],
) -> None:
    """Write the state after the last epoch of `history`; a crash leaves the previous file."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"loss.{name}": value for name, value in loss.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    facts = {"history": history, "settings": dict(settings)}
    content = save(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
        metadata={"mekiki": json.dumps(facts)},
    )
    write_tensors(path, content)


def read_facts(path: Path) -> tuple[History, dict[str, Any]]:
    """History and settings of a checkpoint, without its tensors.

    Raises:
        InputError: as `read_checkpoint`.
    """
    checkpoint = _read(path, tensors=False)
    return checkpoint.history, checkpoint.settings


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        InputError: there is no such file, or it is not a checkpoint.
    """
    return _read(path, tensors=True)


def _read(path: Path, *, tensors: bool) -> Checkpoint:
    try:
        content, about = read_tensors(path)
        facts = json.loads(about["mekiki"])
        held = load(content) if tensors else {}
        history: History = {str(name): [*map(float, column)] for name, column in facts["history"].items()}
        return Checkpoint(len(history["epoch"]), history, dict(facts["settings"]), held)
    except InputError:
        raise InputError(
            f"{path}: not a readable checkpoint (it is damaged); delete it to start anew"
        ) from None
    except FileNotFoundError:
        raise InputError(f"{path}: no checkpoint here; leave out --resume to start anew") from None
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(
            f"{path}: not a readable checkpoint ({first_line(error)}); delete it to start anew"
        ) from None


def restore(checkpoint: Checkpoint, *, model: nn.Module, loss: nn.Module, optimizer: Optimizer) -> None:
    """Put the state of a checkpoint back into the objects it was taken from."""
    parts: dict[str, dict[str, Any]] = {"model": {}, "loss": {}, "optimizer": {}}
    for name, value in checkpoint.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    loss.load_state_dict(parts["loss"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        index, _, rest = name.partition(".")
        state.setdefault(int(index), {})[rest] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
