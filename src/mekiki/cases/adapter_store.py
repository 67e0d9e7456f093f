"""Adapters in a run folder: the current one and those before it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.torch import load, save

from mekiki.cases.adapter import Adapter, AdapterResult
from mekiki.errors import InputError, first_line
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import ADAPTER_FORMAT
from mekiki.storage.tensors import read_tensors, write_tensors
from mekiki.training.callbacks import copy_weights


class AdapterStore:
    """The adapters for the vectors of one encoder, files that are never changed.

    Args:
        folder: may be new.
        space: `images` or `notes`.
        encoder: fingerprint of the encoder.
    """

    def __init__(self, folder: Path, space: str, encoder: str) -> None:
        self.folder = folder
        self._stem = f"{space}-{encoder[:12]}"

    def current(self) -> Adapter | None:
        """The adapter in use; `None` is the identity.

        Raises:
            InputError: its file cannot be read.
        """
        file = self.file()
        return None if file is None else load_adapter(file)

    def file(self) -> Path | None:
        """The file of the adapter in use; an equal name is an equal adapter."""
        return max(self.folder.glob(f"{self._stem}-[0-9]*.safetensors"), default=None)

    def put(self, adapter: Adapter, result: AdapterResult) -> Path:
        """Make an adapter the current one, in one step; those before it stay."""
        with hold_lock(self.folder.parent, "writing an adapter"):
            number = 1 + sum(1 for _ in self.folder.glob(f"{self._stem}-[0-9]*"))  # reverted ones count too
            path = self.folder / f"{self._stem}-{number:04}.safetensors"
            save_adapter(path, adapter, result)
            return path

    def revert(self) -> Path:
        """Take the current adapter out of use, so that the one before it is the current one again.

        Raises:
            InputError: there is none.
        """
        file = self.file()
        if file is None:
            raise InputError(f"{self.folder}: no adapter is in use, so there is none to take back")
        return file.replace(file.with_suffix(".taken-back"))


def save_adapter(path: Path, adapter: Adapter, result: AdapterResult) -> None:
    """Write an adapter and its figures, in one step."""
    about = {
        "format": ADAPTER_FORMAT,
        "kind": adapter.kind,
        "rank": adapter.rank,
        "dimension": adapter.dimension,
    }
    metadata = {"facts": json.dumps(about), "lesson": json.dumps(vars(result))}
    write_tensors(path, save(copy_weights(adapter), metadata))


def load_adapter(path: Path) -> Adapter:
    """Read what `save_adapter` wrote.

    Raises:
        InputError: it cannot be read.
    """
    try:
        content, metadata = read_tensors(path)
        about = json.loads(metadata["facts"])
        adapter = Adapter(np.zeros(about["dimension"], np.float32), 1.0, about["rank"], about["kind"])
        adapter.load_state_dict(load(content))
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(
            f"{path}: cannot be read ({first_line(error)}); `mekiki feedback untrain RUN` takes it out of use"
        ) from None
    adapter.requires_grad_(False)
    return adapter
