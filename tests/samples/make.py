"""`python tests/samples/make.py NAME`: a sample run as this version writes it, NAME.zip, and what it says, NAME.json.

A network for digits of 8×8 pixels, a judge that has seen noughts as good and eights as bad, two lessons, and one taken
back. Pictures and the report are left out: they are drawn, and never read again.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from mekiki.embedder import Embedder
from mekiki.experiments import DataRequest
from mekiki.experiments.training import train_run
from mekiki.inspection import Inspector, Terms, calibrate_run
from mekiki.inspection.teaching import teach, undo
from mekiki.progress import silent


def photographs(folder):
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
        one.path.name: {"verdict": one.verdict, "score": one.score, "p": one.p, "why": one.why.split(" (")[0]}
        for one in said
    }


def vectors(run):
    """Where it puts the first digits."""
    pixels = np.rint(load_digits().images[:5] * (255 / 16)).astype(np.uint8)
    return Embedder.load(run).transform(pixels).tolist()


def main(target):
    platform.platform = lambda **_: "some machine"
    photos = photographs(target.parent / "photos")
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
    calibrate_run(run, [photos / "ok"], [photos / "ng"], terms=Terms(0.1))
    for drawn in (run / "judge").glob("*.png"):
        drawn.unlink()
    try:
        from mekiki.manifests import seal_folder
    except ImportError:  # of version 0, which had none
        pass
    else:
        seal_folder(run / "judge")
        names = [entry.name for entry in run.iterdir() if entry.is_file() and entry.name != "manifest.json"]
        seal_folder(run, names)
    fresh = sorted((photos / "fresh").glob("*.png"))
    teach(run, fresh[0], "NG:thin")
    teach(run, fresh[-1], "OK")
    teach(run, fresh[1], "NG:wide")
    undo(run)
    told = {"verdicts": verdicts(run, photos), "vectors": vectors(run)}
    target.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.make_archive(str(target), "zip", target, "run")
    shutil.rmtree(photos)
    shutil.rmtree(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
