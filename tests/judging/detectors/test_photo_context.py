"""`PhotoContext`: what remains of patches is what a regression per place, written out by numpy, leaves over."""

import numpy as np
import pytest
import torch

from mekiki.judging.detectors.photo_context import PhotoContext, PhotoMoments

RIDGE = 0.01


def lit_patches(number, seed=0, side=4, channels=5, light=3.0):
    """Patches whose places answer differently to the light of the photograph."""
    rng = np.random.default_rng(seed)
    answer = np.random.default_rng(99).normal(size=(side, side, channels)) + 1
    lights = rng.normal(size=(number, 1, 1, 1))
    noise = rng.normal(size=(number, side, side, channels))
    return (light * lights * answer + noise + 10).astype(np.float32), lights.ravel()


def regress(patches, new):
    """What remains of `new`, in float64, by least squares on principal components of the mean patch."""
    number, channels = len(patches), patches.shape[-1]
    flat = patches.reshape(-1, channels).astype(np.float64)
    mean, deviation = flat.mean(axis=0), flat.std(axis=0)
    known, asked = ((each - mean) / deviation for each in (patches.astype(np.float64), new))
    whole, whole_asked = known.mean(axis=(1, 2)), asked.mean(axis=(1, 2))
    scale = whole.std(axis=0)
    _, _, right = np.linalg.svd(whole / scale, full_matrices=False)
    count = min(number // 4, channels)
    regressors, regressors_asked = ((each / scale) @ right[:count].T for each in (whole, whole_asked))
    unit = regressors.std(axis=0)
    design, design_asked = regressors / unit, regressors_asked / unit
    place_mean = known.mean(axis=0)
    slopes = np.linalg.lstsq(design, (known - place_mean).reshape(number, -1), rcond=None)[0] / (1 + RIDGE)
    rest, rest_asked = (
        each - place_mean - (columns @ slopes).reshape(each.shape)
        for each, columns in ((known, design), (asked, design_asked))
    )
    return rest_asked / np.sqrt((rest**2).mean(axis=(0, 1, 2)))


def test_what_remains_is_that_of_a_regression_at_each_place():
    patches, _ = lit_patches(60)
    new, _ = lit_patches(7, seed=1)
    rest = PhotoContext.fit(patches)(torch.from_numpy(new))
    np.testing.assert_allclose(rest, regress(patches, new), atol=2e-5)


def test_light_leaves_what_remains_and_a_spot_stays():
    patches, lights = lit_patches(200)
    rest = PhotoContext.fit(patches)(torch.from_numpy(patches)).numpy()
    assert abs(np.corrcoef(patches[:, 1, 2, 0], lights)[0, 1]) > 0.9
    assert abs(np.corrcoef(rest[:, 1, 2, 0], lights)[0, 1]) < 0.2
    assert rest.reshape(-1, 5).std(axis=0) == pytest.approx(np.ones(5), abs=1e-3)
    spotted = patches[:1].copy()
    spotted[0, 1, 2] += 20
    lengths = (PhotoContext.fit(patches)(torch.from_numpy(spotted)) ** 2).sum(3)[0]
    assert divmod(int(lengths.argmax()), 4) == (1, 2)


def test_fitting_to_some_rows_is_fitting_to_a_copy_of_them():
    patches, _ = lit_patches(50)
    rows = np.flatnonzero(np.arange(50) % 4 != 1)
    own, rest = PhotoContext.fit_and_apply(patches, PhotoMoments.of(patches), rows)
    copied = PhotoContext.fit(patches[rows])
    for name, array in copied.to_arrays().items():
        np.testing.assert_array_equal(own.to_arrays()[name], array)
    np.testing.assert_allclose(rest, own(torch.from_numpy(patches[rows])), atol=2e-5)


def test_fitting_leaves_the_patches_as_they_are():
    patches, _ = lit_patches(20)
    before = patches.copy()
    PhotoContext.fit(patches)
    np.testing.assert_array_equal(patches, before)


def test_many_channels_are_projected():
    patches, _ = lit_patches(12, channels=300)
    rest = PhotoContext.fit(patches)(torch.from_numpy(patches))
    assert rest.shape == (12, 4, 4, 256)
    assert bool(rest.isfinite().all())


def test_moments_are_those_of_all_patches_together():
    patches, _ = lit_patches(9)
    rows = np.array([0, 3, 4, 8])
    mean, deviation = PhotoMoments.of(patches).over(rows)
    flat = patches[rows].reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(mean, flat.mean(axis=0))
    np.testing.assert_allclose(deviation, flat.std(axis=0))


def test_half_precision_gives_nearly_the_same():
    patches, _ = lit_patches(40)
    own = PhotoContext.fit(patches.astype(np.float16))(torch.from_numpy(patches.astype(np.float16)))
    np.testing.assert_allclose(own, PhotoContext.fit(patches)(torch.from_numpy(patches)), atol=0.05)
