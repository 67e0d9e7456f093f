"""Describing parts from vectors, by the small decoder that is made from the texts: what is said rightly, and how soon.

*Surfaces*: the eye learns from generated surfaces of one seed, is sharpened by the reports and masks of another, and
the reports to describe are of a third, so that no part that is described, taught or held out, was ever seen by the
eye while it learnt. *Tiles*: a judge calibrated on OK tiles through the backbone; reports of the defective ones, and
of as many others that are OK, made from their masks; once dealt by photograph and once by part, because the data set
holds parts several times. Both through `mekiki describe-train`; what is held out had no part in learning.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inspection import BACKBONE, MASKS, TILES
from benchmarks.measuring import median

SCENE_GAP = 45
"""Numbers in file names that are farther apart than this are of two parts; a guess from the names."""
PER_CLASS = 2000
"""Surfaces of each class that the eye learns from."""
SHARPENING = 40_000
"""Surfaces with a report and a mask that the eye is sharpened by."""
REPORTS = 6000
"""Surfaces with a report in each language."""
EYE_EPOCHS = 20
SHARP_EPOCHS = 8
EPOCHS = {"surfaces": 12, "tiles": 20}
TIMED = 30


def learnt_eye(folder: Path) -> dict[str, float]:
    """A network that tells the surfaces of seed 0 apart, as a run folder; how long it took."""
    from mekiki.embedder import Embedder
    from mekiki.experiments.request import DataRequest
    from mekiki.experiments.train import train_run
    from mekiki.recipes import recipe

    request = DataRequest("surfaces", per_class=PER_CLASS)
    settings = recipe("best", domain=request.domain, loss="softmax", encoder="vgg", dim=32, epochs=EYE_EPOCHS)
    started = time.perf_counter()
    result = train_run(request, request.load(), Embedder(**settings, random_state=0), folder)
    return {"seconds": time.perf_counter() - started, "knn5": result.metrics["knn5_accuracy"]}


def sharpened(run: Path, folder: Path) -> dict[str, Any]:
    """Sharpen the eye of a run by surfaces of another seed; what it reads, and how long that took."""
    from mekiki.data.reports import write_reports
    from mekiki.describing.part_training import TrainConfig
    from mekiki.describing.train_localiser import train_localiser

    write_reports(folder / "more", count=SHARPENING, languages=("en",), seed=2, masks=folder / "masks")
    config = TrainConfig(epochs=SHARP_EPOCHS, batch=96, rate=4e-3, decay=0.02)
    started = time.perf_counter()
    told = train_localiser(run, folder / "more" / "texts.csv", masks=folder / "masks", config=config)
    return {"seconds": time.perf_counter() - started} | told


def tile_reports(folder: Path, *, apart: bool, seed: int = 0) -> Path:
    """A table of reports of all tiles whose defect has a mask, and of as many OK ones, in both languages.

    Args:
        folder: where it goes.
        apart: whether photographs of what seems to be one part are kept together (`part_of`).
        seed: of which OK ones, and of the wording.
    """
    from mekiki.data.decoding import decode_mask, read_header
    from mekiki.data.reports import COLUMNS, report_of

    rng = np.random.default_rng(seed)
    defective = [path for path in sorted(TILES.glob("*/*")) if path.parent.name != "free"]
    good = sorted((TILES / "free").iterdir())
    some = [good[int(row)] for row in np.sort(rng.permutation(len(good))[: len(defective)])]
    rows: list[tuple[str, ...]] = []
    for path in [*defective, *some]:
        kind = path.parent.name
        header = read_header(path)
        size = (header.height, header.width)
        mask = (
            np.zeros(size, bool) if kind == "free" else decode_mask(MASKS / kind / f"{path.stem}.png", size)
        )
        if kind != "free" and not mask.any():
            continue
        part = part_of(path) if apart else ""
        rows += [(str(path), *astuple(report_of(kind, mask, rng, each)), part) for each in ("en", "ja")]
    table = folder / "texts.csv"
    with table.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow([*COLUMNS, "part"])
        writer.writerows(rows)
    return table


def part_of(path: Path) -> str:
    """Which part a tile shows: the data set holds parts several times, under numbers that follow each other closely."""
    numbers = sorted({_number(each) for each in path.parent.iterdir()})
    here, first = _number(path), numbers[0]
    for before, number in pairwise(numbers):
        if number > here:
            break
        if number - before > SCENE_GAP:
            first = number
    return f"{path.parent.name} {first}"


def _number(path: Path) -> int:
    return int(path.stem.rsplit("_", 1)[-1])


def said_of(run: Path, texts: Path, held: Sequence[str]) -> dict[str, Any]:
    """What is said of held-out parts: how much of it is right, how soon it comes, and whether JSON is valid."""
    import jsonschema

    from mekiki.data.reports import facts_in
    from mekiki.describing.describe import RunDescriber
    from mekiki.describing.schema import QUESTIONS

    with texts.open(encoding="utf-8", newline="") as lines:
        truth = {row["file"]: row for row in csv.DictReader(lines)}
    right: dict[str, list[bool]] = {}
    firsts, valid = [], 0
    for language in ("en", "ja"):
        explainer = RunDescriber(run, language=language, cases=0)
        schema = explainer.schema()
        subjects = explainer.read_photos([texts.parent / name for name in held])
        for name, subject in zip(held, subjects, strict=True):
            assert explainer.describer is not None
            started = time.perf_counter()
            pieces = explainer.describer.stream(subject.vectors, QUESTIONS[language]["text"])
            said = next(pieces)
            firsts.append(time.perf_counter() - started)
            facts = facts_in(said + "".join(pieces), language)
            for fact in ("defect", "place", "severity"):
                right.setdefault(f"{fact}, {language}", []).append(facts[fact] == truth[name][fact])
            told = explainer.report(subject)
            jsonschema.validate(json.loads(json.dumps(told)), schema)
            valid += 1
    return {
        "words_right": {name: float(np.mean(each)) for name, each in right.items()},
        "first_token_ms": 1000 * median(firsts[3 : 3 + TIMED]),
        "valid_json": valid,
        "asked": 2 * len(held),
    }


def described(run: Path, texts: Path, epochs: int) -> dict[str, Any]:
    """Learn, prove, and ask."""
    from mekiki.describing.part_training import TrainConfig
    from mekiki.describing.train_describer import train_describer

    started = time.perf_counter()
    told = train_describer(run, texts, config=TrainConfig(epochs=epochs))
    seconds = time.perf_counter() - started
    held = json.loads((run / "describer" / "describer.json").read_text(encoding="utf-8"))["held_out"]
    return {"seconds": seconds, **told["proof"], "epochs": told["epochs"]} | said_of(run, texts, held)


def main() -> dict[str, Any] | None:
    """Both; the tiles only where they are."""
    from mekiki.data.reports import write_reports
    from mekiki.judging.calibrate import CalibrationSettings, calibrate_run

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if TILES.is_dir():
            calibrate_run(
                folder / "line", [TILES / "free"], encoder=BACKBONE, settings=CalibrationSettings(0.05)
            )
            for name, apart in (("tiles", False), ("tiles, parts apart", True)):
                found[name] = described(folder / "line", tile_reports(folder, apart=apart), EPOCHS["tiles"])
                print(name, json.dumps(found[name], indent=1), flush=True)
        extractor = learnt_eye(folder / "eye")
        sharp = sharpened(folder / "eye", folder)
        write_reports(folder / "reports", count=REPORTS, seed=1)
        found["surfaces"] = {"eye": extractor, "sharp": sharp} | described(
            folder / "eye", folder / "reports" / "texts.csv", EPOCHS["surfaces"]
        )
        print(json.dumps(found["surfaces"], indent=1))
    return found
