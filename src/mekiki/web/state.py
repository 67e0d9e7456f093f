"""The run that is served: its judge and its memory, opened once, and opened anew when its files have changed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mekiki.cases.encoders import JudgeEncoder
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.store_address import open_store
from mekiki.describing.describe import Explainer, speaker_of
from mekiki.errors import InputError, MekikiError
from mekiki.judging.conformal import Language
from mekiki.judging.corrections import read_corrections
from mekiki.judging.inspector import Inspector
from mekiki.storage.run import Run, read_config
from mekiki.storage.run_folder import (
    CORRECTIONS,
    DESCRIBER,
    DESCRIBER_SETTINGS,
    JUDGE,
    JUDGE_SETTINGS,
    LOCALISER,
    LOCALISER_SETTINGS,
    MEMORY,
    METRICS,
)
from mekiki.web.allowed_files import Places
from mekiki.web.models import Abilities, RunFacts
from mekiki.web.models import Limits as LimitsModel
from mekiki.web.security import Door, Limits
from mekiki.web.uploads import Uploads
from mekiki.web.worker import Worker, WriterLock

LANGUAGES: tuple[Language, ...] = ("en", "ja")


class Served:
    """What all calls share.

    Methods that look through the eye or change the run are called in `worker` only; the rest from anywhere.

    Args:
        folder: the run folder.
        door: who is let in.
        allow: folders whose files callers may name.
        vectors: a table of vectors to show.
        limits: what callers may send.

    Attributes:
        worker: the thread that looks, judges and changes.
        aside: another one for what only reads, such as maps.
        lock: held while the run is changed.
    """

    def __init__(
        self,
        folder: Path,
        door: Door,
        *,
        allow: Sequence[Path] = (),
        vectors: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; give one that `mekiki train` or `mekiki calibrate` wrote"
            )
        self.folder, self.door, self.vectors = folder, door, vectors
        self.limits = limits or Limits()
        self.places = Places(folder, allow)
        self.uploads = Uploads(self.limits)
        self.worker, self.aside = Worker("looks"), Worker("maps")
        self.lock = WriterLock(folder)
        self.closing = False
        self._inspector: Inspector | None = None
        self._room: RunMemory | None = None
        self._explainer: Explainer | None = None
        self._judge_stamp: tuple[int, ...] = ()
        self._lessons_stamp: tuple[int, ...] = ()
        self._room_stamp: tuple[tuple[int, ...], ...] = ()
        self._explainer_stamp: tuple[tuple[int, ...], ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether there is a judge."""
        return (self.folder / JUDGE / JUDGE_SETTINGS).is_file()

    def inspector(self) -> Inspector:
        """The judge as it is now: of the last calibration, with all lessons.

        Raises:
            InputError: there is none.
        """
        stamp, lessons = _stamp(self.folder / JUDGE / JUDGE_SETTINGS), _stamp(self.folder / CORRECTIONS)
        if self._inspector is None or stamp != self._judge_stamp:
            self._inspector = Inspector.open(self.folder)
            self._judge_stamp, self._lessons_stamp = stamp, lessons
        elif lessons != self._lessons_stamp:
            self._inspector.reload_lessons()
            self._lessons_stamp = lessons
        return self._inspector

    def run_memory(self) -> RunMemory:
        """The memory as it is now, looking with the same eye as the judge.

        Raises:
            InputError: the run looks with nothing.
        """
        inspector = self.inspector() if self.calibrated else None
        stamp = (self._judge_stamp, _stamp(self.folder / MEMORY), _stamp(self.folder / METRICS))
        if self._room is None or stamp != self._room_stamp:
            view = None if inspector is None else JudgeEncoder(inspector)
            self._room, self._room_stamp = RunMemory(self.folder, photo_encoder=view), stamp
        return self._room

    def explainer(self) -> Explainer:
        """What speaks, with the memory as it is now.

        Raises:
            InputError: its describer cannot be read, or the run looks with nothing.
        """
        run_memory = self.run_memory()
        learnt = (self.folder / DESCRIBER / DESCRIBER_SETTINGS, self.folder / LOCALISER / LOCALISER_SETTINGS)
        stamp = (*self._room_stamp, *(_stamp(path) for path in learnt))
        if self._explainer is None or stamp != self._explainer_stamp:
            self._explainer, self._explainer_stamp = Explainer(self.folder, run_memory=run_memory), stamp
        return self._explainer

    def abilities(self) -> Abilities:
        """What the run can do."""
        lm_config = speaker_of(self.folder)
        run_memory = RunMemory(self.folder)
        return Abilities(
            trained=Run(self.folder).complete,
            calibrated=self.calibrated,
            remembers=self._count(run_memory.place) is not None,
            reads_notes=run_memory.config.text is not None,
            describes=lm_config != "template",
            answers=lm_config == "language model",
        )

    def facts(self) -> RunFacts:
        """The run in numbers; in `worker`."""
        can = self.abilities()
        counts: dict[str, int] = {}
        told: dict[str, Any] = {"encoder": "", "guarantee": {}, "threshold": None, "false_reject": None}
        classes: list[str] = []
        kinds: list[str] = []
        if can.trained:
            about = read_config(self.folder)["about"]
            classes = [str(name) for name in about.get("class_names", [])]
            metrics = Run(self.folder).metrics()
            told["encoder"] = str(metrics.get("encoder", ""))
            counts |= {name: metrics.get(name, 0) for name in ("n_train", "n_test")}
        if can.calibrated:
            inspector = self.inspector()
            facts = inspector.facts
            rule = inspector.judge.threshold
            threshold = None if rule is None else rule.value
            told |= {
                "encoder": facts["eye"]["name"],
                "guarantee": {} if rule is None else {each: rule.promise(each) for each in LANGUAGES},
                "threshold": threshold,
                "false_reject": float(facts["false_reject"]),
            }
            counts |= {
                name: int(facts[name])
                for name in ("ok_parts", "ng_parts", "learnt_from", "calibrated_on")
                if name in facts
            }
            lessons = read_corrections(self.folder)
            counts["lessons"] = sum(not each.undone for each in lessons)
            taught = {each.kind for each in lessons if each.ng and not each.undone}
            kinds = sorted({kind for kind in inspector.examples.kinds if kind != "OK"} | taught)
        if can.remembers:
            counts["cases"] = self._count(RunMemory(self.folder).place) or 0
        return RunFacts(
            name=self.places.run.name,
            version=version("mekiki"),
            can=can,
            classes=classes,
            kinds=kinds,
            counts=counts,
            languages=list(LANGUAGES),
            limits=LimitsModel(bytes=self.limits.upload, pixels=self.limits.pixels, files=self.limits.files),
            folders=[str(folder) for folder in self.places.allowed],
            csrf=self.door.csrf,
            **told,
        )

    def _count(self, place: str) -> int | None:
        """How many photographs are remembered; `None` where nothing is."""
        if not RunMemory(self.folder).exists:
            return None
        try:
            return open_store(place, "images").count()
        except MekikiError:  # nothing is remembered, or the library for it is not installed
            return None

    def close(self) -> None:
        """Finish, and remove what was uploaded."""
        self.closing = True
        self.worker.close()
        self.aside.close()
        self.uploads.close()


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture for a browser: uint8 `[H, W]` or `[H, W, 3]`."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _stamp(path: Path) -> tuple[int, ...]:
    """Another one when a file has changed."""
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_mtime_ns, about.st_size, about.st_ino
