"""Weights of detectors by what they catch of painted defects."""

from __future__ import annotations

import numpy as np
import pytest

from mekiki.judging import Judge
from mekiki.judging.weigh_detectors import LEAST_PARTS, weigh_detectors


def photographs(number, rng):
    return [rng.normal(128, 6, (48, 48)).clip(0, 255).astype(np.uint8) for _ in range(number)]


def extract(images):
    """Patches that see grain, and a vector that sees nothing."""
    stacked = np.stack(list(images)).astype(np.float32)
    cells = stacked.reshape(len(stacked), 8, 6, 8, 6).transpose(0, 1, 3, 2, 4).reshape(len(stacked), 8, 8, 36)
    patches = np.stack([cells.mean(axis=3), cells.std(axis=3), cells.max(axis=3), cells.min(axis=3)], axis=3)
    blind = np.random.default_rng(int(stacked.sum()) % 2**32).normal(size=(len(stacked), 5))
    return {"blind": blind.astype(np.float32), "patches": patches}


def weigh(number, seed=0):
    images = photographs(number, np.random.default_rng(seed))
    return weigh_detectors(Judge(), extract(images), [lambda image=image: image for image in images], extract)


def test_a_detector_that_catches_painted_defects_outweighs_a_blind_one():
    factors = weigh(160)
    assert set(factors) == {"blind", "patches: memory", "patches: places", "patches: subspace"}
    assert np.mean(list(factors.values())) == pytest.approx(1)
    assert min(factors.values()) >= 0
    assert factors["blind"] < 0.5 < max(factors.values())


def test_few_parts_weigh_all_alike():
    assert weigh(LEAST_PARTS - 1) == {}


def test_the_same_seed_gives_the_same_factors():
    assert weigh(80) == weigh(80)


def test_factors_count_in_the_sum_and_are_kept():
    rng = np.random.default_rng(1)
    groups = extract(photographs(120, rng))
    judge = Judge()
    judge.factors = {"blind": 0.0}
    judge.fit(groups)
    moved = {**groups, "blind": groups["blind"] + 100}
    assert np.array_equal(judge.score(groups), judge.score(moved))
    judge.calibrate(extract(photographs(60, rng)), 0.1)
    again = Judge.from_state(*judge.state())
    assert np.array_equal(again.score(groups), judge.score(groups))
