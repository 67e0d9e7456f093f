"""State that all routes share: the judge, memory and describer of the run, its uploads and its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from mekiki.cases.encoders import JudgeEncoder
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.store_address import open_store
from mekiki.describing.describe import RunDescriber, method_of
from mekiki.errors import InputError, MekikiError
from mekiki.judging.conformal import Language
from mekiki.judging.corrections import read_corrections
from mekiki.judging.judge_photos import Inspector
from mekiki.storage.lock import hold_lock, lock_timeout
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
from mekiki.storage.training_run import Run, read_config
from mekiki.web.allowed_folders import AllowedFolders
from mekiki.web.security import AccessRules
from mekiki.web.uploads import RequestLimits, Uploads
from mekiki.web.wire import ResponseBody
from mekiki.web.worker import Worker

Opened = TypeVar("Opened")

LANGUAGES: tuple[Language, ...] = ("en", "ja")
LOCK_TIMEOUT_S = 2.0
"""How long a change waits for another process that writes into the run."""


class Abilities(ResponseBody):
    """What a run can do."""

    trained: bool
    calibrated: bool
    remembers: bool
    reads_notes: bool
    describes: bool = Field(description="it has a describer; without one a template answers")
    answers: bool = Field(description="questions of the caller's own, by a language model")


class UploadLimits(ResponseBody):
    """Limits of an upload."""

    bytes: int
    pixels: int
    files: int


class RunSummary(ResponseBody):
    """The run that is served."""

    name: str
    version: str
    can: Abilities
    encoder: str = ""
    guarantee: dict[str, str] = Field(
        default_factory=dict, description="of the threshold, by language; empty without a judge"
    )
    threshold: float | None = None
    false_reject: float | None = None
    classes: list[str] = Field(default_factory=list)
    kinds: list[str] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    languages: list[str]
    limits: UploadLimits
    folders: list[str] = Field(description="folders listed with --allow, in which training data may be named")
    csrf: str = Field(description="value of the header X-Mekiki-CSRF of every POST")


class AppState:
    """What all routes share.

    Whatever extracts features or changes the run is called in `model_worker` only.

    Args:
        folder: the run folder.
        rules: who may call.
        allow: folders whose files callers may name.
        vectors: a table of vectors to show as a map.
        limits: what callers may send.

    Attributes:
        model_worker: thread of model calls and changes.
        io_worker: thread of what only reads or stores files.
        closing: true once the server was asked to stop; streams then end.
    """

    def __init__(
        self,
        folder: Path,
        rules: AccessRules,
        *,
        allow: Sequence[Path] = (),
        vectors: Path | None = None,
        limits: RequestLimits | None = None,
    ) -> None:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; give one that `mekiki train` or `mekiki calibrate` wrote"
            )
        self.folder, self.rules, self.vectors = folder, rules, vectors
        self.limits = limits or RequestLimits()
        self.allowed = AllowedFolders(folder, allow)
        self.uploads = Uploads(self.limits)
        self.model_worker, self.io_worker = Worker("models"), Worker("io")
        self.closing = False
        self._opened: dict[str, tuple[object, Any]] = {}

    @property
    def calibrated(self) -> bool:
        """Whether the run has a judge."""
        return (self.folder / JUDGE / JUDGE_SETTINGS).is_file()

    def _open(self, name: str, state: object, open_: Callable[[], Opened]) -> Opened:
        """Return what was opened under a name; it is opened again when the state of its files has changed."""
        if name not in self._opened or self._opened[name][0] != state:
            self._opened[name] = state, open_()
        opened: Opened = self._opened[name][1]
        return opened

    def _files(self, *names: str) -> tuple[tuple[int, ...], ...]:
        return tuple(file_state(self.folder / name) for name in names)

    def inspector(self) -> Inspector:
        """Return the judge of the last calibration, with all corrections.

        Raises:
            InputError: the run has none.
        """
        judge, corrections = self._files(f"{JUDGE}/{JUDGE_SETTINGS}", CORRECTIONS)
        inspector = self._open("judge", judge, lambda: Inspector.open(self.folder))
        self._open("corrections", (judge, corrections), inspector.reload_corrections)
        return inspector

    def run_memory(self) -> RunMemory:
        """Return the case memory, which shares the feature extractor of the judge.

        Raises:
            InputError: the run has no feature extractor.
        """
        inspector = self.inspector() if self.calibrated else None

        def open_memory() -> RunMemory:
            return RunMemory(
                self.folder, photo_encoder=None if inspector is None else JudgeEncoder(inspector)
            )

        return self._open("memory", self._files(f"{JUDGE}/{JUDGE_SETTINGS}", MEMORY, METRICS), open_memory)

    def explainer(self) -> RunDescriber:
        """Return the describer, which shares the case memory.

        Raises:
            InputError: it cannot be read, or the run has no feature extractor.
        """
        memory = self.run_memory()
        files = self._files(f"{DESCRIBER}/{DESCRIBER_SETTINGS}", f"{LOCALISER}/{LOCALISER_SETTINGS}")
        return self._open(
            "describer", (id(memory), files), lambda: RunDescriber(self.folder, run_memory=memory)
        )

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the run within the block; another process that does so is waited for `LOCK_TIMEOUT_S`.

        Raises:
            LockedError: it is still at work.
        """
        with lock_timeout(LOCK_TIMEOUT_S), hold_lock(self.folder, "changing the run", role="page"):
            yield

    def summarise(self) -> RunSummary:
        """Return the run in numbers."""
        describer = method_of(self.folder)
        memory = RunMemory(self.folder)
        cases = self._count_cases(memory)
        summary = RunSummary(
            name=self.folder.resolve().name,
            version=version("mekiki"),
            can=Abilities(
                trained=Run(self.folder).complete,
                calibrated=self.calibrated,
                remembers=cases is not None,
                reads_notes=memory.config.text is not None,
                describes=describer != "template",
                answers=describer == "language model",
            ),
            languages=list(LANGUAGES),
            limits=UploadLimits(bytes=self.limits.upload, pixels=self.limits.pixels, files=self.limits.files),
            folders=[str(folder) for folder in self.allowed.further],
            csrf=self.rules.csrf,
        )
        if summary.can.trained:
            self._add_training(summary)
        if summary.can.calibrated:
            self._add_judge(summary)
        if cases is not None:
            summary.counts["cases"] = cases
        return summary

    def _add_training(self, summary: RunSummary) -> None:
        metrics = Run(self.folder).metrics()
        summary.classes = [str(name) for name in read_config(self.folder)["about"].get("class_names", [])]
        summary.encoder = str(metrics.get("encoder", ""))
        summary.counts |= {name: metrics.get(name, 0) for name in ("n_train", "n_test")}

    def _add_judge(self, summary: RunSummary) -> None:
        inspector = self.inspector()
        facts, threshold = inspector.metadata, inspector.judge.threshold
        summary.encoder = facts["eye"]["name"]
        summary.false_reject = float(facts["false_reject"])
        if threshold is not None:
            summary.guarantee = {language: threshold.promise(language) for language in LANGUAGES}
            summary.threshold = threshold.value
        names = ("ok_parts", "ng_parts", "learnt_from", "calibrated_on")
        summary.counts |= {name: int(facts[name]) for name in names if name in facts}
        corrections = [each for each in read_corrections(self.folder) if not each.undone]
        summary.counts["lessons"] = len(corrections)
        taught = {each.defect_type for each in corrections if each.ng}
        summary.kinds = sorted({kind for kind in inspector.references.labels if kind != "OK"} | taught)

    def _count_cases(self, memory: RunMemory) -> int | None:
        """Return the number of cases; `None` without any."""
        if not memory.exists:
            return None
        try:
            return open_store(memory.place, "images").count()
        except MekikiError:  # only notes are stored, or the library of the store is not installed
            return None

    def close(self) -> None:
        """Finish the running calls and remove the uploads."""
        self.closing = True
        self.model_worker.close()
        self.io_worker.close()
        self.uploads.close()


def file_state(path: Path) -> tuple[int, ...]:
    """Return values that change when a file is written; empty if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino
