"""In-batch selection against plain loops over every pair and triplet."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mekiki.models import miners

batches = st.integers(2, 4).flatmap(
    lambda classes: st.tuples(
        st.lists(st.integers(0, classes - 1), min_size=2, max_size=12), st.integers(0, 10_000)
    )
)


def vectors_for(labels, seed):
    return torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triplets_by_hand(labels):
    n = range(len(labels))
    return {
        (a, p, x)
        for a, p, x in itertools.product(n, n, n)
        if a != p and labels[a] == labels[p] and labels[a] != labels[x]
    }


def as_set(selected):
    return set(zip(*(side.tolist() for side in selected), strict=True))


@given(batches)
def test_all_pairs_are_every_pair_once(batch):
    labels, _ = batch
    pairs = miners.all_pairs(torch.tensor(labels))
    expected = {(i, j, labels[i] == labels[j]) for i, j in itertools.combinations(range(len(labels)), 2)}
    assert as_set(pairs) == expected
    assert len(pairs.first) == len(expected)


@given(batches)
def test_all_triplets_are_every_triplet_once(batch):
    labels, _ = batch
    triplets = miners.all_triplets(torch.tensor(labels))
    assert as_set(triplets) == triplets_by_hand(labels)
    assert len(triplets.anchor) == len(triplets_by_hand(labels))


@given(batches)
def test_hard_negative_pairs_are_all_positives_and_the_closest_negatives(batch):
    labels, seed = batch
    vectors = vectors_for(labels, seed)
    pairs = miners.hard_negative_pairs(vectors, torch.tensor(labels))
    everything = list(itertools.combinations(range(len(labels)), 2))
    positives = {(i, j) for i, j in everything if labels[i] == labels[j]}
    negatives = sorted(
        ((i, j) for i, j in everything if labels[i] != labels[j]),
        key=lambda pair: (vectors[pair[0]] - vectors[pair[1]]).norm().item(),
    )
    chosen = {(i, j): same for i, j, same in as_set(pairs)}
    assert {pair for pair, same in chosen.items() if same} == positives
    assert {pair for pair, same in chosen.items() if not same} == set(negatives[: len(positives)])


@settings(max_examples=50)
@given(batches, st.sampled_from([0.3, 1.0, 3.0]), st.booleans())
def test_triplet_selections_against_plain_loops(batch, margin, squared):
    labels, seed = batch
    vectors = vectors_for(labels, seed)
    tensor = torch.tensor(labels)

    def apart(i, j):
        value = (vectors[i] - vectors[j]).norm().item()
        return value**2 if squared else value

    violation = {(a, p, n): apart(a, p) - apart(a, n) + margin for a, p, n in triplets_by_hand(labels)}
    rows = {(a, p) for a, p, _ in violation}
    generator = torch.Generator().manual_seed(seed)

    hardest = as_set(miners.hardest_triplets(vectors, tensor, margin, squared=squared))
    for a, p in rows:
        worst = max((v, n) for (x, y, n), v in violation.items() if (x, y) == (a, p))
        assert ((a, p, worst[1]) in hardest) == (worst[0] > 0)
    assert len(hardest) <= len(rows)

    hard = as_set(miners.random_hard_triplets(vectors, tensor, margin, squared=squared, generator=generator))
    assert all(violation[t] > 0 for t in hard)
    assert {t[:2] for t in hard} == {t[:2] for t, v in violation.items() if v > 0}

    semi = as_set(miners.semi_hard_triplets(vectors, tensor, margin, squared=squared, generator=generator))
    assert all(0 < violation[t] < margin for t in semi)
    assert {t[:2] for t in semi} == {t[:2] for t, v in violation.items() if 0 < v < margin}


def test_random_hard_choice_follows_its_generator_and_leaves_the_global_one_alone():
    labels = torch.arange(4).repeat(8)
    vectors = vectors_for(labels, 0)
    before = torch.random.get_rng_state()
    drawn = [
        miners.random_hard_triplets(vectors, labels, 1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert drawn[0].negative.equal(drawn[1].negative)
    assert not drawn[0].negative.equal(drawn[2].negative)
    assert torch.random.get_rng_state().equal(before)
