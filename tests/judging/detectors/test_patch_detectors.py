"""`PatchDetectors`: scores of cross-fitting, state, and photographs of every kind."""

import numpy as np
import pytest
import torch

from mekiki.errors import InputError
from mekiki.judging.detectors.patch_detectors import DETECTORS, FOLDS, PatchDetectors
from mekiki.judging.extractors import PATCHES, ScatteringExtractor

NAMES = tuple(DETECTORS)


def random_patches(number, seed=0, side=5, channels=6):
    return np.random.default_rng(seed).normal(size=(number, side, side, channels)).astype(np.float32)


def photographs(kind, number, seed=0, height=48, width=48):
    """Grey photographs of a flat, a periodic or a noisy surface under changing light."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    images = []
    for light in rng.normal(120, 10, number):
        surface = np.full((height, width), light) + rng.normal(0, 1, (height, width))
        if kind == "periodic":
            surface += 40 * np.sin(rows / 2 + rng.uniform(0, 6)) * np.sin(columns / 2 + rng.uniform(0, 6))
        elif kind == "noisy":
            surface += rng.normal(0, 30, (height, width))
        images.append(np.repeat(np.clip(surface, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return images


def test_cross_fitted_scores_come_from_detectors_that_did_not_see_the_part():
    patches = random_patches(42)
    scores, _ = PatchDetectors.cross_score(patches, NAMES)
    folds = np.arange(42) % FOLDS
    for fold in range(FOLDS):
        without = PatchDetectors.fit(patches[folds != fold], NAMES)
        np.testing.assert_allclose(scores[folds == fold], without.score(patches[folds == fold]), rtol=1e-5)
    # A part that is unlike all others moves its own score, and not the detectors that it is scored by.
    odd = patches.copy()
    odd[3] += 100
    moved, _ = PatchDetectors.cross_score(odd, NAMES)
    without = PatchDetectors.fit(patches[folds != 3], NAMES)
    np.testing.assert_allclose(moved[3], without.score(odd[3:4])[0], rtol=1e-5)
    assert (moved[3] > 3 * scores[3]).all()


def test_rows_of_an_array_are_learnt_from_and_scored_as_a_copy_of_them():
    patches = random_patches(40)
    rows = np.flatnonzero(np.arange(40) % 5 != 2)
    own, copied = PatchDetectors.fit(patches, NAMES, rows), PatchDetectors.fit(patches[rows], NAMES)
    np.testing.assert_array_equal(own.score(patches), copied.score(patches))
    np.testing.assert_array_equal(
        PatchDetectors.cross_score(patches, NAMES, rows)[0],
        PatchDetectors.cross_score(patches[rows], NAMES)[0],
    )


def test_scores_are_means_of_the_worst_places():
    patches = torch.from_numpy(random_patches(20))
    fitted = PatchDetectors.fit(patches.numpy(), NAMES)
    maps = fitted.maps(patches).double().numpy()
    worst = np.sort(maps.reshape(3, 20, -1), axis=2)[:, :, -DETECTORS["memory"].worst_places :].mean(axis=2)
    scores, departures = fitted(patches)
    np.testing.assert_allclose(scores.numpy(), worst.T)
    assert scores.dtype == torch.float64
    rest = fitted.context(patches).flatten(1, 2)
    np.testing.assert_allclose(departures[:, :6].numpy(), (rest**2).mean(1).sqrt().numpy(), rtol=1e-5)


def test_a_departure_is_the_same_wherever_in_the_photograph_it_is():
    patches = random_patches(60)
    fitted = PatchDetectors.fit(patches, NAMES)
    here, there = patches[:1].copy(), patches[:1].copy()
    here[0, :2, :2] += 8 * np.eye(6, dtype=np.float32)[2]
    there[0, 3:, 2:4] += 8 * np.eye(6, dtype=np.float32)[2]
    plain, *departed = (fitted.score_and_depart(each)[1][0] for each in (patches[:1], here, there))
    one, other = (each - plain for each in departed)
    assert np.dot(one, other) > 0.9 * np.linalg.norm(one) * np.linalg.norm(other)


@pytest.mark.parametrize("names", [NAMES, ("subspace",), ("memory", "subspace")])
def test_detectors_come_back_from_their_arrays_to_the_bit(names):
    patches = random_patches(20)
    fitted = PatchDetectors.fit(patches, names)
    again = PatchDetectors.from_arrays(fitted.to_arrays())
    assert again.names == names
    assert again.shape == (5, 5, 6)
    np.testing.assert_array_equal(again.score(patches), fitted.score(patches))


def test_columns_are_in_the_order_of_names():
    patches = random_patches(20)
    names = ("memory", "subspace")
    both, scores = PatchDetectors.fit(patches, names), PatchDetectors.cross_score(patches, names)[0]
    for column, name in enumerate(both.names):
        alone, own = PatchDetectors.fit(patches, (name,)), PatchDetectors.cross_score(patches, (name,))[0]
        np.testing.assert_array_equal(both.score(patches)[:, column], alone.score(patches)[:, 0])
        np.testing.assert_array_equal(scores[:, column], own[:, 0])


def test_an_unknown_detector_is_refused_by_name():
    with pytest.raises(
        InputError, match="detector 'nonsense' is not known; choose one of memory, places, subspace"
    ):
        PatchDetectors.fit(random_patches(9), ["nonsense"])


@pytest.mark.parametrize("number", [8, 20])
def test_few_photographs_give_finite_scores_that_differ(number):
    patches = random_patches(number)
    fitted, scores = PatchDetectors.fit(patches, NAMES), PatchDetectors.cross_score(patches, NAMES)[0]
    new = fitted.score(random_patches(5, seed=1))
    assert np.isfinite(scores).all()
    assert np.isfinite(new).all()
    assert (scores.std(axis=0) > 0).all()
    assert (new.std(axis=0) > 0).all()


@pytest.mark.parametrize("kind", ["flat", "periodic", "noisy"])
def test_scores_differ_between_photographs_and_a_blot_raises_each(kind):
    images = photographs(kind, 24)
    patches = ScatteringExtractor().extract(images).groups[PATCHES]
    fitted, scores = PatchDetectors.fit(patches, NAMES), PatchDetectors.cross_score(patches, NAMES)[0]
    assert np.isfinite(scores).all()
    assert (scores.std(axis=0) > 1e-3 * scores.mean(axis=0)).all()
    blotted = [image.copy() for image in photographs(kind, 6, seed=1)]
    for image in blotted:
        image[20:28, 20:28] = 0
    own = fitted.score(ScatteringExtractor().extract(blotted).groups[PATCHES])
    assert (np.median(own, axis=0) > np.quantile(scores, 0.9, axis=0)).all()


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_photographs_that_are_all_equal_give_finite_scores(value):
    patches = np.full((8, 3, 3, 4), value, np.float32)
    fitted, scores = PatchDetectors.fit(patches, NAMES), PatchDetectors.cross_score(patches, NAMES)[0]
    assert np.isfinite(scores).all()
    assert np.isfinite(fitted.score(patches + 1)).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (16, 2)])
def test_grids_of_every_shape(height, width):
    patches = np.random.default_rng(0).normal(size=(16, height, width, 4)).astype(np.float32)
    fitted, scores = PatchDetectors.fit(patches, NAMES), PatchDetectors.cross_score(patches, NAMES)[0]
    assert np.isfinite(scores).all()
    assert fitted.maps(torch.from_numpy(patches)).shape == (3, 16, height, width)
