"""What of a run folder belongs to its memory: stores, encoders, the log, what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mekiki.cases.adapter import AdapterStore
from mekiki.cases.case import Encoder
from mekiki.cases.encoders import TextView, View, view_of
from mekiki.cases.feedback import FeedbackLog
from mekiki.cases.memory import Memory
from mekiki.cases.store import Store, open_store
from mekiki.cases.where import parse_where
from mekiki.errors import InputError, not_known
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, check_format, read_checked_json, write_checked_json
from mekiki.storage.run_folder import ADAPTERS, CASES, MEMORY, MEMORY_FORMAT

SPACES = ("images", "notes")
SHORTEST = 4
"""Characters of an id that may stand for all of it, if no other begins so."""


@dataclass(frozen=True)
class Settings:
    """How a run remembers.

    Attributes:
        store: a folder or an address; `None` is `cases` in the run folder.
        text: the model that notes are embedded by, a name or a folder; `None` if notes are not.
        dimensions: of its vectors, where fewer than it has.
        generation: how often the text model was tuned here; the notes of each are in a store of their own.
        before: these settings before it was tuned last, to go back to.
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
        given: settings that are named now; what they leave open is as it was before.
        view: what it looks with, where that is open already.
    """

    def __init__(self, folder: Path, given: Settings | None = None, view: View | None = None) -> None:
        self.folder, self.log = folder, FeedbackLog(folder)
        self._view = view
        self._memories: dict[str, tuple[Path | None, Memory]] = {}
        kept = _read(folder / MEMORY)
        named = {name: value for name, value in vars(given or Settings()).items() if value not in (None, 0)}
        self.settings = replace(kept, **named)

    def keep_settings(self) -> None:
        """Write down how this run remembers, for the commands to come."""
        if _read(self.folder / MEMORY) != self.settings:
            self.folder.mkdir(parents=True, exist_ok=True)
            with hold_lock(self.folder, "writing how it remembers"):
                write_checked_json(self.folder / MEMORY, {"format": MEMORY_FORMAT, **vars(self.settings)})

    @property
    def place(self) -> str:
        """Where its stores are."""
        return self.settings.store or str(self.folder / CASES)

    @property
    def begun(self) -> bool:
        """Whether anything was ever remembered here; of a store on another machine that is not known, so it counts."""
        return "://" in self.place or Path(self.place).is_dir()

    @cached_property
    def view(self) -> View:
        """What it looks at photographs with."""
        return self._view or view_of(self.folder)

    @cached_property
    def texts(self) -> TextView:
        """What it reads notes with.

        Raises:
            InputError: no text model was named when the notes were remembered.
        """
        if self.settings.text is None:
            raise InputError(
                f"{self.folder}: its notes are not embedded; `mekiki remember … --text-model NAME` does it"
            )
        own = self.folder / self.settings.text
        if own.is_dir():  # tuned here, and read by a library that knows nothing of checksums
            Manifest.of(own, quiet=True).verify()
        return TextView(self.text_model, self.settings.dimensions)

    @property
    def text_model(self) -> str:
        """Its name or folder; one that was tuned here lies in the run folder, wherever that is moved."""
        assert self.settings.text is not None
        own = self.folder / self.settings.text
        return str(own) if own.is_dir() else self.settings.text

    def encoder(self, space: str) -> Encoder:
        """Who makes the vectors of a space."""
        return self.view.encoder if space == "images" else self.texts.encoder

    def store(self, space: str, encoder: Encoder | None = None) -> Store:
        """The store of a space; an encoder makes it, or must be its own."""
        if space not in SPACES:
            raise not_known("space", space, SPACES)
        tuned = f"-{self.settings.generation}" if space == "notes" and self.settings.generation else ""
        return open_store(self.place, space + tuned, encoder)

    def memory(self, space: str) -> Memory:
        """The store of a space as people judged what it found; refused if it is of another encoder."""
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; give a run that remembers")
        encoder = self.encoder(space)
        judgements = self.log.in_force(space, encoder.fingerprint)
        adapter_store = self.adapter_store(space, encoder)
        adapter = adapter_store.file()
        held = self._memories.get(space)
        if held is not None and held[0] == adapter:
            held[1].judgements = judgements
            return held[1]
        store = self.store(space)
        if (store.encoder.fingerprint, store.encoder.dimension) != (encoder.fingerprint, encoder.dimension):
            raise InputError(
                f"{store.place}: holds vectors of {store.encoder}, and {self.folder} makes those of {encoder}; "
                "remember the photographs anew, with another --store"
            )
        memory = Memory(store, judgements, adapter_store.current())
        self._memories[space] = (adapter, memory)
        return memory

    def adapter_store(self, space: str, encoder: Encoder) -> AdapterStore:
        """The adapters of a space."""
        return AdapterStore(self.folder / ADAPTERS, space, encoder.fingerprint)


def resolved(store: Store, ids: Sequence[str]) -> list[str]:
    """Whole ids for ids or their beginnings.

    Raises:
        InputError: none or several begin so.
    """
    whole = set(store.get(list(ids)).ids)
    found = []
    for id_ in ids:
        if id_ in whole:
            found.append(id_)
            continue
        begins: list[str] = []
        if len(id_) >= SHORTEST:
            pattern = "".join(f"\\{letter}" if letter in "%_\\" else letter for letter in id_)
            condition = parse_where("id like '" + pattern.replace("'", "''") + "%'")
            begins = [each for part in store.read(condition, whole=False) for each in part.ids]
        if len(begins) != 1:
            said = "there is none" if not begins else f"{len(begins)} cases begin so"
            raise InputError(f"case {id_}: {said} in {store.place}; `mekiki search` shows their ids")
        found += begins
    return found


def _read(path: Path) -> Settings:
    if not path.is_file():
        return Settings()
    facts = read_checked_json(path)
    if "format" in facts:
        check_format(path, facts.pop("format"), MEMORY_FORMAT)
    try:
        return Settings(**facts)
    except TypeError as error:
        raise InputError(f"{path}: cannot be read ({error}); mend it or remove it") from None
