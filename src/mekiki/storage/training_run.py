"""A run: the folder of one experiment.

While training goes on the folder holds the checkpoint and the history, each replaced in one step after every epoch.
When all results are there the whole folder is replaced at once, `metrics.json` among them, so a run is complete
exactly if it has that file.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mekiki.errors import InputError, first_line
from mekiki.storage.atomic import PARTIAL, recover_folder, replace_folder
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, check_format, write_manifest
from mekiki.storage.run_folder import CHECKPOINT, CONFIG, EMBEDDER_FORMAT, EVALUATIONS, MANIFEST, METRICS


@dataclass(frozen=True)
class Run:
    """One run folder, which need not exist yet."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """File with the state after the last complete epoch."""
        return self.folder / CHECKPOINT

    @property
    def complete(self) -> bool:
        """Whether all results are there."""
        return (self.folder / METRICS).is_file()

    def check(self, *, resume: bool) -> bool:
        """Whether there is a checkpoint to resume from; nothing is written.

        Raises:
            InputError: the folder holds a run and `resume` is false, or it holds something else.
        """
        recover_folder(self.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; give a folder as --out")
        started = self.checkpoint.is_file()
        if (started or self.complete) and not resume:
            state = "a complete run" if self.complete else "a run that was not finished"
            raise InputError(
                f"{self.folder}: holds {state}; add --resume to go on with it, or give another --out"
            )
        entries = self.folder.iterdir() if self.folder.exists() else ()
        if not started and any(PARTIAL not in entry.name for entry in entries):
            raise InputError(f"{self.folder}: is not empty and holds no run; give another --out")
        return started

    def begin(self, *, resume: bool) -> bool:
        """Make the folder for training; returns and raises as `check`."""
        started = self.check(resume=resume)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for partial in self.folder.glob(f".*{PARTIAL}*"):  # of a process that was killed while it wrote
                partial.unlink()
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be made ({error.strerror}); give another --out"
            ) from None
        return started

    def remove_if_empty(self) -> None:
        """Remove the folder if no epoch was finished."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    @contextmanager
    def replace_results(self, names: Collection[str]) -> Iterator[Path]:
        """Give an empty folder for all results; at the end of the block it takes the run's place.

        The checkpoint and all files of people stay in the run. Older results and evaluations do not, because they are
        of the model before. The run is locked while its files are copied.

        Args:
            names: the files that a training may write.
        """
        with ExitStack() as until_replaced, replace_folder(self.folder) as new:
            yield new
            write_manifest(new)
            until_replaced.enter_context(hold_lock(self.folder))
            for entry in self.folder.iterdir():
                is_result = entry.name in (*names, MANIFEST) or (new / entry.name).exists()
                outdated = is_result or entry.match(EVALUATIONS) or PARTIAL in entry.name
                if outdated and entry.name != CHECKPOINT:
                    continue
                if entry.is_dir():
                    shutil.copytree(entry, new / entry.name, symlinks=True)
                else:
                    shutil.copy2(entry, new / entry.name, follow_symlinks=False)

    def open(self) -> Run:
        """This run, if it is complete.

        Raises:
            InputError: there is no such folder, no run in it, or its training was not finished.
        """
        recover_folder(self.folder)
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; give the folder that `mekiki train` wrote")
        if not self.complete:
            if self.checkpoint.is_file():
                raise InputError(
                    f"{self.folder}: its training was not finished; `mekiki train … --resume` goes on"
                )
            raise InputError(f"{self.folder}: no run here ({METRICS} is missing)")
        return self

    def metrics(self) -> dict[str, Any]:
        """Every number of the run."""
        return _read_object(self.folder, METRICS)

    def config(self) -> dict[str, Any]:
        """How the run was made."""
        return read_config(self.folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a saved embedder or a run.

    Raises:
        InputError: the folder holds no trained embedder, or one of another format.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that training wrote")
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: no trained model here ({CONFIG} is missing)")
    config = _read_object(folder, CONFIG)
    check_format(folder / CONFIG, config.get("format"), EMBEDDER_FORMAT)
    return config


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    """The checked JSON object in a file of a folder."""
    try:
        content = json.loads(Manifest.of(folder, fix="train it again", quiet=True).read(name))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder / name}: cannot be read ({first_line(error)}); train it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{folder / name}: holds no settings; train it again")
    return content


def folder_name(name: str) -> str:
    """A name in the letters that a folder's name may have on any system.

    Example:
        >>> folder_name("digits pml:ArcFaceLoss")
        'digits-pml-ArcFaceLoss'
    """
    return re.sub(r"[^\w.=-]+", "-", name).strip("-.") or "run"


def latest_folder(base: Path, name: str) -> Path:
    """The run for `--resume` without a folder: the newest unfinished `base/name[-N]`, or else the newest.

    Raises:
        InputError: there is none.
    """
    stem = folder_name(name)
    runs = [
        Run(path) for path in base.glob(f"{stem}*") if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", path.name)
    ]
    started = [run for run in runs if run.checkpoint.is_file()]
    if not started:
        raise InputError(
            f"{base / stem}: no run to resume; leave out --resume, or name the folder with --out"
        )
    unfinished = [run for run in started if not run.complete]
    return max(unfinished or started, key=lambda run: run.checkpoint.stat().st_mtime).folder


def free_folder(base: Path, name: str) -> Path:
    """The first of `base/name`, `base/name-2`, `base/name-3`, … that does not exist."""
    number, folder = 1, base / folder_name(name)
    while folder.exists():
        number += 1
        folder = base / f"{folder_name(name)}-{number}"
    return folder


def versions() -> dict[str, str]:
    """Versions of all that a result depends on."""
    result = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in ("mekiki", "torch", "numpy", "scikit-learn", "lightning-fabric"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    return result
