"""Painted defects: what changes is exactly the mask, sizes and contrasts are as asked, batteries are even."""

import collections
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import distance_transform_edt

from mekiki.errors import InputError
from mekiki.judging.painted_defects import (
    DEFAULT_CONTRASTS,
    DEFAULT_SIZES,
    KINDS,
    LEAST_DEVIATION,
    paint,
    paint_battery,
)

kinds = pytest.mark.parametrize("kind", KINDS)


def noisy(shape, deviation=10.0, seed=0):
    values = np.random.default_rng(seed).normal(128, deviation, shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def difficult_photos():
    y, x = np.mgrid[:40, :52]
    yield "flat black", np.zeros((40, 52), np.uint8)
    yield "flat white", np.full((40, 52), 255, np.uint8)
    yield "flat grey", np.full((40, 52), 128, np.uint8)
    yield "chessboard", ((y + x) % 2 * 255).astype(np.uint8)
    yield "stripes", (y % 8 // 4 * 60 + 90).astype(np.uint8)
    yield "noise", np.random.default_rng(0).integers(0, 256, (40, 52), dtype=np.uint8)
    yield "one pixel", np.full((1, 1), 7, np.uint8)
    yield "one row", noisy((1, 30))
    yield "three rows", noisy((3, 200))
    yield "three columns", noisy((200, 3))
    yield "colour", noisy((40, 52, 3))
    yield "flat colour", np.tile(np.array([255, 0, 90], np.uint8), (40, 52, 1))
    yield "one coloured pixel", np.array([[[0, 255, 128]]], np.uint8)


def changed(before, after):
    differ = before != after
    return differ if differ.ndim == 2 else differ.any(axis=2)


def root_mean_square(before, after, mask):
    return np.sqrt(np.mean((after[mask].astype(float) - before[mask]) ** 2))


@kinds
@pytest.mark.parametrize(
    "name, photo", list(difficult_photos()), ids=[name for name, _ in difficult_photos()]
)
def test_the_mask_is_what_changes_on_every_photograph(kind, name, photo):
    original = photo.copy()
    for seed, size, contrast in itertools.product(range(3), (1, 2.5, 9, 70), (0.01, 2, 100)):
        painted, mask = paint(photo, kind, size, contrast, np.random.default_rng(seed))
        assert painted.dtype == np.uint8 and painted.shape == photo.shape
        assert mask.dtype == bool and mask.shape == photo.shape[:2]
        assert mask.any() and np.array_equal(mask, changed(photo, painted))
    assert np.array_equal(photo, original)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(KINDS),
    st.floats(1, 60),
    st.floats(0.05, 50),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["L", "RGB"]),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**32),
)
def test_any_photograph_can_be_painted(kind, size, contrast, height, width, mode, low, high, seed):
    shape = (height, width) if mode == "L" else (height, width, 3)
    low, high = sorted((low, high))
    photo = np.random.default_rng(seed).integers(low, high + 1, shape, dtype=np.uint8)
    other = np.random.default_rng(seed).integers(0, 256, (5, 7, 3) if seed % 2 else (50, 3), dtype=np.uint8)
    painted, mask = paint(photo, kind, size, contrast, np.random.default_rng(seed), other=other)
    again, same_mask = paint(photo, kind, size, contrast, np.random.default_rng(seed), other=other)
    assert mask.any() and np.array_equal(mask, changed(photo, painted))
    assert np.array_equal(painted, again) and np.array_equal(mask, same_mask)


@kinds
def test_another_seed_paints_another_defect(kind):
    photo = noisy((80, 80))
    masks = {paint(photo, kind, 8, 2, np.random.default_rng(seed))[1].tobytes() for seed in range(8)}
    assert len(masks) == 8


@kinds
@pytest.mark.parametrize("photo", [noisy((120, 150)), noisy((120, 150, 3))], ids=["grey", "colour"])
def test_contrast_is_the_change_in_local_deviations(kind, photo):
    for seed in range(10):
        for contrast in (0.5, 1, 2, 4):
            painted, mask = paint(photo, kind, 12, contrast, np.random.default_rng(seed))
            assert root_mean_square(photo, painted, mask) == pytest.approx(10 * contrast, rel=0.15)


@kinds
def test_on_a_flat_photograph_contrast_is_in_units_of_the_least_deviation(kind):
    photo = np.full((90, 90), 100, np.uint8)
    painted, mask = paint(photo, kind, 12, 5, np.random.default_rng(1))
    assert root_mean_square(photo, painted, mask) == pytest.approx(5 * LEAST_DEVIATION, abs=0.5)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(KINDS), st.floats(1, 20), st.integers(0, 2**32), st.integers(0, 200), st.integers(1, 55)
)
def test_more_contrast_changes_the_same_pixels_more(kind, size, seed, low, spread):
    photo = np.random.default_rng(seed).integers(low, low + spread, (48, 48), dtype=np.uint8)
    changes, masks = [], []
    for contrast in (0.25, 0.5, 1, 2, 4, 8, 16):
        painted, mask = paint(photo, kind, size, contrast, np.random.default_rng(seed))
        changes.append(root_mean_square(photo, painted, mask))
        masks.append(mask)
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    # Rounding to grey levels may take away half a level at most.
    assert all(more >= less - 0.5 for less, more in itertools.pairwise(changes))
    assert changes[-1] > changes[0]


@pytest.mark.parametrize("kind", ["cut-paste", "blend", "spot", "stain"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 21.5, 60])
def test_a_compact_defect_extends_as_far_as_asked(kind, size):
    for seed in range(20):
        _, mask = paint(noisy((200, 220)), kind, size, 2, np.random.default_rng(seed))
        longest = max(np.ptp(axis) + 1 for axis in np.nonzero(mask))
        assert 0.75 * size - 1 <= longest <= size + 1
        if kind in ("cut-paste", "blend"):  # not turned, so that the longer side is upright or level
            assert longest == round(size)


@pytest.mark.parametrize("kind", ["scar", "scratch"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_thin_defect_is_as_wide_as_asked_and_far_longer(kind, size):
    for seed in range(20):
        _, mask = paint(noisy((300, 320)), kind, size, 2, np.random.default_rng(seed))
        width = 2 * distance_transform_edt(np.pad(mask, 1)).max()
        assert abs(width - size) <= 1.5
        length = np.hypot(*(np.ptp(axis) + 1 for axis in np.nonzero(mask)))
        assert (6 if kind == "scratch" else 3) * size <= length <= 17 * size + 2
        assert mask.sum() <= 1.6 * size * length


@kinds
def test_a_size_above_the_shorter_side_is_taken_as_that_side(kind):
    photo = noisy((40, 50))
    large, side = (paint(photo, kind, size, 2, np.random.default_rng(0))[0] for size in (1000, 40))
    assert np.array_equal(large, side)


def test_a_scratch_is_fainter_at_its_ends():
    photo = np.full((200, 200), 128, np.uint8)
    for seed in range(10):
        painted, mask = paint(photo, "scratch", 4, 20, np.random.default_rng(seed))
        points = np.argwhere(mask) - np.argwhere(mask).mean(axis=0)
        along = points @ np.linalg.svd(points, full_matrices=False)[2][0]
        change = np.abs(painted[mask].astype(int) - 128)
        ends = np.abs(along) > 0.9 * np.abs(along).max()
        assert change[ends].max() < 0.8 * change[~ends].max()


def test_a_defect_is_painted_on_the_part_and_not_on_a_plain_background():
    photo = np.full((200, 300), 250, np.uint8)
    photo[60:140, 100:220] = 120  # smooth inside, with an edge
    photo[60:140, 100:220][::79] = photo[60:140, 100:220][:, ::119] = 60
    inside = 0
    for seed in range(40):
        _, mask = paint(photo, "spot", 6, 4, np.random.default_rng(seed))
        inside += mask[45:155, 85:235].all() == mask.all() and mask[45:155, 85:235].sum() == mask.sum()
    assert inside == 40
    columns = [
        np.nonzero(paint(photo, "spot", 6, 4, np.random.default_rng(s))[1])[1].mean() for s in range(40)
    ]
    assert sum(130 < column < 190 for column in columns) > 5  # within the outline too


def test_a_plain_photograph_is_painted_anywhere():
    photo = np.full((64, 64), 200, np.uint8)
    hit = sum(paint(photo, "spot", 8, 4, np.random.default_rng(seed))[1] for seed in range(300))
    assert (hit[8:-8, 8:-8] > 0).mean() > 0.95


def test_near_black_a_defect_is_light_and_near_white_dark():
    for level, sign in ((5, 1), (250, -1)):
        photo = np.full((40, 40), level, np.uint8)
        for seed in range(10):
            painted, mask = paint(photo, "spot", 8, 10, np.random.default_rng(seed))
            assert (sign * (painted[mask].astype(int) - level) > 0).all()


def test_grey_photographs_in_colour_files_stay_grey_and_coloured_defects_may_not():
    grey = np.repeat(noisy((40, 40))[:, :, None], 3, axis=2)
    for kind in KINDS:
        painted, _ = paint(grey, kind, 8, 3, np.random.default_rng(0))
        assert (painted == painted[:, :, :1]).all()
    colour, ratios = noisy((40, 40, 3)), []
    for seed in range(10):
        painted, mask = paint(colour, "spot", 8, 6, np.random.default_rng(seed))
        change = np.abs(painted[mask].astype(int) - colour[mask]).mean(axis=0)
        ratios.append(change.max() / change.min())
    assert max(ratios) > 1.5


def test_a_patch_is_the_texture_of_another_place():
    columns = np.arange(100, dtype=np.uint8)
    photo = np.tile(columns, (60, 1))  # each grey level is one column
    for seed in range(10):
        # However opaque the patch and however much lighter or darker, the slope stays one level a column.
        painted, mask = paint(photo, "cut-paste", 10, 3, np.random.default_rng(seed))
        rows, across = np.nonzero(mask)
        row = painted[rows[0], across.min() : across.max() + 1].astype(int)
        assert np.abs(np.diff(row) - 1).max() <= 1


def test_a_patch_keeps_its_direction_and_a_scar_is_turned():
    photo = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
    varied = dict.fromkeys(("cut-paste", "scar"), 0)
    for kind, seed in itertools.product(varied, range(20)):
        painted, mask = paint(photo, kind, 6, 1, np.random.default_rng(seed))
        varied[kind] += np.ptp(painted[mask].astype(int) - photo[mask]) > 1
    assert varied["cut-paste"] == 0 and varied["scar"] > 10


def test_on_stripes_a_patch_rarely_meets_its_like():
    photo = np.tile((np.arange(120) % 4 // 2 * 60 + 90).astype(np.uint8), (90, 1))
    alike = 0
    for seed in range(60):
        painted, mask = paint(photo, "cut-paste", 12, 2, np.random.default_rng(seed))
        alike += np.ptp(painted[mask].astype(int) - photo[mask]) == 0
    assert alike <= 5  # one place in four is alike: 15 of 60 without another try


def test_blend_takes_texture_from_the_other_photograph():
    grey, red = np.full((64, 64, 3), 128, np.uint8), np.full((30, 30, 3), (255, 0, 0), np.uint8)
    for other, colours in ((None, {False}), (red, {False, True})):
        painted = [
            paint(grey, "blend", 16, 20, np.random.default_rng(seed), other=other)[0] for seed in range(30)
        ]
        assert {bool((p[:, :, 0] > p[:, :, 1]).any()) for p in painted} == colours


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 60), st.integers(0, 2**32))
def test_a_battery_is_even_at_every_length(n_kinds, n_sizes, n_contrasts, number, seed):
    sizes, contrasts = [3 + i for i in range(n_sizes)], [1.0 + i for i in range(n_contrasts)]
    photos = itertools.repeat(np.full((9, 9), 90, np.uint8), number)
    thick = [kind for kind in KINDS if kind not in ("scar", "scratch")][:n_kinds]
    battery = list(
        paint_battery(photos, np.random.default_rng(seed), kinds=thick, sizes=sizes, contrasts=contrasts)
    )
    assert [defect.photo for defect in battery] == list(range(number))
    for name, values in (("kind", thick), ("size", sizes), ("contrast", contrasts)):
        counts = collections.Counter(getattr(defect, name) for defect in battery)
        assert set(counts) <= set(values)
        assert max(counts.values()) - min(counts[value] for value in values) <= 1


def test_a_battery_soon_has_every_pair_and_in_the_end_every_combination():
    photo = np.full((64, 64), 90, np.uint8)
    kinds = [kind for kind in KINDS if kind not in ("scar", "scratch")]
    sizes, contrasts = (4, 5, 6, 7, 8), (1.0, 2.0, 4.0)
    battery = [
        (defect.kind, defect.size, defect.contrast)
        for defect in paint_battery(
            itertools.repeat(photo, 120),
            np.random.default_rng(3),
            kinds=kinds,
            sizes=sizes,
            contrasts=contrasts,
        )
    ]
    first = battery[:40]  # twice as many as there are pairs of a kind and a size
    assert {(kind, size) for kind, size, _ in first} == set(itertools.product(kinds, sizes))
    assert {(kind, contrast) for kind, _, contrast in first} == set(itertools.product(kinds, contrasts))
    assert {(size, contrast) for _, size, contrast in first} == set(itertools.product(sizes, contrasts))
    assert set(battery) == set(itertools.product(kinds, sizes, contrasts))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_a_battery_are_nearly_even_all_along(seed):
    photo = np.full((20, 20), 90, np.uint8)
    values = {"kind": ["cut-paste", "spot", "stain"], "size": [3, 4, 5, 6], "contrast": [1.0, 2.0, 4.0]}
    counts = {pair: collections.Counter() for pair in itertools.combinations(values, 2)}
    battery = paint_battery(
        itertools.repeat(photo, 144),
        np.random.default_rng(seed),
        kinds=values["kind"],
        sizes=values["size"],
        contrasts=values["contrast"],
    )
    for defect in battery:
        for pair, count in counts.items():
            count[tuple(getattr(defect, name) for name in pair)] += 1
            numbers = [count[each] for each in itertools.product(*(values[name] for name in pair))]
            assert max(numbers) - min(numbers) <= 2


def test_blend_in_a_battery_takes_texture_from_the_photograph_before():
    grey, red = np.full((64, 64, 3), 128, np.uint8), np.full((64, 64, 3), (255, 0, 0), np.uint8)
    reddish = collections.Counter()
    for defect in paint_battery(
        [grey, red, grey, grey],
        np.random.default_rng(0),
        kinds=["blend"],
        sizes=[16],
        contrasts=[20],
        per_photo=20,
    ):
        reddish[defect.photo] += (defect.pixels[:, :, 0] > defect.pixels[:, :, 1]).any()
    assert 0 < reddish[2] < 20 and reddish[0] == reddish[3] == 0


def test_sizes_of_a_battery_are_shares_or_pixels():
    photos = [noisy((64, 90)), noisy((200, 128, 3))]
    battery = list(
        paint_battery(photos, np.random.default_rng(0), kinds=["spot"], sizes=[1 / 8], per_photo=2)
    )
    assert [defect.size for defect in battery] == [8, 8, 16, 16]
    assert [defect.photo for defect in battery] == [0, 0, 1, 1]
    (scratch,) = paint_battery(photos[:1], np.random.default_rng(0), kinds=["scratch"], sizes=[24])
    assert scratch.size == 3
    (huge,) = paint_battery(photos[:1], np.random.default_rng(0), kinds=["spot"], sizes=[1000])
    assert huge.size == 64


def test_a_painted_defect_knows_its_box_and_change():
    photo = noisy((64, 90))
    for defect in paint_battery([photo], np.random.default_rng(0), per_photo=12):
        top, left, bottom, right = defect.box
        assert defect.mask[top:bottom, left:right].sum() == defect.mask.sum()
        assert all(defect.mask[top:bottom, left:right].any(axis=axis)[[0, -1]].all() for axis in (0, 1))
        assert defect.change == pytest.approx(root_mean_square(photo, defect.pixels, defect.mask))


def test_a_battery_reads_photographs_one_by_one():
    read = []

    def photos():
        for number in itertools.count():
            read.append(number)
            yield noisy((32, 32), seed=number)

    battery = paint_battery(photos(), np.random.default_rng(0), per_photo=2)
    assert [next(battery).photo for _ in range(5)] == [0, 0, 1, 1, 2]
    assert read == [0, 1, 2]


def test_a_battery_is_decided_by_its_generator():
    def pictures(seed):
        photos = [noisy((48, 48), seed=i) for i in range(9)]
        return [d.pixels.tobytes() for d in paint_battery(photos, np.random.default_rng(seed))]

    assert pictures(4) == pictures(4) != pictures(5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "stayn"}, "did you mean stain"),
        ({"size": 0.5}, "size 0.5"),
        ({"size": np.inf}, "size inf"),
        ({"contrast": 0}, "contrast 0"),
        ({"contrast": np.nan}, "contrast nan"),
        ({"pixels": np.zeros((4, 4), np.uint16)}, "uint16"),
        ({"pixels": np.zeros((0, 4), np.uint8)}, "with a pixel at least"),
        ({"pixels": np.zeros((4, 4, 4), np.uint8)}, r"\[4, 4, 4\]"),
        ({"other": np.zeros((4, 4))}, "the other photograph is float64"),
    ],
)
def test_what_cannot_be_painted_is_an_error(change, message):
    given = {"pixels": np.zeros((9, 9), np.uint8), "kind": "spot", "size": 3, "contrast": 1.0} | change
    with pytest.raises(InputError, match=message):
        paint(rng=np.random.default_rng(0), **given)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kinds": []}, "kinds is empty"),
        ({"kinds": ["spott"]}, "did you mean spot"),
        ({"sizes": [0.1, 0]}, "size 0 "),
        ({"contrasts": [-1]}, "contrast -1"),
        ({"per_photo": 0}, "per_photo 0"),
    ],
)
def test_settings_of_a_battery_are_checked_before_the_first_photograph(change, message):
    with pytest.raises(InputError, match=message):
        paint_battery(iter(()), np.random.default_rng(0), **change)


@pytest.mark.skipif("MEKIKI_DATA" not in os.environ, reason="needs magnetic_tile in MEKIKI_DATA")
def test_defects_on_real_tiles_are_of_the_sizes_and_contrasts_asked_for():
    files = sorted((Path(os.environ["MEKIKI_DATA"]) / "magnetic_tile" / "free").glob("*.jpg"))[:30]
    photos = [np.asarray(Image.open(file).convert("L")) for file in files]
    number = len(KINDS) * len(DEFAULT_SIZES) * len(DEFAULT_CONTRASTS)
    by_contrast = collections.defaultdict(list)
    for defect in paint_battery(photos, np.random.default_rng(0), per_photo=number // 30):
        assert np.array_equal(defect.mask, changed(photos[defect.photo], defect.pixels))
        by_contrast[defect.contrast].append(defect.change)
    medians = [np.median(by_contrast[contrast]) for contrast in DEFAULT_CONTRASTS]
    assert medians == sorted(medians) and medians[-1] > 2 * medians[0]
