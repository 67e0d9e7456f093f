"""Remembering, searching and feedback, as a user gives the commands."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.cases.note_files import Note, match_notes, read_notes
from mekiki.cases.remember import remember
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.store_address import open_store
from mekiki.embedder import Embedder
from mekiki.errors import InputError


def process(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained run on digits, and photographs: 0 is OK, 1 and 7 are defects."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("made")
    found = load_digits()
    for place, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        if label in (0, 1, 7) and place >= 900:
            target = folder / "photos" / {0: "ok", 1: "scratch", 7: "dent"}[label]
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(target / f"{place:04}.png")
    pixels = (found.images * 255 / 16).astype(np.uint8)
    Embedder(dim=8, epochs=3).fit(pixels[:900], found.target[:900]).save(folder / "run")
    (folder / "run" / "metrics.json").write_text("{}")
    return folder


@pytest.fixture
def run(made, tmp_path):
    """The trained run, and nothing remembered yet."""
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def text_model(tmp_path_factory):
    """A model that adds up a vector a word, so that notes with the same words are near."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = "[UNK] oil leak pump seal crack edge tile dent belt worn replaced 油 漏れ 割れ"
    words = dict(zip(words.split(), range(99), strict=False))
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).normal(size=(len(words), 32)).astype(np.float32)
    weights[0] = 0.01
    folder = tmp_path_factory.mktemp("text") / "words"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save(str(folder))
    return folder


def notes_file(path, rows):
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "note"])
        writer.writerows(rows)
    return path


def test_a_run_remembers_and_finds_again(mekiki, made, run, tmp_path):
    photos = made / "photos"
    one = sorted((photos / "scratch").iterdir())[0]
    notes = notes_file(tmp_path / "notes.csv", [[f"scratch/{one.name}", "", "ground too hard, 研磨"]])
    kept = mekiki("remember", run, photos, "--notes", notes, "--json").json
    count = sum(1 for _ in photos.rglob("*.png"))
    assert kept["cases"] == kept["new"] == count
    assert kept["notes"] == []
    again = mekiki("remember", run, photos, "--json").json
    assert (again["cases"], again["new"]) == (count, 0)

    found = mekiki("search", run, one, "--json").json["found"]
    assert len(found) == 10
    assert all(Path(each["image"]) != one for each in found), "a photograph is not its own past case"
    assert sum(each["label"] == "scratch" for each in found) >= 8
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)

    only = mekiki("search", run, one, "-k", 3, "--where", "label = 'dent'", "--json").json["found"]
    assert [each["label"] for each in only] == ["dent"] * 3
    noted = mekiki("search", run, "--like", found[0]["id"], "--where", "note like '%研磨%'", "--json").json[
        "found"
    ]
    assert [Path(each["image"]) for each in noted] == [one], "the note outlives remembering again without it"

    other = sorted((photos / "dent").iterdir())[0]
    dent, ok = mekiki("search", run, other, "-k", 1, "--json").json["found"][0]["id"], found[0]["id"]
    steered = mekiki("search", run, one, "--like", dent[:8], "--unlike", ok[:8], "--json").json["found"]
    assert sum(each["label"] == "dent" for each in steered) >= 5
    shown = mekiki("search", run, one)
    assert shown.code == 0
    assert found[0]["id"] in shown.out

    result = mekiki("cases", "stats", run, "--json").json
    assert result["images"]["cases"] == count
    assert set(result["images"]["labels"]) == {"ok", "scratch", "dent"}
    assert result["images"]["notes"] == 1
    assert mekiki("cases", "stats", run).code == 0


def test_feedback_acts_at_once_and_undo_restores(mekiki, made, run):
    mekiki("remember", run, made / "photos", "--json")
    query, similar = sorted((made / "photos" / "ok").iterdir())[:2]
    before = mekiki("search", run, query, "--json").json["found"]
    assert before[0]["shift"] == 0
    bad, good = before[0]["id"], before[9]["id"]
    said = mekiki("feedback", run, query, "--bad", bad, "--good", good[:10], "--json").json["feedback"]
    assert [(each["case"], each["good"]) for each in said] == [(good, True), (bad, False)]
    after = mekiki("search", run, query, "--json").json
    assert after["feedback"] == 2
    assert good in [each["id"] for each in after["found"][:5]]
    assert bad not in [each["id"] for each in after["found"]]
    assert mekiki("search", run, similar, "--json").code == 0
    listed = mekiki("feedback", run, "--list", "--json").json["feedback"]
    assert len(listed) == 2
    assert not listed[0]["undone"]
    assert "good" in mekiki("feedback", run, "--list").out
    assert len(mekiki("feedback", run, "--undo", "--json").json["undone"]) == 2
    assert mekiki("search", run, query, "--json").json["found"] == before
    assert len((run / "feedback.jsonl").read_text().splitlines()) == 2
    assert mekiki("feedback", run, "--undo").code == 2


def test_feedback_has_sub_commands_and_the_old_form_still_works(mekiki, made, run):
    mekiki("remember", run, made / "photos", "--json")
    query = sorted((made / "photos" / "ok").iterdir())[0]
    before = mekiki("search", run, query, "--json").json["found"]
    good, bad = before[9]["id"], before[0]["id"]
    added = mekiki("feedback", "add", run, query, "--good", good, "--bad", bad)
    assert f"mekiki feedback undo {run} --entry 1" in added.out
    assert mekiki("feedback", run, query, "--good", good, "--json").json["feedback"][0]["go"] == 2
    new, old = mekiki("feedback", "list", run, "--json"), mekiki("feedback", run, "--list", "--json")
    assert new.json == old.json
    assert [each["go"] for each in new.json["feedback"]] == [1, 1, 2]
    assert [
        each["go"] for each in mekiki("feedback", "undo", run, "--entry", 1, "--json").json["undone"]
    ] == [1, 1]
    assert mekiki("feedback", "--undo", "--go", 2, run, "--json").json["undone"][0]["undone"]
    assert mekiki("search", run, query, "--json").json["found"] == before
    for form in (("train", run), (run, "--train")):
        assert "judge some of each" in mekiki("feedback", *form).error
    for form in (("untrain", run), (run, "--untrain")):
        assert "none to take back" in mekiki("feedback", *form).error
    for wrong in (
        ("--undo", "--list"),
        ("--go", "1"),
        ("--train", "--untrain"),
        ("--list", "--nested", "64"),
    ):
        refused = mekiki("feedback", run, *wrong)
        assert refused.code == 2
        assert refused.err.startswith("error: feedback: ")
    shown = mekiki("feedback", "--help").out
    assert all(f"  {name} " in shown for name in ("add", "undo", "list", "train", "untrain"))
    assert "--go" not in mekiki("feedback", "undo", "--help").out


def test_a_judge_remembers_in_its_own_space(mekiki, made, run, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(made / "photos" / "scratch", flat)
    calibrated = mekiki(
        "calibrate",
        run,
        "--ok",
        made / "photos" / "ok",
        "--ng",
        made / "photos" / "dent",
        "--ng",
        made / "photos" / "scratch",
        "--false-reject",
        0.1,
        "--json",
    )
    assert calibrated.code == 0, calibrated.err
    kept = mekiki("remember", run, flat, "--json").json
    result = mekiki("cases", "stats", run, "--json").json["images"]
    assert kept["cases"] == result["cases"]
    assert "" not in result["labels"], "the judge's word is the label where nobody said"
    assert "judge of run" in result["encoder"]["name"]
    one = sorted(flat.iterdir())[0]
    assert len(mekiki("search", run, one, "--json").json["found"]) == 10
    notes = notes_file(tmp_path / "notes.csv", [[file.name, "", "seen before"] for file in flat.iterdir()])
    mekiki("remember", run, flat, "--notes", notes, "--json")
    past = mekiki("judge", run, one, "--cases", 3, "--json").json["cases"][str(one)]
    assert past == mekiki("search", run, one, "-k", 3, "--json").json["found"]
    shown = mekiki("judge", run, one, "--cases", 3).out
    assert shown.count("      like ") == 3
    assert shown.count("seen before") == 3
    assert "      like " not in mekiki("judge", run, one).out
    mekiki("calibrate", run, "--ok", made / "photos" / "ok", "--false-reject", 0.1, "--seed", 5, "--json")
    refused = mekiki("search", run, next(flat.iterdir()))
    assert refused.code == 2
    assert refused.err.count("judge of run") == 2, "both names are in the message"
    assert "again" in refused.err


def test_notes_are_found_by_their_text(mekiki, made, run, text_model, tmp_path):
    one = sorted((made / "photos" / "dent").iterdir())[0]
    rows = [
        [str(one), "dent", "dent tile edge"],
        ["", "pump", "oil leak pump seal"],
        ["", "pump", "油 漏れ pump"],
        ["", "belt", "belt worn replaced"],
    ]
    notes = notes_file(tmp_path / "notes.csv", rows)
    kept = mekiki("remember", run, one, "--notes", notes, "--text-model", text_model, "--json").json
    assert (kept["cases"], kept["embedded_notes"]) == (4, 4)
    found = mekiki("search", run, "--text", "oil leak", "-k", 2, "--json").json
    assert found["space"] == "notes"
    assert found["found"][0]["note"] == "oil leak pump seal"
    assert (
        mekiki("search", run, "--text", "漏れ", "-k", 1, "--json").json["found"][0]["note"] == "油 漏れ pump"
    )
    assert mekiki("search", run, "--text", "dent", "-k", 1, "--json").json["found"][0]["image"] == str(one)
    bad = found["found"][0]["id"]
    mekiki("feedback", run, "--text", "oil leak", "--bad", bad)
    result = mekiki("cases", "stats", run, "--json").json
    assert result["notes"]["cases"] == 4
    assert result["feedback"] == {"in_force": 1, "all": 1}
    assert mekiki("search", run, one, "-k", 1, "--json").json["space"] == "images"


def test_notes_alone_need_no_network(mekiki, text_model, tmp_path):
    notes = notes_file(tmp_path / "log.csv", [["", "", "belt worn"], ["", "", "oil leak"]])
    refused = mekiki("remember", "memo", notes)
    assert refused.code == 2
    assert "--text-model" in refused.err
    mekiki("remember", "memo", notes, "--text-model", text_model, "--text-dim", 16, "--json")
    found = mekiki("search", "memo", "--text", "belt", "-k", 1, "--json").json["found"]
    assert found[0]["note"] == "belt worn"
    assert mekiki("cases", "stats", "memo", "--json").json["notes"]["encoder"]["dimension"] == 16
    changed = mekiki("remember", "memo", notes, "--text-dim", 8)
    assert changed.code == 2
    assert "16 dimensions" in changed.err
    assert "8 dimensions" in changed.err


def test_feedback_teaches_and_can_be_taken_back(mekiki, made, run, tmp_path):
    mekiki("remember", run, made / "photos", "--json")
    photos = {label: sorted((made / "photos" / label).iterdir()) for label in ("ok", "scratch", "dent")}
    refused = mekiki("feedback", run, "--train")
    assert refused.code == 2
    assert "judge some of each" in refused.err
    ids = {}
    for files in photos.values():
        for each in mekiki("search", run, files[0], "-k", 400, "--json").json["found"]:
            ids[each["image"]] = each["id"]
    rng = np.random.default_rng(0)
    rows = [["anchor", "positive", "negative"]]
    for file in photos["scratch"][1:40]:  # a wish that has nothing to do with what the network learnt
        good, bad = rng.choice(photos["dent"]), rng.choice(photos["scratch"])
        if str(bad) != str(file):
            rows.append([ids[str(each)] for each in (file, good, bad)])
    with (tmp_path / "t.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    before = mekiki("search", run, photos["scratch"][0], "--json").json["found"]
    result = mekiki("feedback", run, "--train", "--triplets", "t.csv", "--adapter", "mlp", "--json").json
    assert result["replaced"] == (result["after"] > result["before"])
    assert result["replaced"]
    assert mekiki("search", run, photos["scratch"][0], "--json").json["found"] != before
    worse = mekiki("feedback", run, "--train", "--triplets", "t.csv", "--adapter", "mlp", "--json").json
    assert not worse["replaced"], "the same again is no better"
    assert mekiki("feedback", run, "--untrain").code == 0
    assert mekiki("search", run, photos["scratch"][0], "--json").json["found"] == before
    assert mekiki("feedback", run, "--untrain").code == 2


def test_export_import_and_forget(mekiki, made, run, tmp_path):
    mekiki("remember", run, made / "photos" / "dent", "--json")
    count = sum(1 for _ in (made / "photos" / "dent").iterdir())
    assert mekiki("cases", "export", run, "-o", "all.parquet", "--json").json["cases"] == count
    first = mekiki("search", run, next((made / "photos" / "ok").iterdir()), "-k", 2, "--json").json["found"]
    assert mekiki("cases", "forget", run, first[0]["id"], "--json").json == {"forgotten": 1}
    assert mekiki("cases", "forget", run, "--where", f"id = '{first[1]['id']}'", "--json").json == {
        "forgotten": 1
    }
    assert mekiki("cases", "stats", run, "--json").json["images"]["cases"] == count - 2
    back = mekiki("cases", "import", run, "all.parquet", "--json").json
    assert (back["cases"], back["new"]) == (count, 2)
    mekiki("cases", "export", run, "-o", "again.parquet")
    assert (
        mekiki("search", run, next((made / "photos" / "ok").iterdir()), "-k", 2, "--json").json["found"]
        == first
    )
    assert mekiki("cases", "forget", run).code == 2
    elsewhere = mekiki("cases", "import", run, "all.parquet", "--store", tmp_path / "other", "--json").json
    assert elsewhere["store"] == str(tmp_path / "other")
    assert mekiki("cases", "stats", run, "--json").json["images"]["place"] == str(tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "RUN", "nothing.png"], "no such photograph"),
        (["search", "RUN"], "one query"),
        (["search", "nowhere", "--text", "a"], "no such folder"),
        (["search", "RUN", "--text", "a"], "--text-model"),
        (["search", "RUN", "PHOTO", "--where", "label = crack"], "single quotes"),
        (["search", "RUN", "PHOTO", "--like", "zzzz"], "there is none"),
        (["search", "RUN", "PHOTO", "--store", "empty"], "mekiki remember"),
        (["search", "RUN", "PHOTO", "--store", "qdrant+http://127.0.0.1:9"], "see that it runs"),
        (["feedback", "RUN", "PHOTO"], "--good ID"),
        (["feedback", "RUN", "--good", "a"], "QUERY"),
        (["feedback", "RUN", "PHOTO", "--good", "zzzzz"], "there is none"),
        (["feedback", "RUN", "--undo", "--go", "7"], "there is none"),
        (["remember", "RUN", "nowhere"], "does not exist"),
        (["remember", "RUN", "PHOTO", "--notes", "missing.csv"], "no such file"),
        (["remember", "nowhere", "PHOTO"], "no such folder"),
        (["judge", "RUN", "PHOTO", "--cases", "2"], "not calibrated"),
        (["cases", "export", "RUN", "-o", "a.csv"], "ends in .parquet"),
        (["cases", "export", "RUN", "-o", "a.parquet", "--space", "sounds"], "images, notes"),
        (["cases", "import", "RUN", "missing.parquet"], "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(mekiki, made, run, arguments, message):
    photo = next((made / "photos" / "dent").iterdir())
    mekiki("remember", run, photo)
    said = mekiki(*(str({"RUN": run, "PHOTO": photo}.get(each, each)) for each in arguments))
    assert said.code == 2
    assert message in said.err
    assert said.err.strip().count("\n") == 0
    assert said.out == ""


def test_photographs_that_cannot_be_read_are_counted(mekiki, made, run, tmp_path):
    broken = tmp_path / "photos"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no photograph")
    shutil.copy(next((made / "photos" / "ok").iterdir()), broken / "b.png")
    kept = mekiki("remember", run, broken, "--json").json
    assert (kept["cases"], kept["unreadable"]) == (1, 1)
    assert "a.png" in kept["notes"][0]


def test_notes_find_their_photographs(tmp_path):
    files = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png", tmp_path / "b" / "2.png"]
    notes = [Note(name, "", "") for name in ("a/1.png", "2.png", "1.png", str(files[1]), "b\\3.png")]
    found, lost = match_notes(notes, files, [tmp_path])
    assert {file: note.file for file, note in found.items()} == {
        files[0]: "a/1.png",
        files[2]: "2.png",
        files[1]: str(files[1]),
    }
    assert [note.file for note in lost] == ["1.png", "b\\3.png"]
    (tmp_path / "x.csv").write_text("fiel,words\n")
    with pytest.raises(InputError, match="did you mean file"):
        read_notes(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"note\n\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_notes(tmp_path / "x.csv")


def test_notes_saved_by_excel_in_japan_are_read(tmp_path):
    text = "file,label,note\r\na.png,漏れ,軸から油漏れ\r\n"
    expected = [Note("a.png", "漏れ", "軸から油漏れ")]
    for encoding in ("cp932", "utf-8", "utf-8-sig"):
        (tmp_path / "x.csv").write_bytes(text.encode(encoding))
        assert read_notes(tmp_path / "x.csv") == expected, encoding


def test_japanese_in_a_condition_finds_its_notes(mekiki, text_model, tmp_path):
    (tmp_path / "notes.csv").write_bytes("note\nポンプの油漏れ\n軸が割れ\n".encode("cp932"))
    mekiki("remember", tmp_path / "memo", tmp_path / "notes.csv", "--text-model", text_model)
    found = mekiki(
        "search", tmp_path / "memo", "--text", "割れ", "--where", "note like '%油漏れ%'", "--json"
    ).json
    assert [case["note"] for case in found["found"]] == ["ポンプの油漏れ"]


def test_feedback_torn_inside_a_character_is_listed_and_the_next_line_is_whole(mekiki, made, run):
    photo = next((made / "photos" / "dent").iterdir())
    mekiki("remember", run, made / "photos")
    near = [case["id"] for case in mekiki("search", run, photo, "--json").json["found"]]
    assert mekiki("feedback", run, photo, "--good", near[0]).code == 0
    log = run / "feedback.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + '{"who": "佐'.encode()[:-1])
    said = mekiki("feedback", run, "--list")
    assert said.code == 0
    assert near[0][:8] in said.out
    assert mekiki("feedback", run, photo, "--bad", near[1]).code == 0
    assert log.read_bytes().startswith(whole)
    lines = log.read_bytes().decode().splitlines()
    assert len(lines) == len(whole.splitlines()) + 1
    assert all(json.loads(line) for line in lines)


REMEMBER = """
import sys
from pathlib import Path
from mekiki.cases.remember import remember
from mekiki.cases.run_memory import RunMemory
from mekiki.cases import remember as module
module.BLOCK = 8
def report(what, done, total):
    print(done, flush=True)
print("ready", flush=True)
remember(RunMemory(Path(sys.argv[1])), [Path(sys.argv[2])], progress=report)
"""
FEEDBACK = """
import sys
import numpy as np
from pathlib import Path
from mekiki.cases.feedback import FeedbackLog
from mekiki.cases.store_address import open_store
folder = Path(sys.argv[1])
store, log = open_store(folder / "cases"), FeedbackLog(folder)
ids = [id_ for part in store.read() for id_ in part.ids]
print("ready", flush=True)
for turn in range(100000):
    query = np.full(store.encoder.dimension, turn, np.float32)
    log.add(store, "images", query, ids[:2], ids[2:5], asked=str(turn))
    print(turn, flush=True)
    if turn % 3 == 0:
        log.undo()
"""


def killed(code, seconds, *arguments):
    """Lines that a process printed before it was killed so long after it was ready."""
    one = process("-c", code, *arguments)
    assert one.stdout.readline() == "ready\n", one.stderr.read()
    time.sleep(seconds)
    one.send_signal(signal.SIGKILL)
    lines = one.stdout.read().split()
    one.wait()
    return lines


@pytest.mark.slow
def test_what_was_remembered_and_judged_survives_a_kill(made, run):
    rng = np.random.default_rng(0)
    photos = made / "photos"
    done = [int(line) for line in killed(REMEMBER, rng.uniform(0.3, 1.2), run, photos)]
    if done:
        assert open_store(run / "cases").count() >= done[-1]
    remember(RunMemory(run), [photos])
    assert open_store(run / "cases").count() == sum(1 for _ in photos.rglob("*.png"))
    log = RunMemory(run).log
    acknowledged = killed(FEEDBACK, rng.uniform(1, 2), run)
    said = log.judgements()
    entries = {each.entry for each in said}
    assert len(said) == 5 * len(entries), "what was judged together is one entry"
    assert len(entries) >= len(acknowledged) >= 1
    log.add(open_store(run / "cases"), "images", said[0].query, [said[0].case], [])
    assert len(log.undo()) == 1
