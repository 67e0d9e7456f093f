"""The notes that memory is measured on, and the measure itself."""

import re

import numpy as np
import pytest
from benchmarks.cases import unwanted_and_ndcg
from benchmarks.maintenance import APPROVED, FAULTS, REJECTED, maintenance_notes


@pytest.mark.parametrize("japanese", [False, True])
def test_notes_are_many_varied_and_the_same_for_one_seed(japanese):
    notes = maintenance_notes(japanese=japanese)
    assert len(notes.texts) >= 400
    assert len(set(notes.texts)) == len(notes.texts)
    assert notes.approved.mean() == 0.5
    assert len(notes.topics) == len(notes.approved) == len(notes.texts)
    assert set(notes.asked) == set(range(len(FAULTS)))
    assert notes.texts == maintenance_notes(japanese=japanese).texts
    assert all(bool(re.search("[ぁ-ん一-龥]", text)) == japanese for text in notes.texts)
    assert not any("approved" in text.lower() or "rejected" in text.lower() for text in notes.texts)
    assert len(APPROVED) == len(REJECTED) >= 10


def test_share_of_unwanted_and_ndcg_by_hand():
    cases = np.arange(20, dtype=float)[:, None]
    wanted, unwanted = np.zeros((1, 20), bool), np.zeros((1, 20), bool)
    wanted[0, [0, 2, 15]] = True
    unwanted[0, [1, 3, 12]] = True
    found = unwanted_and_ndcg(np.zeros((1, 1)), cases, wanted, unwanted)
    assert found["unwanted"] == 0.2
    gains = 1 / np.log2(np.arange(2, 5))
    assert found["ndcg"] == pytest.approx((gains[0] + gains[2]) / gains.sum())
