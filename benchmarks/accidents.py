"""Commands killed at random moments, by SIGKILL: what is there opens, and nothing that was acknowledged is lost.

python -m benchmarks.accidents                  200 kills and more, the table in docs/reliability.md
python -m benchmarks.accidents teach --kills 50 one command, longer

Half of the kills come by the clock, at any moment of the work; the others at one of its steps on the disk (the n-th
rename, flush, opening to write, removal), where a state in between would show. Processes are forked from one that has
imported everything, so that a kill costs what the work costs. What looks afterwards is another process.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARE = {
    "train": 45,
    "resume": 10,
    "calibrate": 60,
    "teach": 55,
    "remember": 15,
    "feedback": 15,
    "export": 8,
    "serve": 12,
}
"""Kills of each command: 220 in all."""


@dataclass(frozen=True)
class Command:
    """One command to be killed.

    Attributes:
        prepare: makes the state before, in a folder.
        act: does the work in `folder/run`, and calls `say` with what it acknowledges, after it did.
        look: opens what is left, given what was acknowledged, and says what it found in a word; raises if any is lost.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path, Callable[[Any], None], int], None]
    look: Callable[[Path, list[Any]], str]


# ---- the commands ----


def _digits(folder: Path, epochs: int, resume: bool, say: Callable[[Any], None]) -> None:
    from mekiki.console import silent
    from mekiki.embedder import Embedder
    from mekiki.experiments.request import DataRequest
    from mekiki.experiments.train import train_run

    request = DataRequest("digits", per_class=12)
    embedder = Embedder(epochs=epochs, batch_size=32, random_state=0)
    train_run(
        request,
        request.load(silent),
        embedder,
        folder / "run",
        resume=resume,
        on_epoch=lambda row, _: say(int(row["epoch"])),
    )


def _train(folder: Path, say: Callable[[Any], None], number: int) -> None:
    _digits(folder, 4, False, say)
    say("done")


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _look_at_training(folder: Path, said: list[Any]) -> str:
    from mekiki.embedder import Embedder
    from mekiki.storage.check import check_run
    from mekiki.storage.training_run import Run
    from mekiki.training.checkpoints import read_checkpoint

    run = Run(folder / "run")
    run.check(resume=True)
    done = max([0, *(each for each in said if isinstance(each, int))])
    if run.complete:
        Embedder.load(run.open().folder)
        run.metrics()
        assert not _bad(check_run(run.folder)), _bad(check_run(run.folder))
        return "new"
    assert "done" not in said, "a finished run is gone"
    if not run.checkpoint.is_file():
        assert not done, f"epoch {done} is lost"
        return "nothing yet"
    kept = read_checkpoint(run.checkpoint).epoch
    assert kept >= done, f"epoch {done} is lost: there are {kept}"
    return "checkpoint"


def _prepare_resume(folder: Path) -> None:
    folder.mkdir()
    _digits(folder, 2, False, lambda _: None)
    (folder / "run" / "note.txt").write_text("of a person")


def _resume(folder: Path, say: Callable[[Any], None], number: int) -> None:
    _digits(folder, 4, True, say)
    say("done")


def _look_at_resumed(folder: Path, said: list[Any]) -> str:
    from mekiki.embedder import Embedder
    from mekiki.storage.check import check_run
    from mekiki.storage.training_run import Run

    run = Run(folder / "run").open()
    epochs = run.metrics()["epochs"]
    assert len(Embedder.load(run.folder).history_["epoch"]) == epochs
    assert epochs == 4 or "done" not in said
    assert (run.folder / "note.txt").read_text() == "of a person"
    assert not _bad(check_run(run.folder)), _bad(check_run(run.folder))
    return "new" if epochs == 4 else "old"


def _parts(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind, count in (("ok", 24), ("ng", 4), ("fresh", 64)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            pixels = rng.normal(120, 12, (32, 32))
            if kind == "ng" or (kind == "fresh" and number % 2):
                pixels[8:16, 8 : 12 + number % 8] = 250
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{number:02}.png")


def _calibrated(folder: Path, rate: float) -> None:
    from mekiki.judging.calibrate import CalibrationSettings, calibrate_run

    calibrate_run(
        folder / "run",
        [folder / "ok"],
        [folder / "ng"],
        encoder="filters",
        settings=CalibrationSettings(rate),
    )


def _prepare_parts(folder: Path) -> None:
    _parts(folder)
    _calibrated(folder, 0.2)


def _calibrate(folder: Path, say: Callable[[Any], None], number: int) -> None:
    _calibrated(folder, 0.3)
    say("done")


def _look_at_judge(folder: Path, said: list[Any]) -> str:
    from mekiki.judging.judge_photos import Inspector
    from mekiki.storage.check import check_run

    inspector = Inspector.open(folder / "run")
    assert inspector.judge_file(folder / "fresh" / "00.png").verdict in ("OK", "NG")
    assert not _bad(check_run(folder / "run")), _bad(check_run(folder / "run"))
    rate = inspector.metadata["false_reject"]
    assert rate == 0.3 or (rate == 0.2 and "done" not in said), rate
    return "new" if rate == 0.3 else "old"


def _teach(folder: Path, say: Callable[[Any], None], number: int) -> None:
    from mekiki.judging.teach import teach, undo

    for place, image in enumerate(sorted((folder / "fresh").glob("*.png"))[:10]):
        entry, _, _ = teach(folder / "run", image, f"NG:kind-{place}")
        say([entry.number, entry.defect_type, False])
        if place % 4 == 3:
            say([undo(folder / "run").number, entry.defect_type, True])


def _look_at_lessons(folder: Path, said: list[Any]) -> str:
    from mekiki.judging.corrections import read_corrections

    kept = {entry.number: entry for entry in read_corrections(folder / "run")}
    assert sorted(kept) == list(range(1, len(kept) + 1))
    for number, kind, undone in said:
        assert kept[number].defect_type == kind, f"lesson {number} is lost"
        assert kept[number].undone or not undone, f"that lesson {number} was taken back is lost"
    told = {number for number, _, _ in said}
    assert len(kept) <= len(told) + 1
    _look_at_judge(folder, [])
    return f"{'all' if len(kept) == len(told) else 'one more'}"


def _remembered(folder: Path, rows: slice) -> int:
    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import RunMemory

    chosen = sorted((folder / "fresh").glob("*.png"))[rows]
    return int(remember(RunMemory(folder / "run"), chosen)["cases"])


def _remember(folder: Path, say: Callable[[Any], None], number: int) -> None:
    for start in range(0, 64, 8):
        say(_remembered(folder, slice(start, start + 8)))


def _look_at_cases(folder: Path, said: list[Any]) -> str:
    from mekiki.cases.run_memory import RunMemory
    from mekiki.cases.search import search

    there = 0
    if said or (folder / "run" / "memory.json").exists():
        room = RunMemory(folder / "run")
        store = room.store("images", room.photo_encoder.info)
        there = store.count()
        assert there % 8 == 0, f"{there} cases: a part of what was remembered in one go"
    assert there >= sum(said), f"{sum(said)} cases were remembered, and there are {there}"
    if there:
        assert search(RunMemory(folder / "run"), folder / "fresh" / "00.png", k=3)
    _look_at_judge(folder, [])
    return "all" if there == sum(said) else "one more"


def _prepare_cases(folder: Path) -> None:
    _prepare_parts(folder)
    _remembered(folder, slice(0, 64))


def _feedback(folder: Path, say: Callable[[Any], None], number: int) -> None:
    from mekiki.cases.run_memory import RunMemory
    from mekiki.cases.search import give_feedback, search

    images = sorted((folder / "fresh").glob("*.png"))
    ids = [row["id"] for row in search(RunMemory(folder / "run"), images[0], k=10)["found"]]
    for place in range(12):
        said = give_feedback(
            RunMemory(folder / "run"), images[place], good=[ids[place % 5]], bad=[ids[5 + place % 5]]
        )
        say(len(said))


def _look_at_feedback(folder: Path, said: list[Any]) -> str:
    from mekiki.cases.feedback import FeedbackLog
    from mekiki.cases.run_memory import RunMemory
    from mekiki.cases.search import search

    there = len(FeedbackLog(folder / "run").judgements())
    assert sum(said) <= there <= sum(said) + 2, f"{sum(said)} judgements were taken, and there are {there}"
    assert search(RunMemory(folder / "run"), folder / "fresh" / "00.png", k=3)
    return "all" if there == sum(said) else "one more"


def _prepare_export(folder: Path) -> None:
    folder.mkdir()
    _digits(folder, 1, False, lambda _: None)
    for name in ("export.onnx", "export.json"):
        (folder / "run" / name).write_text("an older one")


def _export(folder: Path, say: Callable[[Any], None], number: int) -> None:
    from mekiki.export.export_run import export_run

    export_run(folder / "run")
    say("done")


def _look_at_export(folder: Path, said: list[Any]) -> str:
    graph, facts = (folder / "run" / name for name in ("export.onnx", "export.json"))
    if graph.read_bytes() == b"an older one":
        assert facts.read_text() == "an older one", "what is told of a graph that is not there"
        assert "done" not in said, "the graph is lost"
        return "old"
    import onnxruntime

    onnxruntime.InferenceSession(graph)
    if facts.read_text() == "an older one":
        assert "done" not in said
        return "new, not yet told of"
    assert json.loads(facts.read_text())["sha256"] == hashlib.sha256(graph.read_bytes()).hexdigest()
    return "new"


def _serve(folder: Path, say: Callable[[Any], None], number: int) -> None:
    from fastapi.testclient import TestClient

    from mekiki.web.server import create_app

    with TestClient(create_app(folder / "run"), base_url="http://127.0.0.1") as client:
        client.headers["X-Mekiki-CSRF"] = client.get("/api/run").json()["csrf"]
        for place, image in enumerate(sorted((folder / "fresh").glob("*.png"))[:8]):
            form = [("photos", (image.name, image.read_bytes(), "image/png"))]
            (photo,) = client.post("/api/photos", files=form).json()["photos"]
            call = {"photo": photo["photo"], "label": f"NG:kind-{place}"}
            told = client.post("/api/teach", json=call).raise_for_status().json()
            say([told["lesson"]["number"], f"kind-{place}", False])


COMMANDS = {
    "train": Command(_nothing, _train, _look_at_training),
    "resume": Command(_prepare_resume, _resume, _look_at_resumed),
    "calibrate": Command(_prepare_parts, _calibrate, _look_at_judge),
    "teach": Command(_prepare_parts, _teach, _look_at_lessons),
    "remember": Command(_prepare_parts, _remember, _look_at_cases),
    "feedback": Command(_prepare_cases, _feedback, _look_at_feedback),
    "export": Command(_prepare_export, _export, _look_at_export),
    "serve": Command(_prepare_parts, _serve, _look_at_lessons),
}
"""A command that is to be killed too gets a line here and one in `SHARE`."""


def _bad(checked: list[Any]) -> list[Any]:
    return [each for each in checked if each.state in ("damaged", "missing")]


# ---- killing them ----


def warm() -> None:
    """Import what the commands need, but for LanceDB, whose threads do not live through a fork."""
    import matplotlib.pyplot

    matplotlib.use("Agg")


def forked(work: Callable[[Callable[[Any], None]], Any]) -> tuple[int, int]:
    """A process that does some work and says things on a pipe, a line each; its number, and the end to read."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 1
    try:
        import torch

        os.close(read)
        torch.set_num_threads(1)  # the threads of the parent are not there any more
        warnings.simplefilter("ignore")

        def say(what: Any) -> None:
            os.write(write, json.dumps(what).encode() + b"\n")

        work(say)
        code = 0
    except BaseException as error:
        os.write(
            write, json.dumps({"failed": "".join(traceback.format_exception(error)[-3:])}).encode() + b"\n"
        )
    finally:
        os._exit(code)


def ended(pid: int, read: int) -> tuple[int, list[Any]]:
    """Wait for it: its exit code and what it said, in whole lines."""
    with os.fdopen(read, "rb") as stream:
        lines = stream.read().split(b"\n")[:-1]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), [json.loads(line) for line in lines]


def done(work: Callable[[Callable[[Any], None]], Any]) -> list[Any]:
    """The same to its end, where all must go well."""
    code, said = ended(*forked(work))
    if code or any(isinstance(each, dict) and "failed" in each for each in said):
        raise AssertionError(said[-1]["failed"] if said else f"exit code {code}")
    return said


@contextlib.contextmanager
def counting(at: int) -> Iterator[list[int]]:
    """Count steps on the disk, and be killed before the one of that number; 0 is never."""
    steps = [0]

    def step(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            steps[0] += 1
            if steps[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return call

    real_open = io.open

    def opening(file: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        made = real_open(file, mode, *arguments, **more)
        if any(letter in mode for letter in "wax+"):
            step(lambda: None)()
        return made

    Path.rename, Path.replace, Path.unlink = (  # type: ignore[method-assign]
        step(Path.rename),
        step(Path.replace),
        step(Path.unlink),
    )
    os.fsync, io.open, shutil.rmtree = step(os.fsync), opening, step(shutil.rmtree)
    yield steps


def measured(name: str, ready: Path) -> tuple[float, int]:
    """How long a command takes, and how many steps on the disk, undisturbed."""
    folder = ready.with_name(f"{name}-measured")
    shutil.copytree(ready, folder)

    def work(say: Callable[[Any], None]) -> None:
        with counting(0) as steps:
            COMMANDS[name].act(folder, lambda _: None, 0)
            say({"steps": steps[0]})

    start = time.monotonic()
    said = done(work)
    return time.monotonic() - start, int(said[-1]["steps"])


def kill(name: str, ready: Path, folder: Path, rng: random.Random, seconds: float, steps: int) -> str:
    """Do a command in a copy of the state before, kill it somewhere, and look; what was found, in a word.

    Raises:
        AssertionError: something was lost or does not open.
    """
    shutil.copytree(ready, folder)
    by_clock = rng.random() < 0.5
    at = 0 if by_clock else rng.randrange(1, steps + 1)
    number = rng.randrange(1 << 30)

    def work(say: Callable[[Any], None]) -> None:
        with counting(at):
            COMMANDS[name].act(folder, say, number)

    pid, read = forked(work)
    if by_clock:
        time.sleep(rng.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
    _, said = ended(pid, read)
    failed = [each["failed"] for each in said if isinstance(each, dict) and "failed" in each]
    if failed:
        raise AssertionError(f"{name} failed by itself: {failed[0]}")
    found = done(lambda say: say(COMMANDS[name].look(folder, said)))
    shutil.rmtree(folder)
    return str(found[-1])


def series(name: str, kills: int, seed: int, base: Path) -> dict[str, Any]:
    """Kill one command so many times; what was found how often, and what went wrong."""
    ready = base / f"{name}-ready"
    done(lambda say: COMMANDS[name].prepare(ready))
    seconds, steps = measured(name, ready)
    rng = random.Random(f"{name} {seed}")
    found: Counter[str] = Counter()
    lost: list[str] = []
    start = time.monotonic()
    for number in range(kills):
        folder = base / f"{name}-{number}"
        try:
            found[kill(name, ready, folder, rng, seconds, steps)] += 1
        except AssertionError as error:
            lost.append(str(error))
            sys.stderr.write(f"{name}, kill {number}: {error}\n")
    return {
        "command": name,
        "kills": kills,
        "found": dict(sorted(found.items())),
        "lost": len(lost),
        "first_loss": lost[0] if lost else None,
        "steps": steps,
        "seconds_undisturbed": round(seconds, 2),
        "seconds": round(time.monotonic() - start, 1),
    }


def main(arguments: list[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--kills", type=int, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    warm()
    print(
        "| command | kills | steps on the disk | what was found | lost |\n|---|---:|---:|---|---:|",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="mekiki-accidents-") as base:
        rows = []
        for name in given.commands or COMMANDS:
            row = series(name, given.kills or SHARE[name], given.seed, Path(base))
            rows.append(row)
            told = ", ".join(f"{count} × {what}" for what, count in row["found"].items())
            print(f"| {name} | {row['kills']} | {row['steps']} | {told} | {row['lost']} |", flush=True)
    print(
        f"| **all** | **{sum(row['kills'] for row in rows)}** | | | **{sum(row['lost'] for row in rows)}** |"
    )
    sys.exit(any(row["lost"] for row in rows))


if __name__ == "__main__":
    main()
