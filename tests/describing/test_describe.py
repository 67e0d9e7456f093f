"""Describing photographs, as a user gives the commands."""

import csv
import html
import json
import shutil
import signal
import threading
import time

import jsonschema
import numpy as np
import pytest

from endpoint_server import Server
from language_models import language_model_folder
from mekiki.describing.describe import RunDescriber
from mekiki.describing.endpoint import repair_fields
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.part_features import PartExtractor, pool_maximum
from mekiki.describing.part_training import TrainConfig
from mekiki.describing.texts import read_texts
from mekiki.describing.train_describer import train_describer
from mekiki.errors import InputError
from parts import images, part, process, save, wait_until

FEW = ("--batch-size", "8")
KINDS = {"blot": "a bright blot", "scratch": "a dark scratch"}
CORNERS = {(16, 16): "upper left", (16, 48): "upper right", (48, 16): "lower left", (48, 48): "lower right"}


def write_texts(path, rows):
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "text", "language", "defect", "place", "severity", "cause", "repair"])
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def described_parts(tmp_path_factory):
    """A folder of 96 NG parts and what was written of each: kind and place are true."""
    folder = tmp_path_factory.mktemp("described")
    rows = []
    for number in range(96):
        corner = list(CORNERS)[number // 2 % 4]
        kind = list(KINDS)[number % 2]
        name = f"{number:03}.png"
        save(folder / name, part(5000 + number, **{kind: corner}))
        where = CORNERS[corner]
        said = f"There is {KINDS[kind]} in the {where}."
        language = "en"
        if number % 3 == 0:
            said, language = f"{where}に{kind}があります。", "ja"
        rows.append([name, said, language, kind, where, "severe", "the press", "grind it"])
    write_texts(folder / "texts.csv", rows)
    return folder


@pytest.fixture(scope="session")
def speaking_once(calibrated_once, described_parts, tmp_path_factory):
    """A calibrated run that learnt to describe: it is never changed."""
    run = tmp_path_factory.mktemp("speaking") / "run"
    shutil.copytree(calibrated_once, run)
    told = train_describer(
        run, described_parts / "texts.csv", config=TrainConfig(epochs=5, batch=8, rate=3e-3)
    )
    return run, told


@pytest.fixture
def language_model_server(tmp_path):
    """A server that speaks vLLM's protocol and checks what it gets, and the folder of its language model."""
    home = language_model_folder("llama", tmp_path)
    made = Server(LanguageModel.load(str(home)))
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made, home
    made.shutdown()
    made.server_close()


@pytest.fixture
def speaking(speaking_once, tmp_path):
    """A run of one's own that describes."""
    from pathlib import Path

    return Path(shutil.copytree(speaking_once[0], tmp_path / "speaking"))


def test_a_run_learns_to_describe_and_proves_it(speaking_once):
    run, told = speaking_once
    assert told["proof"]["reads"]
    assert told["proof"]["right"]["true"]["defect"] > told["proof"]["right"]["shuffled"]["defect"]
    kept = json.loads((run / "describer" / "proof.json").read_text())
    assert kept["loss"] == told["proof"]["loss"]
    page = (run / "describer" / "report.html").read_text()
    assert told["proof"]["sentence"].split(":")[0] in page
    assert "<script" not in page
    assert not list(run.glob("*checkpoint*")), "nothing is left of the learning"


def test_a_photograph_is_described_in_words_and_in_fields(mekiki, speaking, described_parts):
    photograph = described_parts / "001.png"
    said = mekiki("describe", speaking, photograph)
    assert said.code == 0, said.err
    assert "001.png" in said.out
    assert len(said.out.split()) > 3
    told = mekiki("describe", speaking, photograph, "--format", "json").json
    jsonschema.validate(told, RunDescriber(speaking).schema())
    assert told["method"] == "decoder"
    assert told["warning"] == ""


def test_words_come_in_the_language_that_is_asked_for(mekiki, speaking, described_parts):
    assert "があります" in mekiki("describe", speaking, described_parts / "001.png", "--language", "ja").out
    assert (
        "français"
        in mekiki("describe", speaking, described_parts / "001.png", "--language", "français").error
    )


def test_an_answer_rests_on_past_cases_of_the_same_defect(mekiki, speaking, described_parts, tmp_path):
    pytest.importorskip("lancedb")
    notes = tmp_path / "notes.csv"
    with notes.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "note"])
        for number in range(20, 60):
            writer.writerow([f"{number:03}.png", list(KINDS)[number % 2], f"note {number}"])
    assert mekiki("remember", speaking, described_parts, "--notes", notes).code == 0
    told = mekiki("describe", speaking, described_parts / "001.png", "--format", "json", "--cases", "5").json
    stats = mekiki("search", speaking, described_parts / "001.png", "-k", "5", "--json").json["found"]
    same = [case["id"] for case in stats if case["label"] == told["defect"]]
    assert told["cases"] == same
    said = mekiki("describe", speaking, described_parts / "001.png", "--cases", "5").out
    assert all(f"[{id_}]" in said for id_ in same)


def test_without_a_describer_the_answer_says_that_it_is_a_template(mekiki, run, described_parts):
    pytest.importorskip("lancedb")
    assert "Template answer" in mekiki("describe", run, described_parts / "001.png").out
    assert mekiki("remember", run, described_parts / "002.png", described_parts / "004.png").code == 0
    said = mekiki("describe", run, described_parts / "001.png")
    assert "Template answer" in said.out
    told = mekiki("describe", run, described_parts / "001.png", "--format", "json").json
    assert told["method"] == "template"
    assert len(told["cases"]) == 2
    jsonschema.validate(told, RunDescriber(run).schema())
    assert "定型文" in mekiki("describe", run, described_parts / "001.png", "--language", "ja").out


@pytest.mark.slow
def test_strict_tells_a_script_that_it_guesses(mekiki, run, described_parts, tmp_path):
    rng = np.random.default_rng(0)
    rows = list(csv.reader((described_parts / "texts.csv").open(encoding="utf-8")))[1:]
    shuffled = [
        [str(described_parts / rows[i][0]), *rows[j][1:]] for i, j in enumerate(rng.permutation(len(rows)))
    ]
    texts = write_texts(tmp_path / "shuffled.csv", shuffled)
    said = mekiki("describe-train", run, "--texts", texts, "--epochs", "1", *FEW, "--strict")
    assert said.code == 1
    assert "at chance" in said.out
    told = mekiki("describe", run, described_parts / "001.png", "--format", "json").json
    assert "guess" in told["warning"]
    assert "guess" in mekiki("describe", run, described_parts / "001.png").err


@pytest.mark.slow
def test_vectors_of_ones_own_are_described(mekiki, tmp_path):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 240)
    vectors = rng.normal(0, 0.2, (240, 5)).astype(np.float32)
    vectors[np.arange(240), kinds] += 3
    names = [f"part-{number}" for number in range(240)]
    np.savez(tmp_path / "v.npz", vectors=vectors, names=names, labels=np.array([""] * 240))
    rows = [
        [
            name,
            f"this is a {'crack' if kind else 'pit'}",
            "en",
            "crack" if kind else "pit",
            "top",
            "minor",
            "",
            "",
        ]
        for name, kind in zip(names, kinds, strict=True)
    ]
    texts = write_texts(tmp_path / "texts.csv", rows)
    run = tmp_path / "own"
    given = ("--texts", texts, "--vectors", tmp_path / "v.npz")
    said = mekiki("describe-train", run, *given, "--epochs", "5", *FEW, "--json")
    assert said.json["proof"]["reads"]
    few = slice(0, 40)
    np.savez(tmp_path / "few.npz", vectors=vectors[few], names=names[few], labels=np.array([""] * 40))
    asked = mekiki("describe", run, "--vectors", tmp_path / "few.npz", "--format", "json")
    told = [json.loads(line) for line in asked.out.splitlines()]
    assert [one["file"] for one in told] == names[few]
    right = [
        one["defect"] == ("crack" if kind else "pit") for one, kind in zip(told, kinds[few], strict=True)
    ]
    assert np.mean(right) > 0.9
    rows[0][0] = "nobody"
    lost = mekiki("describe-train", run, "--texts", write_texts(texts, rows), "--vectors", tmp_path / "v.npz")
    assert "nobody is no name" in lost.error


@pytest.mark.slow
def test_a_killed_learning_leaves_the_old_describer_and_goes_on(speaking, described_parts):
    before = (speaking / "describer" / "describer.json").read_text()
    arguments = [
        "describe-train",
        speaking,
        "--texts",
        described_parts / "texts.csv",
        "--epochs",
        "3",
        "--batch-size",
        "8",
    ]
    command = process(*arguments)
    wait_until(lambda: (speaking / "describer-checkpoint.safetensors").is_file(), command)
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert (speaking / "describer" / "describer.json").read_text() == before
    again = process(*arguments, "--resume", "--json")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "epoch 1/3" not in err
    assert json.loads(out)["epochs"] <= 3
    assert (speaking / "describer" / "describer.json").read_text() != before


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(speaking, described_parts):
    command = process(
        "describe-train",
        speaking,
        "--texts",
        described_parts / "texts.csv",
        "--epochs",
        "500",
        "--batch-size",
        "8",
    )
    wait_until(lambda: (speaking / "describer-checkpoint.safetensors").is_file(), command)
    time.sleep(0.3)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "--resume" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column file"),
        (b"file,note\na.png,x\n", "no column text"),
        (b"file,text\na.png,\n", "holds no text"),
        (b"file,text,language\na.png,x,fr\n", "language 'fr'"),
        (b"file,text\nnowhere.png,x\n", "nowhere.png"),
        (b"file,text\n\xff\xfe\x81,x\n", "neither UTF-8 nor Shift-JIS"),
    ],
)
def test_texts_that_cannot_be_used_are_refused_in_one_line(mekiki, run, tmp_path, content, said):
    (tmp_path / "texts.csv").write_bytes(content)
    assert said in mekiki("describe-train", run, "--texts", tmp_path / "texts.csv").error


def test_texts_that_excel_saved_in_japan_are_read(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_bytes("file,text,defect\r\na.png,左上に傷,傷\r\n".encode("cp932"))
    (row,) = read_texts(path)
    assert (row.text, row.language, row.fields) == ("左上に傷", "ja", {"defect": "傷"})


def test_a_describer_is_refused_after_the_eye_has_changed(mekiki, speaking, ok, fresh, described_parts):
    from mekiki.judging.calibrate import CalibrationSettings, calibrate_run

    calibrate_run(speaking, [ok], encoder="filters", settings=CalibrationSettings(0.1))
    assert "describe-train` again" in mekiki("describe", speaking, described_parts / "001.png").error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give photographs, or --vectors"),
        (["nowhere.png"], "nowhere.png"),
        (["{part}", "--format", "xml"], "text or json"),
        (["{part}", "--ask", "Why?"], "--ask goes with a language model"),
        (["{part}", "--endpoint", "http://localhost:1/v1"], "no language model that a server could have"),
        (["{part}", "-o", "page.pdf"], "ends in .html"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(mekiki, speaking, described_parts, arguments, said):
    given = [argument.format(part=described_parts / "001.png") for argument in arguments]
    assert said in mekiki("describe", speaking, *given).error


@pytest.mark.slow
def test_a_server_speaks_in_words_in_fields_and_on_a_page(
    mekiki, run, described_parts, tmp_path, language_model_server
):
    server, home = language_model_server
    given = ("--texts", described_parts / "texts.csv", "--lm", home, "--epochs", "1", *FEW)
    assert mekiki("describe-train", run, *given).code == 0
    photograph = described_parts / "001.png"
    there = ("--endpoint", server.url)
    assert "does not exist" in mekiki("describe", run, photograph, *there).err
    there += ("--served-model", "tiny")
    server.says = 'Here it is: {"defect": "Blots", "place": "upper left", "cause": "the press"}'
    assert server.says in mekiki("describe", run, photograph, *there).out
    told = mekiki("describe", run, photograph, *there, "--format", "json").json
    assert (told["defect"], told["place"], told["repair"]) == ("blot", "upper left", "unknown")
    assert mekiki("describe", run, photograph, *there, "-o", tmp_path / "page.html").code == 0
    assert "the press" in (tmp_path / "page.html").read_text()
    assert {body["model"] for _, _, body, _ in server.seen[1:]} == {"tiny"}
    assert "--endpoint" in mekiki("describe", run, photograph, "--served-model", "tiny").error


def test_a_page_shows_each_photograph_beside_its_description(mekiki, speaking, described_parts, tmp_path):
    page = tmp_path / "page.html"
    shown = [described_parts / f"{number:03}.png" for number in range(3)]
    assert f"3 described: {page}" in mekiki("describe", speaking, *shown, "-o", page).out
    text = page.read_text()
    assert text.count("data:image/png") >= 3
    assert "another part's vector" in html.unescape(text)


def test_patches_and_whole_vectors_do_not_depend_on_what_they_are_seen_with(run, described_parts):
    extractor = PartExtractor(run)
    files = [path for path in images(described_parts) if path.suffix == ".png"][:5]
    for photo, one in list(extractor.extract(files)):
        ((_, alone),) = extractor.extract([photo.path])
        assert np.array_equal(alone.whole, one.whole)
        assert np.array_equal(alone.places, one.places)


def test_pooling_keeps_the_largest_of_each_cell_and_its_place():
    patches = np.zeros((14, 14, 2), np.float32)
    patches[3, 12, 1] = 5
    small = pool_maximum(patches)
    assert small.shape == (8, 8, 2)
    assert {tuple(place) for place in np.argwhere(small[..., 1] == 5)} == {(1, 6), (1, 7), (2, 6), (2, 7)}


def test_what_a_server_says_is_repaired_or_refused():
    values = {"defect": ["crack", "pit"], "place": ["top"], "severity": ["minor"]}
    fields = repair_fields('Well: {"defect": "Crack!", "place": "top", "cause": null}.', values)
    assert fields == {
        "defect": "crack",
        "place": "top",
        "severity": "minor",
        "cause": "unknown",
        "repair": "unknown",
    }
    with pytest.raises(InputError, match="no JSON"):
        repair_fields("I cannot say.", values)
