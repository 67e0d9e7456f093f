"""The commands, as a user gives them: in this process where that is enough, in real ones where it is not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.data import pixel_cache
from mekiki.storage.vector_table import read_vectors
from parts import process

REQUIRED_FILES = {
    "model.safetensors",
    "config.json",
    "history.csv",
    "metrics.json",
    "scatter_train.png",
    "scatter_test.png",
    "loss.png",
    "report.html",
}
REQUIRED_METRICS = {
    "knn5_accuracy",
    "silhouette",
    "pair_auc",
    "pair_eer",
    "pair_accuracy",
    "overlap_max",
    "train_loss",
    "val_loss",
    "seconds_training",
    "images_per_second",
    "collapsed",
    "seed",
    "versions",
    "data_fingerprint",
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run on digits."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    command = process("train", "digits", "--epochs", 4, "--batch-size", 32, "--out", folder, "--json")
    out, err = command.communicate()
    assert command.returncode == 0, err
    (folder.parent / "said.json").write_text(out)
    return folder


def images_in(folder, shade, count, size=12):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(shade)
    for number in range(count):
        pixels = np.clip(rng.normal(shade, 20, (size, size)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def test_help_needs_none_of_the_heavy_libraries():
    code = (
        "import sys, mekiki.cli; sys.argv = ['mekiki', '--help']\n"
        "try: mekiki.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'matplotlib', 'PIL', 'plotly'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("train", "compare", "evaluate", "embed", "distance", "data", "doctor", "demo"):
        assert f"\n  {command}" in done.stdout


def test_a_run_folder_holds_what_it_promises(run_folder):
    said = json.loads((run_folder.parent / "said.json").read_text())
    assert {p.name for p in run_folder.iterdir()} >= REQUIRED_FILES
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics.keys() >= REQUIRED_METRICS
    assert {name: said[name] for name in metrics} == metrics
    assert said["report"] == str(run_folder / "report.html")
    assert metrics["knn5_accuracy"] > 0.8
    assert metrics["epochs"] == 4
    header, *rows = (run_folder / "history.csv").read_text().splitlines()
    assert header.split(",")[0] == "epoch"
    assert {"train_loss", "val_loss", "lr", "seconds", "pair_accuracy", "val_pair_accuracy"} <= set(
        header.split(",")
    )
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3", "4"]
    last = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert float(last["val_loss"]) == metrics["val_loss"]
    config = json.loads((run_folder / "config.json").read_text())
    assert config["about"]["command"].startswith("mekiki train digits")
    with Image.open(run_folder / "scatter_test.png") as picture:
        assert min(picture.size) > 500


def test_evaluate_gives_the_numbers_of_the_run_again(mekiki, run_folder):
    again = mekiki("evaluate", run_folder, "--json")
    assert again.code == 0, again.err
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for name in ("knn5_accuracy", "pair_auc", "pair_eer", "pair_accuracy", "overlap_max", "silhouette"):
        assert again.json[name] == metrics[name]
    assert json.loads((run_folder / "evaluation.json").read_text())["pair_auc"] == metrics["pair_auc"]
    assert "5-NN accuracy" in mekiki("evaluate", run_folder).out


def test_evaluate_on_other_images_matches_classes_by_name(mekiki, run_folder, tmp_path, digits):
    names = {"7": 7, "1": 1}
    for name, label in names.items():
        for number, pixels in enumerate(digits[2][digits[3] == label][:12]):
            (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.maximum(pixels, 3)  # an image of its own: those the run learnt from would be left out
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{number}.png")
    said = mekiki("evaluate", run_folder, tmp_path / "mine", "--json")
    assert said.code == 0, said.err
    assert said.json["n_test"] == 24
    assert said.json["knn5_accuracy"] > 0.7
    assert Path(said.json["file"]).parent == run_folder


def test_embed_writes_every_image_with_its_name(mekiki, run_folder, tmp_path):
    images_in(tmp_path / "photos" / "a", 60, 5)
    images_in(tmp_path / "photos", 200, 2)
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG nothing")
    said = mekiki("embed", run_folder, tmp_path / "photos", "-o", tmp_path / "v.csv", "--json")
    assert said.code == 0, said.err
    assert (said.json["n"], said.json["dim"]) == (7, 2)
    assert any("broken.png" in note for note in said.json["notes"])
    table = read_vectors(tmp_path / "v.csv")
    assert table.vectors.shape == (7, 2)
    assert sum("/a/" in name.replace("\\", "/") for name in table.names) == 5
    everything = mekiki("embed", run_folder, "digits", "-o", tmp_path / "v.npz", "--json")
    assert everything.json["n"] == 1797
    assert set(read_vectors(tmp_path / "v.npz").labels) == {str(i) for i in range(10)}


def test_distance_speaks_in_words_and_units(mekiki, run_folder, tmp_path):
    said = mekiki("distance", run_folder, "digits:test:3", "digits:test:3")
    assert said.out.startswith("0.000 (margin = 1): the same kind")
    images_in(tmp_path / "p", 90, 2)
    pair = mekiki("distance", run_folder, tmp_path / "p/000.png", tmp_path / "p/001.png", "--json").json
    assert pair["value"] > 0
    assert pair.keys() >= {"unit", "threshold", "same", "same_closer", "different_closer"}


def test_doctor_and_data_list(mekiki, run_folder):
    seen = mekiki("doctor", run_folder, "--json").json
    assert seen["complete"]
    assert not seen["collapsed"]
    assert len(seen["history"]["spread"]) == 4
    assert "spread" in mekiki("doctor", run_folder).out
    listed = mekiki("data", "list", "--json").json["datasets"]
    assert {"mnist", "fashion-mnist", "kmnist", "digits", "surfaces"} <= {entry["name"] for entry in listed}


@pytest.mark.slow
def test_compare_sets_losses_side_by_side_and_goes_on_where_it_stopped(mekiki, tmp_path):
    arguments = (
        "compare",
        "digits",
        "--losses",
        "softmax,contrastive",
        "--seeds",
        2,
        "--epochs",
        2,
        "--json",
    )
    first = mekiki(*arguments, "--out", tmp_path / "c")
    assert first.code == 0, first.err
    columns = first.json["compared"]["contrastive"]
    runs = [
        json.loads((tmp_path / "c" / f"contrastive-seed{seed}" / "metrics.json").read_text())
        for seed in (0, 1)
    ]
    values = [run["knn5_accuracy"] for run in runs]
    assert columns["knn"]["mean"] == pytest.approx(np.mean(values))
    assert columns["knn"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert (tmp_path / "c" / "report.html").stat().st_size > 1e6
    assert any(sentence.startswith("contrastive:") for sentence in first.json["findings"])
    again = mekiki(*arguments, "--out", tmp_path / "c")
    assert again.json["compared"] == first.json["compared"]
    assert "epoch" not in again.err


@pytest.mark.slow
def test_a_recipe_gives_the_settings_that_are_not_given(mekiki, tmp_path):
    said = mekiki("train", "digits", "--recipe", "best", "--epochs", 3, "--out", tmp_path / "r", "--json")
    assert said.code == 0, said.err
    kept = json.loads((tmp_path / "r" / "config.json").read_text())["parameters"]
    assert (kept["loss"], kept["augment"], kept["schedule"]) == ("soft-neighbours", "digits", "one-cycle")
    assert (kept["epochs"], said.json["epochs"], said.json["n_train"]) == (3, 3, 1438)
    assert said.json["lr"] < 2e-3 / 2  # the last third of the way down
    mekiki("train", "digits", "--recipe", "best", "--epochs", 3, "--augment", "none",
                       "--loss", "triplet", "--out", tmp_path / "u", "--json")  # fmt: skip
    kept = json.loads((tmp_path / "u" / "config.json").read_text())["parameters"]
    assert (kept["loss"], kept["augment"], kept["loss_options"]) == ("triplet", "none", None)
    # A rate that depends on the length cannot be gone on with at another length.
    refused = mekiki(
        "train", "digits", "--recipe", "best", "--epochs", 4, "--out", tmp_path / "r", "--resume"
    )
    assert refused.code == 2
    assert "epochs was 3 and is now 4" in refused.err


@pytest.mark.slow
def test_compare_sets_the_nets_of_a_recipe_side_by_side(mekiki, tmp_path):
    said = mekiki("compare", "digits", "--recipe", "best", "--seeds", 1, "--epochs", 1, "--per-class", 30,
                  "--size", 16, "--out", tmp_path / "c", "--json")  # fmt: skip
    assert said.code == 0, said.err
    assert list(said.json["compared"]) == ["mlp, 2-D", "vgg, 2-D", "vgg, 32-D"]
    assert said.json["settings"]["vgg, 32-D"]["dim"] == 32
    assert said.json["settings"]["vgg, 32-D"]["batch_size"] == 120
    assert said.json["in_common"] == "soft-neighbours"
    fast = mekiki("compare", "digits", "--recipe", "fast", "--losses", "online-contrastive", "--seeds", 1,
                  "--out", tmp_path / "f", "--json")  # fmt: skip
    assert fast.json["settings"]["online-contrastive"]["schedule"] == "one-cycle"


def test_a_folder_of_photographs_with_japanese_names_trains(mekiki, tmp_path):
    images_in(tmp_path / "部品" / "良品", 80, 12)
    images_in(tmp_path / "部品" / "傷", 170, 12)
    said = mekiki("train", tmp_path / "部品", "--epochs", 4, "--batch-size", 8, "--json")
    assert said.code == 0, said.err
    assert said.json["class_names"] == sorted(["良品", "傷"])
    assert said.json["knn5_accuracy"] == 1.0
    assert "良品" in Path(said.json["report"]).read_text(encoding="utf-8")


def test_a_folder_too_large_for_memory_trains_to_the_same_weights(mekiki, tmp_path, monkeypatch):

    images_in(tmp_path / "parts" / "ok", 80, 20)
    images_in(tmp_path / "parts" / "ng", 150, 20)
    arguments = ("train", tmp_path / "parts", "--epochs", 2, "--batch-size", 8, "--json")
    assert mekiki(*arguments, "--out", "held").code == 0
    monkeypatch.setattr(pixel_cache, "MEMORY_BUDGET", 1000)
    said = mekiki(*arguments, "--out", "streamed")
    assert said.code == 0, said.err
    assert list((tmp_path / "cache" / "pixels").glob("*.npy"))
    held, streamed = (tmp_path / name / "model.safetensors" for name in ("held", "streamed"))
    assert held.read_bytes() == streamed.read_bytes()


def test_the_version_is_said(mekiki):
    from importlib.metadata import version

    assert mekiki("--version").out.strip() == f"mekiki {version('mekiki')}"


def wait_for(path, command):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert command.poll() is None, command.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_cut_off_goes_on_to_the_same_weights(tmp_path, how):
    """Ctrl-C and a power cut: what is there is a whole epoch, and resuming gives what was never interrupted."""
    folder = tmp_path / "run"
    settings = ("train", "digits", "--batch-size", 32, "--out", folder)
    cut = process(*settings, "--epochs", 5000)
    wait_for(folder / "checkpoint.safetensors", cut)
    cut.send_signal(how)
    _, err = cut.communicate()
    if how == signal.SIGINT:
        assert cut.returncode == 130
        assert "train with --resume" in err
    assert not (folder / "metrics.json").exists()
    looked = process("doctor", folder, "--json")
    seen = json.loads(looked.communicate()[0])
    assert not seen["complete"]
    epochs = seen["epochs"] + 1
    resumed = process(*settings, "--epochs", epochs, "--resume", "--json")
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert json.loads(out)["epochs"] == epochs
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    whole = process("train", "digits", "--batch-size", 32, "--epochs", epochs, "--out", tmp_path / "whole")
    whole.communicate()
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert one == other


def test_unfinished_and_finished_runs_are_not_trained_over(mekiki, run_folder):
    before = (run_folder / "metrics.json").read_bytes()
    said = mekiki("train", "digits", "--epochs", 1, "--out", run_folder)
    assert said.code == 2
    assert "add --resume" in said.err
    said = mekiki("train", "digits", "--epochs", 9, "--batch-size", 64, "--out", run_folder, "--resume")
    assert said.code == 2
    assert "batch_size was 32 and is now 64" in said.err
    assert (run_folder / "metrics.json").read_bytes() == before


def bad_inputs(tmp_path, run_folder):
    """Name → arguments and a word that the one line must have."""
    images_in(tmp_path / "one" / "ok", 80, 6)
    images_in(tmp_path / "singles" / "a", 80, 1)
    images_in(tmp_path / "singles" / "b", 90, 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    (tmp_path / "hollow" / "b").mkdir()
    for kind in "ab":
        images_in(tmp_path / "cut" / kind, 80, 4, size=64)
        for file in (tmp_path / "cut" / kind).iterdir():
            file.write_bytes(file.read_bytes()[:200])
    (tmp_path / "text.txt").write_text("not an image")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("precious")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "short.npz", images=pixels, labels=np.arange(8))
    np.savez(tmp_path / "nan.npz", images=pixels, labels=np.where(np.arange(9) > 4, np.nan, 1.0))
    np.savez(tmp_path / "keys.npz", pictures=pixels)
    (tmp_path / "fake.npz").write_text("no archive")
    (tmp_path / "damaged").mkdir()
    for file in run_folder.iterdir():
        (tmp_path / "damaged" / file.name).write_bytes(file.read_bytes()[:300])
    return {
        "misspelt data set": (["train", "mnits"], "mnist"),
        "missing folder": (["train", "no/such/folder"], "no/such/folder"),
        "empty folder": (["train", tmp_path / "empty"], "empty"),
        "empty classes": (["train", tmp_path / "hollow"], "hollow"),
        "one class only": (["train", tmp_path / "one"], "two classes"),
        "one image a class": (["train", tmp_path / "singles"], "singles"),
        "truncated files": (["train", tmp_path / "cut"], "cut"),
        "a text file": (["train", tmp_path / "text.txt"], "text.txt"),
        "labels too short": (["train", tmp_path / "short.npz"], "9"),
        "labels NaN": (["train", tmp_path / "nan.npz"], "NaN"),
        "npz of other keys": (["train", tmp_path / "keys.npz"], "images"),
        "npz that is none": (["train", tmp_path / "fake.npz"], "fake.npz"),
        "unknown loss": (["train", "digits", "--loss", "tripplet"], "did you mean triplet"),
        "unknown library loss": (["train", "digits", "--loss", "pml:Nothing"], "pml"),
        "unknown encoder": (["train", "digits", "--encoder", "resnet"], "mlp, conv, vgg"),
        "unknown schedule": (["train", "digits", "--schedule", "cosine"], "one-cycle"),
        "unknown recipe": (["train", "digits", "--recipe", "fats"], "did you mean fast"),
        "unknown recipe to compare": (["compare", "digits", "--recipe", "slow"], "reference, fast, best"),
        "unknown augmentation": (["train", "digits", "--augment", "digit"], "did you mean digits"),
        "option of soft neighbours": (
            ["train", "digits", "--loss", "soft-neighbours", "--loss-option", "pull=-1"],
            "at least 0",
        ),
        "unknown selection": (
            ["train", "digits", "--loss", "online-triplet", "--loss-option", "selection=soft"],
            "semi-hard",
        ),
        "option where there is none": (["train", "digits", "--loss-option", "selection=all"], "it has none"),
        "option without a value": (["train", "digits", "--loss-option", "selection"], "NAME=VALUE"),
        "library loss with a wrong option": (
            ["train", "digits", "--loss", "pml:NTXentLoss", "--margin", "0.5"],
            "margin",
        ),
        "library loss that needs two views": (["train", "digits", "--loss", "pml:VICRegLoss"], "two views"),
        "seed too large": (["train", "digits", "--seed", "99999999999999999999"], "seed"),
        "seed below zero": (["train", "digits", "--seed", "-1"], "seed"),
        "far too many dimensions": (["train", "digits", "--dim", "2000000000"], "dim"),
        "nothing left to learn from": (["train", "digits", "--test-fraction", "1"], "--test-fraction"),
        "no data": (["train", ""], "empty"),
        "nothing to resume": (["train", "digits", "--resume", "--seed", "77"], "no run to resume"),
        "compare into strange folder": (
            ["compare", "digits", "--losses", "softmax", "--out", tmp_path / "other"],
            "thesis.doc",
        ),
        "a root as a run": (["doctor", "/"], "root"),
        "unknown projection": (["train", "digits", "--projection", "umap"], "tsne"),
        "no dimensions": (["train", "digits", "--dim", "0"], "dim"),
        "no epochs": (["train", "digits", "--epochs", "0"], "epochs"),
        "negative margin": (["train", "digits", "--margin", "-1"], "margin"),
        "rate is no number": (["train", "digits", "--lr", "fast"], "--lr"),
        "rate NaN": (["train", "digits", "--lr", "nan"], "lr"),
        "size": (["train", "digits", "--size", "0x5"], "--size"),
        "channels": (["train", "digits", "--channels", "2"], "channels"),
        "test fraction": (["train", "digits", "--test-fraction", "1.5"], "test"),
        "no such device": (["train", "digits", "--device", "tpu"], "device"),
        "out is a file": (["train", "digits", "--out", tmp_path / "text.txt"], "text.txt"),
        "out holds something else": (["train", "digits", "--out", tmp_path / "other"], "other"),
        "out cannot be made": (["train", "digits", "--out", tmp_path / "text.txt" / "run"], "text.txt"),
        "no losses": (["compare", "digits", "--losses", ","], "losses"),
        "options without their data": (["evaluate", run_folder, "--per-class", "2"], "go with DATA"),
        "no run": (["evaluate", tmp_path / "empty"], "no run here"),
        "no run folder": (["doctor", tmp_path / "nowhere"], "nowhere"),
        "damaged run": (["evaluate", tmp_path / "damaged"], "damaged"),
        "output format": (["embed", run_folder, "digits", "-o", "v.txt"], ".npz"),
        "nothing to embed": (["embed", run_folder, tmp_path / "empty", "-o", "v.csv"], "empty"),
        "image missing": (["distance", run_folder, "a.png", "b.png"], "a.png"),
        "index too large": (["distance", run_folder, "digits:test:99999", "digits:test:0"], "99999"),
        "unknown data set to fetch": (["data", "fetch", "imagenet"], "imagenet"),
        "unknown option": (["train", "digits", "--los", "triplet"], "--los"),
        "unknown command": (["trian", "digits"], "trian"),
        "missing argument": (["train"], "DATA"),
    }


def test_every_bad_input_is_one_line_with_exit_code_2(mekiki, tmp_path, run_folder):
    wrong = []
    for name, (arguments, word) in bad_inputs(tmp_path, run_folder).items():
        said = mekiki(*arguments)
        errors = [
            line for line in said.err.splitlines() if not line.startswith(("note: ", "run: ", "training: "))
        ]
        one_line = len(errors) == 1 and errors[0].startswith("error: ") and word.lower() in errors[0].lower()
        if said.code != 2 or said.out or not one_line or list(tmp_path.glob("runs/*")):
            wrong.append((name, said.code, said.out, said.err, [p.name for p in tmp_path.glob("runs/*")]))
    assert not wrong
    assert (tmp_path / "other" / "thesis.doc").read_text() == "precious"
    assert not (tmp_path / "v.csv").exists()


@pytest.mark.slow
def test_a_test_side_too_small_for_pairs_still_gives_a_run(mekiki, tmp_path):
    """Seven images a class leave one of each to test on: no pair of one class, but the rest can be measured."""
    images_in(tmp_path / "few" / "ok", 80, 7)
    images_in(tmp_path / "few" / "ng", 170, 7)
    said = mekiki("train", tmp_path / "few", "--epochs", 2, "--batch-size", 4, "--out", "few-run", "--json")
    assert said.code == 0, said.err
    assert (said.json["pair_auc"], said.json["knn5_accuracy"]) == (None, 1.0)
    assert any("no two vectors of one class" in note for note in said.json["notes"])
    images_in(tmp_path / "single" / "train" / "ok", 80, 3)
    images_in(tmp_path / "single" / "train" / "ng", 170, 3)
    images_in(tmp_path / "single" / "test" / "ok", 82, 1)
    said = mekiki(
        "train", tmp_path / "single", "--epochs", 2, "--batch-size", 4, "--out", "single-run", "--json"
    )
    assert said.code == 0, said.err
    assert said.json["n_test"] == 1
    assert (tmp_path / "single-run" / "report.html").exists()


@pytest.mark.slow
def test_what_a_person_put_into_a_run_stays_and_a_run_may_be_named_by_a_dot(mekiki, tmp_path, monkeypatch):
    arguments = ("train", "digits", "--batch-size", 64, "--out", tmp_path / "run", "--resume")
    assert mekiki(*arguments[:-1], "--epochs", 1).code == 0
    (tmp_path / "run" / "mine.txt").write_text("precious")
    before = (tmp_path / "run" / "report.html").stat().st_mtime_ns
    assert mekiki(*arguments, "--epochs", 1).code == 0
    assert (tmp_path / "run" / "report.html").stat().st_mtime_ns == before, "nothing to do, and nothing done"
    assert mekiki(*arguments, "--epochs", 2).code == 0
    assert (tmp_path / "run" / "mine.txt").read_text() == "precious"
    monkeypatch.chdir(tmp_path / "run")
    seen = mekiki("doctor", ".", "--json")
    assert seen.json["epochs"] == 2
    assert mekiki("evaluate", ".").code == 0
    assert (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.slow
def test_resume_without_a_folder_takes_the_newest_unfinished_run(tmp_path, mekiki):
    for _ in range(2):
        assert mekiki("train", "digits", "--epochs", 1, "--json").code == 0
    (
        tmp_path / "runs" / "digits-contrastive-2d-seed0-2" / "metrics.json"
    ).unlink()  # as if it had been cut off
    said = mekiki("train", "digits", "--epochs", 2, "--resume", "--json")
    assert Path(said.json["run"]).name == "digits-contrastive-2d-seed0-2"
    assert not (tmp_path / "runs" / "digits-contrastive-2d-seed0-3").exists()


def test_images_that_a_run_learnt_from_are_not_measured(mekiki, run_folder):
    said = mekiki("evaluate", run_folder, "digits", "--json")
    assert said.code == 0, said.err
    assert said.json["n_test"] == 1797 - 1438
    assert "1,438 of 1,797 images left out" in said.err
    assert (
        said.json["knn5_accuracy"] == json.loads((run_folder / "metrics.json").read_text())["knn5_accuracy"]
    )


@pytest.mark.slow
def test_the_pictures_of_earlier_runs_are_no_class(mekiki, tmp_path, monkeypatch):
    images_in(tmp_path / "photos" / "ok", 80, 8)
    images_in(tmp_path / "photos" / "ng", 170, 8)
    monkeypatch.chdir(tmp_path / "photos")
    for _ in range(2):
        said = mekiki("train", ".", "--epochs", 1, "--batch-size", 4, "--json")
        assert said.code == 0, said.err
        assert said.json["class_names"] == ["ng", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp932", "cp1252", "ascii"])
def test_any_encoding_of_the_terminal_will_do(run_folder, encoding, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    for arguments in (
        ("doctor", run_folder),
        ("distance", run_folder, "digits:test:1", "digits:test:2", "--json"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mekiki", *map(str, arguments)], capture_output=True, env=environment
        )
        assert done.returncode == 0, done.stderr


def test_a_device_that_is_not_here_is_one_line(mekiki):
    import torch

    missing = next(
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if not there
    )
    said = mekiki("train", "digits", "--device", missing)
    assert said.code == 2
    assert said.err.startswith(f"error: device '{missing}' is not available here")


@pytest.mark.slow
def test_the_demo_runs_without_any_data(tmp_path):
    started = process("demo", "--json", cwd=tmp_path)
    out, err = started.communicate()
    assert started.returncode == 0, err
    shown = json.loads(out)
    assert shown["comparison"]["compared"]["contrastive"]["knn"]["mean"] > 0.9
    assert shown["surfaces"]["knn5_accuracy"] > 0.7
    assert all((tmp_path / report).is_file() for report in shown["reports"])


@pytest.mark.slow
def test_the_post_is_reproduced_on_mnist(tmp_path, real_data, mekiki, monkeypatch):
    monkeypatch.setenv("MEKIKI_DATA", str(real_data))
    said = mekiki("train", "mnist", "--schedule", "post19", "--json")
    assert said.json["knn5_accuracy"] >= 0.964
    assert said.json["val_loss"] <= 0.021
