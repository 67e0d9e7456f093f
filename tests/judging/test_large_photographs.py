"""Large photographs, which have a fine scale, in everything that is done with a judge."""

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.judge_model import FINE
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.results import judge_paths
from mekiki.judging.teach import teach, undo
from mekiki.judging.watch import watch
from parts import images, save

HEIGHT, WIDTH = 400, 500
EXAMPLE = Path(__file__).parents[2] / "examples" / "judge_with_onnxruntime.py"


def photograph(seed, kind="ok", shade=80):
    """A noisy surface of 200,000 pixels; with a dark dot of 6 pixels, or a light stain of 100."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(128, 10, (HEIGHT, WIDTH))
    row, column = rng.integers(20, HEIGHT - 120), rng.integers(20, WIDTH - 120)
    if kind == "dot":
        grey[row : row + 6, column : column + 6] -= shade
    elif kind == "stain":
        grey[row : row + 100, column : column + 100] += shade
    return np.clip(grey, 0, 255).astype(np.uint8)


def folder_of(folder, number, seed, kind="ok"):
    for each in range(number):
        save(folder / f"{each:02}.png", photograph(seed + each, kind))
    return folder


@pytest.fixture(scope="module")
def calibrated(net, tmp_path_factory):
    """A run calibrated on 30 OK and 8 NG photographs with a backbone: it is never changed."""
    place = tmp_path_factory.mktemp("large")
    folder_of(place / "ng" / "dot", 4, 1000, "dot")
    folder_of(place / "ng" / "stain", 4, 2000, "stain")
    good = folder_of(place / "ok", 30, 0)
    inspector, _ = calibrate_run(
        place / "run", [good], [place / "ng"], encoder=net, settings=CalibrationSettings(0.1)
    )
    assert inspector.metadata["detectors"][-1] == "cells"
    return place / "run"


STEP = 0.2
"""Share by which a score may differ: with another number of threads a network rounds otherwise, and among the few
photographs learnt from here −log p then moves by a step."""


@pytest.fixture
def line(calibrated, tmp_path):
    """A run of one's own."""
    return Path(shutil.copytree(calibrated, tmp_path / "line"))


@pytest.fixture(scope="module")
def arrivals(tmp_path_factory):
    """Two OK photographs, two dots and two stains that no judge has seen."""
    place = tmp_path_factory.mktemp("arrivals")
    for number, kind in enumerate(("ok", "dot", "stain") * 2):
        save(place / f"{number}_{kind}.png", photograph(5000 + number, kind))
    return place


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def test_defects_are_found_and_their_types_named(calibrated, arrivals):
    inspector = Inspector.open(calibrated)
    assert FINE in inspector.judge.groups
    verdicts = [each for each in inspector.judge_files(images(arrivals)) if "_ok" not in each.photo.path.name]
    assert [(each.verdict, each.defect_type) for each in verdicts] == [("NG", "dot"), ("NG", "stain")] * 2


def test_verdicts_in_bulk_are_those_of_judge(calibrated, arrivals, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    from mekiki.bulk import engine
    from mekiki.bulk.shard import process_shard

    monkeypatch.setattr(engine, "require", lambda *args, **more: None)
    monkeypatch.setattr(
        engine,
        "_process_with_ray",
        lambda missing, arguments: (process_shard(shard=number, **arguments) for number in missing),
    )
    engine.judge_in_bulk(calibrated, str(arrivals), tmp_path / "out", shard_length=4)
    found = [
        row
        for path in sorted((tmp_path / "out").glob("part-*.parquet"))
        for row in parquet.read_table(path).to_pylist()
    ]
    alone = judge_paths(calibrated, [arrivals])["verdicts"]
    assert len(found) == len(alone) == 6
    for row, verdict in zip(found, alone, strict=True):
        assert all(row[name] == verdict[name] for name in ("file", "verdict", "why", "kind"))
        assert row["score"] == pytest.approx(verdict["score"], rel=STEP)


@pytest.mark.slow
def test_ray_itself_gives_the_verdicts_of_judge(calibrated, arrivals, tmp_path):
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mekiki",
            "judge",
            calibrated,
            arrivals,
            "--engine",
            "ray",
            "-o",
            tmp_path / "out",
        ],
        check=True,
    )
    (path,) = (tmp_path / "out").glob("part-*.parquet")
    alone = judge_paths(calibrated, [arrivals])["verdicts"]
    for row, verdict in zip(parquet.read_table(path).to_pylist(), alone, strict=True):
        assert (row["file"], row["verdict"]) == (verdict["file"], verdict["verdict"])
        assert row["score"] == pytest.approx(verdict["score"], rel=STEP)


def test_what_watch_writes_is_what_judge_writes(line, arrivals, tmp_path):
    judge_paths(line, [arrivals], tmp_path / "judged.csv")
    output, drifts = tmp_path / "watched.csv", []
    watch(line, arrivals, output, once=True, on_verdict=lambda verdict: None, on_drift=drifts.append)
    judged, watched = (
        sorted(rows(tmp_path / f"{each}.csv"), key=lambda row: row["file"]) for each in ("judged", "watched")
    )
    for one, other in zip(judged, watched, strict=True):
        assert all(one[name] == other[name] for name in ("file", "verdict", "why", "kind"))
        assert float(one["score"]) == pytest.approx(float(other["score"]), rel=STEP)


def test_a_correction_acts_on_the_photograph_and_on_copies_of_it_and_is_undone_exactly(line, tmp_path):
    faint = photograph(6000, "dot", shade=6)
    path = save(tmp_path / "faint.png", faint)
    copy = tmp_path / "coded_again.jpg"
    Image.fromarray(faint).save(copy, quality=97)
    other = save(tmp_path / "other.png", photograph(6001))
    before = list(Inspector.open(line).judge_files([path, copy, other]))
    assert [each.verdict for each in before[:2]] == ["OK", "OK"]
    _, was, now, _ = teach(line, path, "NG:faint")
    assert (was.verdict, now.verdict, now.defect_type) == ("OK", "NG", "faint")
    taught = list(Inspector.open(line).judge_files([path, copy, other]))
    assert [(each.verdict, each.defect_type) for each in taught[:2]] == [("NG", "faint")] * 2
    assert taught[1].because == "lesson"
    assert taught[2].verdict == before[2].verdict
    undo(line)
    after = list(Inspector.open(line).judge_files([path, copy, other]))
    for one, other_time in zip(before, after, strict=True):
        assert (one.verdict, one.why, one.defect_type) == (
            other_time.verdict,
            other_time.why,
            other_time.defect_type,
        )
        assert one.score == pytest.approx(other_time.score, rel=STEP)


def test_it_is_remembered_and_described(mekiki, line, arrivals):
    pytest.importorskip("lancedb")
    dot, stain = (str(next(arrivals.glob(f"*_{kind}.png"))) for kind in ("dot", "stain"))
    assert mekiki("remember", line, dot).code == 0
    said = mekiki("describe", line, stain, "--format", "json")
    assert said.code == 0, said.err
    assert said.json["method"] == "template"
    assert len(said.json["cases"]) == 1


def test_the_page_shows_where_a_dot_lies_and_takes_a_correction(line, tmp_path):
    pytest.importorskip("fastapi")
    from pages import calling, photo_of

    row, column = 300, 120
    pixels = photograph(6002)
    pixels[row : row + 6, column : column + 6] = 60
    path = save(tmp_path / "dot.png", pixels)
    with calling(line) as client:
        (judged,) = client.post("/api/judge", files=[photo_of(path)]).json()["verdicts"]
        assert (judged["verdict"], judged["height"], judged["width"]) == ("NG", HEIGHT, WIDTH)
        heat = np.array(judged["heat"]["values"])
        place = np.unravel_index(heat.argmax(), heat.shape)
        assert [(each + 0.5) / size for each, size in zip(place, heat.shape, strict=True)] == pytest.approx(
            [(row + 3) / HEIGHT, (column + 3) / WIDTH], abs=0.05
        )
        answer = client.post("/api/teach", json={"photo": judged["photo"], "label": "OK"}).json()
        assert (answer["before"], answer["after"]["verdict"]) == ("NG", "OK")
        assert client.post(f"/api/teach/{answer['lesson']['number']}/undo").json()["undone"]
        again = client.post("/api/judge", files=[photo_of(path)]).json()["verdicts"][0]
        assert {name: again[name] for name in ("verdict", "score", "p")} == {
            name: judged[name] for name in ("verdict", "score", "p")
        }


@pytest.mark.slow
def test_the_graph_and_the_example_judge_as_the_program_does(mekiki, line, arrivals):
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    teach(line, arrivals / "0_ok.png", "NG:odd")
    said = mekiki("export", line, "--to", "onnx", "--with-judge", "--json")
    assert said.code == 0, said.err
    assert all(row["verdicts"] == 0 and row["score"] < 1e-4 for row in said.json["parity"])
    files = [str(path) for path in images(arrivals)[1:]]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(line / "export.onnx"), *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [re.split("\t", each) for each in done.stdout.splitlines()]
    for row, verdict in zip(
        found, Inspector.open(line).judge_files([Path(each) for each in files]), strict=True
    ):
        assert (row[0], row[1], row[4]) == (str(verdict.photo.path), verdict.verdict, verdict.defect_type)
        assert float(row[2]) == pytest.approx(verdict.score, rel=1e-4)
