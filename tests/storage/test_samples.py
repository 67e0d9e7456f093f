"""Runs of older versions open, judge as they did then, and are brought up to date; newer ones are refused.

Scores without corrections are those of the version that wrote a run; corrections act by the rule of today.
"""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest

from mekiki.cases.relabel import read_relabellings
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.search import read_feedback
from mekiki.embedder import Embedder
from mekiki.errors import DataWarning, InputError
from mekiki.judging.corrections import read_corrections
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import teach, undo
from mekiki.storage.check import check_run
from mekiki.storage.json_files import read_checked_json, write_checked_json
from mekiki.storage.training_run import Run
from mekiki.storage.upgrade import upgrade_run
from samples import make

SAMPLES = Path(__file__).parent.parent / "samples"
VERSIONS = [0, 1, 2]


@pytest.fixture
def sample(tmp_path):
    """A run as a version wrote it, and what it said then."""

    def opened(version):
        shutil.unpack_archive(SAMPLES / f"version-{version}.zip", tmp_path)
        said = json.loads((SAMPLES / f"version-{version}.json").read_text(encoding="utf-8"))
        return tmp_path / "run", said

    return opened


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make.make_photos(tmp_path_factory.mktemp("photos"))


def expected(verdicts):
    return {
        name: one | {"score": pytest.approx(one["score"], rel=1e-4), "p": pytest.approx(one["p"])}
        for name, one in verdicts.items()
    }


def newest(folder):
    """Everything in a folder as it is."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_of_this_version_says_what_it_said_then(sample, photos, version):
    run, said = sample(version)
    before = newest(run)
    assert make.verdicts(run, photos) == expected(said["verdicts"])
    assert make.uncorrected(run, photos) == pytest.approx(said["uncorrected"], rel=1e-4)
    for ours, then in zip(make.vectors(run), said["vectors"], strict=True):
        assert ours == pytest.approx(then, rel=1e-4, abs=1e-5)
    assert Run(run).open().metrics()["epochs"] == 2
    assert [each.undone for each in read_corrections(run)] == [False, False, True]
    assert newest(run) == before, "opening a run changes nothing in it"


def test_a_memory_finds_what_it_found_then(sample, photos):
    run, said = sample(2)
    found = make.search_results(run, photos)
    assert [one["label"] for one in found] == [one["label"] for one in said["found"]]
    assert [one["distance"] for one in found] == pytest.approx(
        [one["distance"] for one in said["found"]], rel=1e-4
    )
    assert [change.undone for change in read_relabellings(run)] == [False, True]
    spoken = read_feedback(run)
    assert {each.undone for each in spoken[:-6]} == {False}
    assert {each.undone for each in spoken[-6:]} == {True}, "the last word was taken back"
    assert (
        RunMemory(run).adapter_store("images", RunMemory(run).store("images").encoder).current() is not None
    )


def test_a_run_without_checksums_opens_with_a_note_and_gets_them_by_upgrading(sample, photos):
    run, said = sample(0)
    with pytest.warns(
        DataWarning, match=r"has no checksums, as an older mekiki wrote it; `mekiki check .* --upgrade`"
    ):
        Inspector.open(run)
    assert {each.state for each in check_run(run)} == {"no checksum"}
    assert upgrade_run(run) == 2, "the run, and its judge"
    assert upgrade_run(run) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert make.verdicts(run, photos) == expected(said["verdicts"])
    known = {each.file for each in check_run(run) if each.state == "whole"}
    assert {"model.safetensors", "config.json", "metrics.json", "judge/judge.safetensors"} <= known


@pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")
def test_a_log_of_both_versions_is_one_log(sample, photos):
    run, _ = sample(0)
    old = (run / "lessons.jsonl").read_bytes()
    fresh = sorted((photos / "fresh").glob("*.png"))
    teach(run, fresh[2], "NG:late")
    assert (run / "lessons.jsonl").read_bytes().startswith(old), "what was written stays as it was"
    assert [each.number for each in read_corrections(run)] == [1, 2, 3, 4]
    undo(run, 1)
    assert [each.undone for each in read_corrections(run)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("file", "open_it"),
    [
        ("manifest.json", lambda run: Embedder.load(run)),
        ("manifest.json", lambda run: Run(run).open().metrics()),
        ("judge/manifest.json", Inspector.open),
        ("judge/manifest.json", check_run),
    ],
)
def test_a_run_of_a_newer_version_says_so_in_one_line(sample, file, open_it):
    run, _ = sample(1)
    facts = read_checked_json(run / file)
    write_checked_json(run / file, facts | {"format": "mekiki-run/2", "written_by": "mekiki 9.1"})
    wanted = re.escape(f"{run / file}: was written by a newer mekiki (mekiki 9.1, format mekiki-run/2)")
    with pytest.raises(InputError, match=wanted + r".*; update mekiki$"):
        open_it(run)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sample_is_small_and_names_no_machine(version):
    packed = SAMPLES / f"version-{version}.zip"
    assert packed.stat().st_size < 500_000
