"""Very many images in parts: one row an image, each part done once, whatever stops on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki import Embedder
from mekiki.bulk import engine
from mekiki.bulk.engine import embed_in_bulk, judge_in_bulk
from mekiki.bulk.plan import Plan
from mekiki.bulk.shard import process_shard
from mekiki.errors import InputError
from mekiki.experiments.embed import embed_images
from mekiki.storage.run_folder import METRICS
from mekiki.storage.vector_table import read_vectors
from parts import ng_folder, ok_folder, save, wait_until

parquet = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that embeds images of 64×64 pixels in three dimensions."""
    folder = tmp_path_factory.mktemp("eye") / "run"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 64, 64), dtype=np.uint8)
    embedder = Embedder(dim=3, epochs=1, batch_size=8).fit(pixels, np.arange(40) % 2)
    embedder.save(folder)
    (folder / METRICS).write_text("{}")
    return folder


@pytest.fixture
def photos(tmp_path):
    """23 photographs in two folders, one file that is none and one that is cut short."""
    ok_folder(tmp_path / "photos" / "a", 11)
    ng_folder(tmp_path / "photos" / "b", 10)
    (tmp_path / "photos" / "readme.txt").write_text("not an image")
    broken = save(tmp_path / "photos" / "a" / "cut.png", np.zeros((64, 64), np.uint8))
    broken.write_bytes(broken.read_bytes()[:40])
    return tmp_path / "photos"


@pytest.fixture
def in_process(monkeypatch):
    """Parts done here, in place of Ray; a number of them, and then a stop, where `stop` is set."""

    class Control:
        stop = None
        done: list[int] = []  # noqa: RUF012

    def given_out(missing, arguments):
        for place, number in enumerate(missing):
            if place == Control.stop:
                raise KeyboardInterrupt
            Control.done.append(number)
            yield process_shard(shard=number, **arguments)

    monkeypatch.setattr(engine, "_process_with_ray", given_out)
    monkeypatch.setattr(engine, "require", lambda *args, **more: None)
    Control.stop, Control.done = None, []
    return Control


def rows_of(folder):
    return [
        row for path in sorted(folder.glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()
    ]


def test_each_image_has_one_row_and_the_vector_of_the_ordinary_engine(trained, photos, tmp_path, in_process):
    told = embed_in_bulk(trained, str(photos), tmp_path / "out", shard_length=5)
    assert (told["n"], told["problems"], told["parts"], told["dim"]) == (22, 1, 5, 3)
    rows = rows_of(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == sorted(map(str, photos.rglob("*.png")))
    (bad,) = [row for row in rows if row["vector"] is None]
    assert bad["name"].endswith("cut.png")
    assert bad["problem"]
    assert bad["name"] not in bad["problem"]
    with pytest.warns(UserWarning):
        embed_images(trained, str(photos), tmp_path / "vectors.npz")
    table = read_vectors(tmp_path / "vectors.npz")
    ordinary = dict(zip(table.names, table.vectors, strict=True))
    good = {row["name"]: row["vector"] for row in rows if row["vector"] is not None}
    assert ordinary.keys() == good.keys()
    assert all((ordinary[name] == np.float32(vector)).all() for name, vector in good.items())


def test_the_parts_are_read_as_one_table(trained, photos, tmp_path, in_process):
    dataset = pytest.importorskip("pyarrow.dataset")
    embed_in_bulk(trained, str(photos), tmp_path / "out", shard_length=5)
    whole = dataset.dataset(tmp_path / "out", format="parquet", exclude_invalid_files=True)
    assert whole.count_rows() == 22


def test_after_a_stop_only_what_is_missing_is_done(trained, photos, tmp_path, in_process):
    in_process.stop = 2
    with pytest.raises(KeyboardInterrupt):
        embed_in_bulk(trained, str(photos), tmp_path / "out", shard_length=5)
    (tmp_path / "out" / ".part-000002.123.partial.parquet").write_bytes(b"half")  # as a kill leaves it
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert len(before) == 2
    in_process.stop = None
    told = embed_in_bulk(trained, str(photos), tmp_path / "out", shard_length=5)
    assert (told["n"], told["done"]) == (22, 10)
    assert in_process.done == [0, 1, 2, 3, 4]
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == when for name, when in before.items())
    assert not list((tmp_path / "out").glob(".*partial*"))
    # What has arrived since goes into parts of its own, whatever the length of a part is now.
    ok_folder(photos / "c", 3, seed=99)
    told = embed_in_bulk(trained, str(photos), tmp_path / "out", shard_length=2)
    assert (told["n"], told["done"], told["parts"]) == (25, 22, 7)
    names = [row["name"] for row in rows_of(tmp_path / "out")]
    assert len(names) == len(set(names)) == 25


def test_a_part_done_twice_is_done_once(trained, photos, tmp_path):
    from mekiki.bulk.shard import fingerprint

    known = fingerprint(trained, "embed")
    plan = Plan.create(tmp_path / "out", {"work": "embed"}, sorted(map(str, photos.rglob("*.png"))), 30)
    one = process_shard(str(tmp_path / "out"), 0, str(trained), "embed", known)
    content = plan.table(0).read_bytes()
    assert process_shard(str(tmp_path / "out"), 0, str(trained), "embed", known) == one
    plan.table(0).unlink()
    process_shard(str(tmp_path / "out"), 0, str(trained), "embed", known)
    assert plan.table(0).read_bytes() == content


def test_the_work_of_another_run_or_another_folder_is_not_touched(trained, photos, tmp_path, in_process):
    embed_in_bulk(trained, str(photos), tmp_path / "out", shard_length=50)
    other = tmp_path / "other"
    Embedder(dim=2, epochs=1, batch_size=8).fit(
        np.random.default_rng(1).integers(0, 256, (40, 64, 64), dtype=np.uint8), np.arange(40) % 2
    ).save(other)
    (other / METRICS).write_text("{}")
    with pytest.raises(InputError, match="another run"):
        embed_in_bulk(other, str(photos), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("precious")
    with pytest.raises(InputError, match="something else"):
        embed_in_bulk(trained, str(photos), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.doc").read_text() == "precious"


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_urls_give_the_vectors_that_files_give(trained, photos, tmp_path, in_process, protocol):
    url = f"file://{photos}" if protocol == "file" else f"memory://{tmp_path.name}"
    if protocol == "memory":
        fsspec.filesystem("memory").put(str(photos), f"/{tmp_path.name}", recursive=True)
    with pytest.warns(UserWarning, match="readme|no image|cannot be read"):
        told = embed_images(trained, url, tmp_path / "remote.npz")
    assert told["n"] == 21
    with pytest.warns(UserWarning):
        embed_images(trained, str(photos), tmp_path / "local.npz")
    remote, local = read_vectors(tmp_path / "remote.npz"), read_vectors(tmp_path / "local.npz")
    assert remote.names[0].startswith(f"{protocol}://")
    assert (remote.vectors == local.vectors).all()
    told = embed_in_bulk(trained, url, tmp_path / "out", shard_length=9)
    assert (told["n"], told["problems"]) == (22, 1)
    good = [row for row in rows_of(tmp_path / "out") if not row["problem"]]
    assert [row["name"] for row in good] == list(remote.names)
    assert (np.float32([row["vector"] for row in good]) == remote.vectors).all()


def test_verdicts_in_bulk_are_those_of_judge(calibrated_once, fresh, ng, tmp_path, in_process):
    from mekiki.judging.results import judge_paths

    told = judge_in_bulk(calibrated_once, str(fresh), tmp_path / "out", shard_length=7)
    assert told["n"] == 24
    said = {row["file"]: (row["verdict"], row["score"]) for row in rows_of(tmp_path / "out")}
    alone = judge_paths(calibrated_once, [fresh])["verdicts"]
    for verdict in alone:
        assert said[verdict["file"]] == (verdict["verdict"], pytest.approx(verdict["score"], rel=1e-4))


def test_what_cannot_be_done_is_one_line(mekiki, trained, photos, tmp_path):
    refused = {
        "s3 is not installed or not there": ("embed", trained, "nosuch://x", "-o", "v.npz"),
        "nothing there": ("embed", trained, "memory://nothing-here", "-o", "v.npz"),
        "an engine of another name": ("embed", trained, photos, "-o", "v", "--engine", "rya"),
        "no folder": ("embed", trained, tmp_path / "none", "-o", "v", "--engine", "ray"),
        "judging needs a folder": ("judge", trained, photos, "--engine", "ray"),
    }
    for why, arguments in refused.items():
        assert mekiki(*arguments).error, why
    assert not (tmp_path / "v").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for Ray's workers in /proc")
def test_ray_loses_no_image_of_50000_when_workers_are_killed_three_times(trained, tmp_path):
    pytest.importorskip("ray")
    rng = np.random.default_rng(0)
    for number in range(50):
        folder = tmp_path / "photos" / f"{number:02}"
        folder.mkdir(parents=True)
        for place, pixels in enumerate(rng.integers(0, 256, (1000, 8, 8), dtype=np.uint8)):
            Image.fromarray(pixels).save(folder / f"{place:04}.png", compress_level=1)
    mark = f"MEKIKI_TEST={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mekiki", "embed", trained, tmp_path / "photos", "-o", tmp_path / "out",
         "--engine", "ray", "--part", "500", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"MEKIKI_TEST": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    def parts():
        return len(list((tmp_path / "out").glob("part-*")))

    def workers():
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                named = (folder / "cmdline").read_bytes().startswith(b"ray::Map")
                if named and mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    killed = []
    for wanted in (5, 15, 25, 35, 45, 55):
        wait_until(lambda wanted=wanted: parts() >= wanted, process, seconds=300)
        time.sleep(random.random())
        wait_until(workers, process, seconds=60)  # between two parts a worker is idle
        victim = random.choice(workers() or [None])
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert len(set(killed)) >= 3
    assert json.loads(out)["n"] == 50_000
    names = [row["name"] for row in rows_of(tmp_path / "out")]
    assert len(names) == len(set(names)) == 50_000
