"""Corrections: verdicts that a person corrected, with who, when and what, active from the next judgement on.

The log `lessons.jsonl` in the run folder only grows: an undo is a line too. Beside it, in `lessons/`, are the
photograph as the judge took it and its features, so that the original file may go.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load, save

from mekiki.data.photo import Photo
from mekiki.errors import InputError
from mekiki.judging.judge_result import TaughtPart
from mekiki.storage.atomic import replace_file
from mekiki.storage.events import Event, EventLog
from mekiki.storage.manifest import digest_of
from mekiki.storage.run_folder import CORRECTION_FEATURES, CORRECTION_FILES, CORRECTION_PHOTO, CORRECTIONS
from mekiki.storage.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Correction:
    """One entry of a `CorrectionLog`.

    Attributes:
        number: counted from 1.
        ng: the right verdict.
        defect_type: empty for OK.
        file: the photograph, as it was named.
        content: hash of its pixels as the judge took them.
        before: the verdict it corrects.
        who: the user.
        when: UTC, ISO 8601.
        files: SHA-256 of the photograph that is kept, by name; empty in lines of older versions.
        undone: whether it was undone.
    """

    number: int
    ng: bool
    defect_type: str
    file: str
    content: str
    before: str
    who: str
    when: str
    files: dict[str, str] = field(default_factory=dict)
    undone: bool = False

    @classmethod
    def of_event(cls, event: Event) -> Correction:
        """The correction of a line of the log."""
        content = dict(event.content)
        return cls(defect_type=content.pop("kind"), undone=event.undone, **content)

    def to_dict(self) -> dict[str, Any]:
        """The correction for JSON."""
        return {("kind" if name == "defect_type" else name): value for name, value in asdict(self).items()}

    @property
    def note(self) -> str:
        """Its name in verdicts that it decides."""
        return f"{self.defect_type if self.ng else 'OK'} (correction {self.number}, {self.who}, {self.when[:10]})"


def parse_label(text: str) -> tuple[bool, str]:
    """`OK`, `NG` or `NG:TYPE` → whether NG, and the defect type.

    Raises:
        InputError: it is none of these.

    Example:
        >>> parse_label("NG:scratch"), parse_label("ok"), parse_label("NG")
        ((True, 'scratch'), (False, ''), (True, 'NG'))
    """
    verdict, _, defect_type = text.partition(":")
    if verdict.strip().upper() == "OK" and not defect_type:
        return False, ""
    if verdict.strip().upper() == "NG":
        return True, defect_type.strip() or "NG"
    raise InputError(f"--as {text}: give OK, NG, or NG:TYPE such as NG:scratch")


def open_corrections(folder: Path) -> CorrectionLog:
    """The log of a run folder.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `mekiki calibrate` wrote")
    return CorrectionLog(folder)


def read_corrections(folder: Path) -> list[Correction]:
    """All corrections of a run folder in order, those undone too.

    Raises:
        InputError: there is no such folder, or its log cannot be read.
    """
    return open_corrections(folder).entries()


class CorrectionLog:
    """The corrections of a run folder.

    Args:
        folder: the run folder.

    Attributes:
        path: the log.
        files: the folder of photographs and features.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.files = folder / CORRECTIONS, folder / CORRECTION_FILES
        self._log = EventLog(self.path, "correction", "mekiki teach RUN --list")

    def entries(self) -> list[Correction]:
        """All corrections in order, those undone too.

        Raises:
            InputError: a line of the log, other than a last one that a crash cut short, cannot be read.
        """
        return self._log.read(Correction.of_event)

    def active(self) -> list[Correction]:
        """The corrections that count: not undone, and of several on one photograph the last."""
        last = {each.content: each for each in self.entries() if not each.undone}
        return sorted(last.values(), key=lambda each: each.number)

    def add(
        self,
        photo: Photo,
        *,
        ng: bool,
        defect_type: str,
        before: str,
        features: Mapping[str, NDArray[np.float32]],
        extractor: str,
    ) -> Correction:
        """Write a correction: its photograph and features first, then its line.

        Args:
            photo: the photograph, read.
            ng: the right verdict.
            defect_type: empty for OK.
            before: the verdict it corrects.
            features: float32 `[d]` or `[h, w, c]` by feature group.
            extractor: fingerprint of the feature extractor.
        """
        stream = io.BytesIO()
        Image.fromarray(np.asarray(photo.pixels)).save(stream, "PNG")

        def write_files(number: int) -> dict[str, Any]:
            path = self.files / CORRECTION_PHOTO.format(number=number)
            with replace_file(path) as temporary:
                temporary.write_bytes(stream.getvalue())
            self._write_features(number, features, extractor)
            return {
                "number": number,
                "ng": ng,
                "kind": defect_type,
                "file": str(photo.path),
                "content": photo.content,
                "before": before,
                "files": {f"{CORRECTION_FILES}/{path.name}": hashlib.sha256(stream.getvalue()).hexdigest()},
            }

        return Correction.of_event(self._log.append(write_files))

    def undo(self, number: int | None = None) -> Correction:
        """Undo a correction, the last active one if no number is given; the log keeps both lines.

        Raises:
            InputError: there is none, or it was undone before.
        """
        return Correction.of_event(self._log.undo(number))

    def active_parts(
        self,
        groups: Sequence[str],
        extractor: str,
        extract: Callable[[Path], Mapping[str, NDArray[np.float32]]],
    ) -> list[TaughtPart]:
        """The active corrections for `Judge.teach`.

        Args:
            groups: the feature groups that the judge knows.
            extractor: the fingerprint of its feature extractor.
            extract: extracts features of a photograph, where those kept are of another extractor, or lack a group.

        Raises:
            InputError: the files of a correction are missing or damaged.
        """
        parts = []
        for correction in self.active():
            path = self.files / CORRECTION_FEATURES.format(number=correction.number)
            advice = f"undo it with --undo --correction {correction.number}"
            try:
                content, metadata = read_tensors(path)
                features = load(content)
                if metadata.get("eye") != extractor or not features.keys() >= set(groups):
                    features = dict(extract(self.photograph(correction)))
                    with contextlib.suppress(OSError):  # kept only to spare the extraction next time
                        self._write_features(correction.number, features, extractor)
            except InputError as error:
                raise InputError(f"{error}, or {advice}") from None
            except Exception as error:  # damaged files raise nearly anything
                raise InputError(f"{path}: cannot be read ({error}); {advice}") from None
            known = {name: each for name, each in features.items() if name in groups}
            parts.append(TaughtPart(correction.ng, known, correction.note, correction.defect_type))
        return parts

    def photograph(self, correction: Correction) -> Path:
        """The photograph that was kept of a correction.

        Raises:
            InputError: it is missing, or damaged.
        """
        path = self.files / CORRECTION_PHOTO.format(number=correction.number)
        if not path.is_file():
            raise InputError(f"{path}: is missing; restore it from a copy")
        expected = correction.files.get(f"{CORRECTION_FILES}/{path.name}")
        if expected is not None and digest_of(path) != expected:
            raise InputError(
                f"{path}: is damaged (its checksum is another than when it was written); restore it"
            )
        return path

    def _write_features(
        self, number: int, features: Mapping[str, NDArray[np.float32]], extractor: str
    ) -> None:
        content = {name: np.ascontiguousarray(each) for name, each in features.items()}
        path = self.files / CORRECTION_FEATURES.format(number=number)
        write_tensors(path, save(content, metadata={"eye": extractor}))
