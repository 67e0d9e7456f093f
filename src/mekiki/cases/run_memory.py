"""The memory of a run folder: its configuration, encoders, stores, feedback and adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mekiki.cases.adapter_store import AdapterStore
from mekiki.cases.case import EncoderInfo
from mekiki.cases.encoders import PhotoEncoder, TextEncoder, open_photo_encoder
from mekiki.cases.feedback import FeedbackLog
from mekiki.cases.memory import Memory
from mekiki.cases.store import Store
from mekiki.cases.store_address import open_store
from mekiki.errors import InputError, not_known
from mekiki.storage.json_files import read_checked_json, write_checked_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, check_format
from mekiki.storage.run_folder import ADAPTERS, CASES, MEMORY, MEMORY_FORMAT

SPACES = ("images", "notes")


@dataclass(frozen=True)
class MemoryConfig:
    """Where a run keeps its cases and how it encodes notes, as `memory.json` has it.

    Attributes:
        store: a folder or an address; `None` is `cases` in the run folder.
        text: the text model of the notes, a name or a folder; `None` if notes are not encoded.
        dimensions: how many of its dimensions are used; `None` all.
        generation: how often the text model was fine-tuned here; the notes of each are in a store of their own.
        before: this configuration before the last fine-tuning, to go back to.
    """

    store: str | None = None
    text: str | None = None
    dimensions: int | None = None
    generation: int = 0
    before: dict[str, Any] | None = None


class RunMemory:
    """The memory of a run folder.

    Args:
        folder: the run folder.
        config: values that take the place of those in `memory.json`; `None` and 0 keep them.
        photo_encoder: the run's, where it is open already.
    """

    def __init__(
        self, folder: Path, config: MemoryConfig | None = None, photo_encoder: PhotoEncoder | None = None
    ) -> None:
        self.folder, self.log = folder, FeedbackLog(folder)
        self._photo_encoder = photo_encoder
        self._memories: dict[str, tuple[Path | None, Memory]] = {}
        given = {name: value for name, value in vars(config or MemoryConfig()).items() if value}
        self.config = replace(_read_config(folder / MEMORY), **given)

    def save_config(self) -> None:
        """Write the configuration, for the commands to come."""
        if _read_config(self.folder / MEMORY) != self.config:
            self.folder.mkdir(parents=True, exist_ok=True)
            with hold_lock(self.folder, "writing memory.json"):
                write_checked_json(self.folder / MEMORY, {"format": MEMORY_FORMAT, **vars(self.config)})

    @property
    def place(self) -> str:
        """Where its stores are."""
        return self.config.store or str(self.folder / CASES)

    @property
    def exists(self) -> bool:
        """Whether anything was ever remembered here; always true for a store on a server."""
        return "://" in self.place or Path(self.place).is_dir()

    @cached_property
    def photo_encoder(self) -> PhotoEncoder:
        """The encoder of its photographs."""
        return self._photo_encoder or open_photo_encoder(self.folder)

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The encoder of its notes.

        Raises:
            InputError: no text model was named when the notes were remembered.
        """
        if self.config.text is None:
            raise InputError(
                f"{self.folder}: its notes are not embedded; `mekiki remember … --text-model NAME` does it"
            )
        own = self.folder / self.config.text
        if own.is_dir():  # fine-tuned here; its library checks no checksums
            Manifest.of(own, quiet=True).verify()
        return TextEncoder(self.text_model, self.config.dimensions)

    @property
    def text_model(self) -> str:
        """Name or folder of the text model; one fine-tuned here lies in the run folder, which may have been moved."""
        own = self.folder / str(self.config.text)
        return str(own) if own.is_dir() else str(self.config.text)

    def store(self, space: str, encoder: EncoderInfo | None = None) -> Store:
        """The store of a space; with an encoder it is made if it is not there."""
        if space not in SPACES:
            raise not_known("space", space, SPACES)
        suffix = f"-{self.config.generation}" if space == "notes" and self.config.generation else ""
        return open_store(self.place, space + suffix, encoder)

    def memory(self, space: str) -> Memory:
        """The store of a space with its feedback and adapter.

        Raises:
            InputError: there is no such folder, or the store is of another encoder.
        """
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; give a run that remembers")
        encoder = self.photo_encoder.info if space == "images" else self.text_encoder.info
        judgements = self.log.active(space, encoder.fingerprint)
        adapter_store = self.adapter_store(space, encoder)
        file = adapter_store.file()
        opened = self._memories.get(space)
        if opened is not None and opened[0] == file:
            opened[1].judgements = judgements
            return opened[1]
        store = self.store(space)
        if not store.encoder.same_vectors(encoder):
            raise InputError(
                f"{store.place}: holds vectors of {store.encoder}, and {self.folder} makes those of {encoder}; "
                "remember the photographs again, with another --store"
            )
        memory = Memory(store, judgements, adapter_store.current())
        self._memories[space] = (file, memory)
        return memory

    def adapter_store(self, space: str, encoder: EncoderInfo) -> AdapterStore:
        """The adapters of a space."""
        return AdapterStore(self.folder / ADAPTERS, space, encoder.fingerprint)


def _read_config(path: Path) -> MemoryConfig:
    if not path.is_file():
        return MemoryConfig()
    values = read_checked_json(path)
    if "format" in values:
        check_format(path, values.pop("format"), MEMORY_FORMAT)
    try:
        return MemoryConfig(**values)
    except TypeError as error:
        raise InputError(f"{path}: cannot be read ({error}); fix it or remove it") from None
