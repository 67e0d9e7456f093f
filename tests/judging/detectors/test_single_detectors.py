"""Each detector against a plain reference: brute force, numpy a place, and scikit-learn's PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances

from mekiki.judging.detectors import gaussian_places
from mekiki.judging.detectors.gaussian_places import GaussianPlaces
from mekiki.judging.detectors.patch_detectors import DETECTORS
from mekiki.judging.detectors.patch_memory import PatchMemory, choose_coreset
from mekiki.judging.detectors.patch_subspace import VARIANCE, PatchSubspace


def random_patches(number, seed=0, side=4, channels=6):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(channels, channels))
    patches = rng.normal(size=(number, side, side, channels)) @ mixing + 3
    return torch.from_numpy(patches.astype(np.float32))


def choose_slowly(points, number):
    """Greedy k-centre by all pairs of distances."""
    distances = pairwise_distances(points)
    chosen = [0]
    while len(chosen) < min(number, len(points)):
        chosen.append(int(distances[chosen].min(axis=0).argmax()))
    return chosen


def test_memory_is_the_distance_to_the_nearest_patch():
    good, new = random_patches(30), random_patches(5, seed=1)
    flat = good.reshape(-1, 6).double().numpy()
    nearest = pairwise_distances(new.reshape(-1, 6).double().numpy(), flat).min(axis=1)
    # 480 patches are fewer than the memory keeps, and 6 channels are not projected.
    np.testing.assert_allclose(PatchMemory.fit(good)(new).ravel(), nearest, atol=2e-3)


def test_memory_keeps_a_coreset():
    good, new = random_patches(30), random_patches(5, seed=1)
    order = torch.randperm(480, generator=torch.Generator().manual_seed(0))
    candidates = good.reshape(-1, 6)[order].double().numpy()
    kept = candidates[choose_slowly(candidates, 20)]
    detector = PatchMemory.fit(good, kept=20)
    np.testing.assert_allclose(detector.memory, kept, atol=1e-6)
    nearest = pairwise_distances(new.reshape(-1, 6).double().numpy(), kept).min(axis=1)
    np.testing.assert_allclose(detector(new).ravel(), nearest, atol=2e-3)


def test_coreset_is_that_of_all_pairs_of_distances():
    points = np.random.default_rng(3).normal(size=(300, 8))
    assert choose_coreset(torch.from_numpy(points), 40).tolist() == choose_slowly(points, 40)


def test_coreset_holds_no_copies():
    points = torch.arange(5.0).repeat(20)[:, None]
    assert sorted(points[choose_coreset(points, 50)].ravel().tolist()) == [0, 1, 2, 3, 4]


def test_memory_of_many_channels_keeps_distances_to_within_some_percent():
    good, new = random_patches(30, channels=400), random_patches(5, seed=1, channels=400)
    nearest = pairwise_distances(new.reshape(-1, 400), good.reshape(-1, 400)).min(axis=1)
    own = PatchMemory.fit(good)(new).ravel().numpy()
    assert np.abs(own / nearest - 1).mean() < 0.1


def test_places_is_the_mahalanobis_distance_at_each_place():
    good, new = random_patches(50), random_patches(5, seed=1)
    distances = GaussianPlaces.fit(good)(new)
    for row in range(4):
        for column in range(4):
            known = good[:, row, column].double().numpy()
            covariance = np.cov(known, rowvar=False)
            share = gaussian_places.SHRINKAGE
            shrunk = (1 - share) * covariance + share * np.diag(covariance).mean() * np.eye(6)
            centred = new[:, row, column].double().numpy() - known.mean(axis=0)
            squared = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(shrunk), centred)
            np.testing.assert_allclose(distances[:, row, column], np.sqrt(squared), rtol=1e-4)


def test_places_compares_a_random_choice_of_channels(monkeypatch):
    monkeypatch.setattr(gaussian_places, "CHANNELS", 3)
    good = random_patches(50)
    detector = GaussianPlaces.fit(good)
    chosen = detector.channels.tolist()
    assert len(set(chosen)) == 3
    other = GaussianPlaces.fit(good[..., chosen])
    np.testing.assert_allclose(detector(good), other(good[..., chosen]), rtol=1e-5)


def test_subspace_is_the_residual_of_pca():
    rng = np.random.default_rng(0)
    mixing = np.random.default_rng(1).normal(size=(4, 12))
    good, new = (
        torch.from_numpy(
            (rng.normal(size=(n, 4, 4, 4)) @ mixing + 0.1 * rng.normal(size=(n, 4, 4, 12))).astype(np.float32)
        )
        for n in (60, 5)
    )
    pca = PCA(n_components=VARIANCE).fit(good.reshape(-1, 12).double().numpy())
    flat = new.reshape(-1, 12).double().numpy()
    residual = np.linalg.norm(flat - pca.inverse_transform(pca.transform(flat)), axis=1)
    detector = PatchSubspace.fit(good)
    assert detector.left_over.shape == (12, 12 - pca.n_components_)
    np.testing.assert_allclose(detector(new).ravel(), residual, rtol=1e-3)


def test_subspace_leaves_a_direction_over_however_few_there_are():
    good = random_patches(30, channels=2)
    assert PatchSubspace.fit(good).left_over.shape == (2, 1)


@pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)
def test_a_detector_comes_back_from_its_arrays_and_scores_a_part_alone_as_among_others(detector):
    good, new = random_patches(30), random_patches(9, seed=1)
    fitted = detector.fit(good)
    again = detector.from_arrays(fitted.to_arrays())
    assert torch.equal(again(new), fitted(new))
    assert fitted(new).shape == (9, 4, 4)
    assert fitted(new).dtype == torch.float32
    torch.testing.assert_close(fitted(new[3:4]), fitted(new)[3:4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)
@pytest.mark.parametrize("case", ["equal", "one", "grid of one place"])
def test_distances_are_finite_on_patches_that_hardly_vary(detector, case):
    good = {
        "equal": torch.full((8, 3, 3, 5), 2.0),
        "one": random_patches(1),
        "grid of one place": random_patches(8, side=1),
    }[case]
    assert bool(detector.fit(good)(good + 1).isfinite().all())
