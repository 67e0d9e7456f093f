"""Threads follow what other programs leave of the processors."""

import os
import subprocess
import sys
import time

import pytest
import torch

from mekiki import threads
from mekiki.threads import adaptive_threads, free_processors

LINUX = sys.platform == "linux"


@pytest.mark.parametrize(
    ("processors", "busy", "own", "free"),
    [
        (2, 0.0, 0.0, 2),  # nobody works
        (2, 2.0, 2.0, 2),  # all of it is ours
        (2, 2.0, 1.0, 1),  # half of it is another's
        (2, 2.0, 0.1, 1),  # never less than one
        (2, 2.3, 2.0, 2),  # a little of another's does not matter
        (8, 8.0, 4.0, 4),  # two trainings share evenly
        (4, 1.0, 1.1, 4),  # the clocks do not agree to the last hundredth
    ],
)
def test_free_processors_by_hand(processors, busy, own, free):
    assert free_processors(processors, busy=busy, own=own) == free


@pytest.fixture
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_last", None)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def looks(monkeypatch, two_threads):
    """Looks as a test wants them: (seconds, busy, own), one after the other, two processors."""
    given = []
    monkeypatch.setattr(threads, "_measure", lambda: given.pop(0) if len(given) > 1 else given[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(time, "perf_counter", lambda: 1e9)
    return given


def test_threads_give_way_and_come_back(looks):
    looks += [(0.0, 0.0, 0.0)] * 2  # whether there is anything to see, and the first look
    looks += [(1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (3.0, 5.0, 3.0), (4.0, 6.0, 4.0)]
    seen = []
    with adaptive_threads() as consider:
        for _ in range(4):
            consider()
            seen.append(torch.get_num_threads())
    assert seen == [1, 1, 2, 2]
    assert torch.get_num_threads() == 2


def test_the_number_is_put_back_after_an_error(looks):
    looks += [(0.0, 0.0, 0.0)] * 2 + [(1.0, 2.0, 1.0)]
    with pytest.raises(KeyboardInterrupt), adaptive_threads() as consider:
        consider()
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


def test_an_old_look_says_nothing(looks):
    looks += [(0.0, 0.0, 0.0)] * 2 + [(100.0, 200.0, 0.0), (101.0, 201.0, 1.0)]
    with adaptive_threads() as consider:
        consider()
        assert torch.get_num_threads() == 2


def test_a_number_set_by_the_user_stays(monkeypatch, looks):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    looks += [(0.0, 0.0, 0.0), (1.0, 2.0, 0.0)]
    with adaptive_threads() as consider:
        consider()
        assert torch.get_num_threads() == 2


@pytest.mark.skipif(not LINUX, reason="only Linux tells what its processors do")
def test_real_neighbours_are_seen(monkeypatch, two_threads):
    processors = len(os.sched_getaffinity(0))
    torch.set_num_threads(processors)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processors)]
    try:
        with adaptive_threads() as consider:
            end = time.monotonic() + 3
            while time.monotonic() < end and torch.get_num_threads() == processors:
                consider()
                sum(range(100_000))
            assert processors == 1 or torch.get_num_threads() < processors
    finally:
        for process in busy:
            process.kill()
            process.wait()
