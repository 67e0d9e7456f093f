"""A crash leaves the old state or the new one: tried at every step of the writing, in real processes."""

import subprocess
import sys
import textwrap

import pytest

from mekiki.storage.atomic import recover_folder, replace_file, replace_folder, write_text

CRASH = """
import os, pathlib, shutil, sys
from mekiki.storage import atomic

target, crash_at = pathlib.Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == crash_at:
            os._exit(9)          # as a power cut: no finally, no handler
        return real(*args, **more)
    return call

pathlib.Path.rename = counted(pathlib.Path.rename)
pathlib.Path.write_text = counted(pathlib.Path.write_text)
shutil.rmtree = counted(shutil.rmtree)
with atomic.replace_folder(target) as new:
    (new / "a").write_text("new")
    (new / "b").write_text("new")
print(calls)
"""


def crash(target, at):
    code = textwrap.dedent(CRASH)
    return subprocess.run([sys.executable, "-c", code, str(target), str(at)], capture_output=True, text=True)


def state(folder):
    return {(folder / name).read_text() for name in ("a", "b")}


def old_folder(tmp_path):
    target = tmp_path / "run"
    target.mkdir(parents=True)
    write_text(target / "a", "old")
    write_text(target / "b", "old")
    return target


def test_a_folder_killed_at_any_step_is_the_old_one_or_the_new_one(tmp_path):
    steps = int(crash(old_folder(tmp_path / "probe"), 0).stdout)
    assert steps >= 6
    seen = set()
    for at in range(1, steps + 1):
        target = old_folder(tmp_path / str(at))
        assert crash(target, at).returncode == 9
        recover_folder(target)
        content = state(target)
        assert len(content) == 1, f"half written when killed at step {at}"
        seen |= content
        with replace_folder(target) as new:  # and it can be written again
            (new / "a").write_text("third")
            (new / "b").write_text("third")
        assert state(target) == {"third"}
        assert [p.name for p in target.parent.iterdir()] == ["run"], "something was left behind"
    assert seen == {"old", "new"}


def test_a_block_that_fails_leaves_everything_as_it_was(tmp_path):
    target = old_folder(tmp_path)
    with pytest.raises(RuntimeError), replace_folder(target) as new:
        (new / "a").write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), replace_file(target / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert state(target) == {"old"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    assert sorted(p.name for p in target.iterdir()) == ["a", "b"]


def test_text_is_utf8_with_plain_line_ends_everywhere(tmp_path):
    write_text(tmp_path / "x.txt", "目利き\n")
    assert (tmp_path / "x.txt").read_bytes() == "目利き\n".encode()
