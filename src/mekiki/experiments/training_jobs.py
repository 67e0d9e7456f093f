"""Training processes of a run folder: each a `mekiki train` in `trainings/`, followed through the files it writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mekiki.data.catalogue import NAMES
from mekiki.embedder import Embedder
from mekiki.errors import BusyError, InputError, MekikiError, NotFoundError
from mekiki.experiments.evaluate import examine
from mekiki.experiments.request import DataRequest
from mekiki.models.pretrained_folder import PREFIX
from mekiki.recipes import recipe
from mekiki.storage.json_files import write_json
from mekiki.storage.lock import LockedError, hold_lock
from mekiki.storage.run_folder import EPOCH_POINTS, EPOCHS, HISTORY, TRAININGS
from mekiki.storage.training_run import Run, folder_name, free_folder
from mekiki.training.history import read_history

COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from mekiki.cli import main; main()"
"""`mekiki` with Ctrl-C restored: a server that was started in the background ignores it, and so would its children."""
OWN = "run"
"""Id of the run folder's own training."""
STOP_TIMEOUT_S = 10.0
"""How long a training may take to stop."""
_EMBEDDER_OPTIONS = ("loss", "encoder", "dim", "margin", "epochs", "batch_size", "lr")


@dataclass(frozen=True)
class TrainingStatus:
    """One training as it is now.

    Attributes:
        id: name of its folder.
        state: `running`, `finished`, `stopped` or `failed`.
        message: why it failed, in one line.
        settings: as they were requested.
        epochs: requested; `None` where this is not known.
        done: epochs done.
        snapshots: epochs whose positions are stored.
        can_resume: it can be resumed.
    """

    id: str
    state: Literal["running", "finished", "stopped", "failed"]
    message: str
    settings: dict[str, Any]
    epochs: int | None
    done: int
    snapshots: int
    can_resume: bool


@dataclass(frozen=True)
class _Job:
    process: subprocess.Popen[bytes]
    thread: threading.Thread


class TrainingJobs:
    """The trainings of a run, one at a time.

    Args:
        run: the run folder.
        resolve: returns the path of a file or folder that a caller names, or refuses it.
    """

    def __init__(self, run: Path, resolve: Callable[[str], Path]) -> None:
        self.run, self.folder, self._resolve = run, run / TRAININGS, resolve
        self._jobs: dict[str, _Job] = {}
        self._guard = threading.Lock()

    def list_all(self) -> list[TrainingStatus]:
        """List all trainings, the oldest first."""
        records = sorted(self.folder.glob("*.json"), key=lambda path: (path.stat().st_mtime, path.name))
        names = [OWN] if (self.run / HISTORY).is_file() else []
        return [self.status(name) for name in [*names, *(path.stem for path in records)]]

    def folder_of(self, name: str) -> Path:
        """Return the folder of a training.

        Raises:
            NotFoundError: there is no such training.
        """
        return self._find(name)[0]

    def _find(self, name: str) -> tuple[Path, dict[str, Any]]:
        """Return folder and record of a training."""
        if name == OWN and (self.run / HISTORY).is_file():
            return self.run, {}
        path = self.folder / f"{name}.json"
        if name != folder_name(name) or not path.is_file():
            raise NotFoundError(f"training {name}: there is none; GET /api/trainings lists them")
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); remove it") from None
        return self.folder / name, record

    def status(self, name: str) -> TrainingStatus:
        """Return the status of a training.

        Raises:
            NotFoundError: there is no such training.
        """
        folder, record = self._find(name)
        run, message = Run(folder), str(record.get("failed", ""))
        state: Literal["running", "finished", "stopped", "failed"]
        if name in self._jobs or (name != OWN and _is_locked(folder)):
            state = "running"
        elif run.complete:
            state = "finished"
        else:
            state = "failed" if message else "stopped"
        return TrainingStatus(
            id=name,
            state=state,
            message=message if state == "failed" else "",
            settings=dict(record.get("settings", {})),
            epochs=record.get("epochs"),
            done=len(read_epochs(folder).get("epoch", [])),
            snapshots=_count_snapshots(folder),
            can_resume=state in ("stopped", "failed") and run.checkpoint.is_file() and name != OWN,
        )

    def start(self, settings: dict[str, Any]) -> TrainingStatus:
        """Start a training.

        Args:
            settings: options of `mekiki train` by name, with `data`, `recipe` and `seed`.

        Raises:
            InputError: the settings cannot be used.
            BusyError: another training is running.
        """
        options = dict(settings)
        data = options.pop("data")
        if data not in NAMES:
            path = self._resolve(data)
            if not path.exists():
                raise InputError(f"{data}: no such folder or file; name one under the run or a listed folder")
            data = str(path)
        if str(options.get("encoder", "")).startswith(PREFIX):
            options["encoder"] = self._local_encoder(options["encoder"])
        embedder = _make_embedder(data, options)
        name = f"{Path(data).stem or 'data'}-{embedder.loss}-{embedder.dim}d-seed{options['seed']}"
        words = [
            word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))
        ]
        record = {"settings": settings, "epochs": int(embedder.epochs), "words": [*words, "--", data]}
        with self._guard:
            self._refuse_second()
            self.folder.mkdir(exist_ok=True)
            folder = free_folder(self.folder, name)
            while (self.folder / f"{folder.name}.json").exists():
                name += "-again"
                folder = free_folder(self.folder, name)
            self._launch(folder, record, resume=False)
        return self.status(folder.name)

    def _local_encoder(self, encoder: str) -> str:
        """Return a pretrained encoder with its resolved folder; a name would be looked up on the network."""
        name, mark, layer = encoder.removeprefix(PREFIX).partition("#")
        folder = self._resolve(name)
        if not folder.is_dir():
            raise InputError(f"{encoder}: no such folder; name one under the run or a listed folder")
        return f"{PREFIX}{folder}{mark}{layer}"

    def resume(self, name: str) -> TrainingStatus:
        """Resume a training that was stopped.

        Raises:
            BusyError: it or another one is running, or it is finished.
        """
        with self._guard:
            status = self.status(name)
            if status.state == "running":
                raise BusyError(f"training {name}: is running")
            if name == OWN:
                raise InputError(
                    "the training of the served run is resumed with `mekiki train … --resume` only"
                )
            if not status.can_resume:
                raise BusyError(f"training {name}: is {status.state}, so there is nothing to resume")
            self._refuse_second()
            self._launch(*self._find(name), resume=True)
        return self.status(name)

    def _refuse_second(self) -> None:
        if self._jobs:
            raise BusyError(f"training {next(iter(self._jobs))}: is running; stop it, or wait for it")

    def _launch(self, folder: Path, record: dict[str, Any], *, resume: bool) -> None:
        record.pop("failed", None)
        write_json(self.folder / f"{folder.name}.json", record)
        options = ["--out", str(folder), "--snapshots", "--json", *(["--resume"] if resume else [])]
        command = [sys.executable, "-c", COMMAND, "train", *options, *record["words"]]
        started: Future[subprocess.Popen[bytes]] = Future()
        thread = threading.Thread(target=self._run, args=(folder, command, started), daemon=True)
        thread.start()
        self._jobs[folder.name] = _Job(started.result(), thread)

    def _run(self, folder: Path, command: list[str], started: Future[subprocess.Popen[bytes]]) -> None:
        """Run a training to its end, in a thread of its own; the lock shows other servers that it is running."""
        try:
            with hold_lock(folder, "training", timeout=1, role="page"):
                with folder.with_name(f"{folder.name}.log").open("wb") as log:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=log,
                        start_new_session=True,  # a Ctrl-C in the terminal is for the server, which stops it itself
                    )
                started.set_result(process)
                process.wait()
        except OSError as error:
            started.set_exception(InputError(f"training {folder.name}: cannot be started ({error.strerror})"))
            return
        except LockedError as error:
            started.set_exception(error)
            return
        with self._guard:
            if process.returncode not in (0, 130, -signal.SIGINT, -signal.SIGTERM):
                _, record = self._find(folder.name)
                message = _last_error(folder.with_name(f"{folder.name}.log"))
                record["failed"] = message or f"ended with code {process.returncode}"
                write_json(self.folder / f"{folder.name}.json", record)
            del self._jobs[folder.name]

    def stop(self, name: str) -> TrainingStatus:
        """Stop a training; the epochs that are done are kept.

        Raises:
            BusyError: it is not running here, or does not stop in time.
        """
        self._find(name)
        job = self._jobs.get(name)
        if job is None:
            raise BusyError(f"training {name}: is not running here")
        _interrupt(job.process)
        job.thread.join(STOP_TIMEOUT_S)
        if job.thread.is_alive():
            raise BusyError(f"training {name}: is still stopping")
        return self.status(name)

    def close(self) -> None:
        """Stop what is running; it can be resumed."""
        jobs = list(self._jobs.values())
        for job in jobs:
            _interrupt(job.process)
        for job in jobs:
            job.thread.join(STOP_TIMEOUT_S)
            if job.thread.is_alive():
                job.process.kill()  # the last whole epoch is on disk
                job.thread.join()


def read_epochs(folder: Path) -> dict[str, list[float]]:
    """Return the history of a training by column; empty before the first epoch, and while the folder is replaced."""
    try:
        return read_history(folder / HISTORY)
    except (OSError, ValueError, StopIteration):
        return {}


def read_findings(folder: Path) -> list[dict[str, Any]]:
    """Return the findings of the collapse check; empty before the first epoch."""
    run = Run(folder)
    try:
        return list(run.metrics()["findings"] if run.complete else examine(folder)["findings"])
    except (MekikiError, LookupError):
        return []


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Return the metrics of a finished training, else `None`."""
    run = Run(folder)
    return run.metrics() if run.complete else None


def _make_embedder(data: str, options: dict[str, Any]) -> Embedder:
    """Return the embedder of the settings, which are refused as by `mekiki train`."""
    chosen = {name: options[name] for name in _EMBEDDER_OPTIONS if name in options}
    settings = recipe(options["recipe"], domain=DataRequest(data).domain, **chosen)
    embedder = Embedder(**settings, random_state=options["seed"])
    embedder.check_settings()
    return embedder


def _is_locked(folder: Path) -> bool:
    """Return whether another server runs a training there."""
    try:
        with hold_lock(folder, "reading", timeout=0, role="page"):
            return False
    except LockedError:
        return True


def _count_snapshots(folder: Path) -> int:
    """Return the number of epochs with positions, without reading these."""
    try:
        count = len(json.loads((folder / EPOCHS).read_text(encoding="utf-8"))["labels"])
        return (folder / EPOCH_POINTS).stat().st_size // (8 * count)
    except (OSError, ValueError, LookupError, ZeroDivisionError):
        return 0


def _last_error(log: Path) -> str:
    """Return the last error that a command printed, in one line."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return " ".join((errors or [line for line in lines if line] or [""])[-1].split())[:500]


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Stop a training as Ctrl-C does; on Windows end it, which loses the epoch that is not done yet."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
