"""The comparison of the judge's choices: what is compared is what the judge does, and is measured on other parts."""

import numpy as np
import pytest
from benchmarks import judge_choices
from benchmarks.generated_parts import write_parts
from benchmarks.judging_peers import read_photo_set

from mekiki.judging.detectors.patch_detectors import DETECTORS
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_model import MT_DISTANCE


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Fabric: 100 OK and 18 NG photographs."""
    folder = tmp_path_factory.mktemp("fabric")
    write_parts(folder, "fabric", ok=100, ng=18, size=(96, 96))
    return read_photo_set(str(folder))


@pytest.fixture(scope="module")
def parts(photos, net):
    return judge_choices.split_set(photos, net)


@pytest.fixture(scope="module")
def judge(parts):
    return Judge().fit(parts.learnt)


def test_a_split_judges_photographs_that_were_not_learnt_from(parts, photos):
    assert len(parts.images) == 66
    assert (parts.ng.sum(), (~parts.ng).sum()) == (18, 34)
    for name, group in parts.learnt.items():
        assert len(group) == 66
        assert len(parts.judged[name]) == 52
        rows = {each.tobytes() for each in group}
        assert not any(each.tobytes() in rows for each in parts.judged[name])
    again = parts.extract(iter(parts.images[:20]))
    for name, group in again.items():
        np.testing.assert_allclose(group, parts.learnt[name][:20], rtol=1e-4, atol=1e-4)


def test_the_rules_are_those_of_the_judge(parts, judge):
    neg_log_p = judge.neg_log_p(parts.judged)
    weights = np.array(judge._models[0].scoring.weights)
    factors = np.arange(len(judge.columns)) + 1.0
    found = judge_choices.compare_rules(parts.ng, neg_log_p, weights, factors)
    assert found["equal sum"] == judge_choices.auroc(parts.ng, judge.score(parts.judged))
    weighed = Judge()
    weighed.factors = dict(zip(judge.columns, factors, strict=True))
    scores = weighed.fit(parts.learnt).score(parts.judged)
    assert found["sum, weighed by the rise"] == judge_choices.auroc(parts.ng, scores)
    largest = Judge("max").fit(parts.learnt).score(parts.judged)
    assert found[judge_choices.MAXIMUM] == judge_choices.auroc(parts.ng, largest)
    assert found["equal sum"] != found["sum, weighed by its square"]


def test_every_detector_is_measured_without_and_with_the_context(parts, judge):
    found = judge_choices.compare_detectors(
        parts, judge._models[0].reduce(parts.judged), judge.neg_log_p(parts.judged)
    )
    assert list(found) == [MT_DISTANCE, *DETECTORS]
    alone = Judge(detectors=[MT_DISTANCE]).fit(
        {name: group for name, group in parts.learnt.items() if group.ndim == 2}
    )
    judged = {name: parts.judged[name] for name in alone.columns}
    assert found[MT_DISTANCE] == {"with": judge_choices.auroc(parts.ng, alone.score(judged))}
    for name in DETECTORS:
        assert found[name]["without"] != found[name]["with"]


def test_the_context_helps_where_light_differs_from_photograph_to_photograph():
    rng = np.random.default_rng(0)
    light = rng.standard_t(2, size=(140, 1, 1, 3)) @ rng.normal(size=(3, 6))
    patches = (light + rng.normal(size=(140, 8, 8, 6))).astype(np.float32)
    patches[120:, 3, 4] += 4 * np.sign(rng.normal(size=6))
    groups = {"mean": patches.mean((1, 2)), "patches": patches}
    learnt, judged = (
        {name: group[rows] for name, group in groups.items()} for rows in (slice(80), slice(80, None))
    )
    parts = judge_choices.SplitSet([], learnt, judged, np.arange(60) >= 40, lambda images: {})
    own = Judge().fit(learnt)
    found = judge_choices.compare_detectors(parts, own._models[0].reduce(judged), own.neg_log_p(judged))
    assert found["memory"]["with"] > found["memory"]["without"] + 0.1


def test_the_command_prints_both_tables(photos, net, monkeypatch, capsys):
    monkeypatch.setattr(judge_choices, "ENCODER", net)
    monkeypatch.setattr(judge_choices, "photo_sets", lambda folder: [("fabric", photos), ("again", photos)])
    found = judge_choices.main()["sets"]
    text = capsys.readouterr().out
    assert [each["name"] for each in found] == ["fabric", "again"]
    each = found[0]
    assert (each["learnt_from"], each["ok"], each["ng"]) == (66, 34, 18)
    assert {key: value for key, value in each.items() if key not in ("seconds", "name")} == {
        key: value for key, value in found[1].items() if key not in ("seconds", "name")
    }
    memory = each["detectors"]["memory"]
    assert f"{memory['without']:.3f} → {memory['with']:.3f}" in text
    figure = f"{each['rules']['equal sum']:.3f}"
    assert f"| equal sum | {figure} | {figure} | {figure} |" in text


def test_without_the_weights_it_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(judge_choices, "ENCODER", "hf:nowhere")
    assert judge_choices.main() is None
    assert "needs the weights hf:nowhere" in capsys.readouterr().out
