"""Maps of where, held against masks: by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mekiki.errors import InputError
from mekiki.evaluation.anomaly_map_quality import pixel_auroc, region_overlap


def maps_and_masks(seed, images=3, levels=1000):
    rng = np.random.default_rng(seed)
    masks = [rng.random((9, 7)) < 0.2 for _ in range(images)]
    maps = [rng.integers(0, levels, (9, 7)) + (levels // 3) * mask for mask in masks]
    return maps, masks


@given(st.integers(0, 10_000), st.sampled_from([3, 10, 1000]))
def test_pixel_auroc_is_scikit_learns_over_all_pixels(seed, levels):
    maps, masks = maps_and_masks(seed, levels=levels)
    expected = roc_auc_score(np.concatenate(masks).ravel(), np.concatenate(maps).ravel())
    assert pixel_auroc(maps, masks) == pytest.approx(expected)


def test_overlap_counts_each_defect_alike_whatever_its_size():
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = True  # one pixel, missed
    mask[4:9, 4:9] = True  # twenty-five, all found
    image = np.where(mask, 1.0, 0.0)
    image[0, 0] = -1.0
    # At every threshold within reach one defect of two is marked, and the missed pixel never.
    assert region_overlap([image], [mask]) == pytest.approx(0.5)
    assert pixel_auroc([image], [mask]) == pytest.approx(25 / 26)


def test_overlap_of_a_ladder_by_hand():
    # Ten good pixels 0…9, one defect of two pixels, at 9.5 (before all good ones) and 7.5 (after two of them).
    image = np.array([[*range(10), 9.5, 7.5]], float)
    mask = np.array([[False] * 10 + [True] * 2])
    # Half is marked from the start; the rest comes in along the line from 1 to 2 good pixels of the 3 that count.
    assert region_overlap([image], [mask], 0.3) == pytest.approx((0.5 * 0.1 + 0.75 * 0.1 + 0.1) / 0.3)


def test_a_map_that_says_nothing_marks_as_many_of_each():
    rng = np.random.default_rng(0)
    masks = [rng.random((60, 60)) < 0.02 for _ in range(20)]
    maps = [rng.random((60, 60)) for _ in range(20)]
    assert region_overlap(maps, masks, 1.0) == pytest.approx(0.5, abs=0.02)
    assert region_overlap(maps, masks, 0.3) == pytest.approx(0.15, abs=0.02)


@given(st.integers(0, 10_000), st.floats(0.05, 1))
def test_overlap_does_not_depend_on_the_unit(seed, limit):
    maps, masks = maps_and_masks(seed)
    stretched = [np.exp(each / 300) for each in maps]
    assert region_overlap(stretched, masks, limit) == pytest.approx(region_overlap(maps, masks, limit))
    assert 0 <= region_overlap(maps, masks, limit) <= 1


def test_defects_that_touch_by_a_corner_are_one():
    mask = np.zeros((6, 6), bool)
    mask[1, 1] = mask[2, 2] = True
    image = np.zeros((6, 6))
    image[1, 1] = 1.0
    image[2, 2] = -1.0
    assert region_overlap([image], [mask]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        ([], [], "0 maps"),
        ([[[1.0]]], [], "1 maps and 0 masks"),
        ([[[1.0, 2.0]]], [[[True]]], r"map 0 is \[1, 2\]"),
        ([[[1.0, np.nan]]], [[[True, False]]], "NaN"),
        ([[[1.0, 2.0]]], [[[True, True]]], "one kind"),
        ([[[1.0, 2.0]]], [[[False, False]]], "one kind"),
    ],
)
def test_what_cannot_be_measured_is_refused(maps, masks, message):
    for measure in (pixel_auroc, region_overlap):
        with pytest.raises(InputError, match=message):
            measure(maps, masks)
    with pytest.raises(InputError, match="false_alarms"):
        region_overlap([[[1.0, 2.0]]], [[[True, False]]], 0)
