"""The run folder: what belongs to one experiment, written so that a crash leaves the old state or the new one.

While training goes on the folder holds `checkpoint.safetensors` and `history.csv`, each replaced in one step after
every epoch. When all results are there the whole folder is replaced at once, `metrics.json` among them: a run is
complete if, and only if, it has that file.
"""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mekiki.errors import InputError, first_line
from mekiki.storage.atomic import PARTIAL, recover_folder, replace_folder, write_text
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, check_format, write_manifest
from mekiki.storage.run_folder import CHECKPOINT, CONFIG, EMBEDDER_FORMAT, MANIFEST, METRICS


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it is; need not exist yet.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """State of the last whole epoch."""
        return self.folder / CHECKPOINT

    @property
    def complete(self) -> bool:
        """Whether all results are there."""
        return (self.folder / METRICS).is_file()

    def check(self, *, resume: bool) -> bool:
        """Whether there is a checkpoint to go on from; nothing is made yet.

        Raises:
            InputError: the folder holds a run already and `resume` is not asked for, or holds something else.
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
        if (
            not started
            and self.folder.exists()
            and any(PARTIAL not in entry.name for entry in self.folder.iterdir())
        ):
            raise InputError(f"{self.folder}: is not empty and holds no run; give another --out")
        return started

    def begin(self, *, resume: bool) -> bool:
        """Make the folder ready for training; the rest as `check`."""
        started = self.check(resume=resume)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(f".*{PARTIAL}*"):  # by a process that was killed while it wrote
                left.unlink()
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be made ({error.strerror}); give another --out"
            ) from None
        return started

    def abandon(self) -> None:
        """Take the folder away again if not one epoch was done."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    @contextmanager
    def finished(self, results: Collection[str]) -> Iterator[Path]:
        """Give an empty folder for all results; at the end of the block it takes the run's place.

        The checkpoint comes along, and so does whatever a person put into the folder. Evaluations do not: they speak
        of the model as it was; nor do older results. Nobody else writes into the run while it is taken over.

        Args:
            results: names of the files that a run may write.
        """
        with ExitStack() as until_replaced, replace_folder(self.folder) as new:
            yield new
            write_manifest(new)
            until_replaced.enter_context(hold_lock(self.folder))
            for entry in self.folder.iterdir():
                result = entry.name in (*results, MANIFEST) or (new / entry.name).exists()
                old = result or entry.match("evaluation*.json") or PARTIAL in entry.name
                if old and entry.name != CHECKPOINT:
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
        path = self.folder / METRICS
        try:
            metrics: dict[str, Any] = json.loads(Manifest.of(self.folder, quiet=True).read(METRICS))
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        return metrics

    def config(self) -> dict[str, Any]:
        """How the run was made."""
        return read_config(self.folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a saved embedder or a run.

    Raises:
        InputError: the folder holds no trained embedder, or one of another format.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that training wrote")
    try:
        config: dict[str, Any] = json.loads(
            Manifest.of(folder, mend="train it anew", quiet=True).read(CONFIG)
        )
    except FileNotFoundError:
        raise InputError(f"{folder}: no trained model here (config.json is missing)") from None
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); train it anew") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds no settings; train it anew")
    check_format(path, config.get("format"), EMBEDDER_FORMAT)
    if config.get("format") != EMBEDDER_FORMAT:
        raise InputError(
            f"{path}: format {config.get('format')!r}; this version of mekiki reads {EMBEDDER_FORMAT!r}"
        )
    return config


def folder_name(name: str) -> str:
    """A name as a folder may have it on any system.

    Example:
        >>> folder_name("digits pml:ArcFaceLoss")
        'digits-pml-ArcFaceLoss'
    """
    return re.sub(r"[^\w.=-]+", "-", name).strip("-.") or "run"


def latest_folder(base: Path, name: str) -> Path:
    """The run that `--resume` means when no folder is named: the newest unfinished `base/name[-N]`, else the newest.

    Raises:
        InputError: there is none.
    """
    stem = folder_name(name)
    there = [path for path in base.glob(f"{stem}*") if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", path.name)]
    runs = [Run(path) for path in there if Run(path).checkpoint.is_file()]
    if not runs:
        raise InputError(
            f"{base / stem}: no run to resume; leave out --resume, or name the folder with --out"
        )
    unfinished = [run for run in runs if not run.complete]
    return max(unfinished or runs, key=lambda run: run.checkpoint.stat().st_mtime).folder


def free_folder(base: Path, name: str) -> Path:
    """`base/name`, or with -2, -3, … behind it: the first that does not exist."""
    number, folder = 1, base / folder_name(name)
    while folder.exists():
        number += 1
        folder = base / f"{folder_name(name)}-{number}"
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON in one step; numbers that are not finite become null, for JSON has none."""
    text = json.dumps(finite(content), indent=1, ensure_ascii=False) + "\n"
    # A file name may hold bytes that are no text; JSON has an escape for them.
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def finite(value: Any) -> Any:
    """The same with `None` for every number that is not finite.

    Example:
        >>> finite({"a": [1.0, float("nan")]})
        {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in ("mekiki", "torch", "numpy", "scikit-learn", "lightning-fabric"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
