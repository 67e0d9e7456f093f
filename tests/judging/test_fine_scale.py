"""Large photographs: small defects are found, memory is bounded, and what vanishes is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mekiki.cli import app
from mekiki.data.photo import iter_photos, read_again, read_photo
from mekiki.errors import InputError
from mekiki.judging import calibrate
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.extractors import ScatteringExtractor
from mekiki.judging.fine_scale import FineScale, choose_pixels, largest_of_cells
from mekiki.judging.judge_model import FINE
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.tile_networks import FilterTiles

HEIGHT, WIDTH, DOT = 450, 600, 10


def photograph(rng, at=None, height=HEIGHT, width=WIDTH):
    grey = rng.normal(128, 10, (height, width))
    if at is not None:
        grey[at[0] : at[0] + DOT, at[1] : at[1] + DOT] -= 60
    return np.clip(grey, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """30 OK photographs of 270,000 pixels, and 6 with a dot of 10 pixels."""
    place, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    for folder, number in (("ok", 30), ("ng/dot", 6)):
        (place / folder).mkdir(parents=True)
        for i in range(number):
            at = (rng.integers(50, HEIGHT - 50), rng.integers(50, WIDTH - 50)) if folder != "ok" else None
            Image.fromarray(photograph(rng, at)).save(place / folder / f"{i}.png")
    return place


@pytest.fixture(scope="module")
def inspector(large):
    calibrate_run(large / "run", [large / "ok"], [large / "ng"], encoder="filters", settings=SETTINGS)
    return Inspector.open(large / "run")


SETTINGS = CalibrationSettings(0.1)


def test_small_dots_are_found_and_their_place_is_shown(large, inspector):
    assert inspector.metadata["missed_by_kind"] == {"dot": 0.0}
    rng = np.random.default_rng(9)
    Image.fromarray(photograph(rng, (110, 410))).save(large / "new.png")
    verdict = inspector.judge_file(large / "new.png", anomaly_map=True)
    assert verdict.verdict == "NG"
    row, column = np.unravel_index(verdict.anomaly_map.argmax(), verdict.anomaly_map.shape)
    assert abs((row + 0.5) / 32 * HEIGHT - 115) < 25 and abs((column + 0.5) / 32 * WIDTH - 415) < 30


def test_the_coarse_groups_are_those_of_a_small_photograph():
    extractor, plain = ScatteringExtractor(), ScatteringExtractor()
    small = photograph(np.random.default_rng(0))[:150, :200]
    image = np.repeat(small[..., None], 3, 2)
    extractor.fine = FineScale(FilterTiles(), 10**6)
    extractor.fit([[image]])
    groups, before = extractor.extract([image]).groups, plain.extract([image]).groups
    assert set(groups) == {*before, FINE}
    assert all(np.array_equal(groups[name], before[name]) for name in before)


def test_tiles_give_what_the_whole_photograph_gives():
    image = photograph(np.random.default_rng(0), height=600, width=700)
    whole, tiled = FilterTiles(), FilterTiles()
    whole.longest, tiled.longest = 704, 192
    fine = FineScale(whole, 10**6)
    fine.fit([[photograph(np.random.default_rng(1))[:320, :320]]])
    results = [fine.extract(image)]
    fine.network = tiled
    results += [fine.extract(image), fine(torch.from_numpy(image)[None])[0].numpy()]
    assert results[0].shape == (32, 32, 1)
    # Tiles see no farther than their margins.
    assert np.abs(results[0] - results[1]).max() < 1e-3
    np.testing.assert_allclose(results[2], results[1], atol=1e-5)


def test_small_maps_have_cells_in_common():
    assert largest_of_cells(torch.arange(4.0).reshape(1, 2, 2))[0, ::31, ::31].tolist() == [[0, 1], [2, 3]]


def test_a_run_keeps_its_scale(large, inspector):
    again = ScatteringExtractor()
    again.load_state(inspector.extractor.state())
    assert again.fine is not None and again.frame(HEIGHT, WIDTH) == (HEIGHT, WIDTH)
    plain = ScatteringExtractor()
    plain.load_state({})
    assert plain.fine is None and plain.frame(HEIGHT, WIDTH)[0] < 250


def test_the_size_of_defect_decides(large):
    extractor = ScatteringExtractor()
    assert extractor.choose_scale([(1500, 2000)], 100) == 44 and extractor.fine is None
    assert extractor.choose_scale([(1500, 2000)], 12) == 8 and extractor.frame(1500, 2000) == (750, 1000)
    assert choose_pixels([(600, 800)], 224**2, 3) == 480_000
    assert extractor.frame(*extractor.frame(1501, 1999)) == extractor.frame(1501, 1999)


def test_the_command_says_what_vanishes(large):
    command = ["calibrate", str(large / "said"), "--ok", str(large / "ok"), "--false-reject", "0.1", "--json"]
    result = CliRunner().invoke(app, [*command, "--encoder", "filters", "--smallest-defect", "100"])
    told = json.loads(result.stdout)
    assert told["smallest_visible"] == 13 and told["smallest_defect"] == 100
    assert any("under 13 px" in note for note in told["notes"])
    assert FINE not in Inspector.open(large / "said").judge.groups
    result = CliRunner().invoke(app, [*command, "--smallest-defect", "0"])
    assert "smallest defect 0" in str(result.exception)


def test_too_few_ok_photographs_for_a_split_have_no_fine_scale(large):
    few = sorted((large / "ok").iterdir())[:14]
    found, calibration = calibrate_run(large / "few", few, encoder="filters", settings=SETTINGS)
    assert FINE not in found.judge.groups
    assert found.metadata["method"] == "cross"
    assert any("14 OK photographs are too few for a fine scale" in note for note in calibration.notes)
    assert any("under 13 px" in note for note in calibration.notes)


def test_copies_that_leave_too_few_for_a_split_are_refused_in_one_line(large, tmp_path):
    few = sorted((large / "ok").iterdir())[:14]
    copies = [Path(shutil.copy(path, tmp_path / f"copy{path.name}")) for path in few]
    with pytest.raises(InputError, match="14 OK photographs are too few to be read at a fine scale"):
        calibrate_run(large / "copies", [*few, *copies], encoder="filters", settings=SETTINGS)


def test_photographs_out_of_memory_are_read_again(large, inspector, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "SMALL_BYTES", 0)
    monkeypatch.setattr(calibrate, "KEPT_BYTES", 0)
    again_read = []
    monkeypatch.setattr(
        calibrate, "read_again", lambda photo, *more: again_read.append(photo) or read_again(photo, *more)
    )
    calibrate_run(tmp_path / "run", [large / "ok"], [large / "ng"], encoder="filters", settings=SETTINGS)
    again = Inspector.open(tmp_path / "run")
    assert np.array_equal(again.judge.calibration_scores, inspector.judge.calibration_scores)
    assert np.array_equal(again.references.thumbnails, inspector.references.thumbnails)
    assert len(again_read) > 60 and all(photo.pixels is None for photo in again_read)


def test_a_file_that_changed_meanwhile_is_named(tmp_path):
    path = tmp_path / "a.png"
    frame = lambda height, width: (height, width)  # noqa: E731
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    photo = read_photo(path, frame, 1).without_pixels()
    assert photo.pixels is None and not read_again(photo, frame, 1).any()
    Image.fromarray(np.ones((8, 8), np.uint8)).save(path)
    with pytest.raises(InputError, match="has changed"):
        read_again(photo, frame, 1)


def test_blocks_of_large_photographs_are_short(large, monkeypatch):
    monkeypatch.setattr("mekiki.data.photo.MOST_BYTES", 3 * HEIGHT * WIDTH)
    paths = sorted((large / "ng").rglob("*.png"))
    blocks = list(iter_photos(paths, lambda height, width: (height, width), 1))
    assert [len(block) for block in blocks] == [3, 3]
    assert [photo.path for block in blocks for photo in block] == paths
