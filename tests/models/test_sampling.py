from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mekiki.errors import InputError
from mekiki.models.sampling import (
    SingletonClassError,
    balanced_batches,
    fixed_pairs,
    fixed_triplets,
    random_triplets,
    shuffled_batches,
    siamese_pairs,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def class_labels(draw, smallest=2):
    """Labels of 2 to 6 classes with any values, each class from `smallest` to 300 images, shuffled."""
    values = draw(st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=6, unique=True))
    size = st.one_of(st.integers(smallest, smallest + 3), st.integers(smallest, 300))
    counts = torch.tensor([draw(size) for _ in values])
    labels = torch.tensor(values).repeat_interleave(counts)
    return labels[torch.randperm(len(labels), generator=seeded(draw(st.integers(0, 99))))]


@settings(max_examples=60, deadline=None)
@given(class_labels(), st.integers(0, 1000))
def test_siamese_pairs_meet_every_image_once_and_half_are_of_one_class(labels, seed):
    pairs = siamese_pairs(labels, seeded(seed))
    assert pairs.anchor.sort().values.equal(torch.arange(len(labels)))
    assert int(pairs.same.sum()) == len(labels) // 2
    assert (labels[pairs.anchor] == labels[pairs.partner]).equal(pairs.same)
    assert not (pairs.anchor == pairs.partner).any()
    assert [t.dtype for t in pairs] == [torch.int64, torch.int64, torch.bool]


@settings(max_examples=60, deadline=None)
@given(class_labels(), st.integers(0, 1000))
def test_fixed_pairs_stand_in_order_and_alternate(labels, seed):
    pairs = fixed_pairs(labels, seed)
    assert pairs.anchor.equal(torch.arange(len(labels)))
    assert pairs.same.equal(torch.arange(len(labels)) % 2 == 0)
    assert (labels[pairs.anchor] == labels[pairs.partner]).equal(pairs.same)
    assert not (pairs.anchor == pairs.partner).any()


@settings(max_examples=60, deadline=None)
@given(class_labels(), st.integers(0, 1000))
def test_triplets_hold_two_of_one_class_and_one_of_another(labels, seed):
    for triplets in (random_triplets(labels, seeded(seed)), fixed_triplets(labels, seed)):
        anchor, positive, negative = triplets
        assert anchor.sort().values.equal(torch.arange(len(labels)))
        assert (labels[anchor] == labels[positive]).all()
        assert (labels[anchor] != labels[negative]).all()
        assert not (anchor == positive).any()
    assert triplets.anchor.equal(torch.arange(len(labels)))


@settings(max_examples=60, deadline=None)
@given(
    class_labels(smallest=1),
    st.integers(2, 6),
    st.integers(2, 12),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(0, 1000),
)
def test_balanced_batches_keep_their_promise(labels, classes, samples, batches, seed):
    values, counts = labels.unique(return_counts=True)
    if classes > len(values):
        with pytest.raises(InputError, match=f"{classes} classes .* hold {len(values)}"):
            balanced_batches(labels, classes, samples, seeded(seed), batches)
        return
    drawn = balanced_batches(labels, classes, samples, seeded(seed), batches)
    assert len(drawn) == (batches or max(1, len(labels) // (classes * samples)))
    size = dict(zip(values.tolist(), counts.tolist(), strict=True))
    groups = {value: [] for value in size}
    for batch in drawn:
        assert batch.dtype == torch.int64
        assert len(batch.unique()) == len(batch)
        in_batch = Counter(labels[batch].tolist())
        assert len(in_batch) == classes
        assert all(n == min(samples, size[value]) for value, n in in_batch.items())
        for value in in_batch:
            groups[value].append(batch[labels[batch] == value])
    times = [len(parts) for parts in groups.values()]
    assert max(times) - min(times) <= 1
    for value, parts in groups.items():
        a_round = size[value] // min(samples, size[value])
        for start in range(0, len(parts), a_round):
            images = torch.cat(parts[start : start + a_round])
            assert len(images.unique()) == len(images), "no image twice in a round"


def test_a_balanced_epoch_shows_every_image_once_where_it_divides():
    labels = torch.arange(10).repeat_interleave(36)[torch.randperm(360, generator=seeded(1))]
    batches = balanced_batches(labels, 10, 12, seeded())
    assert len(batches) == 3
    assert torch.cat(batches).sort().values.equal(torch.arange(360))


def test_classes_meet_in_changing_company():
    labels = torch.arange(20).repeat_interleave(50)
    meetings = np.zeros((20, 20), int)
    for batch in balanced_batches(labels, 4, 5, seeded(), batches=2000):
        present = labels[batch].unique().numpy()
        meetings[np.ix_(present, present)] += 1
    together = meetings[np.triu_indices(20, 1)]
    assert np.diag(meetings).tolist() == [400] * 20
    assert chisquare(together).pvalue > 1e-3


def test_the_only_possible_pairs_are_found():
    pairs = fixed_pairs(torch.tensor([4, 7, 4, 7]))
    assert pairs.partner[[0, 2]].tolist() == [2, 0]
    assert pairs.partner[1] in (0, 2)
    assert pairs.partner[3] in (0, 2)
    assert fixed_triplets(torch.tensor([4, 7, 4, 7])).positive.tolist() == [2, 3, 0, 1]


def test_partners_are_uniform_and_a_rare_class_is_met_as_often_as_a_common_one():
    labels = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    generator = seeded(3)
    positives, negatives, halves = np.zeros((11, 11)), np.zeros((11, 11)), np.zeros(11)
    for _ in range(4000):
        anchor, partner, same = (t.numpy() for t in siamese_pairs(labels, generator))
        np.add.at(positives, (anchor[same], partner[same]), 1)
        np.add.at(negatives, (anchor[~same], partner[~same]), 1)
        halves[anchor[same]] += 1
    assert chisquare(halves).pvalue > 1e-3
    assert chisquare(positives[0, 1:5]).pvalue > 1e-3
    assert chisquare(positives[3, [0, 1, 2, 4]]).pvalue > 1e-3
    assert positives[5, 6] == halves[5]
    expected = np.array([1 / 4] * 2 + [1 / 8] * 4) * negatives[0].sum()
    assert chisquare(negatives[0, 5:], expected).pvalue > 1e-3
    expected = np.array([1 / 10] * 5 + [1 / 8] * 4) * negatives[6].sum()
    assert chisquare(np.delete(negatives[6], [5, 6]), expected).pvalue > 1e-3


def test_images_of_a_class_come_equally_often_in_the_long_run():
    labels = torch.tensor([0] * 7 + [1] * 40)  # groups of 3 leave one of seven out in every round
    shown = torch.cat(balanced_batches(labels, 2, 3, seeded(5), batches=4000)).bincount().numpy()
    assert shown.sum() == 24_000
    assert np.ptp(shown[:7]) < 150
    assert np.ptp(shown[7:]) < 50


LABELS = torch.randint(0, 5, (200,), generator=seeded(9))
RANDOM = {
    "siamese_pairs": lambda generator: siamese_pairs(LABELS, generator),
    "random_triplets": lambda generator: random_triplets(LABELS, generator),
    "balanced_batches": lambda generator: balanced_batches(LABELS, 3, 4, generator),
    "shuffled_batches": lambda generator: shuffled_batches(200, 32, generator),
}


@pytest.mark.parametrize("name", RANDOM)
def test_the_generator_alone_decides(name):
    def flat(generator):
        return torch.cat(list(RANDOM[name](generator)))

    before = torch.random.get_rng_state()
    assert flat(seeded(1)).equal(flat(seeded(1)))
    assert not flat(seeded(1)).equal(flat(seeded(2)))
    generator = seeded(1)
    assert not flat(generator).equal(flat(generator)), "a second epoch must differ from the first"
    assert torch.random.get_rng_state().equal(before)


@pytest.mark.parametrize("fixed", [fixed_pairs, fixed_triplets])
def test_fixed_ones_ignore_and_leave_the_global_random_state(fixed):
    torch.manual_seed(1)
    first = fixed(LABELS)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = fixed(LABELS)
    assert torch.random.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    assert not fixed(LABELS, seed=30)[1].equal(first[1])


@pytest.mark.parametrize("n", [1, 5, 6, 7])
def test_shuffled_batches_cover_everything_once(n):
    batches = shuffled_batches(n, 3, seeded())
    assert [len(batch) for batch in batches] == [3] * (n // 3) + [n % 3] * (n % 3 > 0)
    assert torch.cat(batches).sort().values.equal(torch.arange(n))


PAIRING = [
    lambda labels: siamese_pairs(labels, seeded()),
    fixed_pairs,
    lambda labels: random_triplets(labels, seeded()),
    fixed_triplets,
]


@pytest.mark.parametrize("sampler", PAIRING)
def test_a_class_of_one_image_is_named(sampler):
    labels = torch.tensor([0, 0, 1, 2, 2])
    with pytest.raises(SingletonClassError, match=r"one image only in class 1; .*leave the class out"):
        sampler(labels)
    with pytest.raises(SingletonClassError, match=r"class 0, 1, 2, 3, 4 and 5 more"):
        sampler(torch.arange(10))


@pytest.mark.parametrize(
    "sampler", [*PAIRING, lambda labels: balanced_batches(labels, 2, 2, seeded())], ids=range(5)
)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(4, dtype=torch.int64), "at least two"),
        (torch.zeros(0, dtype=torch.int64), "at least two"),
        (torch.tensor([0.0, 1.0]), "int64"),
        (torch.tensor([0, 1], dtype=torch.int32), "int64"),
        (torch.tensor([[0, 1], [0, 1]]), r"\[2, 2\]"),
        (torch.tensor(1), "int64"),
    ],
)
def test_unusable_labels_are_refused_in_one_line(sampler, labels, message):
    with pytest.raises(InputError, match=message) as error:
        sampler(labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balanced_batches(LABELS, 6, 4, seeded()), "6 classes a batch asked for.* hold 5"),
        (lambda: balanced_batches(LABELS, 1, 4, seeded()), "at least 2"),
        (lambda: balanced_batches(LABELS, 3, 1, seeded()), "at least 2"),
        (lambda: balanced_batches(LABELS, 3, 4, seeded(), batches=0), "at least 1"),
        (lambda: shuffled_batches(0, 4, seeded()), "at least 1"),
        (lambda: shuffled_batches(4, 0, seeded()), "at least 1"),
    ],
)
def test_unusable_numbers_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
