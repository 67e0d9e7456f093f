"""Trainings started from the page: each a `mekiki train` of its own, watched through the files it writes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from mekiki.data.load import NAMES, catalogue
from mekiki.describing.routes import event
from mekiki.embedder import Embedder, read_history
from mekiki.errors import InputError, MekikiError
from mekiki.experiments.request import DataRequest
from mekiki.experiments.snapshots import NOTE, read_snapshots
from mekiki.experiments.use import examine
from mekiki.models.networks import ENCODERS
from mekiki.models.pretrained_folder import PREFIX
from mekiki.recipes import RECIPES, recipe
from mekiki.storage.run import Run, finite, folder_name, free_folder, write_json
from mekiki.storage.run_folder import EPOCH_POINTS, EPOCHS, HISTORY, TRAININGS
from mekiki.training.objectives import LOSSES
from mekiki.web.http_errors import BusyError, NotThereError
from mekiki.web.maps import packed
from mekiki.web.models import Choices, Epochs, Training, TrainingFacts, TrainingRequest
from mekiki.web.models import Trainings as TrainingList
from mekiki.web.state import Served
from mekiki.web.worker import WriterLock

COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from mekiki.cli import main; main()"
"""`mekiki`, but for what it inherits: a server that was started in the background ignores Ctrl-C."""
OWN = "run"
"""The id of the run that is served."""
LOOK_EVERY = 0.25
"""Seconds between two looks at the files of a training."""
BEAT = 10.0
"""Seconds after which a stream says that it is still there."""
MOST_STREAMS = 16
STOPPING = 10.0
"""Seconds that a training gets to stop when the server does."""

TrainingInPath = Annotated[str, InPath(min_length=1, max_length=200, pattern=r"^[\w.=-]+$")]


@dataclass
class _Job:
    process: subprocess.Popen[bytes]
    lock: WriterLock


class Trainings:
    """The trainings of a run, one at a time.

    Args:
        served: the run.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self.folder = served.folder / TRAININGS
        self.streams = 0
        self._jobs: dict[str, _Job] = {}
        self._guard = threading.Lock()

    def listed(self) -> list[Training]:
        """All of them, the oldest first."""
        records = sorted(self.folder.glob("*.json"), key=lambda path: (path.stat().st_mtime, path.name))
        names = [OWN] if (self.served.folder / HISTORY).is_file() else []
        return [self.training(name) for name in [*names, *(path.stem for path in records)]]

    def training(self, name: str) -> Training:
        """One of them as it is now.

        Raises:
            NotThereError: there is none.
        """
        place, record = self._place(name)
        run = Run(place)
        done = len(_history(place).get("epoch", []))
        message, state = str(record.get("failed", "")), "stopped"
        if name in self._jobs or (name != OWN and WriterLock(place).taken()):
            state, message = "running", ""
        elif run.complete:
            state, message = "finished", ""
        elif message:
            state = "failed"
        settings = dict(record.get("settings", {}))
        wanted = record.get("epochs")
        return Training.model_validate(
            {
                "id": name,
                "state": state,
                "message": message,
                "settings": settings,
                "epochs": wanted,
                "done": done,
                "snapshots": _snapshots(place),
                "can_resume": state in ("stopped", "failed") and run.checkpoint.is_file() and name != OWN,
            }
        )

    def facts(self, name: str) -> TrainingFacts:
        """One of them with its history and what the doctor says."""
        place, _ = self._place(name)
        run = Run(place)
        metrics = run.metrics() if run.complete else None
        findings = _findings(place)
        history = finite(_history(place))
        return TrainingFacts(
            **self.training(name).model_dump(), history=history, findings=findings, metrics=metrics
        )

    def epochs(self, name: str) -> Epochs:
        """Where the same images lay after each epoch."""
        place, _ = self._place(name)
        kept = read_snapshots(place)
        if kept is None:
            raise NotThereError(f"training {name}: kept no positions; trainings started here do")
        return Epochs(
            count=len(kept.labels),
            epochs=len(kept.points),
            points=packed(kept.points, "<f4"),
            label=packed(kept.labels, "<u2"),
            labels=kept.class_names,
            note=NOTE,
        )

    def start(self, request: TrainingRequest) -> Training:
        """Start a training.

        Raises:
            InputError: the settings cannot be used.
            RefusedError: the data lies where callers may not look.
            BusyError: another one is running.
        """
        asked = request.model_dump(exclude_none=True)
        data = request.data if request.data in NAMES else str(self.served.places.opened(request.data))
        if request.data not in NAMES and not Path(data).exists():
            raise InputError(
                f"{request.data}: no such folder or file; name one under the run or a listed folder"
            )
        embedder = self._embedder(request, data)
        named = f"{Path(request.data).stem or 'data'}-{embedder.loss}-{embedder.dim}d-seed{request.seed}"
        with self._guard:
            self._refuse_second()
            self.folder.mkdir(exist_ok=True)
            place = free_folder(self.folder, named)
            while place.with_suffix(".json").exists() or (self.folder / f"{place.name}.json").exists():
                named += "-again"
                place = free_folder(self.folder, named)
            record = {"settings": asked, "epochs": int(embedder.epochs), "words": _words(request, data)}
            write_json(self.folder / f"{place.name}.json", record)
            self._begin(place.name, resume=False)
        return self.training(place.name)

    def _embedder(self, request: TrainingRequest, data: str) -> Embedder:
        """The settings, refused as `mekiki train` would."""
        if request.encoder is not None and request.encoder.startswith(PREFIX):
            # A name would be asked for on the network, and a path opened.
            name, _, layer = request.encoder.removeprefix(PREFIX).partition("#")
            own = str(self.served.places.opened(name))
            if not Path(own).is_dir():
                raise InputError(
                    f"{request.encoder}: no such folder; name one under the run or a listed folder"
                )
            request.encoder = f"{PREFIX}{own}" + (f"#{layer}" if layer else "")
        given = request.model_dump(
            include={"loss", "encoder", "dim", "margin", "epochs", "batch_size", "lr"}, exclude_none=True
        )
        wanted = recipe(request.recipe, subject=DataRequest(data).subject, **given)
        embedder = Embedder(**wanted, random_state=request.seed)
        embedder.check_settings()
        return embedder

    def resume(self, name: str) -> Training:
        """Go on with a training that was stopped.

        Raises:
            BusyError: it, or another one, is running, or it is finished.
        """
        with self._guard:
            now = self.training(name)
            if now.state == "running":
                raise BusyError(f"training {name}: is running")
            if name == OWN:
                raise InputError("the run that is served goes on with `mekiki train … --resume` only")
            if not now.can_resume:
                raise BusyError(f"training {name}: is {now.state}, so there is nothing to go on with")
            self._refuse_second()
            self._begin(name, resume=True)
        return self.training(name)

    def stop(self, name: str) -> Training:
        """Stop a training; the epochs that are done are kept.

        Raises:
            BusyError: it is not running here.
        """
        self._place(name)
        job = self._jobs.get(name)
        if job is None:
            raise BusyError(f"training {name}: is not running here")
        _interrupt(job.process)
        try:
            job.process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            raise BusyError(f"training {name}: is still stopping") from None
        self._settle(name, job)
        return self.training(name)

    def _refuse_second(self) -> None:
        running = next(iter(self._jobs), None)
        if running is not None:
            raise BusyError(f"training {running}: is running; stop it, or wait for it")

    def _begin(self, name: str, *, resume: bool) -> None:
        place, record = self._place(name)
        lock = WriterLock(place)
        lock.take()
        told = ["--out", str(place), "--snapshots", "--json", *(["--resume"] if resume else [])]
        command = [sys.executable, "-c", COMMAND, "train", *told, *record["words"]]
        log = self.folder / f"{name}.log"
        try:
            with log.open("wb") as said:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,  # a Ctrl-C in the terminal is for the server, which stops it itself
                )
        except OSError as error:
            lock.give_back()
            raise InputError(f"training {name}: cannot be started ({error.strerror})") from None
        self._jobs[name] = job = _Job(process, lock)
        record.pop("failed", None)
        write_json(self.folder / f"{name}.json", record)
        threading.Thread(target=self._wait, args=(name, job), daemon=True).start()

    def _wait(self, name: str, job: _Job) -> None:
        job.process.wait()
        self._settle(name, job)

    def _settle(self, name: str, job: _Job) -> None:
        """Write down how it ended, once."""
        with self._guard:
            if self._jobs.get(name) is not job:
                return
            code = job.process.returncode
            if code not in (0, 130, -signal.SIGINT, -signal.SIGTERM):
                _, record = self._place(name)
                record["failed"] = _last_words(self.folder / f"{name}.log") or f"ended with code {code}"
                write_json(self.folder / f"{name}.json", record)
            job.lock.give_back()
            del self._jobs[name]

    def _place(self, name: str) -> tuple[Path, dict[str, Any]]:
        """Where a training is, and how it was started."""
        if name == OWN and (self.served.folder / HISTORY).is_file():
            return self.served.folder, {}
        path = self.folder / f"{name}.json"
        if name != folder_name(name) or not path.is_file():
            raise NotThereError(f"training {name}: there is none; GET /api/trainings lists them")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); remove it") from None
        return self.folder / name, record

    async def events(self, name: str, since: int) -> AsyncIterator[str]:
        """What happens in a training, from the epoch after `since` on, until it ends."""
        self.streams += 1
        told, labels_told, idle = "", False, 0.0
        try:
            while not self.served.closing:
                now = await run_in_threadpool(self.training, name)
                place, _ = self._place(name)
                news = await run_in_threadpool(_news, place, since)
                for row in news:
                    if not labels_told and row["labels"] is not None:
                        yield event("images", row["labels"])
                        labels_told = True
                    since = row["data"]["epoch"]
                    yield event("epoch", row["data"], since)
                state = now.model_dump_json(exclude={"done", "snapshots"})
                if state != told:
                    told = state
                    yield event("state", now.model_dump())
                if now.state != "running":
                    return
                idle = 0.0 if news else idle + LOOK_EVERY
                if idle >= BEAT:
                    idle = 0.0
                    yield ": still here\n\n"
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self.streams -= 1

    def close(self) -> None:
        """Stop what is running; it can be resumed."""
        for job in list(self._jobs.values()):
            _interrupt(job.process)
        for name, job in list(self._jobs.items()):
            try:
                job.process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                job.process.kill()  # the last whole epoch is on disk
                job.process.wait()
            self._settle(name, job)


def training_routes(trainings: Trainings) -> APIRouter:
    """The calls about trainings."""
    routes = APIRouter(tags=["training"])

    @routes.get("/trainings/choices")
    async def choices() -> Choices:
        """What may be chosen for a training."""
        there = await run_in_threadpool(catalogue)
        data = [
            entry.name
            for entry in there
            if entry.name in ("digits", "surfaces") or Path(entry.where).exists()
        ]
        return Choices(
            recipes=list(RECIPES),
            losses=list(LOSSES),
            encoders=list(ENCODERS),
            data=[*data, *(str(folder) for folder in trainings.served.places.allowed)],
        )

    @routes.get("/trainings")
    async def listed() -> TrainingList:
        """All trainings of this run."""
        return TrainingList(trainings=await run_in_threadpool(trainings.listed))

    @routes.post("/trainings", status_code=201)
    async def start(request: TrainingRequest) -> Training:
        """Start a training; one runs at a time."""
        return await run_in_threadpool(trainings.start, request)

    @routes.get("/trainings/{id}")
    async def training(id: TrainingInPath) -> TrainingFacts:
        """One training, with its history and what the doctor says."""
        return await run_in_threadpool(trainings.facts, id)

    @routes.get("/trainings/{id}/epochs")
    async def epochs(id: TrainingInPath) -> Epochs:
        """Where the same images lay after each epoch."""
        return await run_in_threadpool(trainings.epochs, id)

    @routes.get("/trainings/{id}/events", response_class=StreamingResponse)
    async def events(
        id: TrainingInPath,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> StreamingResponse:
        """What happens, as server-sent events: `images`, `epoch`, `state`."""
        await run_in_threadpool(trainings.training, id)
        if trainings.streams >= MOST_STREAMS:
            raise BusyError(f"{MOST_STREAMS} streams are open already; close one")
        since = (
            int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
        )
        return StreamingResponse(trainings.events(id, since), media_type="text/event-stream")

    @routes.post("/trainings/{id}/stop")
    async def stop(id: TrainingInPath) -> Training:
        """Stop a training; what was done is kept."""
        return await run_in_threadpool(trainings.stop, id)

    @routes.post("/trainings/{id}/resume")
    async def resume(id: TrainingInPath) -> Training:
        """Go on with it."""
        return await run_in_threadpool(trainings.resume, id)

    return routes


def _words(request: TrainingRequest, data: str) -> list[str]:
    """The command line of a training, but for where it is written."""
    words: list[str] = []
    for name, value in request.model_dump(exclude={"data"}, exclude_none=True).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, "--", data]


def _news(place: Path, since: int) -> list[dict[str, Any]]:
    """Epochs that have not been told, each with what goes with it."""
    history = _history(place)
    if len(history.get("epoch", [])) <= since:
        return []
    kept = read_snapshots(place, since)
    findings = _findings(place)
    news = []
    for row in range(since, len(history["epoch"])):
        values = finite({name: column[row] for name, column in history.items()})
        points = None
        if (
            kept is not None
            and row - since < len(kept.points)
            and np.isfinite(kept.points[row - since]).all()
        ):
            points = packed(kept.points[row - since], "<f4")
        labels = None
        if kept is not None:
            labels = {
                "count": len(kept.labels),
                "label": packed(kept.labels, "<u2"),
                "labels": kept.class_names,
            }
        last = row == len(history["epoch"]) - 1
        data = {"epoch": row + 1, "row": values, "findings": findings if last else [], "points": points}
        news.append({"labels": labels, "data": data})
    return news


def _history(place: Path) -> dict[str, list[float]]:
    """What is written of the epochs; nothing while there is none, or while the folder is being replaced."""
    try:
        return read_history(place / HISTORY)
    except (OSError, ValueError, StopIteration):
        return {}


def _findings(place: Path) -> list[dict[str, Any]]:
    """What the doctor says."""
    run = Run(place)
    try:
        said = run.metrics()["findings"] if run.complete else examine(place)["findings"]
    except (MekikiError, LookupError):  # before the first epoch there is nothing to look at
        return []
    return list(said)


def _snapshots(place: Path) -> int:
    """How many epochs have positions, without reading them."""
    try:
        count = len(json.loads((place / EPOCHS).read_text(encoding="utf-8"))["labels"])
        return (place / EPOCH_POINTS).stat().st_size // (8 * count)
    except (OSError, ValueError, LookupError, ZeroDivisionError):
        return 0


def _last_words(log: Path) -> str:
    """The last error that a command told, in one line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return " ".join((errors or said[-1:] or [""])[-1].split())[:500]


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask a training to stop as Ctrl-C does; where there is no such thing, end it: whole epochs are on disk."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
