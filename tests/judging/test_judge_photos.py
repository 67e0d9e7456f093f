"""Calibrating and judging: a judge that was saved says what it said, at the rate that was stated, of any file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from mekiki.errors import InputError
from mekiki.judging import calibrate
from mekiki.judging.calibrate import CalibrationSettings, MisclassificationCosts, calibrate_run
from mekiki.judging.extractors import make_extractor
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.learning_split import LEAST_TO_SPLIT
from mekiki.storage.manifest import write_manifest
from parts import images, make_backbone, ng_folder, ok_folder, part, same, save


def calibrated(tmp_path, net, ok, ng=(), **settings):
    return calibrate_run(
        tmp_path / "made",
        [ok],
        [ng] if ng else [],
        encoder=net,
        settings=CalibrationSettings(**({"false_reject": 0.1} | settings)),
    )


def damaged(run, change):
    """Change what `judge.json` says, and have it say so by its checksum too."""
    path = run / "judge" / "judge.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")
    write_manifest(path.parent)


# ---- what is saved ----


@pytest.mark.parametrize("shape", [(64, 64), (48, 96)], ids=["square", "wide"])
@pytest.mark.parametrize("parts", [60, 14], ids=["split", "cross"])
def test_a_judge_opened_again_says_the_same_to_the_bit(tmp_path, net, shape, parts):
    good = ok_folder(tmp_path / "ok", parts, height=shape[0], width=shape[1])
    new = ok_folder(tmp_path / "new", 6, seed=900, height=shape[0], width=shape[1])
    save(new / "bad.png", part(7, *shape, blot=(16, 16)))
    made, calibration = calibrated(tmp_path, net, good)
    assert calibration.metadata["method"] == ("split" if parts == 60 else "cross")
    before = list(made.judge_files(images(new), anomaly_maps=True))
    after = list(Inspector.open(tmp_path / "made").judge_files(images(new), anomaly_maps=True))
    assert [one.verdict for one in before].count("NG") >= 1
    assert all(same(one, other) for one, other in zip(before, after, strict=True))
    for one, other in zip(before, after, strict=True):
        assert (one.anomaly_map is None) == (other.anomaly_map is None) == (one.verdict == "OK")
        assert one.anomaly_map is None or np.array_equal(one.anomaly_map, other.anomaly_map)
    assert len(before[0].features) == (2 if shape == (64, 64) else 3)  # a wide part is looked at twice


def test_a_photograph_gets_the_same_verdict_alone_and_among_others(run, ng, fresh):
    inspector = Inspector.open(run)
    files = [*images(fresh), *images(ng)]
    together = list(inspector.judge_files(files))
    assert [one.photo.path for one in together] == files
    for place in (0, 15, 16, 30, len(files) - 1):
        alone = inspector.judge_file(files[place])
        assert alone.verdict == together[place].verdict
        assert alone.score == pytest.approx(together[place].score, rel=1e-6)


def test_calibrating_twice_gives_the_same_judge_and_another_seed_another(tmp_path, net, ok):
    scores = [calibrated(tmp_path, net, ok, seed=seed)[0].judge.calibration_scores for seed in (0, 0, 1)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


# ---- the rate ----


def test_too_few_ok_photographs_for_the_rate_are_refused_with_the_number_it_takes(tmp_path, net):
    few = ok_folder(tmp_path / "ok", 12)
    with pytest.raises(InputError, match=r"^12 OK parts are too few .* 1 %: it takes at least 99;"):
        calibrated(tmp_path, net, few, false_reject=0.01)
    with pytest.raises(InputError, match=r"it takes at least 19;"):
        calibrated(tmp_path, net, few, false_reject=0.05)
    with pytest.raises(InputError, match=r"12 OK parts .*10 % with 95 % confidence: it takes at least 29"):
        calibrated(tmp_path, net, few, confidence=0.95)
    with pytest.raises(InputError, match=r"^7 OK parts are too few .* at least 8;"):
        calibrated(tmp_path, net, ok_folder(tmp_path / "seven", 7), false_reject=0.5)
    assert not (tmp_path / "made").exists()


def test_parts_that_can_calibrate_but_not_teach_too_are_refused_where_a_confidence_is_asked_for(
    tmp_path, net
):
    with pytest.raises(InputError, match=r"29 must calibrate to be 95 % sure, and at least 8 more teach"):
        calibrated(tmp_path, net, ok_folder(tmp_path / "ok", 32), confidence=0.95)


def test_a_few_parts_teach_and_calibrate_in_turn_and_that_is_said(tmp_path, net, ng):
    inspector, calibration = calibrated(tmp_path, net, ok_folder(tmp_path / "ok", 14), ng)
    facts = calibration.metadata
    assert (facts["method"], facts["learnt_from"], facts["calibrated_on"]) == ("cross", 14, 14)
    assert any("do both (CV+)" in note for note in calibration.notes)
    assert facts["proven_at_most"] == inspector.judge.threshold.worst_case
    assert "proven" in calibration.guarantee
    assert facts["threshold"] is None
    assert np.isnan(inspector.judge_file(images(ng)[0]).threshold)


def test_parts_below_the_number_to_split_all_do_both_and_each_model_has_weights_of_its_own(
    tmp_path, net, monkeypatch
):
    asked = []

    def weigh(judge, groups, images, extract, seed):
        asked.append(len(images))
        assert all(len(group) == len(images) for group in groups.values())
        return {"patches: memory": float(len(asked))}

    monkeypatch.setattr(calibrate, "LEAST_TO_SPLIT", LEAST_TO_SPLIT)
    monkeypatch.setattr(calibrate, "weigh_detectors", weigh)
    good = ok_folder(tmp_path / "ok", 40)
    _, calibration = calibrated(tmp_path, net, good)
    assert calibration.metadata["method"] == "cross"
    assert asked == [32] * 5
    assert calibration.metadata["weights"] == {"patches: memory": 3.0}
    _, calibration = calibrated(tmp_path, net, good, confidence=0.9)
    assert calibration.metadata["method"] == "split"


def test_few_photographs_with_a_fine_scale_are_split_since_all_models_would_share_it(monkeypatch):
    monkeypatch.setattr(calibrate, "LEAST_TO_SPLIT", LEAST_TO_SPLIT)
    extractor = make_extractor(Path("nowhere"), "filters")
    settings = CalibrationSettings(0.05)
    assert calibrate._number_to_learn(60, settings, extractor) == 0
    extractor.choose_scale([(2000, 2000)], None)
    assert calibrate._number_to_learn(60, settings, extractor) == 40


def test_the_parts_are_split_two_to_one_and_the_threshold_keeps_the_rate_on_those_that_set_it(run):
    inspector = Inspector.open(run)
    facts = inspector.metadata
    assert (facts["method"], facts["ok_parts"], facts["learnt_from"], facts["calibrated_on"]) == (
        "split",
        60,
        40,
        20,
    )
    own = inspector.judge.calibration_scores
    assert (own > facts["threshold"]).sum() == 1  # rank 2 of 21, 10 % at most
    low, high = facts["realised_between"]
    assert low < 0.1 < high
    # The scores kept are those of the photographs that did not teach.
    judged = [one.score for one in inspector.judge_files([Path(name) for name in facts["ok"][40:]])]
    np.testing.assert_allclose(judged, own, rtol=1e-6)


def test_a_confidence_moves_the_threshold_up_and_is_in_the_guarantee(tmp_path, net, ok):
    average, _ = calibrated(tmp_path, net, ok)
    sure, calibration = calibrated(tmp_path, net, ok, confidence=0.8)
    assert calibration.guarantee.startswith("With 80 % confidence this threshold rejects at most 10 %")
    own = sure.judge.calibration_scores
    assert (own > sure.judge.threshold.value).mean() <= (
        average.judge.calibration_scores > average.judge.threshold.value
    ).mean()
    assert Inspector.open(tmp_path / "made").judge.threshold == sure.judge.threshold


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_none_is_refused_before_anything_is_read(tmp_path, net, rate):
    with pytest.raises(InputError, match="false_reject"):
        calibrate_run(
            tmp_path / "run", [tmp_path / "no-such-folder"], encoder=net, settings=CalibrationSettings(rate)
        )


# ---- costs ----


def test_costs_choose_the_rate_and_say_that_it_is_no_promise(tmp_path, net, ok, ng):
    dear, calibration = calibrated(
        tmp_path, net, ok, ng, costs=MisclassificationCosts(1000.0, 1.0, 0.2), detectors=("mt",)
    )
    assert "an estimate and no promise" in " ".join(calibration.notes)
    assert {"cost_per_part", "cost_between", "ng_share"} <= calibration.metadata.keys()
    assert calibration.metadata["ng_share"] == 0.2
    assert (
        calibration.metadata["missed"] == 0
    )  # nobody pays for an escape a thousand times what an overkill costs
    cheap, told = calibrated(
        tmp_path, net, ok, ng, costs=MisclassificationCosts(1.0, 1000.0, 0.2), detectors=("mt",)
    )
    assert cheap.judge.rate < dear.judge.rate
    assert told.metadata["false_reject"] == cheap.judge.rate == Inspector.open(tmp_path / "made").judge.rate
    own = dear.judge.calibration_scores
    assert dear.judge.rate == pytest.approx((np.sum(own > dear.judge.threshold.value) + 1) / (len(own) + 1))


def test_costs_without_ng_photographs_are_refused(tmp_path, net, ok):
    with pytest.raises(InputError, match=r"costs take NG photographs too.*--ng"):
        calibrated(tmp_path, net, ok, costs=MisclassificationCosts(10.0))


@pytest.mark.parametrize(
    "costs",
    [
        MisclassificationCosts(-1.0),
        MisclassificationCosts(0.0, 0.0),
        MisclassificationCosts(1.0, 1.0, 1.5),
        MisclassificationCosts(float("nan")),
    ],
)
def test_costs_that_are_none_are_refused_and_nothing_is_written(tmp_path, net, ok, ng, costs):
    with pytest.raises(InputError):
        calibrated(tmp_path, net, ok, ng, costs=costs)
    assert not (tmp_path / "made").exists()


# ---- which photographs ----


def test_copies_and_unreadable_photographs_are_left_out_and_said(tmp_path, net, ok):
    mixed = tmp_path / "mixed"
    shutil.copytree(ok, mixed)
    for number in (3, 4):
        shutil.copy(mixed / f"{number:03}.png", mixed / f"copy-{number}.png")
    (mixed / "text.jpg").write_text("no photograph")
    (mixed / "empty.png").touch()
    inspector, calibration = calibrated(tmp_path, net, mixed)
    said = " | ".join(calibration.notes)
    assert "2 of 64 photographs are copies of others" in said
    assert "2 of 64 files cannot be read" in said
    assert "text.jpg" in said
    assert "empty.png" in said
    assert calibration.metadata["ok_parts"] == 60
    plain, _ = calibrated(tmp_path, net, ok)
    assert np.array_equal(
        np.sort(plain.judge.calibration_scores), np.sort(inspector.judge.calibration_scores)
    )


def test_a_folder_of_nothing_but_bad_files_is_refused_with_the_reason(tmp_path, net):
    (tmp_path / "ok").mkdir()
    (tmp_path / "ok" / "a.png").write_text("text")
    with pytest.raises(InputError, match=r"none of 1 photographs can be used: .*a\.png \(cannot be read"):
        calibrated(tmp_path, net, tmp_path / "ok")


def test_kinds_of_defects_are_the_sub_folders_and_a_folder_without_is_its_own_kind(tmp_path, net, ok, run):
    assert Inspector.open(run).metadata["missed_by_kind"].keys() == {"blot", "scratch"}
    loose = tmp_path / "stains"
    save(loose / "1.png", part(1, blot=(16, 16)))
    save(loose / "deep" / "er" / "2.png", part(2, blot=(16, 48)))
    _, calibration = calibrated(tmp_path, net, ok, loose)
    assert sorted(calibration.metadata["ng"].values()) == ["deep", "stains"]


def test_the_kind_of_an_ng_part_is_that_of_the_example_it_resembles_most(run, fresh, tmp_path):
    inspector = Inspector.open(run)
    told = {
        kind: [
            inspector.judge_file(save(tmp_path / f"{kind}{seed}.png", part(seed, size=20, **{kind: place})))
            for seed, place in enumerate([(16, 16), (16, 48), (48, 16), (48, 48)], start=50)
        ]
        for kind in ("blot", "scratch")
    }
    for kind, verdicts in told.items():
        caught = [one.defect_type for one in verdicts if one.verdict == "NG"]
        assert len(caught) >= 3
        assert caught.count(kind) >= len(caught) - 1
    assert {one.defect_type for one in inspector.judge_files(images(fresh)) if one.verdict == "OK"} == {""}


def test_the_nearest_examples_are_really_the_nearest(run, ok, ng, fresh):
    inspector = Inspector.open(run)
    bad = images(ng)
    for own in (bad[3], bad[10]):
        assert inspector.judge_file(own).like_ng == str(own)  # an example resembles itself most
    assert inspector.judge_file(images(ok)[11]).like_ok == str(images(ok)[11])
    # By brute force, in the directions kept, over whitened views of the photographs themselves.
    examples = inspector.references
    seen = list(inspector.judge_files([Path(name) for name in examples.names]))
    views = {name: np.stack([one.features[name] for one in seen]) for name in seen[0].features}
    known = inspector.judge.whiten(views).astype(np.float64) @ examples.directions
    good = np.array([kind == "OK" for kind in examples.labels])
    assert (good.sum(), (~good).sum()) == (60, 16)
    for one in inspector.judge_files([*images(fresh)[:6], bad[0]]):
        own = (
            inspector.judge.whiten({name: view[None] for name, view in one.features.items()})
            @ examples.directions
        )
        apart = np.square(known - own).sum(axis=1)
        assert one.like_ok == examples.names[np.flatnonzero(good)[apart[good].argmin()]]
        assert one.like_ng == examples.names[np.flatnonzero(~good)[apart[~good].argmin()]]


def test_where_no_ng_photograph_was_given_none_is_named(tmp_path, net, ok, ng):
    inspector, calibration = calibrated(tmp_path, net, ok)
    assert calibration.trade_off is None
    assert not {"missed", "auroc"} & calibration.metadata.keys()
    verdict = inspector.judge_file(images(ng)[0])
    assert (verdict.verdict, verdict.defect_type, verdict.like_ng) == ("NG", "", "")
    assert verdict.like_ok


# ---- scores and p-values ----


def test_bad_parts_are_told_from_good_ones(run, ng, fresh):
    inspector = Inspector.open(run)
    bad, good = (list(inspector.judge_files(images(folder))) for folder in (ng, fresh))
    assert all(one.verdict == "NG" for one in bad)
    assert sum(one.verdict == "NG" for one in good) <= 8  # of 24, at 10 %
    assert inspector.metadata["auroc"] > 0.9


def test_scores_are_never_clamped_so_very_bad_parts_do_not_tie(run, tmp_path):
    inspector = Inspector.open(run)
    worse = [
        inspector.judge_file(save(tmp_path / f"{size}.png", part(5, blot=(32, 32), size=size)))
        for size in (20, 30, 40, 60)
    ]
    scores = [one.score for one in worse]
    assert len(set(scores)) == 4
    assert min(scores) > inspector.judge.calibration_scores.max()
    assert (
        len({one.p for one in worse}) == 1
    )  # p-values do, at 1/(n + 1), which is why parts are ranked by score
    assert worse[0].p == pytest.approx(1 / 21)


def test_p_is_a_share_above_zero_falls_as_the_score_rises_and_decides(run, ng, fresh):
    inspector = Inspector.open(run)
    verdicts = sorted(inspector.judge_files([*images(ng), *images(fresh)]), key=lambda one: one.score)
    p = np.array([one.p for one in verdicts])
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p) <= 0).all()
    assert all((one.verdict == "NG") == (one.p <= 0.1) == (one.score > one.threshold) for one in verdicts)


def test_a_part_that_ties_with_the_threshold_is_ok(run):
    inspector = Inspector.open(run)
    own = inspector.judge.calibration_scores
    assert (own == inspector.metadata["threshold"]).sum() == 1
    calibrating = [Path(name) for name in inspector.metadata["ok"][inspector.metadata["learnt_from"] :]]
    said = list(inspector.judge_files(calibrating))
    assert np.allclose([one.score for one in said], own, rtol=1e-5)
    ng = np.array([one.verdict == "NG" for one in said])
    assert ng.sum() == 1
    assert not ng[own == inspector.metadata["threshold"]].any()


# ---- photographs unlike those calibrated on ----


def test_odd_photographs_get_a_verdict_and_a_note(run, tmp_path):
    inspector = Inspector.open(run)
    usual = part(77)
    made = {
        "usual": usual,
        "constant": np.full((64, 64), 90, np.uint8),
        "large": part(77, 640, 640),
        "narrow": part(77, 64, 20),
        "colour": np.stack([usual, usual // 2, usual // 3], axis=2),
        "grey as colour": np.stack([usual] * 3, axis=2),
        "dark": (usual.astype(np.uint16) * 16),
        "deep": (usual.astype(np.uint16) * 257),
    }
    notes = {}
    for name, pixels in made.items():
        verdict = inspector.judge_file(save(tmp_path / f"{name}.png", pixels))
        assert verdict.verdict in ("OK", "NG")
        assert np.isfinite(verdict.score)
        notes[name] = verdict.photo.remark
    assert notes["usual"] == notes["grey as colour"] == notes["deep"] == ""
    assert notes["constant"] == "all pixels are equal"
    assert notes["large"] == "640×640 pixels, where those calibrated on have 64×64"
    assert notes["narrow"] == "64×20 pixels, where those calibrated on have 64×64"
    assert notes["colour"] == "has colour, where those calibrated on are grey"
    assert notes["dark"].startswith("16 bits deep, but no value is above ")
    assert inspector.judge_file(tmp_path / "constant.png").verdict == "NG"


def test_depth_alone_does_not_move_a_score(run, tmp_path):
    inspector = Inspector.open(run)
    flat = inspector.judge_file(save(tmp_path / "flat.png", part(78)))
    deep = inspector.judge_file(save(tmp_path / "deep.png", part(78).astype(np.uint16) * 257))
    colour = inspector.judge_file(save(tmp_path / "colour.png", np.stack([part(78)] * 3, axis=2)))
    assert flat.score == deep.score == colour.score


def test_ok_photographs_in_colour_and_of_several_sizes_set_what_is_usual(tmp_path, net):
    rng = np.random.default_rng(0)
    for number in range(12):
        height = 50 + number
        pixels = np.stack([part(number, height, 60)] * 3, axis=2)
        pixels[..., 0] //= 2
        save(tmp_path / "ok" / f"{number}.png", pixels)
    inspector, _ = calibrated(tmp_path, net, tmp_path / "ok")
    assert inspector.metadata["conditions"]["heights"] == (50, 61)
    opened = Inspector.open(tmp_path / "made")
    assert opened.conditions == inspector.conditions
    assert opened.judge_file(tmp_path / "ok" / "3.png").photo.remark == ""
    taller = rng.integers(0, 255, (61 * 5 // 4 + 1, 60, 3), dtype=np.uint8)
    note = opened.judge_file(save(tmp_path / "tall.png", taller)).photo.remark
    assert note == "77×60 pixels, where those calibrated on have 50…61×60"


# ---- files that do not fit ----


def test_a_folder_that_was_never_calibrated_says_what_does_it(tmp_path):
    with pytest.raises(InputError, match=r"is not calibrated; `mekiki calibrate .* --ok FOLDER` does it"):
        Inspector.open(tmp_path)


def test_a_backbone_that_has_changed_is_refused(tmp_path, ok):
    name = make_backbone(tmp_path / "net")
    calibrated(tmp_path, name, ok)
    assert Inspector.open(tmp_path / "made")
    weights = load_file(tmp_path / "net" / "model.safetensors")
    first = next(name for name in sorted(weights) if name.endswith("weight"))
    weights[first] = weights[first] * np.float32(1.001)
    save_file(weights, tmp_path / "net" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="has changed since it was calibrated; calibrate again"):
        Inspector.open(tmp_path / "made")
    shutil.rmtree(tmp_path / "net")
    with pytest.raises(InputError, match="net"):
        Inspector.open(tmp_path / "made")


def test_a_judge_of_another_format_is_refused(run):
    damaged(run, lambda facts: facts.update(format="mekiki-judge/1"))
    with pytest.raises(
        InputError, match=r"is of format mekiki-judge/1, and this mekiki reads mekiki-judge/\d"
    ):
        Inspector.open(run)


@pytest.mark.parametrize(
    "damage",
    [
        lambda judge: (judge / "judge.json").write_text("{"),
        lambda judge: (judge / "judge.json").write_text("[]"),
        lambda judge: (judge / "judge.json").write_text("{}"),
        lambda judge: (judge / "judge.json").write_bytes(b"\xff\xfe\x00"),
        lambda judge: (judge / "judge.safetensors").write_bytes(b"nothing"),
        lambda judge: (judge / "judge.safetensors").write_bytes(
            (judge / "judge.safetensors").read_bytes()[:-100]
        ),
        lambda judge: (judge / "judge.safetensors").unlink(),
    ],
    ids=["half json", "a list", "no facts", "no text", "no arrays", "arrays cut short", "arrays gone"],
)
def test_damaged_judge_files_are_one_error_for_people(run, damage):
    damage(run / "judge")
    with pytest.raises(InputError, match="calibrate again"):
        Inspector.open(run)


@pytest.mark.parametrize(
    "missing",
    ["examples/vectors", "eye/twice", "judge/folds", "judge/model0/mean/layer 16", "judge/model0/learnt"],
)
def test_a_judge_that_lacks_an_array_is_one_error_for_people(run, missing):
    path = run / "judge" / "judge.safetensors"
    arrays = load_file(path)
    del arrays[missing]
    save_file(arrays, path)
    with pytest.raises(InputError, match="calibrate again"):
        Inspector.open(run)


@pytest.mark.parametrize("missing", ["eye", "judge", "examples", "conditions"])
def test_a_judge_that_lacks_a_fact_is_one_error_for_people(run, missing):
    damaged(run, lambda facts: facts.pop(missing))
    with pytest.raises(InputError, match="calibrate again"):
        Inspector.open(run)


def test_a_failed_calibration_leaves_the_judge_that_was_there(run, tmp_path, net):
    before = {path.name: path.read_bytes() for path in (run / "judge").iterdir()}
    with pytest.raises(InputError):
        calibrate_run(run, [ok_folder(tmp_path / "few", 5)], encoder=net, settings=CalibrationSettings(0.1))
    same_parts = tmp_path / "same"
    for number in range(30):
        save(same_parts / f"{number}.png", np.full((64, 64), 60 + number // 30, np.uint8))
    with pytest.raises(InputError):
        calibrate_run(run, [same_parts], encoder=net, settings=CalibrationSettings(0.1))
    assert {path.name: path.read_bytes() for path in (run / "judge").iterdir()} == before


def test_thumbnails_of_examples_are_the_photographs_in_their_proportions(tmp_path, net):
    good = ok_folder(tmp_path / "ok", 14, height=40, width=90)
    ng_folder(tmp_path / "ng", 4)
    inspector, _ = calibrated(tmp_path, net, good, tmp_path / "ng")
    opened = Inspector.open(tmp_path / "made")
    for row, name in enumerate(opened.references.names):
        small = opened.references.thumbnail(row)
        with Image.open(name) as photograph:
            assert small.shape[0] / small.shape[1] == pytest.approx(
                photograph.height / photograph.width, abs=0.03
            )
        assert np.array_equal(small, inspector.references.thumbnail(row))


def test_a_photograph_given_as_ok_and_as_ng_is_refused_and_named(net, ok, tmp_path):
    copy = save(tmp_path / "ng" / "copy.png", np.asarray(Image.open(images(ok)[3])))
    with pytest.raises(
        InputError, match=r"copy\.png: is given as NG, and the same photograph as OK .*003\.png"
    ):
        calibrate_run(tmp_path / "new", [ok], [copy.parent], encoder=net, settings=CalibrationSettings(0.1))
    assert not (tmp_path / "new").exists()


def test_a_verdict_is_the_same_to_the_bit_alone_and_among_others(run, ok, ng):
    inspector = Inspector.open(run)
    paths = [*images(ok)[:20], *images(ng)]
    together = list(inspector.judge_files(paths, anomaly_maps=True))
    for path, one in list(zip(paths, together, strict=True))[::5]:
        alone = inspector.judge_file(path, anomaly_map=True)
        assert same(alone, one)
        assert (alone.anomaly_map is None) == (one.anomaly_map is None)
        assert alone.anomaly_map is None or (alone.anomaly_map == one.anomaly_map).all()
