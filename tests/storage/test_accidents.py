"""Accidents: kills, full disks, folders that cannot be written, flipped bytes, two at work on one run.

The kills themselves are in `benchmarks/accidents.py`, which also prints the table of `docs/reliability.md`.
"""

import errno
import json
import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks import accidents

from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.corrections import CorrectionLog
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import teach
from mekiki.storage.atomic import disk_error, recover_folder, replace_file, replace_folder, write_text
from mekiki.storage.check import check_run
from mekiki.storage.events import append_event, append_line, read_events
from mekiki.storage.json_files import read_checked_json, write_checked_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, read_consistently, write_manifest
from mekiki.storage.tensors import read_tensors, write_tensors
from mekiki.storage.training_run import Run
from parts import Forked, contents, ng_folder, ok_folder

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A run with a network and a judge, small, with two lessons; it is never changed."""
    from mekiki.console import silent
    from mekiki.embedder import Embedder
    from mekiki.experiments.request import DataRequest
    from mekiki.experiments.train import train_run

    base = tmp_path_factory.mktemp("line")
    run = base / "run"
    request = DataRequest("digits", per_class=12)
    train_run(request, request.load(silent), Embedder(epochs=2, batch_size=32, random_state=0), run)
    ok, ng = ok_folder(base / "ok", 24, height=32, width=32), ng_folder(base / "ng", 4)
    ok_folder(base / "fresh", 12, seed=1000, height=32, width=32)
    calibrate_run(run, [ok], [ng], encoder="filters", settings=CalibrationSettings(0.2))
    for number, image in enumerate(sorted(ng.rglob("*.png"))[:2]):
        teach(run, image, f"NG:kind-{number}")
    return base


@pytest.fixture
def run(line, tmp_path):
    return Path(shutil.copytree(line / "run", tmp_path / "run"))


# ---- killed ----


@forks
@pytest.mark.slow
@pytest.mark.parametrize("name", accidents.COMMANDS)
def test_whatever_was_acknowledged_survives_any_kill(name, tmp_path):
    if name in ("remember", "feedback"):
        pytest.importorskip("lancedb")
    accidents.warm()
    told = accidents.series(name, accidents.SHARE[name], seed=1, base=tmp_path)
    assert told["lost"] == 0, told
    assert sum(told["found"].values()) == accidents.SHARE[name]


def test_the_slow_suite_kills_at_least_two_hundred_times():
    assert sum(accidents.SHARE.values()) >= 200
    assert accidents.SHARE.keys() == accidents.COMMANDS.keys()


@forks
@pytest.mark.parametrize("name", ["calibrate", pytest.param("teach", marks=pytest.mark.slow)])
def test_a_few_kills_lose_nothing(name, tmp_path):
    accidents.warm()
    told = accidents.series(name, 4, seed=2, base=tmp_path)
    assert told["lost"] == 0, told


@forks
def test_the_harness_sees_a_loss(tmp_path):
    """A command that acknowledges before the disk has it must be found out."""

    def act(folder, say, number):
        say("written")
        time.sleep(0.05)
        write_text(folder / "run", "new")

    def look(folder, said):
        assert (folder / "run").read_text() == "new" or not said, "lost"
        return "new"

    def prepare(folder):
        folder.mkdir()
        write_text(folder / "run", "old")

    accidents.COMMANDS["careless"] = accidents.Command(prepare, act, look)
    try:
        assert accidents.series("careless", 12, seed=0, base=tmp_path)["lost"] > 0
    finally:
        del accidents.COMMANDS["careless"]


# ---- flipped bytes ----

READERS = {
    "model.safetensors": lambda run: Embedder.load(Run(run).open().folder),
    "reference.safetensors": lambda run: Embedder.load(Run(run).open().folder),
    "config.json": lambda run: Run(run).open().config(),
    "history.csv": lambda run: Embedder.load(Run(run).open().folder),
    "metrics.json": lambda run: Run(run).open().metrics(),
    "manifest.json": lambda run: Embedder.load(Run(run).open().folder),
    "judge/judge.json": Inspector.open,
    "judge/judge.safetensors": Inspector.open,
    "judge/manifest.json": Inspector.open,
    "lessons.jsonl": Inspector.open,
    "lessons/1.safetensors": Inspector.open,
    "lessons/2.png": lambda run: CorrectionLog(run).photograph(CorrectionLog(run).entries()[1]),
    "checkpoint.safetensors": None,
    "memory.json": None,
}
"""How each file of a run is read."""


def flipped(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("file", READERS)
def test_a_flipped_byte_is_named_or_changes_nothing(run, file):
    """Spaces between the words of a JSON file may flip and mean the same; all else is found, with the file's name."""
    from mekiki.cases.run_memory import MemoryConfig, RunMemory
    from mekiki.training.checkpoints import read_checkpoint

    RunMemory(run, MemoryConfig("cases", "model", 3)).save_config()
    read = (
        READERS[file]
        or {
            "checkpoint.safetensors": lambda run: read_checkpoint(run / file),
            "memory.json": RunMemory,
        }[file]
    )
    rng = random.Random(file)
    whole = (run / file).read_bytes()
    read(run)
    found = 0
    for _ in range(25):
        (run / file).write_bytes(whole)
        flipped(run / file, rng)
        try:
            read(run)
        except InputError as error:
            assert str(error).startswith(str(run / file)), error
            assert "\n" not in str(error)
            found += 1
        else:
            assert file.endswith("n.json") or file == "memory.json", f"{file} is read with a flipped byte"
            assert json.loads((run / file).read_bytes()) == json.loads(whole)
    assert found >= 15


def test_check_names_every_file_with_a_flipped_byte(run, mekiki):
    assert mekiki("check", run).code == 0
    known = [each.file for each in check_run(run) if each.state == "whole"]
    assert {"report.html", "judge/scores.png", "lessons/1.png", "lessons.jsonl"} <= set(known)
    rng = random.Random(0)
    for file in known:
        whole = (run / file).read_bytes()
        (run / file).write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        damaged = {each.file for each in check_run(run) if each.state != "whole"}
        assert file in damaged, file
        (run / file).write_bytes(whole)
    flipped(run / "report.html", rng)
    (run / "scatter_test.png").unlink()
    said = mekiki("check", run)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "is damaged, and 1 more" in said.err
    assert "damaged  report.html" in " ".join(said.out.split(" ")).replace("   ", "  ")


def test_a_damaged_judge_is_one_line_at_the_command_line(run, line, mekiki):
    path = run / "judge" / "judge.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    said = mekiki("judge", run, line / "ok")
    assert said.error == (
        f"error: {path}: is damaged (its checksum is another than when it was written); calibrate again, or restore "
        "it from a copy"
    )


def test_the_end_of_a_log_that_was_flipped_is_no_torn_line(tmp_path):
    path = tmp_path / "log.jsonl"
    append_event(path, {"said": "good"})
    append_event(path, {"said": "bad"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x0b")
    with pytest.raises(InputError, match=r"log.jsonl, line 2: cannot be read"):
        read_events(path)
    path.write_bytes(whole[:-20])  # cut short, as by a crash: it never held
    assert read_events(path) == [{"said": "good"}]
    append_event(path, {"said": "again"})
    assert read_events(path) == [{"said": "good"}, {"said": "again"}]


def test_tensors_and_settings_carry_their_own_checksum(tmp_path):
    from safetensors.numpy import load, save

    content = save({"a": np.arange(5.0), "b": np.zeros((2, 3), np.int32)}, {"who": "me"})
    write_tensors(tmp_path / "t.safetensors", content)
    kept, about = read_tensors(tmp_path / "t.safetensors")
    assert about["who"] == "me"
    assert all((load(kept)[name] == value).all() for name, value in load(content).items())
    (tmp_path / "older.safetensors").write_bytes(content)
    assert read_tensors(tmp_path / "older.safetensors") == (content, {"who": "me"})
    write_checked_json(tmp_path / "s.json", {"format": "x/1", "a": 1.5})
    assert read_checked_json(tmp_path / "s.json") == {"format": "x/1", "a": 1.5}
    (tmp_path / "s.json").write_text((tmp_path / "s.json").read_text().replace("1.5", "1.6"))
    with pytest.raises(InputError, match=r"s.json: is damaged"):
        read_checked_json(tmp_path / "s.json")


# ---- disks that are full, or cannot be written ----


def limited(work):
    """Do some work in a process whose files may not grow, as on a full disk; what came of it in one line."""
    import resource  # which Windows has not

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
            work()
            os.write(write, b"done")
        except OSError as error:
            os.write(write, f"{error.errno} {disk_error(error)}".encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    return said


def _log(run):
    for _ in range(100):
        append_line(run / "lessons.jsonl", b"x" * 100)


def _file(run):
    write_text(run / "metrics.json", "x" * 5000)


def _folder(run):
    with replace_folder(run / "judge") as new:
        (new / "judge.json").write_text("x" * 5000)


def _tensors(run):
    from safetensors.numpy import save_file

    with replace_file(run / "model.safetensors") as temporary:
        save_file({"a": np.zeros(5000)}, temporary)


def _run(run):
    with Run(run).replace_results([]) as new:
        (new / "metrics.json").write_text("{}")  # and then the old files, which are too large, are copied


@forks
@pytest.mark.parametrize("work", [_log, _file, _folder, _tensors, _run])
def test_a_full_disk_is_one_line_and_the_old_state(run, work):
    before = contents(run)
    said = limited(lambda: work(run))
    assert said.startswith(f"{errno.EFBIG} {run}"), said
    assert said.endswith("what was there is as it was: make room and try again")
    recover_folder(run / "judge")
    recover_folder(run)
    after = contents(run)
    if work is _log:  # whole lines that were seen on disk are kept
        log = after.pop("lessons.jsonl")
        assert log.startswith(before.pop("lessons.jsonl"))
        assert log.endswith(b"\n")
    assert after == before
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB of one's own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a disk can be mounted by the system's administrator only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_leaves_run_and_judge_as_they_were(small_disk, run, line, mekiki):
    here = Path(shutil.copytree(run, small_disk / "run"))
    with (
        (small_disk / "filler").open("wb", buffering=0) as filler,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            filler.write(bytes(4096))
    before = contents(here)
    image = line / "fresh" / "000.png"
    for command in (
        ("calibrate", here, "--ok", line / "ok", "--encoder", "filters", "--false-reject", 0.2),
        ("teach", here, image, "--as", "NG:late"),
        ("train", "digits", "--per-class", 12, "--epochs", 3, "--out", here, "--resume", "--batch-size", 32),
        ("embed", here, "digits", "-o", small_disk / "vectors.npz"),
    ):
        said = mekiki(*command)
        assert said.code == 2, (command, said.out, said.err)
        lines = [each for each in said.err.splitlines() if each.startswith("error: ")]
        assert len(lines) == 1, said.err
        assert "Traceback" not in said.err
    assert contents(here) == before
    (small_disk / "filler").unlink()
    assert mekiki("teach", here, image, "--as", "NG:late").code == 0, "and with room again it goes on"


def as_nobody(work):
    """Do some work as a user who may write nothing."""
    if os.geteuid() != 0:
        return work()
    os.seteuid(65534)
    try:
        return work()
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(run, line, mekiki):
    for path in [run.parent, run, *run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for above in run.parents:
        if above.owner() == run.owner() and above.stat().st_mode & 0o700 and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    before = contents(run)
    try:
        if as_nobody(lambda: os.access(run, os.W_OK, effective_ids=os.access in os.supports_effective_ids)):
            pytest.skip("this user may write everywhere")
        inspector = as_nobody(lambda: Inspector.open(run))
        assert inspector.judge_file(line / "ok" / "000.png").verdict in ("OK", "NG")
        as_nobody(lambda: Embedder.load(Run(run).open().folder))
        said = as_nobody(lambda: mekiki("teach", run, line / "fresh" / "000.png", "--as", "NG:late"))
        assert "Permission denied" in said.error
        said = as_nobody(
            lambda: mekiki(
                "calibrate", run, "--ok", line / "ok", "--encoder", "filters", "--false-reject", 0.2
            )
        )
        assert "Permission denied" in said.error
    finally:
        for path in [run.parent, run, *run.rglob("*")]:
            path.chmod(0o755)
    assert contents(run) == before


# ---- two at work ----


def test_a_second_training_of_one_run_is_told_at_once(run, mekiki):
    done = threading.Event()
    began = threading.Event()

    def first():
        with hold_lock(run, "training", role="training"):
            began.set()
            done.wait(30)

    one = threading.Thread(target=first)
    one.start()
    began.wait(30)
    try:
        said = mekiki("train", "digits", "--per-class", 12, "--epochs", 3, "--out", run, "--resume")
        assert said.error == (
            f"error: {run}: another process ({os.getpid()} is training) is at work there; try again when it is done"
        )
    finally:
        done.set()
        one.join()
    assert [path.name for path in run.parent.iterdir() if path.name.startswith(".")] == []


def test_a_second_writer_waits_for_the_first(tmp_path):
    told = []

    def write(name):
        with hold_lock(tmp_path / "run"):
            told.append(("in", name))
            time.sleep(0.05)
            told.append(("out", name))

    each = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for one in each:
        one.start()
    for one in each:
        one.join()
    assert [what for what, _ in told] == ["in", "out"] * 4
    assert [name for _, name in told[::2]] == [name for _, name in told[1::2]]
    assert list(tmp_path.iterdir()) == []


@forks
def test_a_lock_goes_with_its_process(tmp_path):
    pid = os.fork()
    if pid == 0:
        with hold_lock(tmp_path / "run"):
            (tmp_path / "held").touch()
            time.sleep(60)
    while not (tmp_path / "held").exists():
        time.sleep(0.005)
    with (
        pytest.raises(InputError, match=rf"another process \({pid} is writing\)"),
        hold_lock(tmp_path / "run", timeout=0),
    ):
        pass
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with hold_lock(tmp_path / "run", timeout=0):
        pass


@forks
@pytest.mark.slow
def test_lessons_of_two_processes_are_all_kept_each_by_its_number(run, line, tmp_path):
    images = sorted((line / "fresh").glob("*.png"))
    said = [tmp_path / name for name in ("one", "two")]
    for place in said:
        place.mkdir()
    for start in range(0, 8, 2):
        both = [
            Forked(place, "teach", run, images[start + number], "--as", f"NG:{place.name}")
            for number, place in enumerate(said)
        ]
        assert [one.wait().code for one in both] == [0, 0]
    kinds = [entry.defect_type for entry in CorrectionLog(run).entries()]
    assert len(kinds) == 10
    assert sorted(kinds[2:]) == ["one"] * 4 + ["two"] * 4
    assert all(each.state == "whole" for each in check_run(run) if each.file.startswith("lessons"))


def test_a_folder_replaced_while_it_is_opened_is_read_from_one_state(tmp_path):
    folder = tmp_path / "judge"

    def write(what):
        with replace_folder(folder) as new:
            for name in ("a", "b"):
                write_text(new / name, what)
            write_manifest(new)

    write("0")
    stop = threading.Event()

    def go_on():
        number = 0
        while not stop.is_set():
            number += 1
            write(str(number))
            time.sleep(0.02)

    def read():
        recover_folder(folder)
        manifest = Manifest.of(folder, quiet=True)
        first = manifest.read("a")
        time.sleep(0.002)
        return first, manifest.read("b")

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        for _ in range(60):
            one, other = read_consistently(folder, read)
            assert one == other
    finally:
        stop.set()
        writer.join()


def test_a_lesson_taught_while_a_training_ends_is_not_lost(run):
    """The old files are copied before the new folder takes its place; who writes in between waits."""
    taught = threading.Thread(target=lambda: CorrectionLog(run).undo(1))
    with Run(run).replace_results(["metrics.json"]) as new:
        (new / "metrics.json").write_text("{}")
    real = shutil.copytree

    def slow(*arguments, **more):
        copied = real(*arguments, **more)
        if not taught.is_alive():
            taught.start()
            time.sleep(0.3)
        return copied

    shutil.copytree = slow
    try:
        with Run(run).replace_results(["metrics.json"]) as new:
            (new / "metrics.json").write_text("{}")
    finally:
        shutil.copytree = real
        taught.join()
    assert CorrectionLog(run).entries()[0].undone


@forks
def test_two_watchers_of_one_file_of_results_are_told(run, line, tmp_path):
    (tmp_path / "said").mkdir()
    with hold_lock(run / "watched.csv", "watching", role="watching"):
        said = Forked(tmp_path / "said", "watch", run, line / "ok", "--once").wait()
    assert f"({os.getpid()} is watching) is at work there" in said.error
