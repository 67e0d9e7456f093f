"""Lessons: what a person says of one photograph holds at once, can be taken back, and is kept with who and when."""

import json
import shutil
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.data.photo import Photo
from mekiki.errors import DataWarning, InputError
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.corrections import CorrectionLog, parse_label, read_corrections
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import retrain, teach, undo
from parts import QUADRANTS, contents, images, make_backbone, ng_folder, ok_folder, part, same, save

LIFT = 6
"""Grey levels of a spot too faint for the judge."""


@pytest.fixture
def dull(tmp_path):
    """Photographs of a defect that the judge passes: a faint spot, always at one place."""
    return [
        save(tmp_path / "dull" / f"{seed}.png", part(seed, blot=(16, 48), lift=LIFT))
        for seed in range(4000, 4012)
    ]


def passed(run, files):
    return [one.photo.path for one in Inspector.open(run).judge_files(files) if one.verdict == "OK"]


def rejected(run, files):
    return [one.photo.path for one in Inspector.open(run).judge_files(files) if one.verdict == "NG"]


def save_jpeg(path, to):
    """The same photograph, coded with loss."""
    with Image.open(path) as image:
        image.save(to, quality=90)
    return to


# ---- teaching ----


def test_missed_parts_taught_as_ng_are_ng_at_once_and_several_raise_more_like_them(run, fresh, tmp_path):
    spots = [
        save(tmp_path / "spots" / f"{seed}.png", part(seed, blot=(16, 48), lift=10))
        for seed in range(4000, 4048)
    ]
    missed = passed(run, spots)
    assert len(missed) >= 16
    rejected_before = len(rejected(run, images(fresh)))
    entry, before, after, effect = teach(run, missed[0], "NG:spot")
    assert effect.ng_parts == 16  # those given to calibrate
    assert effect.missed_after <= effect.missed_before
    assert (before.verdict, after.verdict) == ("OK", "NG")
    assert (after.defect_type, after.why) == ("spot", f"taught: {entry.note}")
    again = Inspector.open(run).judge_file(missed[0])
    assert same(after, again)
    copy = save_jpeg(missed[0], tmp_path / "copy.jpg")
    assert Inspector.open(run).judge_file(copy).verdict == "NG"
    effects = [teach(run, path, "NG:spot")[3] for path in missed[1:8]]
    assert effects[-1].beyond_copies
    assert effects[-1].ng_parts == 16 + 7  # and the corrections before
    assert all(effect.missed_after <= effect.missed_before for effect in effects)
    others = missed[8:]
    assert len(passed(run, others)) <= len(others) * 2 / 3
    like = [one for one in Inspector.open(run).judge_files(others) if one.verdict == "NG"]
    assert any(one.why.startswith("like spot (correction") for one in like)
    assert {one.defect_type for one in like if one.why.startswith("like spot")} == {"spot"}
    # Good parts are not the price: the threshold is set anew with the lesson in force.
    assert len(rejected(run, images(fresh))) <= rejected_before + 4


def test_an_overkill_taught_as_ok_is_ok_at_once_and_so_are_copies_of_it(run, tmp_path):
    marks = [
        save(tmp_path / "marks" / f"{seed}.png", part(seed, blot=(48, 48), size=16, shade=230))
        for seed in range(4100, 4108)
    ]
    assert len(rejected(run, marks)) >= 6
    before = {one.photo.path: one.score for one in Inspector.open(run).judge_files(marks)}
    taught = rejected(run, marks)[0]
    entry, was, now, effect = teach(run, taught, "OK")
    assert not effect.beyond_copies
    assert (was.verdict, now.verdict) == ("NG", "OK")
    assert (now.defect_type, now.why) == ("", f"taught: {entry.note}")
    after = {one.photo.path: one.score for one in Inspector.open(run).judge_files(marks)}
    # It lowers the score of this part and of photographs of it, of no other.
    assert after[taught] < 0
    assert all(after[path] == before[path] for path in marks if path != taught)
    copy = save_jpeg(taught, tmp_path / "copy.jpg")
    assert Inspector.open(run).judge_file(copy).verdict == "OK"
    # What is bad in another way stays bad.
    other = save(tmp_path / "other.png", part(9, scratch=(16, 16)))
    assert Inspector.open(run).judge_file(other).verdict == "NG"


def test_a_copy_under_another_name_is_the_same_photograph(run, dull, tmp_path):
    teach(run, passed(run, dull)[0], "NG:spot")
    copy = shutil.copy(read_corrections(run)[0].file, tmp_path / "copy.png")
    assert Inspector.open(run).judge_file(Path(copy)).why.startswith("taught: spot")


def test_the_last_lesson_on_a_photograph_holds(run, dull):
    missed = passed(run, dull)[0]
    verdicts = [teach(run, missed, label)[2] for label in ("NG:spot", "OK", "NG")]
    assert [one.verdict for one in verdicts] == ["NG", "OK", "NG"]
    assert len(Inspector.open(run).judge.taught) == 1
    undo(run)
    assert Inspector.open(run).judge_file(missed).verdict == "OK"


def test_undo_brings_back_every_verdict_exactly(run, dull, ng, fresh):
    files = [*dull, *images(ng)[:4], *images(fresh)[:8]]
    states = [list(Inspector.open(run).judge_files(files))]
    teach(run, passed(run, dull)[0], "NG:spot")
    states.append(list(Inspector.open(run).judge_files(files)))
    teach(run, images(ng)[0], "OK")
    assert any(not same(*pair) for pair in zip(states[0], states[1], strict=True))
    for expected in (states[1], states[0]):
        undo(run)
        now = list(Inspector.open(run).judge_files(files))
        assert all(same(*pair) for pair in zip(now, expected, strict=True))


def test_a_lesson_in_the_middle_can_be_taken_back_and_only_once(run, dull):
    for path in dull[:3]:
        teach(run, path, "NG:spot")
    assert undo(run, 2).file == str(dull[1])
    assert [entry.undone for entry in read_corrections(run)] == [False, True, False]
    with pytest.raises(InputError, match="correction 2: was undone before"):
        undo(run, 2)
    with pytest.raises(InputError, match="correction 4: there is none"):
        undo(run, 4)
    undo(run)
    undo(run)
    with pytest.raises(InputError, match="no correction is active, so there is none to undo"):
        undo(run)
    assert [entry.undone for entry in read_corrections(run)] == [True] * 3


def test_a_lesson_outlives_the_photograph_and_a_new_calibration(run, dull, ok, net, tmp_path):
    missed = passed(run, dull)
    teach(run, missed[0], "NG:spot")
    copy = Path(shutil.copy(missed[0], tmp_path / "copy.png"))
    missed[0].unlink()
    assert Inspector.open(run).judge_file(copy).verdict == "NG"
    calibrate_run(run, [ok], encoder=net, settings=CalibrationSettings(0.2, seed=5))
    verdict = Inspector.open(run).judge_file(copy)
    assert (verdict.verdict, verdict.defect_type) == ("NG", "spot")


def test_a_part_that_set_the_threshold_cannot_be_taught_as_ng_by_any_of_its_names(run, ok, monkeypatch):
    own = Path(Inspector.open(run).metadata["ok"][0])
    monkeypatch.chdir(own.parent)
    for name in (own, Path(own.name), Path("..") / own.parent.name / own.name):
        with pytest.raises(InputError, match="was given to calibrate as OK; take it out"):
            teach(run, name, "NG:spot")
    assert read_corrections(run) == []
    teach(run, own, "OK")  # which it is


def test_a_photograph_that_cannot_be_read_teaches_nothing(run, tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match=r"text\.png: cannot be read"):
        teach(run, tmp_path / "text.png", "NG")
    with pytest.raises(InputError, match="does not exist"):
        teach(run, tmp_path / "gone.png", "NG")
    assert not (run / "lessons.jsonl").exists()


@pytest.mark.parametrize("label", ["", "good", "OK:scratch", "N G", ":scratch", "0"])
def test_a_label_that_is_none_is_refused(label):
    with pytest.raises(InputError, match="give OK, NG, or NG:TYPE"):
        parse_label(label)


def test_labels_are_taken_as_people_write_them():
    said = [parse_label(text) for text in ("ok", " OK ", "ng", "Ng: 傷 ", "NG:a:b", "NG:")]
    assert said == [(False, ""), (False, ""), (True, "NG"), (True, "傷"), (True, "a:b"), (True, "NG")]


# ---- the book ----


def test_the_log_has_who_when_and_what_and_only_grows(run, dull, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "佐藤")
    begun = datetime.now(UTC).replace(microsecond=0)
    log, before = run / "lessons.jsonl", b""
    steps = (
        lambda: teach(run, dull[0], "NG:傷"),
        lambda: teach(run, dull[1], "OK"),
        lambda: undo(run, 1),
        lambda: teach(run, dull[0], "NG"),
    )
    for step in steps:
        step()
        content = log.read_bytes()
        assert content.startswith(before)
        assert content.count(b"\n") == before.count(b"\n") + 1
        before = content
    lines = [json.loads(line) for line in before.decode().splitlines()]
    assert [(line.get("undo"), line.get("kind"), line["who"]) for line in lines] == [
        (None, "傷", "佐藤"),
        (None, "", "佐藤"),
        (1, None, "佐藤"),
        (None, "NG", "佐藤"),
    ]
    for line in lines:
        assert begun <= datetime.fromisoformat(line["when"]) <= datetime.now(UTC)
    first, second, third = read_corrections(run)
    assert (first.number, first.ng, first.file, first.undone) == (1, True, str(dull[0]), True)
    assert (second.ng, second.undone, third.number, third.undone) == (False, False, 3, False)
    assert first.content == third.content != second.content


def test_a_torn_last_line_counts_for_nothing_and_is_mended_by_the_next(run, dull):
    teach(run, dull[0], "NG:spot")
    log = run / "lessons.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + whole[: len(whole) // 2])
    assert [entry.number for entry in read_corrections(run)] == [1]
    assert Inspector.open(run).judge_file(dull[0]).verdict == "NG"
    assert teach(run, dull[1], "NG:spot")[0].number == 2
    lines = log.read_bytes().splitlines(keepends=True)
    assert lines[0] == whole
    assert len(lines) == 2
    assert json.loads(lines[1])["number"] == 2


def test_a_line_torn_in_the_middle_of_a_character_counts_for_nothing_either(run, dull):
    teach(run, dull[0], "NG:傷")
    log = run / "lessons.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + whole[: whole.index("傷".encode()) + 1])
    assert [entry.defect_type for entry in read_corrections(run)] == ["傷"]
    assert teach(run, dull[1], "NG:傷")[0].number == 2
    assert [entry.defect_type for entry in read_corrections(run)] == ["傷", "傷"]


def test_a_first_line_that_was_torn_leaves_an_empty_book(run, dull):
    (run / "lessons.jsonl").write_bytes(b'{"number": 1, "ng"')
    assert read_corrections(run) == []
    assert teach(run, dull[0], "NG")[0].number == 1
    assert len((run / "lessons.jsonl").read_bytes().splitlines()) == 1


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", "3", '{"undo": 9}', '{"undo": 0}', '{"number": 1}', "null"]
)
def test_a_damaged_line_is_named(run, dull, line):
    teach(run, dull[0], "NG:spot")
    with (run / "lessons.jsonl").open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(InputError, match=r"lessons\.jsonl, line 2: cannot be read"):
        Inspector.open(run)


def test_a_lesson_whose_vectors_are_gone_is_named_and_can_be_taken_back(run, dull):
    teach(run, dull[0], "NG:spot")
    (run / "lessons" / "1.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"1\.safetensors: cannot be read .*undo it with --undo --correction 1"
    ):
        Inspector.open(run)
    undo(run, 1)
    assert Inspector.open(run).judge.taught == ()


def test_a_file_name_of_any_bytes_can_be_taught(run, dull, tmp_path):
    odd = dull[0].rename(tmp_path / "bad\udcff\n傷.png")
    teach(run, odd, "NG:spot")
    assert [entry.ng for entry in read_corrections(run)] == [True]
    assert Inspector.open(run).judge_file(odd).verdict == "NG"


def test_lessons_taught_at_the_same_time_are_all_there(run):
    book = CorrectionLog(run)

    def add(number):
        book.add(Photo(Path(f"{number}.png"), part(number)), ng=True, defect_type=f"k{number}", before="OK",
                 features={"layer 16": np.ones(1024, np.float32)}, extractor="")  # fmt: skip

    for number in range(3):
        add(number)
    threads = [threading.Thread(target=undo, args=(run, number)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.undone for entry in read_corrections(run)] == [True] * 3


@pytest.mark.parametrize("width", [0.25, 0.5])
def test_lessons_are_looked_at_anew_where_the_eye_is_another(run, dull, ok, tmp_path, width):
    missed = passed(run, dull)[0]
    teach(run, missed, "NG:spot")
    other = make_backbone(tmp_path / "other", side=48, width=width)
    calibrate_run(run, [ok], encoder=other, settings=CalibrationSettings(0.1))
    inspector = Inspector.open(run)
    taught = inspector.judge_file(missed)
    assert (taught.verdict, taught.defect_type) == ("NG", "spot")
    (lesson,) = inspector.judge.taught
    assert lesson.features.keys() >= taught.features.keys()
    assert all(np.array_equal(lesson.features[name], taught.features[name]) for name in taught.features)


# ---- folding in ----


@pytest.fixture
def taught(run, dull):
    for path in passed(run, dull)[:4]:
        teach(run, path, "NG:spot")
    return run


def test_retraining_shows_before_and_after_and_replaces_what_is_no_worse(taught, ng):
    before = contents(taught / "judge")
    told = retrain(taught)
    assert told["lessons"] == 4
    assert told["held_out_ok"] == 20 // 3
    assert told["ng"] == len(images(ng)) + 4
    worse = any(told["after"][name] > told["before"][name] for name in ("false_rejects", "missed"))
    assert told["replaced"] is not worse
    assert (contents(taught / "judge") == before) is worse
    if told["replaced"]:
        facts = Inspector.open(taught).metadata
        assert len(facts["ok"]) == 60
        assert "spot" in facts["missed_by_kind"]
    assert [entry.undone for entry in read_corrections(taught)] == [False] * 4


def test_what_is_held_out_taught_neither_judge(taught):
    old = Inspector.open(taught).metadata["ok"]
    retrain(taught, accept=True)
    facts = Inspector.open(taught).metadata
    assert facts["ok_parts"] == 60 - 20 // 3
    assert set(facts["ok"]) == set(old)
    assert set(facts["ok"][facts["ok_parts"] :]) == set(old[-(20 // 3) :])
    assert not set(old[-(20 // 3) :]) & set(facts["ok"][: facts["ok_parts"]])


def test_parts_held_out_once_are_the_first_to_be_held_out_again(taught):
    for turn in range(2):
        before = Inspector.open(taught).metadata
        with warnings.catch_warnings():
            warnings.simplefilter("error", DataWarning)  # neither judge learnt from a part held out
            count = retrain(taught, accept=True)["held_out_ok"]
        after = Inspector.open(taught).metadata
        held_out, earlier = set(after["ok"][after["ok_parts"] :]), set(before["ok"][before["ok_parts"] :])
        assert len(held_out) == count
        assert earlier <= held_out
        assert bool(earlier) is (turn > 0)


def test_retraining_says_how_many_held_out_parts_a_cross_calibrated_judge_learnt_from(tmp_path, net, dull):
    run = tmp_path / "r"
    calibrate_run(run, [ok_folder(tmp_path / "few", 15)], encoder=net, settings=CalibrationSettings(0.1))
    assert Inspector.open(run).metadata["method"] == "cross"
    teach(run, dull[0], "NG:spot")
    with pytest.warns(DataWarning, match=r"5 of the 5 OK parts held out .* favours the old judge"):
        assert retrain(run, accept=True)["held_out_ok"] == 5
    # It learnt from none of those five, and they are held out again.
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert retrain(run)["held_out_ok"] == 5


def test_a_worse_judge_replaces_nothing_unless_it_is_accepted(taught, monkeypatch):

    from mekiki.judging import teach as module

    shares = iter([0.1, 0.2, 0.3, 0.1] * 2)  # false rejects and misses before, then after
    monkeypatch.setattr(module, "_share", lambda *_: next(shares))
    before = contents(taught)
    told = retrain(taught)
    assert told["replaced"] is False
    assert (told["before"], told["after"]) == (
        {"false_rejects": 0.1, "missed": 0.2},
        {"false_rejects": 0.3, "missed": 0.1},
    )
    assert contents(taught) == before
    assert retrain(taught, accept=True)["replaced"] is True
    assert contents(taught / "judge") != before


def test_an_ok_lesson_joins_the_ok_parts(run, ng):
    overkill = images(ng)[0]
    teach(run, overkill, "OK")
    told = retrain(run, accept=True)
    assert told["replaced"]
    facts = Inspector.open(run).metadata
    assert str(run / "lessons" / "1.png") in facts["ok"]
    assert facts["ok_parts"] == 60 - 20 // 3 + 1


def test_of_lessons_that_contradict_each_other_the_last_is_folded_in(run, dull):
    path = passed(run, dull)[0]
    teach(run, path, "NG:spot")
    teach(run, path, "OK")
    told = retrain(run, accept=True)
    facts = Inspector.open(run).metadata
    assert str(run / "lessons" / "2.png") in facts["ok"]
    assert str(run / "lessons" / "1.png") not in facts["ng"]
    assert told["ng"] == 16


def test_retraining_from_another_folder_finds_the_photographs(tmp_path, net, ok, dull, monkeypatch):
    monkeypatch.chdir(ok.parent)
    calibrate_run(tmp_path / "r", [Path(ok.name)], encoder=net, settings=CalibrationSettings(0.1))
    monkeypatch.chdir(tmp_path)
    teach(tmp_path / "r", dull[0], "NG:spot")
    assert retrain(tmp_path / "r", accept=True)["replaced"]


def test_retraining_with_nothing_taught_or_photographs_gone_is_refused(tmp_path, net, ok, dull):
    mine = Path(shutil.copytree(ok, tmp_path / "mine"))
    run = tmp_path / "r"
    calibrate_run(
        run, [mine], [ng_folder(tmp_path / "bad", 4)], encoder=net, settings=CalibrationSettings(0.1)
    )
    with pytest.raises(InputError, match="nothing was taught, so there is nothing to retrain with"):
        retrain(run)
    teach(run, dull[0], "NG:spot")
    before = contents(run)
    for path in images(mine)[:3]:
        path.unlink()
    with pytest.raises(InputError, match=r"is gone, with 2 more of the calibration; calibrate again"):
        retrain(run)
    assert contents(run) == before
    undo(run)
    with pytest.raises(InputError, match="nothing was taught"):
        retrain(run)


def test_types_taught_once_each_name_most_stronger_defects_of_their_kind(run, tmp_path):
    for number, place in enumerate(QUADRANTS):
        path = save(tmp_path / f"{number}.png", part(4200 + number, blot=place, lift=LIFT))
        teach(run, path, f"NG:quarter{number}")
    named = 0
    for number, place in enumerate(QUADRANTS):
        strong = save(tmp_path / "strong.png", part(4300 + number, blot=place, lift=3 * LIFT))
        named += Inspector.open(run).judge_file(strong).defect_type in (f"quarter{number}", "blot", "")
    assert named >= 3
