"""Watching a folder with a real process: each photograph exactly once, whatever happens in between."""

import contextlib
import csv
import io
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.errors import InputError
from mekiki.judging import commands
from mekiki.judging import watch as watch_module
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import teach, undo
from mekiki.judging.watch import watch
from parts import Forked, images, ok_folder, part, save, wait_until

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def rows(path):
    """The rows that are whole."""
    if not path.exists():
        return []
    content = path.read_bytes()
    text = content[: content.rfind(b"\r\n") + 2].decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def new(number, **changes):
    """A part that no judge has seen."""
    return part(7000 + number, **changes)


def arrive(folder, name, pixels):
    """A photograph arrives in one step, as a camera's software moves it in."""
    folder.mkdir(exist_ok=True)
    hidden = save(folder / f".{name}", pixels)
    return hidden.rename(folder / name)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def forked(tmp_path):
    """Start commands in forked processes; none outlives the test."""
    started = []

    def start(*arguments):
        place = tmp_path / f"said{len(started)}"
        place.mkdir()
        started.append(Forked(place, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.kill()


def once(run, folder, output=None):
    """Judge what is there; the verdicts and alarms."""
    verdicts, drifts = [], []
    watch(run, folder, output, poll=0.01, once=True, on_verdict=verdicts.append, on_drift=drifts.append)
    return verdicts, drifts


# ---- a real process ----


@forks
def test_files_are_judged_as_they_arrive_until_ctrl_c(run, tmp_path, forked):
    arrivals, said = tmp_path / "in", run / "watched.csv"
    arrive(arrivals, "a.png", new(1))
    command = forked("watch", run, arrivals, "--poll", "0.05")
    wait_until(lambda: len(rows(said)) == 1, command)
    arrive(arrivals, "b.png", new(2, blot=(16, 16)))
    (arrivals / "shift two").mkdir()
    arrive(arrivals / "shift two", "部品.png", new(3))
    (arrivals / "notes.txt").write_text("no photograph")
    wait_until(lambda: len(rows(said)) == 3, command)
    command.send(signal.SIGINT)
    done = command.wait()
    assert done.code == 0
    # A row that is on disk is printed too, before Ctrl-C takes effect.
    assert len(done.out.splitlines()) == 3
    assert done.err.splitlines() == ["watch: stopped; 3 judged; the same command goes on from here"]
    assert rows(said)[0]["file"] == str(arrivals / "a.png")
    by_name = {row["file"].rpartition("/")[2]: row["verdict"] for row in rows(said)}
    assert by_name.keys() == {"a.png", "b.png", "部品.png"}
    assert by_name["b.png"] == "NG"


@forks
def test_a_file_that_is_being_written_is_judged_when_it_is_whole_and_once(run, tmp_path, forked):
    arrivals, said = tmp_path / "in", run / "watched.csv"
    arrivals.mkdir()
    content = png(new(4, blot=(48, 48)))
    command = forked("watch", run, arrivals, "--poll", "0.4")
    wait_until(said.exists, command)
    slow = arrivals / "slow.png"
    with slow.open("wb") as handle:
        for start in range(0, len(content), len(content) // 8):
            handle.write(content[start : start + len(content) // 8])
            handle.flush()
            time.sleep(0.1)  # a slow writer is what is tested: never still for a whole poll
            assert rows(said) == []
    wait_until(lambda: rows(said), command)
    arrive(arrivals, "next.png", new(5))
    wait_until(lambda: len(rows(said)) == 2, command)
    command.send(signal.SIGINT)
    assert command.wait().code == 0
    first = rows(said)[0]
    assert (first["file"], first["verdict"], first["problem"]) == (str(slow), "NG", "")
    expected = Inspector.open(run).judge_file(slow)
    assert float(first["score"]) == pytest.approx(expected.score, rel=1e-5)


@forks
def test_each_photograph_is_judged_exactly_once_however_often_the_power_goes(run, tmp_path, forked):
    arrivals, said = tmp_path / "in", run / "watched.csv"
    chance = random.Random(0)
    for number in range(10):
        arrive(arrivals, f"{number:03}.png", new(number))
    for cut in range(5):
        before = len(rows(said))
        command = forked("watch", run, arrivals, "--poll", "0.05")
        for number in range(10 + 8 * cut, 18 + 8 * cut):
            arrive(arrivals, f"{number:03}.png", new(number))
        wait_until(lambda before=before: len(rows(said)) > before, command)
        time.sleep(chance.uniform(0, 0.15))  # a random moment
        command.kill()
        assert len(rows(said)) <= 50
        if cut % 2:  # and of the line in hand only the beginning got to the disk
            content = said.read_bytes()
            said.write_bytes(content[: -chance.randrange(1, 40)])
    once(run, arrivals)
    found = [row["file"] for row in rows(said)]
    assert sorted(found) == [str(path) for path in images(arrivals)]
    assert len(found) == 50
    assert said.read_bytes().endswith(b"\r\n")
    assert once(run, arrivals)[0] == []


@forks
def test_what_is_taught_meanwhile_is_active(run, tmp_path, forked):
    arrivals, said = tmp_path / "in", run / "watched.csv"
    usual = new(6)
    arrive(arrivals, "before.png", usual)
    command = forked("watch", run, arrivals, "--poll", "0.05")
    wait_until(lambda: len(rows(said)) == 1, command)
    teach(run, arrivals / "before.png", "NG:odd")
    arrive(arrivals, "after.png", usual)
    wait_until(lambda: len(rows(said)) == 2, command)
    undo(run)
    arrive(arrivals, "undone.png", usual)
    wait_until(lambda: len(rows(said)) == 3, command)
    command.send(signal.SIGINT)
    assert command.wait().code == 0
    before, after, undone = rows(said)
    assert (after["verdict"], after["kind"]) == ("NG", "odd")
    assert after["why"].startswith("taught: odd (correction 1")
    assert {name: before[name] for name in ("verdict", "score", "p")} == {
        name: undone[name] for name in ("verdict", "score", "p")
    }


@forks
@pytest.mark.parametrize("moment", ["at once", "while idle"])
def test_ctrl_c_ends_cleanly_at_any_moment(run, tmp_path, forked, moment):
    arrivals, said = tmp_path / "in", run / "watched.csv"
    for number in range(40 if moment == "at once" else 1):
        arrive(arrivals, f"{number}.png", new(number))
    command = forked("watch", run, arrivals, "--poll", "0.05")
    wait_until(lambda: rows(said), command)
    command.send(signal.SIGINT)
    done = command.wait()
    assert done.code == 0
    assert done.err.startswith("watch: stopped; ")
    assert len(done.err.splitlines()) == 1
    assert said.read_bytes().endswith(b"\r\n")


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the suite was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_at_any_step_leaves_a_row_a_printed_line_and_a_count_of_each_photograph(
    run, tmp_path, monkeypatch, capsys, interruptible
):
    """The command is interrupted once at each line that it runs, one after another."""
    inspector = Inspector.open(run)
    files = [arrive(tmp_path / "in", f"{number}.png", new(number)) for number in range(2)]
    verdicts = {path: inspector.judge_file(path) for path in files}
    monkeypatch.setattr(inspector, "judge_file", verdicts.__getitem__)
    monkeypatch.setattr(Inspector, "open", lambda folder: inspector)
    # A drift alarm at each photograph is a step between two photographs too.
    monkeypatch.setattr(watch_module.DriftAlarm, "add", lambda self, p: "an alarm")
    traced = {commands.__file__, watch_module.__file__}
    output = tmp_path / "results.csv"

    def run_until(step):
        """Interrupt at a step; whether there is such a step."""
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            file = frame.f_code.co_filename
            called_by = frame.f_back.f_code.co_filename if frame.f_back is not None else ""
            if file not in traced and not (file == contextlib.__file__ and called_by in traced):
                return None
            lines += event == "line"
            if event == "line" and lines == step:
                signal.raise_signal(signal.SIGINT)
            return trace

        output.unlink(missing_ok=True)
        capsys.readouterr()
        sys.settrace(trace)
        try:
            commands.watch(run, tmp_path / "in", output, poll=0.0, once=True)
        except KeyboardInterrupt:  # before the watching began, or after it ended
            pass
        finally:
            sys.settrace(None)
        return lines >= step

    counts = set()
    step = 1
    while run_until(step):
        printed = capsys.readouterr()
        number = len(rows(output))
        assert len(printed.out.splitlines()) == number, step
        assert printed.err.count("drift: an alarm") == number, step
        stopped = [line for line in printed.err.splitlines() if line.startswith("watch: ")]
        if stopped:
            assert stopped == [f"watch: stopped; {number} judged; the same command goes on from here"], step
        counts.add((number, bool(stopped)))
        step += 1
    assert {(0, True), (1, True), (2, True)} <= counts
    assert len(rows(output)) == 2, "without an interruption both are judged"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_while_the_threads_that_read_are_put_away(run, ng, monkeypatch):
    class Interrupted(ThreadPoolExecutor):
        def __exit__(self, *rest):
            super().__exit__(*rest)
            raise KeyboardInterrupt

    inspector = Inspector.open(run)
    monkeypatch.setattr("mekiki.data.photo.ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(inspector.judge_files(images(ng)[:2]))  # of a single one no thread reads


# ---- what is remembered ----


def test_a_photograph_that_is_overwritten_is_another_one(run, tmp_path):
    path = arrive(tmp_path / "in", "part.png", new(1))
    assert len(once(run, tmp_path / "in")[0]) == 1
    save(path, new(2, blot=(16, 16)))
    os.utime(path, ns=(10**18, 10**18))
    assert [one.verdict for one in once(run, tmp_path / "in")[0]] == ["NG"]
    assert once(run, tmp_path / "in")[0] == []
    assert [row["file"] for row in rows(run / "watched.csv")] == [str(path)] * 2


def test_a_torn_last_line_is_mended_and_its_photograph_judged_anew(run, tmp_path):
    for number in range(3):
        arrive(tmp_path / "in", f"{number}.png", new(number))
    once(run, tmp_path / "in")
    said = run / "watched.csv"
    whole = said.read_bytes()
    last = whole[: whole.rstrip(b"\r\n").rfind(b"\r\n") + 2]
    for cut in (len(last), len(last) + 1, len(whole) - 2, len(whole) - 1):
        said.write_bytes(whole[:cut])
        assert [one.photo.path.name for one in once(run, tmp_path / "in")[0]] == ["2.png"]
        assert said.read_bytes() == whole


def test_names_of_any_kind_are_judged_once(run, tmp_path):
    names = ["with space.png", "傷.png", "two\nlines.png", "two\r\nlines.png", 'quo"te,.png', "bad\udcff.png"]
    names.append('傷 "last"\r\none\r\n.png')
    for number, name in enumerate(names):
        arrive(tmp_path / "in", name, new(number))
    assert len(once(run, tmp_path / "in")[0]) == len(names)
    assert once(run, tmp_path / "in")[0] == []
    assert len(rows(run / "watched.csv")) == len(names)
    # Cut anywhere in the last line, also behind a line break that belongs to a name.
    said = run / "watched.csv"
    whole = said.read_bytes()
    for cut in range(len(whole) - 1, len(whole) - 120, -17):
        said.write_bytes(whole[:cut])
        once(run, tmp_path / "in")
        assert sorted(row["file"] for row in rows(said)) == sorted(row["file"] for row in _rows(whole))


def _rows(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


def test_bad_files_are_answers_too_and_not_looked_at_again(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.jpg").write_text("text")
    (tmp_path / "in" / "empty.png").touch()
    arrive(tmp_path / "in", "good.png", new(1))
    verdicts, _ = once(run, tmp_path / "in")
    assert {one.photo.path.name: one.verdict for one in verdicts} == {
        "empty.png": "unreadable",
        "good.png": verdicts[1].verdict,
        "text.jpg": "unreadable",
    }
    assert once(run, tmp_path / "in")[0] == []
    assert all(row["problem"] for row in rows(run / "watched.csv") if row["verdict"] == "unreadable")


def test_a_file_of_results_among_the_photographs_and_hidden_files_are_left_alone(run, tmp_path):
    arrive(tmp_path / "in", "a.png", new(1))
    save(tmp_path / "in" / ".partial.png", new(2))
    verdicts, _ = once(run, tmp_path / "in", tmp_path / "in" / "said.csv")
    assert [one.photo.path.name for one in verdicts] == ["a.png"]
    assert len(rows(tmp_path / "in" / "said.csv")) == 1
    assert not (run / "watched.csv").exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [("other.csv", "is not a file that watching wrote"), ("a.txt", "watching writes .csv")],
)
def test_a_file_of_something_else_is_never_written_to(run, tmp_path, output, said):
    arrive(tmp_path / "in", "a.png", new(1))
    (tmp_path / output).write_text("name,age\r\nAnna,4\r\n")
    with pytest.raises(InputError, match=said):
        once(run, tmp_path / "in", tmp_path / output)
    assert (tmp_path / output).read_bytes() == b"name,age\r\nAnna,4\r\n"


def test_watching_says_what_judging_says(run, tmp_path, ng):
    shutil.copytree(ng, tmp_path / "in")
    watched, _ = once(run, tmp_path / "in")
    judged = list(Inspector.open(run).judge_files(images(tmp_path / "in")))
    assert [(one.photo.path, one.verdict, one.defect_type) for one in watched] == [
        (one.photo.path, one.verdict, one.defect_type) for one in judged
    ]
    np.testing.assert_allclose([one.score for one in watched], [one.score for one in judged], rtol=1e-6)


# ---- drift ----


@pytest.fixture(scope="module")
def steady_once(net, tmp_path_factory):
    """A run with as many calibration parts as the alarm asks for."""
    place = tmp_path_factory.mktemp("steady")
    folder = ok_folder(place / "ok", 100, seed=8000)
    calibrate_run(place / "run", [folder], encoder=net, settings=CalibrationSettings(0.02))
    return place / "run"


@pytest.fixture
def steady(steady_once, tmp_path):
    return Path(shutil.copytree(steady_once, tmp_path / "steady"))


@pytest.fixture
def shifted(tmp_path):
    """A stream: 40 usual parts, and then a camera that gives a brighter picture."""
    for number in range(80):
        pixels = part(6000 + number).astype(np.float64)
        if number >= 40:
            pixels = pixels * 0.9 + 30
        arrive(tmp_path / "in", f"{number:03}.png", np.clip(pixels, 0, 255).astype(np.uint8))
    return tmp_path / "in"


def test_a_shifted_camera_raises_the_alarm_and_says_since_when(steady, shifted, mekiki):
    said = mekiki("watch", steady, shifted, "--once", "--poll", "0.05")
    assert said.code == 0
    alarms = [line for line in said.err.splitlines() if line.startswith("drift: ")]
    assert alarms, said.err
    since = int(alarms[0].split("since part ")[1].split()[0])
    assert 30 <= since <= 44
    assert "differ from the OK parts calibrated on" in alarms[0]
    assert len(said.out.splitlines()) == 80


def test_the_alarm_remembers_what_came_before_a_restart(steady, shifted):
    every = once(steady, shifted)[1]
    whole = (steady / "watched.csv").read_bytes().splitlines(keepends=True)
    assert every[0].at > 42
    (steady / "watched.csv").write_bytes(
        b"".join(whole[: 1 + every[0].at - 1])
    )  # cut off just before the alarm
    assert once(steady, shifted)[1][0] == every[0]


def test_usual_parts_raise_no_alarm(steady, tmp_path):
    for number in range(80):
        arrive(tmp_path / "in", f"{number:03}.png", part(6000 + number))
    assert once(steady, tmp_path / "in")[1] == []
