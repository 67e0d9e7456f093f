"""The generated surfaces: the same for the same seed, and defects that are there and can be found."""

import time

import numpy as np
import pytest

from mekiki.data.load import load_images
from mekiki.data.surfaces import CLASSES, generate_surfaces
from mekiki.errors import InputError


def test_split_is_stratified_and_carries_masks():
    split = load_images("surfaces", per_class=10, size=(32, 48))
    assert split.train.counts() == dict.fromkeys(CLASSES, 8)
    assert split.test.counts() == dict.fromkeys(CLASSES, 2)
    assert split.train.shape == (1, 32, 48)
    assert split.notes == ()
    for images in split:
        marked = images.masks.any(axis=(1, 2))
        assert (marked == (images.labels != CLASSES.index("clean"))).all()


def test_an_image_depends_on_seed_class_and_number_alone():
    few, more = generate_surfaces((32, 32), per_class=3), generate_surfaces((32, 32), per_class=5)
    for c in range(len(CLASSES)):
        assert (few.pixels[3 * c : 3 * c + 3] == more.pixels[5 * c : 5 * c + 3]).all()
    assert (generate_surfaces((32, 32), per_class=3, seed=1).pixels != few.pixels).any(axis=(1, 2)).all()


@pytest.mark.parametrize("side", [16, 64, 128])
def test_defects_are_marked_visible_and_of_sane_size(side):
    surfaces = generate_surfaces((side, side), per_class=40)
    area = surfaces.masks.mean(axis=(1, 2))
    for c, name in enumerate(CLASSES):
        of_class = area[surfaces.labels == c]
        if name == "clean":
            assert of_class.max() == 0
        else:
            assert of_class.min() > 0
            assert of_class.max() < 0.55


def test_pits_and_cracks_are_darker_than_what_surrounds_them():
    surfaces = generate_surfaces(per_class=60)
    for name in ("pit", "crack"):
        rows = np.flatnonzero(surfaces.labels == CLASSES.index(name))
        inside = np.array([surfaces.pixels[i][surfaces.masks[i]].mean() for i in rows])
        outside = np.array([surfaces.pixels[i][~surfaces.masks[i]].mean() for i in rows])
        assert (inside < outside).mean() > 0.95


def test_mean_brightness_does_not_tell_the_classes_apart():
    surfaces = generate_surfaces(per_class=100)
    brightness = surfaces.pixels.mean(axis=(1, 2))
    means = [brightness[surfaces.labels == c].mean() for c in range(len(CLASSES))]
    assert np.ptp(means) < brightness.std()


@pytest.mark.slow
def test_the_default_set_is_made_within_seconds():
    start = time.process_time()
    assert len(generate_surfaces()) == 1500
    assert time.process_time() - start < 5


@pytest.mark.parametrize("size", [8, (64, 2000)])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(InputError, match="16 to 1024"):
        load_images("surfaces", size=size)
