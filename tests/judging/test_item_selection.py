"""Orthogonal arrays, the choice of items by gains, and the check that tells whether it helped."""

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mekiki.errors import InputError
from mekiki.judging import item_selection as module
from mekiki.judging.item_selection import orthogonal_array, select_items, sn_ratio
from mekiki.judging.mahalanobis_taguchi import MT


def parts(items, telling, shift, ok=200, ng=60, seed=0):
    rng = np.random.default_rng(seed)
    good, bad = rng.normal(size=(ok, items)), rng.normal(size=(ng, items))
    bad[:, :telling] += shift
    return good, bad


@pytest.mark.parametrize("items", [*range(1, 130), 191, 255, 300, 383, 511])
def test_every_array_is_orthogonal_and_its_first_run_uses_all_items(items):
    array = orthogonal_array(items)
    runs = len(array)
    assert array.shape == (runs, items)
    assert set(np.unique(array)) == {1, 2}
    assert (array[0] == 1).all()
    signs = 3 - 2 * array.astype(int)
    assert (signs.T @ signs == runs * np.eye(items)).all()  # each pair of levels equally often
    assert (signs.sum(0) == 0).all()  # each level equally often
    assert items < runs <= max(8, items + 8)
    assert items < 3 or (array == 1).any(axis=1).all()


def test_the_arrays_of_the_textbooks():
    for items, runs in [
        (1, 8),
        (7, 8),
        (8, 12),
        (11, 12),
        (12, 16),
        (15, 16),
        (31, 32),
        (63, 64),
        (127, 128),
    ]:
        assert len(orthogonal_array(items)) == runs
    l8 = orthogonal_array(7)
    # Of L8, the third column is the product of the first two, and so on.
    signs = 3 - 2 * l8.astype(int)
    for product, one, other in [(2, 0, 1), (4, 0, 3), (5, 1, 3), (6, 2, 3)]:
        assert (signs[:, product] == signs[:, one] * signs[:, other]).all()
    # Of Plackett and Burman's L12, no column is the product of two others.
    signs = 3 - 2 * orthogonal_array(11).astype(int)
    for one in range(11):
        for other in range(one):
            assert np.abs(signs.T @ (signs[:, one] * signs[:, other])).max() == 4


def test_the_larger_is_better_ratio():
    assert sn_ratio([4.0, 4.0]) == pytest.approx(10 * np.log10(4))
    squared = np.array([0.5, 3.0, 20.0])
    assert sn_ratio(squared) == pytest.approx(-10 * np.log10((1 / squared).sum() / 3))
    assert sn_ratio([0.0, 0.0]) == pytest.approx(-60)
    assert sn_ratio([np.inf, 4.0]) == pytest.approx(10 * np.log10(8))


def test_gains_and_level_means_written_out():
    good, bad = parts(9, 3, 2)
    found = select_items(good, bad, splits=0)
    assert found.array.shape == (12, 9)
    assert (found.array == orthogonal_array(9)).all()
    for run, levels in enumerate(found.array):
        used = levels == 1
        squared = MT("empirical").fit(good[:, used]).squared_distance(bad[:, used])
        assert found.sn_ratios[run] == pytest.approx(sn_ratio(squared))
    for item in range(9):
        with_it, without = (found.sn_ratios[found.array[:, item] == level].mean() for level in (1, 2))
        assert found.level_means[item] == pytest.approx([with_it, without])
        assert found.gains[item] == pytest.approx(with_it - without)
    assert (found.kept == (found.gains > 0)).all()
    assert set(np.argsort(found.gains)[-3:]) == {0, 1, 2}
    assert found.covariance == "empirical"
    assert found.names == tuple(f"x{item}" for item in range(9))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.verdict = ""


@pytest.mark.parametrize("items", [1, 2])
def test_a_run_without_items_is_neutral(items):
    good, bad = parts(items, 1, 5)
    found = select_items(good, bad, splits=0)
    none = (found.array == 2).all(axis=1)
    assert none.sum() == 8 / 2**items
    assert (found.sn_ratios[none] == 0).all()
    assert found.kept[0]
    assert np.isfinite(found.gains).all()


def test_choosing_that_helps_is_said_to():
    good, bad = parts(15, 3, 1.5, ok=300, ng=100)
    seen = []
    found = select_items(good, bad, splits=20, progress=lambda *step: seen.append(step))
    assert found.helps
    assert found.verdict.startswith("Choosing helps: ")
    check = found.check
    assert check.auroc_all.shape == check.auroc_chosen.shape == (20,)
    assert check.gain == pytest.approx((check.auroc_chosen - check.auroc_all).mean())
    assert 0 < check.low < check.gain < check.high
    for number in (check.auroc_chosen.mean(), check.auroc_all.mean()):
        assert f"{number:.3f}" in found.verdict
    assert (
        f"{check.gain:+.3f}, 95% interval {check.low:+.3f} to {check.high:+.3f}, 20 splits" in found.verdict
    )
    assert seen == [("choosing items", done, 21) for done in range(1, 22)]


def test_choosing_that_does_not_help_is_not_said_to():
    claims = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        good, bad = rng.normal(size=(90, 7)), rng.normal(size=(30, 7)) * 1.4  # all items tell alike
        found = select_items(good, bad, splits=8, seed=seed)
        claims += bool(found.helps)
        if not found.helps:
            assert found.verdict.startswith(("Choosing is not shown to help", "Choosing harms"))
    assert claims <= 1


def test_choosing_that_harms_is_said_to(monkeypatch):
    good, bad = parts(7, 3, 2)
    found = module._choose

    def worst(*args):
        right = found(*args)
        return right._replace(kept=np.arange(7) >= 3)

    monkeypatch.setattr(module, "_choose", worst)
    result = select_items(good, bad, splits=5)
    assert result.verdict.startswith("Choosing harms")
    assert result.helps is False


def test_the_parts_that_check_are_not_those_that_choose(monkeypatch):
    good, bad = parts(3, 1, 2, ok=45, ng=21)
    good[:, 2], bad[:, 2] = np.arange(45), 100 + np.arange(21)  # each part has a number
    choosing, judged = [], []
    choose = module._choose
    monkeypatch.setattr(
        module, "_choose", lambda mt, unit, ng: choosing.append((unit, ng)) or choose(mt, unit, ng)
    )
    monkeypatch.setattr(module, "_auroc", lambda near, far: judged.append((len(near), len(far))) or 0.5)
    select_items(good, bad, splits=4)
    for unit, ng in choosing[1:]:
        assert (len(unit), len(ng)) == (30, 10)
        assert len(set(unit[:, 2])) == 30
    assert judged == [(15, 11)] * 8
    assert (choosing[1][0] != choosing[2][0]).any()


def test_same_seed_same_result():
    good, bad = parts(7, 2, 1)
    one, two, other = (select_items(good, bad, splits=3, seed=seed).check for seed in (1, 1, 2))
    assert (one.auroc_chosen == two.auroc_chosen).all()
    assert (one.auroc_all != other.auroc_all).any()


@pytest.mark.parametrize(
    ("ok", "ng", "said"),
    [
        (200, 9, "there are 9 NG parts, where 10 are the least. Whether choosing helps is open"),
        (14, 60, "there are 14 OK parts, where 15 are the least"),
        (10, 1, "there are 1 NG parts, where 10 are the least and 10 OK parts, where 15 are the least"),
    ],
)
def test_too_few_parts_for_a_check_are_said_and_not_faked(ok, ng, said):
    found = select_items(*parts(4, 2, 2, ok=ok, ng=ng))
    assert found.check is None
    assert found.helps is None
    assert found.verdict.startswith("Not checked on parts kept out: ")
    assert said in found.verdict
    assert np.isfinite(found.gains).all()


def test_no_splits_and_too_few_parts_for_a_plain_covariance():
    good, bad = parts(10, 2, 2, ok=16)
    assert (
        select_items(good, bad, splits=0).verdict
        == "Not checked on parts kept out: no splits were asked for."
    )
    plain = select_items(good[:15], bad, mt=MT("empirical"), splits=3)
    assert plain.check is None
    assert "two thirds of the OK parts are not enough" in plain.verdict
    assert select_items(good, bad, splits=3).covariance == "ledoit-wolf"


def test_constant_items_are_in_no_run():
    good, bad = parts(5, 2, 2)
    good, bad = np.insert(good, 1, 3.0, axis=1), np.insert(bad, 1, 4.0, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = select_items(good, bad, splits=3)
    assert (found.array[:, 1] == 2).all()
    assert np.isnan(found.gains[1])
    assert not found.kept[1]
    without = select_items(np.delete(good, 1, 1), np.delete(bad, 1, 1), splits=3)
    assert np.delete(found.gains, 1) == pytest.approx(without.gains)


def test_no_gain_at_all_keeps_no_item_and_says_so(monkeypatch):
    monkeypatch.setattr(module, "sn_ratio", lambda squared: 3.0)
    found = select_items(*parts(4, 2, 2), splits=3)
    assert not found.kept.any()
    assert found.verdict.startswith("No item has a gain above 0, so there is none to keep; use all of them. ")
    assert (found.check.gain, found.helps) == (0, False)


def test_the_area_under_the_curve_is_scikit_learns():
    rng = np.random.default_rng(0)
    near, far = rng.integers(0, 10, 50).astype(float), rng.integers(3, 15, 20).astype(float)
    wanted = roc_auc_score(np.repeat([0, 1], [50, 20]), np.concatenate([near, far]))
    assert module._auroc(near, far) == pytest.approx(wanted)
    assert module._auroc(near, np.full(3, np.inf)) == 1


GOOD, BAD = parts(4, 2, 2)
NAN = BAD.copy()
NAN[5, 3] = np.nan
ERRORS = [
    (lambda: orthogonal_array(0), "items must be a whole number of at least 1, not 0"),
    (lambda: orthogonal_array(2.5), "items must be a whole number of at least 1, not 2.5"),
    (lambda: select_items(GOOD, NAN), "^ng: 1 of 60 vectors hold NaN or infinity, first in row 5, item x3"),
    (lambda: select_items(NAN, BAD), "^ok: 1 of 60 vectors hold NaN or infinity, first in row 5, item x3"),
    (lambda: select_items(GOOD, BAD[:, :3]), "^ng: X has 3 features, but MT is expecting 4"),
    (lambda: select_items(GOOD, BAD[:0]), "^ng: Found array with 0 sample"),
    (lambda: select_items(GOOD[:1], BAD), "^ok: Found array with 1 sample"),
    (lambda: select_items(GOOD * 0, BAD), "^ok: all 200 vectors of the unit space are equal"),
    (lambda: select_items(GOOD, BAD, splits=1), "splits must be a whole number of at least 2, or 0"),
    (lambda: select_items(GOOD, BAD, mt=MT("none")), "covariance 'none' is not known"),
]


@pytest.mark.parametrize(("act", "said"), ERRORS)
def test_what_cannot_be_used_gets_one_line(act, said):
    with pytest.raises(InputError, match=said) as caught:
        act()
    assert "\n" not in str(caught.value)
