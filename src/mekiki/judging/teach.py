"""Teaching a judge: one photograph and what a person says of it, in force at the next judgement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.photo import iter_photos
from mekiki.errors import InputError
from mekiki.judging.calibrate import CalibrationSettings, fit_inspector
from mekiki.judging.corrections import Correction, CorrectionLog, parse_label
from mekiki.judging.extractors import make_extractor
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.inspector import Inspector
from mekiki.judging.verdict import Verdict

HELD_OUT = 3
"""One in so many of the parts that set the old threshold is held out of the new judge, to compare the two."""


def teach(folder: Path, image: Path, label: str) -> tuple[Correction, Verdict, Verdict]:
    """Write down what a person says of a photograph.

    Args:
        folder: the run folder.
        image: the photograph.
        label: `OK`, `NG` or `NG:KIND`.

    Returns:
        The lesson, and the verdicts before and after it.

    Raises:
        InputError: the photograph cannot be read, the label is none, or the photograph is one of those that set the
            threshold and is said to be NG.
    """
    return teach_judge(Inspector.open(folder), image, label)


def teach_judge(
    inspector: Inspector, image: Path, label: str, *, name: str | None = None, anomaly_map: bool = False
) -> tuple[Correction, Verdict, Verdict]:
    """The same for a judge that is open.

    Args:
        inspector: the judge; the lesson is in force in it afterwards.
        image: the photograph.
        label: `OK`, `NG` or `NG:KIND`.
        name: what the photograph is called in the book, where `image` is a copy that will go.
        anomaly_map: also make the anomaly map, for the verdict after.
    """
    ng, defect_type = parse_label(label)
    before = inspector.judge_file(image)
    if before.photo.pixels is None:
        raise InputError(f"{name or image}: {before.photo.problem}")
    if ng and any(os.path.realpath(known) == os.path.realpath(image) for known in inspector.metadata["ok"]):
        raise InputError(
            f"{image}: was given to calibrate as OK; take it out of the OK photographs and calibrate again"
        )
    entry = inspector.corrections.add(
        ng=ng,
        defect_type=defect_type,
        file=image if name is None else Path(name),
        content=before.photo.content,
        before=before.verdict,
        pixels=before.photo.pixels,
        views=before.features,
        extractor=inspector.extractor.fingerprint,
    )
    inspector.reload_corrections()
    return entry, before, inspector.judge_file(image, anomaly_map=anomaly_map)


def undo(folder: Path, number: int | None = None) -> Correction:
    """Take a lesson back, the last one if none is named.

    Raises:
        InputError: there is no such folder or lesson, or it was taken back before.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that `mekiki calibrate` wrote")
    return CorrectionLog(folder).undo(number)


def retrain(folder: Path, *, accept: bool = False, progress: Progress = silent) -> dict[str, Any]:
    """Fold the lessons in: parts taught to be OK join the OK parts, those taught to be NG the NG examples.

    The new judge is made beside the old one, and both judge OK parts that neither learnt from: a third of those that
    set the old threshold, kept out of the new judge altogether. Only then, and only if it passes no more bad parts and
    rejects no more good ones, or `accept` is given, does it take the old one's place. Lessons stay in the book and in
    force.

    Args:
        folder: the run folder.
        accept: replace the old judge even if the new one is worse.
        progress: told during long steps.

    Returns:
        `before` and `after`, each with `false_rejects` of held-out OK parts and `missed` NG parts, as shares;
        `replaced`, `held_out_ok`, `ng` and `lessons`.

    Raises:
        InputError: nothing was taught, or photographs of the calibration are gone.
    """
    old = Inspector.open(folder)
    # Of several lessons on one photograph the last.
    entries = list({entry.content: entry for entry in old.corrections.entries() if not entry.undone}.values())
    if not entries:
        raise InputError(
            f"{folder}: nothing was taught, so there is nothing to fold in; `mekiki teach` does it"
        )
    facts, lessons = old.metadata, old.corrections.kept.absolute()
    # The old judge learnt from the first and set its threshold with the others; lessons folded in before come anew.
    learnt = facts["learnt_from"] if facts["method"] == "split" else 0
    every = [Path(name) for name in facts["ok"]]
    own = [path for path in every[learnt:] if path.parent != lessons]
    names = [path for path in every[:learnt] if path.parent != lessons] + own
    kinds = {Path(name): kind for name, kind in facts["ng"].items() if Path(name).parent != lessons}
    gone = [path for path in [*names, *kinds] if not path.is_file()]
    if gone:
        raise InputError(
            f"{gone[0]}: is gone, with {len(gone) - 1} more of the calibration; calibrate again with --ok"
        )
    held = own[-max(1, len(own) // HELD_OUT) :]
    extractor = make_extractor(folder, facts["eye"]["name"])
    ok = _without([path for path in names if path not in set(held)], entries, True, extractor)
    left = set(_without(list(kinds), entries, False, extractor))
    kinds = {path: kind for path, kind in kinds.items() if path in left}
    for entry in entries:
        kept = old.corrections.photograph(entry).absolute()
        if entry.ng:
            kinds[kept] = entry.defect_type
        else:
            ok.append(kept)
    # Both are compared with the lessons in force, as they judge on the line and would.
    settings = CalibrationSettings(
        facts["false_reject"], facts["confidence"], how=facts["how"], seed=facts["seed"] + 1
    )
    new, calibration = fit_inspector(folder, extractor, ok, kinds, settings, progress)
    compared = {
        name: {"false_rejects": _share(judge, held, "NG"), "missed": _share(judge, list(kinds), "OK")}
        for name, judge in (("before", old), ("after", new))
    }
    better_or_equal = not any(
        compared["after"][name] > compared["before"][name] for name in compared["after"]
    )
    if accept or better_or_equal:
        calibration.metadata["ok"] += [str(path) for path in held]  # known, so that they are not taught as NG
        calibration.metadata["places"] = facts["places"]
        new.write(calibration)
    return {
        **compared,
        "replaced": accept or better_or_equal,
        "held_out_ok": len(held),
        "ng": len(kinds),
        "lessons": len(entries),
    }


def _without(
    paths: list[Path], entries: Sequence[Correction], ng: bool, extractor: FeatureExtractor
) -> list[Path]:
    """Those photographs that no lesson says the other of."""
    other = {entry.content for entry in entries if entry.ng == ng}
    if not other:  # nothing to look for in the photographs
        return paths
    return [
        one.path
        for block in iter_photos(paths, extractor.frame, extractor.channels)
        for one in block
        if one.content not in other
    ]


def _share(inspector: Inspector, paths: list[Path], verdict: str) -> float:
    if not paths:
        return float("nan")
    return float(np.mean([one.verdict == verdict for one in inspector.judge_files(paths)]))
