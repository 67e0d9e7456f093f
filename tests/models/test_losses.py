"""Losses on vectors at known places, every pair and triplet enumerated by hand."""

import math

import numpy as np
import pytest
import torch

from mekiki.errors import InputError
from mekiki.models.losses import (
    UNUSABLE,
    ContrastiveLoss,
    OnlineContrastiveLoss,
    OnlineTripletLoss,
    SoftNeighbourLoss,
    TripletLoss,
    all_pair_losses,
    contrastive_losses,
    library_loss,
    library_value,
    triplet_losses,
)
from mekiki.models.miners import all_pairs


def on_circle(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), 1)


def chord(degrees):
    return 2 * math.sin(math.radians(degrees) / 2)


def test_contrastive_loss_at_known_angles():
    a, b = on_circle(0, 0, 0, 0), on_circle(60, 60, 20, 180)
    same = torch.tensor([True, False, False, False])
    each = contrastive_losses(a, b, same, margin=1.5)
    expected = [0.5 * chord(60) ** 2, 0.5 * (1.5 - chord(60)) ** 2, 0.5 * (1.5 - chord(20)) ** 2, 0.0]
    assert each.tolist() == pytest.approx(expected, abs=1e-8)


def test_contrastive_loss_equals_the_formula_of_the_post_in_float64():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 3))
    target = rng.integers(0, 2, 50)
    squared = ((b - a) ** 2).sum(1)
    expected = 0.5 * (target * squared + (1 - target) * np.maximum(0, 1.0 - np.sqrt(squared + 1e-9)) ** 2)
    loss = ContrastiveLoss(1.0)(torch.tensor(a), torch.tensor(b), torch.tensor(target))
    assert loss.item() == pytest.approx(expected.mean(), rel=1e-12)


def test_contrastive_loss_of_collapsed_vectors_is_a_quarter_of_the_squared_margin():
    zeros = torch.zeros(10, 2)
    assert ContrastiveLoss(2.0)(zeros, zeros, torch.arange(10) % 2 == 0).item() == pytest.approx(
        1.0, abs=1e-3
    )


@pytest.mark.parametrize(("squared", "expected"), [(False, 0.3 - 0.7 + 1.0), (True, 0.09 - 0.49 + 1.0)])
def test_triplet_loss_on_distance_and_on_squared_distance(squared, expected):
    zero = torch.zeros(1, 1, dtype=torch.float64)
    each = triplet_losses(zero, zero + 0.3, zero - 0.7, margin=1.0, squared=squared)
    assert each.item() == pytest.approx(expected, abs=1e-6)


def test_triplet_loss_is_zero_beyond_the_margin():
    zero = torch.zeros(1, 1)
    assert TripletLoss(0.5)(zero, zero + 1.0, zero + 2.0).item() == 0


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda v: ContrastiveLoss()(v[:2], v[2:4], torch.tensor([True, False])),
        lambda v: TripletLoss()(v[:2], v[2:4], v[4:6]),
        lambda v: OnlineContrastiveLoss()(v, torch.tensor([0, 0, 0, 1, 1, 1])),
        lambda v: OnlineTripletLoss(selection="all")(v, torch.tensor([0, 0, 0, 1, 1, 1])),
        lambda v: OnlineTripletLoss(selection="hardest")(v, torch.tensor([0, 0, 0, 1, 1, 1])),
    ],
)
def test_gradients_are_finite_where_vectors_coincide(loss_of):
    vectors = torch.zeros(6, 2, requires_grad=True)
    loss_of(vectors).backward()
    assert torch.isfinite(vectors.grad).all()


def test_online_contrastive_over_all_pairs_is_the_mean_over_hand_counted_pairs():
    vectors = on_circle(0, 30, 90)
    loss = OnlineContrastiveLoss(margin=1.0, selection="all")
    each = loss.each(vectors, torch.tensor([0, 0, 1]))
    positive, negative = 0.5 * chord(30) ** 2, 0.5 * max(0, 1 - chord(60)) ** 2  # 0–90 is more than one apart
    assert each.tolist() == pytest.approx([positive, 0.0, positive, negative, 0.0, negative], abs=1e-8)


@pytest.mark.parametrize("dim", [1, 2, 32])
def test_all_pairs_at_once_are_the_pairs_one_by_one(dim):
    generator = torch.Generator().manual_seed(dim)
    labels = torch.randint(0, 4, (40,), generator=generator)
    vectors = torch.randn(40, dim, generator=generator, dtype=torch.float64)
    vectors[3] = vectors[4]  # a distance of zero
    weights = torch.rand(40 * 39, generator=generator, dtype=torch.float64)
    vectors.requires_grad_()
    pairs = all_pairs(labels)
    place = {(i, j): k for k, (i, j) in enumerate((i, j) for i in range(40) for j in range(40) if i != j)}
    order = [place[i, j] for i, j in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    mirrored = [place[j, i] for i, j in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    one_by_one = contrastive_losses(vectors[pairs.first], vectors[pairs.second], pairs.same, 2.0)
    (expected,) = torch.autograd.grad(one_by_one @ (weights[order] + weights[mirrored]), vectors)
    at_once = all_pair_losses(vectors, labels, 2.0)
    (gradient,) = torch.autograd.grad(at_once @ weights, vectors)
    assert torch.allclose(at_once[order], one_by_one, atol=1e-12)
    assert torch.allclose(at_once[mirrored], one_by_one, atol=1e-12)
    assert torch.allclose(gradient, expected, atol=1e-9)


@pytest.mark.parametrize("pull", [0.0, 0.3])
def test_soft_neighbours_equal_their_formula_in_float64(pull):
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(30, 3)), rng.integers(0, 4, 30)
    labels[7] = 9  # alone in its class: nothing can be asked of it
    expected = []
    for i in range(30):
        others = [j for j in range(30) if j != i]
        own = [j for j in others if labels[j] == labels[i]]
        if own:
            squared = {j: ((vectors[i] - vectors[j]) ** 2).sum() / 1.5**2 for j in others}
            share = sum(math.exp(-squared[j]) for j in own) / sum(math.exp(-d) for d in squared.values())
            expected.append(-math.log(share) + pull * np.mean([squared[j] for j in own]))
    given = torch.tensor(vectors, requires_grad=True)
    loss = SoftNeighbourLoss(margin=1.5, pull=pull)
    assert loss.each(given, torch.tensor(labels)).tolist() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda v: loss(v, torch.tensor(labels)), given)


def test_soft_neighbours_of_a_batch_without_any_pair_are_zero_with_a_zero_gradient():
    vectors = torch.randn(4, 2, requires_grad=True)
    loss = SoftNeighbourLoss()(vectors, torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.item() == 0
    assert (vectors.grad == 0).all()


def test_the_gradient_of_the_contrastive_loss_is_that_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20, 3, generator=generator, dtype=torch.float64)
    same = torch.arange(20) % 2 == 0
    a.requires_grad_()
    b.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: contrastive_losses(a, b, same, 1.5), (a, b))


def test_a_batch_without_any_triplet_gives_zero_and_a_zero_gradient():
    vectors = torch.randn(4, 2, requires_grad=True)
    loss = OnlineTripletLoss()(vectors, torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.item() == 0
    assert (vectors.grad == 0).all()


def test_unknown_selection_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"semi-hard, random-hard, hardest, all"):
        OnlineTripletLoss(selection="easy")


def every_library_loss():
    library = pytest.importorskip("pytorch_metric_learning.losses")
    return [n for n in dir(library) if n.endswith("Loss") and n not in {*UNUSABLE, "GenericPairLoss"}]


def test_every_loss_of_the_library_learns_from_two_batches_or_says_why_not():
    options = {"RankedListLoss": {"margin": 0.5, "Tn": 0}}
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(6)
    for name in every_library_loss():
        loss = library_loss(name, dim=3, classes=4, options=options.get(name))
        for _ in range(2):
            vectors = torch.randn(24, 3, generator=generator).requires_grad_()
            library_value(loss, vectors, labels).backward()
            assert torch.isfinite(vectors.grad).all(), name
    for name, reason in UNUSABLE.items():
        with pytest.raises(InputError, match=reason):
            library_loss(name, dim=3, classes=4)


def test_losses_of_the_library_are_found_by_name_and_given_what_they_need():
    pytest.importorskip("pytorch_metric_learning")
    arcface = library_loss("ArcFaceLoss", dim=4, classes=3)
    assert sum(p.numel() for p in arcface.parameters()) == 12
    assert library_loss("TripletMarginLoss", dim=4, classes=3, options={"margin": 0.3}).margin == 0.3
    with pytest.raises(InputError, match="MultiSimilarityLoss"):
        library_loss("NoSuchLoss", dim=4, classes=3)
    with pytest.raises(InputError, match="nonsense"):
        library_loss("TripletMarginLoss", dim=4, classes=3, options={"nonsense": 1})
