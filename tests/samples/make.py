"""`python tests/samples/make.py NAME`: a sample run as this version writes it, NAME.zip, and what it says, NAME.json.

A network for digits of 8×8 pixels, a judge that has seen noughts as good and eights as bad, two lessons, and one taken
back; from version 2 on also a memory of the eights, with feedback and labels, given and taken back, and an adapter.
Pictures and the report are left out: they are drawn, and never read again.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from mekiki.console import silent
from mekiki.embedder import Embedder
from mekiki.experiments.request import DataRequest
from mekiki.experiments.train import train_run
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import teach, undo


def make_photos(folder):
    """Noughts and eights as files: good ones, bad ones, and some that no judge has seen."""
    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    for name, digit, first, last in (
        ("ok", 0, 0, 100),
        ("ng", 8, 0, 12),
        ("fresh", 0, 100, 108),
        ("fresh", 8, 12, 16),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(pixels[found.target == digit][first:last]):
            Image.fromarray(image).save(folder / name / f"{digit}-{number:02}.png")
    return folder


def verdicts(run, photos):
    """What the judge of a run says of the fresh ones."""
    said = Inspector.open(run).judge_files(sorted((photos / "fresh").glob("*.png")))
    return {
        one.photo.path.name: {
            "verdict": one.verdict,
            "score": one.score,
            "p": one.p,
            "why": one.why.split(" (")[0],
        }
        for one in said
    }


def uncorrected(run, photos):
    """The scores of all photographs as if nothing had been corrected."""
    inspector = Inspector.open(run)
    inspector.judge.teach([])
    return [one.score for one in inspector.judge_files(sorted(photos.rglob("*.png")))]


def vectors(run):
    """Where it puts the first digits."""
    pixels = np.rint(load_digits().images[:5] * (255 / 16)).astype(np.uint8)
    return Embedder.load(run).transform(pixels).tolist()


def search_results(run, photos):
    """What a search of its memory finds."""
    from mekiki.cases.run_memory import RunMemory
    from mekiki.cases.search import search

    found = search(RunMemory(run), sorted((photos / "fresh").glob("*.png"))[-1], k=5)["found"]
    return [{"label": one["label"], "distance": one["distance"]} for one in found]


def put_adapter(room):
    """An adapter in force that turns distances a little; learning one from so few would not replace none."""
    import torch

    from mekiki.cases.adapter import Adapter, AdapterResult

    store = room.store("images")
    adapter = Adapter(np.zeros(store.encoder.dimension, np.float32), 1.0, rank=2)
    with torch.no_grad():
        adapter.inner.weight[:] = torch.linspace(-1, 1, adapter.inner.weight.numel()).reshape(2, -1)
        adapter.outer.weight[:] = torch.linspace(-0.3, 0.3, adapter.outer.weight.numel()).reshape(-1, 2)
    room.adapter_store("images", store.encoder).put(adapter, AdapterResult(0.5, 0.6, 0.5, 60, 20, 3))


def fill_memory(run, photos):
    """Remember eights and noughts, judge what is found, relabel, take some back, and learn an adapter."""
    from mekiki.cases.relabel import read_relabellings, relabel, undo_relabelling
    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import RunMemory
    from mekiki.cases.search import give_feedback, search, undo_feedback

    kept = [*sorted((photos / "ng").glob("*.png")), *sorted((photos / "ok").glob("*.png"))[:12]]
    remember(RunMemory(run), kept)
    for photo in kept:
        found = search(RunMemory(run), photo, k=23)["found"]
        digit = [Path(one["image"]).name[0] for one in found]
        ids = [one["id"] for one in found]
        good = [id_ for id_, of in zip(ids, digit, strict=True) if of == photo.name[0]]
        bad = [id_ for id_, of in zip(ids, digit, strict=True) if of != photo.name[0]]
        give_feedback(RunMemory(run), photo, good=good[2:5], bad=bad[:3])
    undo_feedback(run)
    relabel(RunMemory(run), ids[:2], "round")
    relabel(RunMemory(run), ids[2:3], "oval")
    undo_relabelling(RunMemory(run), 2)
    assert [change.undone for change in read_relabellings(run)] == [False, True]
    put_adapter(RunMemory(run))


def main(target):
    platform.platform = lambda **_: "some machine"
    photos = make_photos(target.parent / "photos")
    run = target / "run"
    request = DataRequest("digits", test_fraction=0.8)
    train_run(
        request,
        request.load(silent),
        Embedder(epochs=2, batch_size=64, random_state=0),
        run,
        command="sample",
    )
    for drawn in [*run.glob("*.png"), *run.glob("*.html"), run / "checkpoint.safetensors"]:
        drawn.unlink()
    calibrate_run(run, [photos / "ok"], [photos / "ng"], settings=CalibrationSettings(0.1))
    for drawn in (run / "judge").glob("*.png"):
        drawn.unlink()
    try:
        from mekiki.storage.manifest import write_manifest
    except ImportError:  # of version 0, which had none
        pass
    else:
        write_manifest(run / "judge")
        names = [entry.name for entry in run.iterdir() if entry.is_file() and entry.name != "manifest.json"]
        write_manifest(run, names)
    fresh = sorted((photos / "fresh").glob("*.png"))
    teach(run, fresh[0], "NG:thin")
    teach(run, fresh[-1], "OK")
    teach(run, fresh[1], "NG:wide")
    undo(run)
    told = {"verdicts": verdicts(run, photos), "vectors": vectors(run)}
    told["uncorrected"] = uncorrected(run, photos)
    fill_memory(run, photos)
    told["found"] = search_results(run, photos)
    target.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.make_archive(str(target), "zip", target, "run")
    shutil.rmtree(photos)
    shutil.rmtree(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
