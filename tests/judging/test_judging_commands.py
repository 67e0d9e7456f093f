"""The commands of inspection as a user gives them: odd files, results in every format, and one line for bad input."""

import csv
import json
import os
import re
import shutil
import signal
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.embedder import Embedder
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.results import COLUMNS
from mekiki.judging.teach import teach
from parts import Forked, contents, images, ok_folder, part, process, save, wait_until


def huge_png(path, side=20_000):
    """A whole PNG of side×side pixels of one bit, some kilobytes long."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + side // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


@pytest.fixture
def odd(tmp_path):
    """A folder of photographs that can be read, and files that cannot; the names of both."""
    folder = tmp_path / "odd parts"
    good = [
        "plain.png",
        "with space.png",
        "傷 部品.png",
        "two\nlines.png",
        "deeper/in.png",
        "bad\udcff.png",
        "x.TIF",
    ]
    for number, name in enumerate(good):
        save(folder / name, part(5000 + number))
    save(folder / "deep.png", part(5100).astype(np.uint16) * 257)
    save(folder / "bad.png", part(5200, blot=(16, 16), size=24))
    Image.fromarray(part(5300)).convert("P").save(folder / "palette.png")
    Image.fromarray(part(5400)).save(folder / "photo.jpg", quality=95)
    good += ["deep.png", "bad.png", "palette.png", "photo.jpg"]
    (folder / "text.jpg").write_text("this is no photograph")
    (folder / "empty.png").touch()
    huge_png(folder / "huge.png")
    content = (folder / "photo.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 3])
    content = (folder / "plain.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "notes.txt").write_text("not looked at")
    (folder / "deeper" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "folder.png").mkdir()
    return folder, good, ["text.jpg", "empty.png", "huge.png", "cut.jpg", "cut.png"]


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def shown(folder, name):
    """A file name as results tell it."""
    return str(folder / name).encode("utf-8", "backslashreplace").decode()


# ---- odd files ----


def test_every_readable_file_is_judged_and_every_bad_one_named_with_its_reason(run, odd, tmp_path):
    folder, good, bad = odd
    began = time.monotonic()
    command = process("judge", run, folder, "-o", tmp_path / "results.csv")
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    assert time.monotonic() - began < 60
    assert err.splitlines() == ["note: 1 other files there are no photographs by their endings"]
    told = {row["file"]: row for row in read_csv(tmp_path / "results.csv")}
    judged = {name for name, row in told.items() if row["verdict"] in ("OK", "NG")}
    assert judged == {shown(folder, name) for name in good}
    unreadable = {name: row for name, row in told.items() if row["verdict"] == "unreadable"}
    assert {shown(folder, name) for name in bad} <= unreadable.keys()
    assert unreadable.keys() <= {shown(folder, name) for name in [*bad, "itself.png"]}
    for row in unreadable.values():
        assert row["problem"]
        assert "\n" not in row["problem"]
        assert (row["score"], row["p"], row["threshold"]) == ("", "", "")
    assert unreadable[shown(folder, "huge.png")]["problem"] == "more than 100 megapixels; scale it down"
    assert "not an image" in unreadable[shown(folder, "text.jpg")]["problem"]
    assert told[shown(folder, "bad.png")]["verdict"] == "NG"
    assert f"{len(unreadable)} unreadable" in out


def test_a_picture_too_large_is_refused_by_its_header_and_never_decoded(run, tmp_path, monkeypatch):
    huge_png(tmp_path / "huge.png")
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    from mekiki.data.photo import iter_photos

    (one,) = next(iter_photos([tmp_path / "huge.png"], lambda height, width: (64, 64), 3))
    assert one.pixels is None
    assert one.problem == "more than 100 megapixels; scale it down"


def test_files_named_one_by_one_are_judged_each_once_whatever_their_ending(mekiki, run, tmp_path):
    one = save(tmp_path / "a.png", part(5000))
    shutil.copy(one, tmp_path / "no-ending")
    (tmp_path / "b.png").symlink_to(one)
    said = mekiki("judge", run, one, one, tmp_path / "." / "a.png", tmp_path / "b.png", tmp_path / "no-ending",
                  "--json")  # fmt: skip
    assert said.code == 0, said.err
    assert [Path(row["file"]).name for row in said.json["verdicts"]] == ["a.png", "no-ending"]


# ---- results ----


def test_every_format_holds_the_same_rows(mekiki, run, odd, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder, good, _ = odd
    for name in ("r.csv", "r.parquet", "r.html"):
        said = mekiki("judge", run, folder, "-o", tmp_path / name, "--json")
        assert said.code == 0, said.err
        counted = {name: said.json[name] for name in ("photographs", "OK", "NG", "unreadable")}
        assert "verdicts" not in said.json
    told = mekiki("judge", run, folder, "--json").json
    assert counted == {name: told[name] for name in counted}
    assert counted["OK"] + counted["NG"] == len(good)
    rows = read_csv(tmp_path / "r.csv")
    assert tuple(rows[0]) == COLUMNS
    table = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert len(rows) == len(table) == len(told["verdicts"]) == counted["photographs"]
    for row, other, third in zip(rows, table, told["verdicts"], strict=True):
        for name in COLUMNS:
            if name in ("score", "p", "threshold"):
                value = float("nan") if row[name] == "" else float(row[name])
                assert value == pytest.approx(other[name], rel=1e-5, nan_ok=True)
                assert third[name] is None if np.isnan(value) else third[name] == other[name]
            else:
                assert row[name] == other[name] == third[name]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count('<li class="card">') == len(good)
    assert page.count("<dt>") - 2 * len(good) >= counted["unreadable"]
    assert "more than 100 megapixels" in page
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_without_a_file_each_verdict_is_a_line(mekiki, run, ng, fresh):
    said = mekiki("judge", run, images(ng)[0], images(fresh)[0])
    first, second, count, guarantee = said.out.splitlines()
    assert first.startswith(f"NG  {images(ng)[0]}  p 0.0")
    assert ", blot" in first
    assert second.startswith(("OK  ", "NG  "))
    assert count.endswith(" unreadable")
    assert guarantee == Inspector.open(run).metadata["guarantee"]


def test_results_replace_older_ones_only_when_they_are_whole(mekiki, run, fresh, tmp_path, monkeypatch):
    (tmp_path / "r.csv").write_text("older")
    (tmp_path / "r.html").write_text("older")
    from mekiki.judging import results

    monkeypatch.setattr(
        results, "write_gallery", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    said = mekiki("judge", run, fresh, "-o", tmp_path / "r.html").error
    assert said.startswith(f"error: {tmp_path / 'r.html'}: No space left; what was there is as it was")
    assert (tmp_path / "r.html").read_text() == "older"
    monkeypatch.setattr(results, "csv_row", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert mekiki("judge", run, fresh, "-o", tmp_path / "r.csv").code == 2
    assert (tmp_path / "r.csv").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv", "r.html", "run"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_results_cut_off_leave_the_older_file(run, tmp_path, how):
    parts = ok_folder(tmp_path / "many", 80, seed=9000)
    (tmp_path / "r.csv").write_text("older")
    command = Forked(tmp_path, "judge", run, parts, "-o", tmp_path / "r.csv")
    try:
        wait_until(lambda: list(tmp_path.glob(".r.*partial*")) or not command.running())
        assert command.running()
        command.send(how)
        assert command.wait().code != 0
    finally:
        command.kill()
    assert (tmp_path / "r.csv").read_text() == "older"
    if how == signal.SIGINT:
        assert list(tmp_path.glob(".r.*")) == []


# ---- calibrate, teach, retrain ----


def test_calibrate_says_what_it_did_in_one_line_of_json_and_in_words(mekiki, net, ok, ng, tmp_path):
    arguments = ("calibrate", tmp_path / "r", "--ok", ok, "--ng", ng, "--encoder", net, "--false-reject", 0.1)
    said = mekiki(*arguments, "--json")
    assert said.code == 0, said.err
    told = said.json
    assert (told["ok_parts"], told["ng_parts"], told["missed"]) == (60, 16, 0)
    assert told["missed_by_kind"] == {"blot": 0, "scratch": 0}
    assert told["run"] == str(tmp_path / "r")
    kept = json.loads((tmp_path / "r" / "judge" / "judge.json").read_text(encoding="utf-8"))
    assert {
        name: kept[name] for name in ("threshold", "guarantee", "missed", "auroc", "realised_between")
    } == {name: told[name] for name in ("threshold", "guarantee", "missed", "auroc", "realised_between")}
    said = mekiki(*arguments, "--escape-cost", 50, "--ng-share", 0.05)
    assert "60 OK parts: 40 taught what good looks like, 20 set the threshold" in said.out
    assert "16 NG parts: 0.00 % missed" in said.out
    assert "Expected cost of a part: " in said.out
    assert "an estimate and no promise" in said.err


@pytest.mark.parametrize(
    ("encoder", "detector", "reasons"),
    [
        ("NET", "places", {"patches: places"}),
        ("NET", "mt, memory", {"patches: memory", "vectors"}),
        ("NET", "mt", {"vectors"}),
        ("filters", "places", {"patches: places"}),
    ],
)
def test_single_detectors_are_chosen_and_kept_by_retrain(
    mekiki, net, ok, ng, tmp_path, detector, reasons, encoder
):
    folder = tmp_path / "r"
    said = mekiki("calibrate", folder, "--ok", ok, "--ng", ng, "--encoder", net if encoder == "NET" else encoder,
                  "--false-reject", 0.1, "--detector", detector, "--json")  # fmt: skip
    assert said.code == 0, said.err
    chosen = [name.strip() for name in detector.split(",")]
    assert said.json["detectors"] == chosen
    assert Inspector.open(folder).judge.patch_groups == (() if chosen == ["mt"] else ("patches",))
    rows = mekiki("judge", folder, ng, "--json").json["verdicts"]
    assert {re.sub(r"(layer|filters).*", "vectors", row["why"]) for row in rows} <= reasons
    teach(folder, save(tmp_path / "spot.png", part(4000, blot=(16, 48), lift=8)), "NG:spot")
    assert mekiki("retrain", folder, "--accept").code == 0
    again = Inspector.open(folder)
    assert again.metadata["detectors"] == chosen
    assert again.judge.detectors == tuple(chosen)


@pytest.fixture(scope="module")
def mlp_run(tmp_path_factory):
    """A run of a trained network without convolutions, so without features by place."""
    folder = tmp_path_factory.mktemp("mlp") / "run"
    pixels = np.stack([part(seed, 32, 32, blot=(16, 16) if seed % 2 else None) for seed in range(8000, 8024)])
    embedder = Embedder("softmax", 4, encoder="mlp", epochs=1, batch_size=8, device="cpu")
    embedder.fit(pixels, np.array(["OK", "NG"] * 12)).save(folder)
    (folder / "metrics.json").write_text("{}")
    return folder


def test_detectors_that_do_not_apply_are_named(mekiki, ok, ng, mlp_run):
    command = ("calibrate", mlp_run, "--ok", ok, "--false-reject", 0.1)
    said = mekiki(*command, "--detector", "mt,memory,discriminant", "--json")
    assert said.code == 0, said.err
    unused = [
        "--detector memory: not used, because embedder mlp has no features by place",
        "--detector discriminant: not used, because no NG photographs are given (--ng)",
    ]
    assert said.json["notes"][-2:] == unused
    kept = json.loads((mlp_run / "judge" / "judge.json").read_text(encoding="utf-8"))
    assert kept["notes"][-2:] == unused
    assert kept["detectors"] == said.json["detectors"] == ["mt"]
    assert kept["detectors_asked"] == ["mt", "memory", "discriminant"]
    said = mekiki(*command, "--ng", ng, "--detector", "mt,memory,discriminant")
    assert said.err.count("not used") == 1 and unused[0] in " ".join(said.err.split())
    assert mekiki(*command, "--ng", ng, "--detector", "memory,discriminant").error.endswith("choose mt")
    said = mekiki(*command, "--json")
    assert said.json["detectors"] == ["mt"]
    assert not any("not used" in note for note in said.json["notes"])


def test_a_judge_of_all_detectors_takes_those_that_apply_when_it_is_retrained(mekiki, ok, mlp_run, tmp_path):
    folder = Path(shutil.copytree(mlp_run, tmp_path / "run"))
    assert mekiki("calibrate", folder, "--ok", ok, "--false-reject", 0.1).code == 0
    teach(folder, save(tmp_path / "spot.png", part(4000, blot=(16, 48))), "NG:spot")
    assert mekiki("retrain", folder, "--accept").code == 0
    kept = Inspector.open(folder).metadata
    assert (kept["detectors"], kept["detectors_asked"]) == (["mt", "discriminant"], None)


def test_a_size_of_defect_that_no_detector_looks_for_is_said(mekiki, ok, tmp_path):
    said = mekiki("calibrate", tmp_path / "r", "--ok", ok, "--encoder", "filters", "--false-reject", 0.1,
                  "--detector", "mt", "--smallest-defect", 3, "--json")  # fmt: skip
    assert said.json["notes"] == [
        "a smallest defect of 3 px is not looked for: --detector mt reads every photograph at one size; "
        "it takes a detector on patches"
    ]


def test_the_docs_group_the_options_of_calibrate_as_the_help_does(mekiki):
    def names(text):
        return re.findall(r"--[a-z][a-z-]*", text)

    sections = re.split(r"^(\w.*):$", mekiki("calibrate", "--help").out, flags=re.MULTILINE)
    groups = {}
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        entries = [line for line in text.splitlines() if re.match(r"  -", line)]
        groups[title] = [name for line in entries for name in names(re.split(r"  +", line.strip())[0])]
    assert groups.pop("Arguments") == []
    page = (Path(__file__).parents[2] / "docs" / "inspection.md").read_text(encoding="utf-8")
    table = page[page.index("| group | options |") :].split("\n\n")[0].splitlines()[2:]
    rows = {cells[1].strip(): names(cells[2]) for cells in (line.split("|") for line in table)}
    assert rows == groups


def test_lessons_by_command(mekiki, run, ng, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "sato")
    bad = images(ng)[0]
    said = mekiki("teach", run, bad, "--as", "OK", "--json")
    assert said.code == 0, said.err
    assert (said.json["before"]["verdict"], said.json["after"]["verdict"]) == ("NG", "OK")
    assert said.json["lesson"]["who"] == "sato"
    assert said.json["effect"] == {
        "beyond_copies": False,
        "ng_parts": 15,  # of 16, this is one
        "missed_before": 0,
        "missed_after": 0,
    }
    assert mekiki("judge", run, bad, "--json").json["OK"] == 1
    said = mekiki("teach", run, bad, "--as", "NG:傷")
    assert said.out.splitlines() == [
        f"{bad}: was OK, is NG (correction 2)",
        "acts on near copies of the photograph only; "
        "of 15 NG parts that had no part in it 0 were missed before, 0 after",
        f"undo it with: mekiki teach {run} --undo --correction 2",
    ]
    listed = mekiki("teach", run, "--list", "--json").json["lessons"]
    assert [(entry["number"], entry["kind"], entry["undone"]) for entry in listed] == [
        (1, "", False),
        (2, "傷", False),
    ]
    assert mekiki("teach", run, "--undo", "--lesson", 1).out.startswith(
        f"correction 1 is undone: {bad} as OK"
    )
    assert mekiki("teach", run, "--undo", "--json").json["undone"]["number"] == 2
    header, first, second = mekiki("teach", run, "--list").out.splitlines()
    assert header.split() == ["correction", "when", "who", "as", "was", "photograph"]
    assert first.split()[2:5] == ["sato", "OK", "NG"]
    assert "NG:傷" in second
    assert first.rstrip().endswith("undone")
    assert "no correction is active" in mekiki("teach", run, "--undo").error


def test_retrain_by_command_shows_before_and_after(mekiki, run, tmp_path):
    for number in range(3):
        teach(run, save(tmp_path / f"{number}.png", part(4000 + number, blot=(16, 48), lift=8)), "NG:spot")
    before = contents(run)
    said = mekiki("retrain", run, "--json")
    assert said.code == 0, said.err
    told = said.json
    assert {"before", "after", "replaced", "held_out_ok", "ng", "lessons"} == told.keys()
    assert (contents(run) != before) is told["replaced"]
    said = mekiki("retrain", run, "--accept")
    assert "The new judge is in place." in said.out
    assert "false rejects of" in said.out
    assert "missed of" in said.out


# ---- bad input ----


@pytest.fixture
def places(tmp_path, ok):
    """Names that bad input needs."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("text")
    (tmp_path / "file").write_text("a file")
    ok_folder(tmp_path / "few", 5)
    return tmp_path


BAD = {
    "rate 0": ("calibrate new --ok OK --encoder NET --false-reject 0", "false_reject"),
    "rate 1": ("calibrate new --ok OK --encoder NET --false-reject 1", "false_reject"),
    "rate NaN": ("calibrate new --ok OK --encoder NET --false-reject nan", "false_reject"),
    "rate in words": ("calibrate new --ok OK --encoder NET --false-reject low", "--false-reject"),
    "too few for the rate": ("calibrate new --ok OK --encoder NET", "at least 99"),
    "too few": ("calibrate new --ok few --encoder NET --false-reject 0.4", "5 OK parts are too few"),
    "confidence 1": ("calibrate new --ok OK --encoder NET --false-reject 0.1 --confidence 1", "confidence"),
    "no OK photographs": ("calibrate new --ok empty --encoder NET", "no photograph here"),
    "OK folder missing": ("calibrate new --ok nowhere --encoder NET", "nowhere: does not exist"),
    "NG folder missing": ("calibrate new --ok OK --ng nowhere --encoder NET", "nowhere: does not exist"),
    "only bad files": ("calibrate new --ok text --encoder NET --false-reject 0.1", "none of 1 photographs"),
    "no OK given": ("calibrate new --encoder NET", "--ok"),
    "costs without NG": ("calibrate new --ok OK --encoder NET --escape-cost 5", "--ng"),
    "cost below 0": (
        "calibrate new --ok OK --ng NG --encoder NET --false-reject 0.1 --escape-cost -5",
        "cost",
    ),
    "share above 1": (
        "calibrate new --ok OK --ng NG --encoder NET --false-reject 0.1 --escape-cost 5 --ng-share 2",
        "share",
    ),
    "share without costs": (
        "calibrate new --ok OK --ng NG --encoder NET --false-reject 0.1 --ng-share 0.1",
        "--escape-cost",
    ),
    "unknown way to join": (
        "calibrate new --ok OK --encoder NET --views mean --false-reject 0.1",
        "sum, max",
    ),
    "seed below 0": ("calibrate new --ok OK --encoder NET --false-reject 0.1 --seed -1", "seed"),
    "no such backbone": ("calibrate new --ok OK --encoder hf:nowhere/at/all --false-reject 0.1", "nowhere"),
    "encoder that is none": ("calibrate new --ok OK --encoder vgg --false-reject 0.1", "hf:NAME_OR_FOLDER"),
    "RUN is a file": ("calibrate file --ok OK --encoder NET --false-reject 0.1", "file"),
    "judge: not calibrated": ("judge empty OK", "is not calibrated"),
    "judge: no such RUN": ("judge nowhere OK", "nowhere"),
    "judge: no such file": ("judge RUN nowhere.png", "nowhere.png: does not exist"),
    "judge: a URL": ("judge RUN s3://line1/photos", "is a URL"),
    "judge: empty folder": ("judge RUN empty", "no photograph here"),
    "judge: nothing named": ("judge RUN", "PATH"),
    "judge: wrong ending": ("judge RUN OK -o results.txt", "results.txt"),
    "judge: no ending": ("judge RUN OK -o results", "results"),
    "judge: no such folder for results": ("judge RUN OK -o no/such/results.csv", "no such folder"),
    "judge: results are a folder": ("judge RUN few -o folder.csv", "folder.csv"),
    "watch: no such folder": ("watch RUN nowhere", "nowhere: no such folder"),
    "watch: not calibrated": ("watch empty OK --once", "is not calibrated"),
    "watch: wrong ending": ("watch RUN few --once -o said.html", "said.html"),
    "watch: no such folder for results": ("watch RUN few --once -o file/said.csv", "file"),
    "watch: poll 0": ("watch RUN few --poll 0", "--poll"),
    "teach: nonsense": ("teach RUN few/000.png --as nonsense", "give OK, NG, or NG:TYPE"),
    "teach: no label": ("teach RUN few/000.png", "--as"),
    "teach: no image": ("teach RUN --as NG:spot", "IMAGE"),
    "teach: nothing": ("teach RUN", "--list"),
    "teach: two things": ("teach RUN --undo --list", "teach: give"),
    "teach: lesson of nothing": ("teach RUN --list --lesson 1", "teach: give"),
    "teach: unreadable": ("teach RUN text/a.png --as NG:spot", "text/a.png"),
    "teach: gone": ("teach RUN nowhere.png --as NG:spot", "nowhere.png"),
    "teach: not calibrated": ("teach empty few/000.png --as NG:spot", "is not calibrated"),
    "teach: part calibrated on": ("teach RUN OK/000.png --as NG:spot", "was given to calibrate as OK"),
    "undo of nothing": ("teach RUN --undo", "no correction is active"),
    "undo of a lesson that is none": ("teach RUN --undo --correction 7", "correction 7"),
    "undo: no such RUN": ("teach nowhere --undo", "nowhere: no such folder"),
    "list: no such RUN": ("teach nowhere --list", "nowhere: no such folder"),
    "retrain: nothing taught": ("retrain RUN", "nothing was taught"),
    "calibrate: unknown detector": (
        "calibrate new --ok OK --detector nonsense",
        "detector 'nonsense' is not known; choose one of mt, memory, places, subspace",
    ),
    "calibrate: one unknown detector": ("calibrate new --ok OK --detector mt,nonsense", "'nonsense'"),
    "calibrate: no detector": ("calibrate new --ok OK --detector ,", "there are none"),
    "retrain: not calibrated": ("retrain empty", "is not calibrated"),
}


def test_every_bad_input_is_one_line_with_exit_code_2_and_changes_nothing(mekiki, places, run, ok, ng, net):
    (places / "folder.csv").mkdir()
    names = {"OK": str(ok), "NG": str(ng), "NET": net, "RUN": str(run)}

    def meant(word):
        first, slash, rest = word.partition("/")
        return names.get(first, first) + slash + rest

    before = contents(places)
    wrong = []
    for name, (line, word) in BAD.items():
        said = mekiki(*map(meant, line.split()))
        errors = [each for each in said.err.splitlines() if not each.startswith("note: ")]
        one_line = len(errors) == 1 and errors[0].startswith("error: ") and word.lower() in errors[0].lower()
        now = contents(places)
        if said.code != 2 or said.out or not one_line or now != before:
            wrong.append((name, said.code, said.out, said.err, sorted(set(now) ^ set(before))))
            before = now
    assert not wrong
