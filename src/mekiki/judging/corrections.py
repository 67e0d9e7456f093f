"""Lessons: what people said of single parts, kept with who, when and what, in force at the next judgement.

`lessons.jsonl` in the run folder only ever grows: an undoing is a line too. Beside each lesson lie the photograph as
the judge saw it and the vectors of it, so that the original may go.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load, save

from mekiki.errors import InputError
from mekiki.judging.judge import TaughtPart
from mekiki.storage.atomic import replace_file
from mekiki.storage.events import append_event, damaged_line, read_events, user
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import digest_of
from mekiki.storage.run_folder import CORRECTION_FILES, CORRECTIONS
from mekiki.storage.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Correction:
    """One lesson in the book.

    Attributes:
        number: counted from 1.
        ng: what the person said.
        defect_type: empty for OK.
        file: the photograph, as it was named.
        content: hash of its pixels as the judge saw them.
        who: the user.
        when: UTC, ISO 8601.
        before: the verdict it overrules.
        files: SHA-256 of what was kept beside it, by name; none in lessons of older versions.
        undone: whether it has been taken back.
    """

    number: int
    ng: bool
    defect_type: str
    file: str
    content: str
    who: str
    when: str
    before: str
    files: dict[str, str] = field(default_factory=dict)
    undone: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The correction as its line in the log and as JSON have it."""
        return {("kind" if name == "defect_type" else name): value for name, value in asdict(self).items()}

    @property
    def note(self) -> str:
        """What to call it when it decides."""
        return f"{self.defect_type if self.ng else 'OK'} (lesson {self.number}, {self.who}, {self.when[:10]})"


def parse_label(text: str) -> tuple[bool, str]:
    """`OK`, `NG` or `NG:KIND` → whether NG, and the kind.

    Raises:
        InputError: it is none of these.

    Example:
        >>> parse_label("NG:scratch"), parse_label("ok"), parse_label("NG")
        ((True, 'scratch'), (False, ''), (True, 'NG'))
    """
    said, _, kind = text.partition(":")
    if said.strip().upper() == "OK" and not kind:
        return False, ""
    if said.strip().upper() == "NG":
        return True, kind.strip() or "NG"
    raise InputError(f"--as {text}: give OK, NG, or NG:KIND such as NG:scratch")


def read_corrections(folder: Path) -> list[Correction]:
    """All lessons of a run folder in order, those taken back too.

    Raises:
        InputError: there is no such folder, or its log cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `mekiki calibrate` wrote")
    return CorrectionLog(folder).entries()


class CorrectionLog:
    """The lessons of a run folder.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.kept = folder, folder / CORRECTIONS, folder / CORRECTION_FILES

    def entries(self) -> list[Correction]:
        """All lessons in order, those taken back too.

        Raises:
            InputError: a line of the log, other than a last one that a crash cut short, cannot be read.
        """
        entries: list[Correction] = []
        for number, facts in enumerate(read_events(self.log)):
            try:
                if "undo" in facts:
                    place = facts["undo"] - 1
                    if place < 0:
                        raise LookupError(place)
                    entries[place] = replace(entries[place], undone=True)
                else:
                    entries.append(Correction(defect_type=facts.pop("kind"), **facts))
            except (ValueError, TypeError, LookupError):
                raise damaged_line(self.log, number + 1) from None
        return entries

    def add(
        self,
        *,
        ng: bool,
        defect_type: str,
        file: Path,
        content: str,
        before: str,
        pixels: NDArray[np.uint8],
        views: Mapping[str, NDArray[np.float32]],
        extractor: str,
        who: str | None = None,
    ) -> Correction:
        """Write a lesson down: its photograph and vectors first, and then, in one line, that it holds."""
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        with hold_lock(self.folder, "teaching"):
            number = len(self.entries()) + 1
            photograph = self.kept / f"{number}.png"
            entry = Correction(
                number,
                ng,
                defect_type,
                str(file),
                content,
                who or user(),
                datetime.now(UTC).isoformat(timespec="seconds"),
                before,
                {f"{CORRECTION_FILES}/{photograph.name}": hashlib.sha256(stream.getvalue()).hexdigest()},
            )
            with replace_file(photograph) as temporary:
                temporary.write_bytes(stream.getvalue())
            self._keep(number, views, extractor)
            facts = entry.to_dict()
            del facts["undone"]
            append_event(self.log, facts)
        return entry

    def undo(self, number: int | None = None, *, who: str | None = None) -> Correction:
        """Take a lesson back, the last one in force if none is named; the log keeps both lines.

        Raises:
            InputError: there is none, or it was taken back before.
        """
        with hold_lock(self.folder, "taking a lesson back"):
            return self._undone(number, who or user())

    def _undone(self, number: int | None, who: str) -> Correction:
        entries = self.entries()
        if number is None:
            in_force = [entry for entry in entries if not entry.undone]
            if not in_force:
                raise InputError("no lesson is in force, so there is none to undo")
            number = in_force[-1].number
        if not 1 <= number <= len(entries):
            raise InputError(f"lesson {number}: there is none; `mekiki teach RUN --list` shows them")
        if entries[number - 1].undone:
            raise InputError(f"lesson {number}: was taken back before")
        when = datetime.now(UTC).isoformat(timespec="seconds")
        append_event(self.log, {"undo": number, "who": who, "when": when})
        return replace(entries[number - 1], undone=True)

    def active_parts(
        self, views: Sequence[str], extractor: str, see: Callable[[Path], Mapping[str, NDArray[np.float32]]]
    ) -> list[TaughtPart]:
        """Lessons not taken back, for `Judge.teach`; of several on one photograph, the last.

        Args:
            views: which of the vectors the judge knows.
            extractor: the fingerprint of the eye it looks through.
            see: looks at a photograph with it, where a lesson was seen by another eye before.

        Raises:
            InputError: the vectors of one are missing.
        """
        last = {entry.content: entry for entry in self.entries() if not entry.undone}
        lessons = []
        for entry in sorted(last.values(), key=lambda entry: entry.number):
            path = self.kept / f"{entry.number}.safetensors"
            try:
                content, about = read_tensors(path)
                vectors = load(content)
                if about.get("eye") != extractor:
                    vectors = dict(see(self.photograph(entry)))
                    with contextlib.suppress(OSError):  # it was only to spare looking again
                        self._keep(entry.number, vectors, extractor)
            except InputError as error:
                raise InputError(f"{error}, or take lesson {entry.number} back with --undo") from None
            except Exception as error:  # damaged files raise nearly anything
                raise InputError(
                    f"{path}: cannot be read ({error}); take lesson {entry.number} back with --undo"
                ) from None
            known = {name: vector for name, vector in vectors.items() if name in views and vector.ndim == 1}
            lessons.append(TaughtPart(entry.ng, known, entry.note, entry.defect_type))
        return lessons

    def photograph(self, entry: Correction) -> Path:
        """The photograph that was kept of a lesson.

        Raises:
            InputError: it is missing, or damaged.
        """
        path = self.kept / f"{entry.number}.png"
        if not path.is_file():
            raise InputError(f"{path}: is missing; restore it from a copy")
        wanted = entry.files.get(f"{CORRECTION_FILES}/{path.name}")
        if wanted is not None and digest_of(path) != wanted:
            raise InputError(
                f"{path}: is damaged (its checksum is another than when it was written); restore it"
            )
        return path

    def _keep(self, number: int, views: Mapping[str, NDArray[np.float32]], extractor: str) -> None:
        content = {name: np.ascontiguousarray(view) for name, view in views.items()}
        write_tensors(self.kept / f"{number}.safetensors", save(content, metadata={"eye": extractor}))
