"""NG parts hidden among the OK parts do not teach and are listed first; good parts are rejected at the stated rate."""

import json
from pathlib import Path

import numpy as np
import pytest

from mekiki.errors import InputError
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.suspicious_parts import LEAST_PARTS, MOST_LEFT_OUT, score_suspicion, usual_parts
from mekiki.judging.teach import retrain, teach
from parts import QUADRANTS, ok_folder, part, save

HIDDEN = 6
SETTINGS = CalibrationSettings(0.1, keep_suspicious=False)


def vectors(number, seed, bad=0):
    """Vectors of OK parts, the first `bad` of them NG."""
    rng = np.random.default_rng(seed)
    group = rng.normal(size=(number, 12))
    group[:bad] *= 6  # each far out in a direction of its own
    return {"colour": group}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of 60 OK photographs, and among them some with a bright blot."""
    folder = ok_folder(tmp_path_factory.mktemp("mixed") / "ok", 60)
    for number in range(HIDDEN):
        save(folder / f"hidden{number}.png", part(500 + number, blot=QUADRANTS[number % 4]))
    return folder


@pytest.fixture(scope="module")
def made(mixed, tmp_path_factory):
    run = tmp_path_factory.mktemp("mixed") / "run"
    return run, *calibrate_run(run, [mixed], encoder="filters", settings=SETTINGS)


# ---- which parts are usual ----


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_parts_far_out_are_found_whatever_their_share(share):
    scores = np.random.default_rng(0).exponential(size=(400, 2))
    bad = round(share * 400)
    scores[:bad] += 15
    usual = usual_parts(scores, [1.0, 3.0])
    assert not usual[:bad].any()
    assert usual[bad:].mean() > 0.99


@pytest.mark.parametrize("draw", ["exponential", "normal", "uniform"])
def test_hardly_any_part_of_a_clean_set_is_left_out(draw):
    found = [
        (~usual_parts(getattr(np.random.default_rng(seed), draw)(size=(300, 2)), [1.0, 1.0])).sum()
        for seed in range(40)
    ]
    assert np.mean(found) < 1


def test_at_most_the_stated_share_is_left_out_and_of_few_or_equal_parts_none():
    scores = np.r_[np.random.default_rng(0).normal(size=82), 50.0 + np.arange(18)][:, None]
    assert (~usual_parts(scores, [1.0])).sum() == round(100 * MOST_LEFT_OUT)
    few = np.r_[np.zeros(LEAST_PARTS - 2), 9e9][:, None]
    assert usual_parts(few, [1.0]).all()
    assert usual_parts(np.ones((50, 1)), [1.0]).all()


@pytest.mark.parametrize("number", [20, 61, 400])
def test_hidden_parts_that_are_alike_are_in_the_first_fifth_of_the_list(number):
    shares = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        group, hidden = rng.normal(size=(number, 30)), number // 10
        group[:hidden, :5] += rng.choice([-3, 3], size=(hidden, 5))  # alike, so that they hide each other
        scores = score_suspicion({"colour": group}, np.zeros(number))
        assert np.isfinite(scores).all()
        shares.append((np.argsort(-scores)[: number // 5] < hidden).sum() / hidden)
    assert np.mean(shares) >= 0.8


def test_the_list_heeds_the_scores_of_the_judge():
    group = np.random.default_rng(0).normal(size=(100, 12))
    own = np.random.default_rng(1).exponential(size=100)
    own[7] = 50.0
    assert score_suspicion({"colour": group}, own).argmax() == 7
    assert np.array_equal(score_suspicion({"colour": group}, own), score_suspicion({"colour": group}, own))


# ---- the judge ----


def test_hidden_parts_do_not_teach_a_robust_judge():
    clean, plain, robust = (
        Judge(robust=which).fit(vectors(200, 0, bad)) for which, bad in ((False, 0), (False, 20), (True, 20))
    )
    new = vectors(40, 5, 20)
    apart = [judge.score(new)[:20].min() - judge.score(new)[20:].max() for judge in (clean, plain, robust)]
    assert robust.left_out[:20].all()
    assert robust.left_out[20:].mean() < 0.02
    assert apart[1] < 0.5 * apart[0]
    assert apart[2] > 0.7 * apart[0]


def test_scores_of_the_parts_that_teach_are_those_of_models_without_them():
    judge = Judge(robust=True).fit(vectors(200, 0, 20))
    seen = judge.score(vectors(200, 0, 20))
    assert np.array_equal(seen[judge.left_out], judge.learning_scores[judge.left_out])
    # Seen in training, a part is like those that teach; out of fold it is like parts to come.
    new = judge.score(vectors(200, 7))
    assert np.median(judge.learning_scores[~judge.left_out]) == pytest.approx(np.median(new), abs=0.35)
    assert set(np.argsort(-judge.learning_scores)[:20]) == set(range(20))


@pytest.mark.parametrize("cross", [False, True], ids=["split", "cross"])
def test_trusted_parts_teach_however_suspicious_they_look(cross):
    group, trusted = vectors(100, 0, 8), np.arange(100) < 3
    judge = Judge(robust=True)
    if cross:
        judge.cross_calibrate(group, 0.1, trusted)
    else:
        judge.fit(group, trusted)
    assert judge.left_out[:8].tolist() == [False] * 3 + [True] * 5


@pytest.mark.parametrize("cross", [False, True], ids=["split", "cross"])
def test_the_stated_rate_is_kept_of_good_parts_though_suspicious_parts_do_not_teach(cross):
    realised = []
    for seed in range(40):
        judge = Judge(robust=True)
        if cross:
            judge.cross_calibrate(vectors(80, seed), 0.1)
        else:
            judge.fit(vectors(80, seed)).calibrate(vectors(79, 1000 + seed), 0.1)
        realised.append(judge.judge(vectors(300, 5000 + seed)).ng.mean())
    error = np.std(realised) / np.sqrt(len(realised))
    assert 0.05 < np.mean(realised) < 0.1 + 3 * error


def test_parts_that_no_model_of_a_cross_calibrated_judge_learnt_from_are_known():
    judge = Judge(robust=True)
    judge.cross_calibrate(vectors(100, 0, 8), 0.1)
    assert judge.left_out[:8].all()
    assert judge.left_out[8:].sum() <= 2
    assert set(np.argsort(-judge.calibration_scores)[:8]) == set(range(8))


# ---- photographs ----


def test_hidden_photographs_head_the_list_whatever_they_were_used_for(made):
    run, _, calibration = made
    listed = calibration.metadata["suspicious"]
    names = [entry["file"].rsplit("/", 1)[-1] for entry in listed]
    assert len(listed) == 14  # a fifth of 66
    assert sorted(names[:HIDDEN]) == [f"hidden{number}.png" for number in range(HIDDEN)]
    assert [entry["rank"] for entry in listed] == list(range(1, 15))
    assert sorted((entry["score"] for entry in listed), reverse=True) == [entry["score"] for entry in listed]
    assert {entry["use"] for entry in listed[:HIDDEN]} == {"left out of learning", "set the threshold"}
    assert json.loads((run / "judge" / "judge.json").read_text(encoding="utf-8"))["suspicious"] == listed


def test_no_photograph_that_calibrates_is_left_out_and_those_left_out_are_named(made):
    _, inspector, calibration = made
    facts = calibration.metadata
    learnt, left_out = facts["ok"][: facts["learnt_from"]], facts["left_out"]
    assert len(inspector.judge.calibration_scores) == facts["calibrated_on"] == 66 - facts["learnt_from"]
    assert set(left_out) <= set(learnt)
    assert {name for name in learnt if "hidden" in name} <= set(left_out)
    (note,) = [note for note in calibration.notes if "look suspicious" in note]
    assert all(name.rsplit("/", 1)[-1] in note for name in left_out)
    # Nor is a new part compared with them.
    assert not set(left_out) & set(inspector.references.names)


def test_the_page_shows_the_list_and_the_judge_opened_again_says_the_same(made, mixed):
    run, inspector, calibration = made
    page = (run / "judge" / "suspicious.html").read_text(encoding="utf-8")
    order = [page.index(entry["file"]) for entry in calibration.metadata["suspicious"]]
    assert order == sorted(order)
    assert "<script" not in page
    again = Inspector.open(run)
    bad = mixed / "hidden0.png"
    assert again.judge_file(bad).score == inspector.judge_file(bad).score


def test_suspicious_photographs_teach_if_asked_and_one_can_be_left_out(mekiki, mixed, tmp_path):
    arguments = ("calibrate", tmp_path / "r", "--ok", mixed, "--encoder", "filters", "--false-reject", 0.1)
    said = mekiki(*arguments, "--drop-suspicious", "--json")
    assert len(said.json["left_out"]) >= 3
    said = mekiki(*arguments, "--json")
    assert said.code == 0, said.err
    assert said.json["left_out"] == []
    hidden = [mixed / f"hidden{number}.png" for number in range(HIDDEN)]
    without = [word for path in hidden for word in ("--without", path)]
    said = mekiki(*arguments, *without)
    assert said.code == 0, said.err
    assert "60 OK parts" in said.out
    assert "OK photographs that look least like the others, 12 in" in said.out
    assert "hidden" not in said.out
    with pytest.raises(InputError, match="not among the OK photographs"):
        calibrate_run(tmp_path / "r", [mixed], encoder="filters", without=[tmp_path], settings=SETTINGS)


def test_a_suspicious_photograph_that_is_said_to_be_ok_teaches_the_judge_retrained(mixed, tmp_path):
    run = tmp_path / "run"
    _, calibration = calibrate_run(run, [mixed], encoder="filters", settings=SETTINGS)
    said, *others = calibration.metadata["left_out"]
    teach(run, Path(said), "OK")
    retrain(run, accept=True)
    left_out = Inspector.open(run).metadata["left_out"]
    assert said not in left_out
    assert set(others) & set(left_out)
