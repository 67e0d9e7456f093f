"""Where a photograph departs, and what an eye takes of it: sums that must come out, and blots that must be found."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mekiki import Embedder
from mekiki.errors import InputError
from mekiki.judging.anomaly_map import attribute_to_places, pool_quadrants, smooth
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.extractors import MAX_ASPECT_RATIO, BackboneExtractor, EmbedderExtractor, limit_size
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.judge_result import Slopes
from parts import QUADRANTS, images, ok_folder, part, save

SIDE = 32
MIDDLES = ((8, 8), (8, 24), (24, 8), (24, 24))


# ---- what a place brings ----

grids = st.tuples(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(0, 2**32 - 1)
)


@settings(max_examples=60, deadline=None)
@given(grids, st.sampled_from([0.01, 1.0, 100.0]), st.booleans())
def test_what_all_places_bring_sums_to_slope_times_departure(grid, scale, flat):
    number, height, width, channels, seed = grid
    rng = np.random.default_rng(seed)
    patches = (scale * rng.normal(size=(number, height, width, channels))).astype(np.float32)
    if flat:
        patches[..., 0] = 3.0  # a channel that is alike everywhere has no spread
    view = pool_quadrants(patches).astype(np.float64)
    slopes = Slopes(scale * rng.normal(size=view.shape[1]), rng.normal(size=view.shape))
    expected = (slopes.gradient * (view - slopes.centre)).sum(axis=1)
    size = (np.abs(slopes.gradient) * (np.abs(view) + np.abs(slopes.centre))).sum(axis=1)
    found = attribute_to_places(patches, slopes).astype(np.float64).sum(axis=(1, 2))
    assert (np.abs(found - expected) <= 1e-4 * size + 1e-6).all()


def test_the_sum_over_all_places_is_the_squared_distance_of_the_judge():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(300, 4, 6, 2)).astype(np.float32)
    judge = Judge().fit({"view": pool_quadrants(good)})
    new = rng.normal(size=(5, 4, 6, 2)).astype(np.float32) + np.float32(0.4)
    view = {"view": pool_quadrants(new)}
    squared = judge.contributions(view, "view").sum(axis=1)
    brought = attribute_to_places(new, judge.slopes(view)["view"]).sum(axis=(1, 2))
    ratio = brought / squared
    assert ratio == pytest.approx(np.full(5, ratio[0]), rel=1e-4)  # in units of the mean of the good parts


def test_the_items_of_a_quarter_are_its_mean_and_spread_by_hand():
    patches = np.zeros((1, 2, 4, 1), np.float32)
    patches[0, :, :, 0] = [[1, 3, 5, 5], [10, 10, 0, 8]]
    assert pool_quadrants(patches).tolist() == [[2, 5, 10, 4, 1, 0, 0, 4]]
    row = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    assert pool_quadrants(row).tolist() == [[0.5, 2.5, 0.5, 0.5]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_smoothing_keeps_what_is_even_and_stays_between_the_least_and_the_most(height, width, seed):
    places = np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32)
    soft = smooth(places)
    assert soft.shape == places.shape
    assert soft.min() >= places.min() - 1e-5
    assert soft.max() <= places.max() + 1e-5
    assert np.array_equal(smooth(np.full_like(places, 2.5)), np.full_like(places, 2.5))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(2048, 200_000))
def test_proportions_are_kept_within_their_limits_and_once_there_nothing_changes(height, width, most):
    there = limit_size(height, width, most)
    assert 1 <= there[0] <= height
    assert 1 <= there[1] <= width
    assert math.prod(there) <= most
    assert 1 / MAX_ASPECT_RATIO <= there[0] / there[1] <= MAX_ASPECT_RATIO
    assert limit_size(*there, most) == there
    if height * width <= most and 1 / MAX_ASPECT_RATIO <= height / width <= MAX_ASPECT_RATIO:
        assert there == (height, width)
    if min(there) > 1 and 1 / MAX_ASPECT_RATIO < there[0] / there[1] < MAX_ASPECT_RATIO:
        # Each side is cut to a whole pixel, no more.
        assert abs(there[0] * width - there[1] * height) <= max(height, width)


# ---- blots are found where they lie ----


def in_place(places, blot, side):
    """Whether the largest departure lies on the blot, or beside it by less than one place of the map."""
    row, column = np.unravel_index(int(places.argmax()), places.shape)
    tall, wide = side / places.shape[0], side / places.shape[1]
    return (
        abs((row + 0.5) * tall - blot[0]) <= 1.1 * tall and abs((column + 0.5) * wide - blot[1]) <= 1.1 * wide
    )


def test_a_backbone_says_where_a_blot_lies(run, tmp_path):
    inspector = Inspector.open(run)
    assert isinstance(inspector.extractor, BackboneExtractor)
    for number, blot in enumerate(QUADRANTS * 2):
        verdict = inspector.judge_file(
            save(tmp_path / f"{number}.png", part(300 + number, blot=blot)), anomaly_map=True
        )
        assert verdict.verdict == "NG"
        assert verdict.anomaly_map.dtype == np.float32
        assert verdict.anomaly_map.min() >= 0
        assert in_place(verdict.anomaly_map, blot, 64), (blot, verdict.anomaly_map.round(2))


def test_no_place_is_named_for_an_ok_part_or_where_nobody_asks(run, ng, fresh):
    inspector = Inspector.open(run)
    good = [one for one in inspector.judge_files(images(fresh), anomaly_maps=True) if one.verdict == "OK"]
    assert len(good) > 10
    assert all(one.anomaly_map is None for one in good)
    assert inspector.judge_file(images(ng)[0]).anomaly_map is None


def test_parts_of_other_proportions_are_looked_at_twice_and_blots_found_on_them(tmp_path, net):
    wide = ok_folder(tmp_path / "ok", 40, height=48, width=128)
    inspector, _ = calibrate_run(tmp_path / "made", [wide], encoder=net, settings=CalibrationSettings(0.1))
    assert inspector.judge.groups == ("layer 16", "layer 18", "layer 16, proportions kept", "patches")
    for blot in ((12, 20), (36, 100)):
        verdict = inspector.judge_file(
            save(tmp_path / "bad.png", part(5, 48, 128, blot=blot)), anomaly_map=True
        )
        assert verdict.verdict == "NG"
        row, column = np.unravel_index(int(verdict.anomaly_map.argmax()), verdict.anomaly_map.shape)
        height, width = verdict.anomaly_map.shape
        assert (row >= height / 2) == (blot[0] >= 24)
        assert (column >= width / 2) == (blot[1] >= 64)


def test_a_photograph_far_too_long_is_squeezed_and_judged(run, tmp_path):
    inspector = Inspector.open(run)
    for shape in ((4, 900), (900, 4), (1, 1), (1, 3000)):
        pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
        verdict = inspector.judge_file(save(tmp_path / "long.png", pixels), anomaly_map=True)
        assert verdict.verdict in ("OK", "NG")
        assert np.isfinite(verdict.score)
        height, width = verdict.photo.pixels.shape[:2]
        assert height * width <= 2 * 64 * 64
        assert 1 / MAX_ASPECT_RATIO <= height / width <= MAX_ASPECT_RATIO


# ---- the network of a run ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that learnt OK parts from blots, and the photographs of good parts it learnt from."""
    place = tmp_path_factory.mktemp("trained")
    bad = [part(500 + i, SIDE, SIDE, blot=MIDDLES[i % 4], size=8) for i in range(24)]
    good = ok_folder(place / "learnt", 24, height=SIDE, width=SIDE)
    pixels = np.stack([part(i, SIDE, SIDE) for i in range(24)] + bad)
    embedder = Embedder("softmax", 8, encoder="conv", epochs=5, batch_size=16, device="cpu")
    embedder.fit(pixels, np.array(["OK"] * 24 + ["NG"] * 24))
    embedder.save(place / "run")
    (place / "run" / "metrics.json").write_text("{}")
    fresh = ok_folder(place / "fresh", 40, seed=3000, height=SIDE, width=SIDE)
    settings = CalibrationSettings(0.1, detectors=("mt",))
    inspector, calibration = calibrate_run(place / "run", [good, fresh], settings=settings)
    return inspector, calibration, good


def test_photographs_that_the_run_learnt_from_are_left_out_and_said(trained):
    inspector, calibration, good = trained
    assert "24 of 64 photographs are left out, because the run learnt from them" in " ".join(
        calibration.notes
    )
    assert calibration.metadata["ok_parts"] == 40
    assert not {str(path) for path in images(good)} & set(calibration.metadata["ok"])
    with pytest.raises(InputError, match=r"none of 24 photographs can be used: .*learnt from them"):
        calibrate_run(inspector.folder, [good], settings=CalibrationSettings(0.1))


def test_an_embedder_says_where_a_blot_lies_by_covering_it(trained, tmp_path):
    inspector = trained[0]
    assert isinstance(inspector.extractor, EmbedderExtractor)
    for number, blot in enumerate(MIDDLES):
        pixels = part(800 + number, SIDE, SIDE, blot=blot, size=8)
        verdict = inspector.judge_file(save(tmp_path / f"{number}.png", pixels), anomaly_map=True)
        assert verdict.verdict == "NG"
        assert verdict.anomaly_map.shape == (7, 7)
        assert in_place(verdict.anomaly_map, blot, SIDE), (blot, verdict.anomaly_map)


def test_a_run_of_ones_own_network_opens_again_and_looks_at_any_size(trained, tmp_path):
    inspector = trained[0]
    opened = Inspector.open(inspector.folder)
    for name, pixels in (("usual", part(1, SIDE, SIDE)), ("large", part(1, 90, 200))):
        path = save(tmp_path / f"{name}.png", pixels)
        one, other = inspector.judge_file(path, anomaly_map=True), opened.judge_file(path, anomaly_map=True)
        assert one.row() == other.row()
        assert one.photo.pixels.shape == (SIDE, SIDE)
    assert opened.judge_file(tmp_path / "large.png").photo.remark.startswith("90×200 pixels")
    assert np.array_equal(opened.extractor.state()["mean"], inspector.extractor.state()["mean"])


def test_a_network_trained_anew_is_refused_until_it_is_calibrated_again(trained, tmp_path):
    import shutil

    folder = shutil.copytree(trained[0].folder, tmp_path / "run")
    pixels = np.stack([part(i, SIDE, SIDE) for i in range(8)])
    other = Embedder("softmax", 8, encoder="conv", epochs=1, batch_size=8, device="cpu")
    other.fit(pixels, np.arange(8) % 2)
    other.save(tmp_path / "other")
    for file in (tmp_path / "other").iterdir():
        shutil.copy(file, folder / file.name)
    with pytest.raises(InputError, match="has changed since it was calibrated; calibrate again"):
        Inspector.open(folder)


def test_a_run_that_learnt_from_rows_of_features_cannot_look_at_photographs(tmp_path):
    rng = np.random.default_rng(0)
    rows = Embedder("softmax", 2, epochs=1, device="cpu").fit(rng.normal(size=(40, 5)), np.arange(40) % 2)
    with pytest.raises(InputError, match="learnt from 5 features; give a run that learnt from images"):
        EmbedderExtractor(rows)
