"""`ImageSet`, content hashes and the stratified split."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mekiki.data.image_set import ImageSet, at_most_per_class, content_hashes, stratified_split
from mekiki.errors import InputError


def some_set(n=6, classes=2, **changes):
    arguments = {
        "pixels": np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2),
        "labels": np.arange(n) % classes,
        "class_names": tuple("abcdefgh"[:classes]),
        "names": [f"{i}.png" for i in range(n)],
        "source": "a test",
    }
    return ImageSet(**{**arguments, **changes})


def test_subset_keeps_labels_names_and_masks_together():
    masks = np.zeros((6, 2, 2), bool)
    masks[4] = True
    subset = some_set(masks=masks).subset(np.array([4, 1]))
    assert subset.names == ("4.png", "1.png")
    assert subset.labels.tolist() == [0, 1]
    assert subset.pixels[0, 0, 0] == 16
    assert subset.masks.any(axis=(1, 2)).tolist() == [True, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": np.zeros((6, 2, 2), np.float32)},
        {"pixels": np.zeros((6, 2, 2, 4), np.uint8)},
        {"labels": np.zeros(5, np.int64)},
        {"labels": np.full(6, 2)},
        {"labels": np.full(6, -1)},
        {"names": ["a"]},
        {"masks": np.zeros((6, 3, 3), bool)},
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(changes):
    with pytest.raises(InputError) as caught:
        some_set(**changes)
    assert "\n" not in str(caught.value)
    assert "a test" in str(caught.value)


def test_fingerprint_follows_pixels_and_labels():
    assert some_set().fingerprint() == some_set().fingerprint()
    assert some_set().fingerprint() != some_set(labels=np.ones(6, np.int64)).fingerprint()
    assert some_set().fingerprint() != some_set(pixels=np.zeros((6, 2, 2), np.uint8)).fingerprint()


def test_hashes_are_equal_exactly_for_equal_images():
    pixels = np.random.default_rng(0).integers(0, 2, (300, 2, 2), dtype=np.uint8)
    hashes = content_hashes(pixels)
    same_hash = hashes[:, None] == hashes[None]
    same_pixels = (pixels[:, None] == pixels[None]).all(axis=(2, 3))
    assert (same_hash == same_pixels).all()


def test_hashing_as_many_images_as_mnist_takes_less_than_a_second():
    pixels = np.random.default_rng(0).integers(0, 256, (70_000, 28, 28), dtype=np.uint8)
    start = time.process_time()
    assert len(np.unique(content_hashes(pixels))) == 70_000
    assert time.process_time() - start < 1


labels_lists = st.lists(st.integers(0, 4), min_size=1, max_size=120)
fractions = st.floats(0.05, 0.95)
seeds = st.integers(0, 2**31)


@settings(max_examples=150, deadline=None)
@given(labels_lists, fractions, seeds)
def test_split_is_disjoint_complete_and_within_one_image_of_the_share(labels, fraction, seed):
    labels = np.array(labels)
    train, test = stratified_split(labels, test_fraction=fraction, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    for label in np.unique(labels):
        n, tested = int((labels == label).sum()), int((labels[test] == label).sum())
        if n < 3:
            assert tested == 0
            continue
        assert 1 <= tested <= n - 2
        share = min(max(fraction * n, 1), n - 2)
        assert abs(tested - share) <= 1


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=100), fractions, seeds)
def test_no_content_stands_on_both_sides(images, fraction, seed):
    labels = np.array([label for label, _ in images])
    contents = np.array([content for _, content in images], np.uint64)
    train, test = stratified_split(labels, test_fraction=fraction, seed=seed, contents=contents)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert not np.intersect1d(contents[train], contents[test]).size
    for content in np.unique(contents[test]):  # doubtful labels never test
        assert len(np.unique(labels[contents == content])) == 1
    for label in np.unique(labels):
        assert (labels[train] == label).sum() >= min(2, (labels == label).sum())


def test_copies_do_not_keep_a_class_from_being_tested():
    labels = np.zeros(6, np.int64)
    _, test = stratified_split(labels, test_fraction=0.2, contents=np.array([1, 1, 2, 2, 3, 3], np.uint64))
    assert len(test) == 2


def test_split_depends_on_the_seed_and_not_on_what_the_hashes_are():
    labels = np.arange(60) % 3
    contents = np.arange(60, dtype=np.uint64)
    _, first = stratified_split(labels, seed=1, contents=contents)
    _, again = stratified_split(labels, seed=1, contents=contents[::-1].copy())
    _, other = stratified_split(labels, seed=2, contents=contents)
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize(("fraction", "seed"), [(0, 0), (1, 0), (-0.1, 0), (0.2, -1)])
def test_a_share_or_seed_out_of_range_is_refused(fraction, seed):
    with pytest.raises(InputError):
        stratified_split(np.zeros(5, np.int64), test_fraction=fraction, seed=seed)


def test_at_most_per_class_keeps_small_classes_whole():
    labels = np.array([0] * 10 + [1] * 2)
    kept = at_most_per_class(labels, 3, seed=5)
    assert np.bincount(labels[kept]).tolist() == [3, 2]
    assert (np.diff(kept) > 0).all()
    assert kept.tolist() == at_most_per_class(labels, 3, seed=5).tolist()
