"""The commands of the version before the layout of capabilities, as its README and pages had them, still work.

`samples/json-version-2.json` holds the keys of what each answered with `--json` then.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from parts import ng_folder, ok_folder

KEYS = Path(__file__).parent / "samples" / "json-version-2.json"
QUICK = ["--epochs", "2", "--batch-size", "64"]


def key_paths(value, path=""):
    """Every key of nested objects, as `a.b` and `list[].c`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}" if path else key
            yield from key_paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from key_paths(inner, f"{path}[]")


def experiments(mekiki):
    """Train, compare, evaluate, embed, distance, doctor, check and data."""
    yield "train", mekiki("train", "digits", *QUICK, "--out", "run", "--snapshots", "--json")
    yield (
        "train with settings",
        mekiki(
            *[
                "train",
                "digits",
                "--recipe",
                "fast",
                "--loss",
                "online-triplet",
                "--encoder",
                "conv",
                "--dim",
                "4",
            ],
            *["--margin", "0.5", "--loss-option", "selection=hardest", "--normalise", "--lr", "0.002"],
            *[
                "--schedule",
                "post19",
                "--augment",
                "digits",
                "--seed",
                "3",
                "--projection",
                "pca",
                "--device",
                "cpu",
            ],
            *[
                "--size",
                "8",
                "--channels",
                "1",
                "--per-class",
                "20",
                "--test-fraction",
                "0.3",
                "--split-seed",
                "1",
            ],
            *["--out", "other", *QUICK, "--json"],
        ),
    )
    yield (
        "train --resume",
        mekiki("train", "digits", *QUICK, "--out", "run", "--snapshots", "--resume", "--json"),
    )
    yield (
        "compare",
        mekiki(
            "compare",
            "digits",
            "--losses",
            "softmax,contrastive",
            "--seeds",
            "1",
            *QUICK,
            "--out",
            "c",
            "--json",
        ),
    )
    yield "evaluate", mekiki("evaluate", "run", "--json")
    yield (
        "evaluate DATA",
        mekiki("evaluate", "run", "digits", "--test-fraction", "0.5", "--resplit", "--json"),
    )
    yield "embed", mekiki("embed", "run", "digits", "-o", "vectors.npz", "--json")
    yield "distance", mekiki("distance", "run", "digits:test:0", "digits:test:1", "--json")
    yield "doctor", mekiki("doctor", "run", "--json")
    yield "check", mekiki("check", "run", "--json")
    yield "check --upgrade", mekiki("check", "run", "--upgrade", "--json")
    yield "data list", mekiki("data", "list", "--json")
    yield (
        "data reports",
        mekiki("data", "reports", "texts", "--count", "10", "--size", "32", "--masks", "masks", "--json"),
    )


def judging(mekiki):
    """Calibrate, judge, watch, teach, retrain, export."""
    good, bad, new = (
        ok_folder(Path("ok"), 60),
        ng_folder(Path("ng"), 8, seed=2000),
        ok_folder(Path("new"), 4, seed=50),
    )
    photo = next((bad / "blot").iterdir())
    shutil.copy(photo, new / "0815.png")
    calibrate = ["calibrate", "line1", "--ok", good, "--ng", bad, "--false-reject", "0.1"]
    yield "calibrate", mekiki(*calibrate, "--encoder", "filters", "--views", "sum", "--seed", "1", "--json")
    yield (
        "calibrate by costs",
        mekiki(*calibrate, "--escape-cost", "50", "--overkill-cost", "2", "--ng-share", "0.02", "--json"),
    )
    yield "calibrate again", mekiki(*calibrate, "--json")
    yield "judge", mekiki("judge", "line1", "new", "--json")
    yield "judge -o page", mekiki("judge", "line1", "new", "-o", "results.html", "--json")
    yield "watch", mekiki("watch", "line1", "new", "--once", "--poll", "0.1", "-o", "results.csv")
    yield "teach", mekiki("teach", "line1", new / "0815.png", "--as", "NG:scratch", "--json")
    yield "teach --list", mekiki("teach", "line1", "--list", "--json")
    yield "teach --undo", mekiki("teach", "line1", "--undo", "--lesson", "1", "--json")
    yield "teach again", mekiki("teach", "line1", new / "0815.png", "--as", "NG:scratch", "--json")
    yield "teach --undo the last", mekiki("teach", "line1", "--undo", "--json")
    yield "teach once more", mekiki("teach", "line1", new / "0815.png", "--as", "NG:scratch", "--json")
    yield "retrain", mekiki("retrain", "line1", "--accept", "--json")
    yield "check of a judge", mekiki("check", "line1", "--json")


def cases(mekiki):
    """Remember, search, feedback and cases."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    photo = Path("new") / "0815.png"
    yield "remember", mekiki("remember", "line1", "ng", "--json")
    search = mekiki("search", "line1", photo, "-k", "5", "--json")
    yield "search", search
    good, bad, *_ = [case["id"] for case in search.json["found"]]
    yield (
        "search with conditions",
        mekiki(
            *[
                "search",
                "line1",
                photo,
                "--where",
                "label != 'crack'",
                "--like",
                good,
                "--unlike",
                bad,
                "--json",
            ],
        ),
    )
    yield "judge --cases", mekiki("judge", "line1", "new", "--cases", "2", "--json")
    yield "feedback", mekiki("feedback", "line1", photo, "--good", good, "--bad", bad, "--json")
    yield "feedback --list", mekiki("feedback", "line1", "--list", "--json")
    yield "feedback --undo", mekiki("feedback", "line1", "--undo", "--go", "1", "--json")
    yield "cases stats", mekiki("cases", "stats", "line1", "--json")
    yield (
        "cases export",
        mekiki("cases", "export", "line1", "-o", "cases.parquet", "--space", "images", "--json"),
    )
    dimension = pyarrow.read_schema("cases.parquet").field("vector").type.list_size
    rng = np.random.default_rng(0)
    shift = np.eye(1, dimension, dtype=np.float32)[0] * 30
    anchor = rng.normal(size=(80, dimension)).astype(np.float32)
    np.savez(
        "triplets.npz",
        anchor=anchor,
        positive=anchor + shift,
        negative=anchor + rng.normal(size=(80, dimension)),
    )
    trained = mekiki(
        "feedback", "line1", "--train", "--triplets", "triplets.npz", "--adapter", "linear", "--json"
    )
    yield "feedback --train", trained
    if trained.json["replaced"]:
        yield "feedback --untrain", mekiki("feedback", "line1", "--untrain", "--json")
    yield "cases forget", mekiki("cases", "forget", "line1", good[:12], "--json")
    yield "cases import", mekiki("cases", "import", "line1", "cases.parquet", "--json")


def describing(mekiki):
    """Sharpen, describe-train, describe, and export."""
    yield "data reports", mekiki("data", "reports", "parts", "--count", "120", "--size", "32", "--json")
    yield (
        "train",
        mekiki(
            "train",
            "surfaces",
            "--encoder",
            "vgg",
            "--dim",
            "8",
            "--size",
            "32",
            "--out",
            "eye",
            *QUICK,
            "--json",
        ),
    )
    yield (
        "sharpen",
        mekiki("sharpen", "eye", "--texts", "parts/texts.csv", "--epochs", "1", "--lr", "0.004", "--json"),
    )
    learn = [
        "describe-train",
        "eye",
        "--texts",
        "parts/texts.csv",
        "--epochs",
        "1",
        "--batch-size",
        "16",
        "--json",
    ]
    yield "describe-train", mekiki(*learn)
    photo = next(Path("parts").rglob("*.png"))
    yield "describe", mekiki("describe", "eye", photo, "--format", "json", "--language", "ja", "--cases", "0")
    yield "export", mekiki("export", "line1", "--to", "onnx", "--with-judge", "--json")


def walk(mekiki, groups):
    """Run the groups; the keys of each answer."""
    keys = {}
    for group in groups:
        for name, result in group(mekiki):
            assert result.code == 0, (name, result.err)
            if result.out.startswith("{"):
                keys[f"{group.__name__}: {name}"] = sorted(set(key_paths(json.loads(result.out))))
    return keys


def missing(keys):
    """Keys that were answered then and are not now."""
    then = json.loads(KEYS.read_text(encoding="utf-8"))
    assert set(keys) <= set(then)
    return {name: gone for name in keys if (gone := sorted(set(then[name]) - set(keys[name])))}


def test_experiments(mekiki):
    assert not missing(walk(mekiki, [experiments]))


def test_judging_and_cases(mekiki):
    pytest.importorskip("lancedb")
    assert not missing(walk(mekiki, [judging, cases]))


@pytest.mark.slow
def test_describing_and_export(mekiki):
    pytest.importorskip("transformers")
    pytest.importorskip("onnxscript")
    walk(mekiki, [judging])
    assert not missing(walk(mekiki, [describing]))
