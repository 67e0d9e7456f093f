"""Decoding a block ahead: how far ahead, in what order, and that nothing is left running."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from mekiki.data import decode_blocks as module
from mekiki.data.decode_blocks import Findings, decode_blocks
from mekiki.data.decoding import decode
from mekiki.data.streaming import iter_images
from mekiki.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")
SIZE = (6, 5)
LONG = 20  # seconds; what is waited for takes milliseconds


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(module, "_WORKERS", 3)
    return 3


@pytest.fixture
def files(tmp_path):
    def make(n, bad=()):
        paths = []
        for i in range(n):
            path = tmp_path / f"{i:03}.png"
            if i in bad:
                path.write_bytes(b"bad")
            else:
                pixels = np.random.default_rng(i).integers(0, 256, (12, 10, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path)
            paths.append(path)
        return paths

    return make


class Watched:
    """Stands in for `decode`: knows which files were begun and finished, and can hold some of them back."""

    def __init__(self, hold=lambda number: 0.0, fail=lambda number: None):
        self.begun, self.done = [], []
        self.hold, self.fail = hold, fail
        self.change = threading.Condition()

    def __call__(self, path, size, channels):
        number = int(path.stem)
        with self.change:
            self.begun.append(number)
        time.sleep(self.hold(number))
        if error := self.fail(number):
            raise error
        decoded = decode(path, size, channels)
        with self.change:
            self.done.append(number)
            self.change.notify_all()
        return decoded

    def wait_for(self, number):
        with self.change:
            return self.change.wait_for(lambda: len(self.done) >= number, LONG)


@pytest.fixture
def watch(monkeypatch):
    def put(**options):
        watched = Watched(**options)
        monkeypatch.setattr(module, "decode", watched)
        return watched

    return put


def blocks_of(paths, batch, findings=None, channels=1, **more):
    return decode_blocks(
        paths,
        [path.name for path in paths],
        SIZE,
        channels,
        Findings() if findings is None else findings,
        batch=batch,
        **more,
    )


def alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mekiki-decoding")]


def test_the_next_block_is_decoded_while_the_caller_holds_the_first(files, watch):
    watched = watch()
    blocks = blocks_of(files(12), 4)
    next(blocks)
    assert watched.wait_for(8)
    assert sorted(watched.done) == list(range(8))
    blocks.close()


def test_it_never_runs_more_than_a_block_ahead_of_the_one_in_use(files, watch, workers):
    watched = watch()
    blocks = blocks_of(files(30), 3)
    for used in range(1, 11):
        next(blocks)
        ahead = min(30, 3 * (used + 1))
        assert watched.wait_for(ahead)
        time.sleep(0.01)
        assert sorted(watched.begun) == list(range(ahead))
    assert next(blocks, None) is None
    assert alive() == []


def test_while_a_block_is_waited_for_at_most_two_blocks_are_begun(files, watch, workers):
    given = 0
    most = 0
    held = threading.Lock()

    def hold(number):
        nonlocal most
        with held:
            most = max(most, number + 1 - given)
        return 0.02 if number % 3 == 0 else 0.0  # the first of a block is its last

    watch(hold=hold)
    for rows, _ in blocks_of(files(30), 3):
        with held:
            given += len(rows)
    assert 3 <= most <= 2 * 3 + 3  # `given` is counted a moment after the block was


@pytest.mark.parametrize("channels", [1, 3])
def test_the_blocks_are_those_of_plain_decoding(files, channels):
    paths = files(11, bad=(2, 7, 8))
    good = [i for i in range(11) if i not in (2, 7, 8)]
    findings, calls = Findings(), []
    blocks = list(
        blocks_of(
            paths, 4, findings, channels, progress=lambda what, done, total: calls.append((done, total))
        )
    )
    assert [rows for rows, _ in blocks] == [[0, 1, 3], [4, 5, 6], [9, 10]]
    assert (
        np.concatenate([block for _, block in blocks])
        == np.stack([decode(paths[i], SIZE, channels).pixels for i in good])
    ).all()
    assert all(block.dtype == np.uint8 and block.flags.owndata for _, block in blocks)
    assert findings.unreadable == ["002.png", "007.png", "008.png"]
    assert findings.coloured == (channels == 3)
    assert calls == [(4, 11), (8, 11), (11, 11)]


def test_a_block_of_bad_files_is_empty_and_no_files_give_no_block(files):
    blocks = list(blocks_of(files(4, bad=(0, 1)), 2, channels=3))
    assert [(rows, block.shape) for rows, block in blocks] == [([], (0, 6, 5, 3)), ([2, 3], (2, 6, 5, 3))]
    assert list(blocks_of([], 2)) == []


def test_findings_come_in_the_order_of_the_files_and_with_their_block(files, watch, workers):
    watched = watch(hold=lambda number: 0.03 if number % 2 == 0 else 0.0)
    findings = Findings()
    blocks = blocks_of(files(9, bad=(0, 1, 4, 5)), 3, findings)
    next(blocks)
    assert watched.wait_for(2)  # 2 and 3; the others of the two blocks are bad
    time.sleep(0.05)
    assert findings.unreadable == ["000.png", "001.png"]
    list(blocks)
    assert findings.unreadable == ["000.png", "001.png", "004.png", "005.png"]


def test_closing_early_drops_what_waits_and_ends_the_threads(files, watch, workers):
    watched = watch(hold=lambda number: 0.1 if number >= 20 else 0.0)
    blocks = blocks_of(files(60), 20)
    next(blocks)
    blocks.close()
    assert alive() == []
    assert len(watched.begun) <= 20 + 2 * workers
    begun = len(watched.begun)
    time.sleep(0.15)
    assert len(watched.begun) == begun


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_caller_that_raises_leaves_no_thread(files, tmp_path, stop, workers):
    files(12)

    def use():
        for _ in iter_images(tmp_path, size=SIZE, channels=1, batch=3):
            raise stop

    with pytest.raises(stop):
        use()
    assert alive() == []


def test_a_caller_that_breaks_off_leaves_no_thread(files, tmp_path, workers):
    files(12)
    for _ in iter_images(tmp_path, size=SIZE, channels=1, batch=3):
        break
    assert alive() == []


def test_an_interruption_while_waiting_leaves_no_thread(files, workers):
    def interrupt(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(blocks_of(files(12), 3, progress=interrupt))
    assert alive() == []


def test_an_error_that_is_not_about_the_file_is_raised_at_its_block(files, watch, workers):
    watch(fail=lambda number: MemoryError("no room") if number == 4 else None)
    blocks = blocks_of(files(12), 3)
    assert next(blocks)[0] == [0, 1, 2]
    with pytest.raises(MemoryError, match="no room"):
        next(blocks)
    assert alive() == []


def test_a_file_that_vanishes_is_a_finding(files):
    paths = files(5)
    blocks = blocks_of(paths, 1, findings := Findings())
    next(blocks)
    paths[4].unlink()
    assert [rows for rows, _ in blocks] == [[1], [2], [3], []]
    assert findings.unreadable == ["004.png"]
    with pytest.raises(InputError, match="does not exist"):
        decode(paths[4], SIZE, 1)
