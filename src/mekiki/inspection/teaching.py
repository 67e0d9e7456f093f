"""Teaching a judge: one photograph and what a person says of it, in force at the next judgement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mekiki.errors import InputError
from mekiki.inspection.inspector import Inspector, Verdict, calibrate_run
from mekiki.inspection.lessons import Entry, parse_label
from mekiki.progress import Progress, silent


def teach(folder: Path, image: Path, label: str) -> tuple[Entry, Verdict, Verdict]:
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
    ng, kind = parse_label(label)
    inspector = Inspector.open(folder)
    before = inspector.judge_one(image)
    if before.pixels is None:
        raise InputError(f"{image}: {before.problem}")
    if ng and str(image) in inspector.facts["ok"]:
        raise InputError(
            f"{image}: was given to calibrate as OK; take it out of the OK photographs and calibrate again"
        )
    entry = inspector.lessons.add(
        ng=ng,
        kind=kind,
        file=image,
        content=_content(before),
        before=before.verdict,
        pixels=before.pixels,
        views=before.views,
    )
    inspector.reload_lessons()
    return entry, before, inspector.judge_one(image)


def undo(folder: Path, number: int | None = None) -> Entry:
    """Take a lesson back, the last one if none is named."""
    return Inspector.open(folder).lessons.undo(number)


def retrain(folder: Path, *, accept: bool = False, progress: Progress = silent) -> dict[str, Any]:
    """Fold the lessons in: parts taught to be OK join the OK parts, those taught to be NG the NG examples.

    The new judge is made beside the old one and both judge every part that the *new deal* held out of learning; only
    then, and only if it is no worse or `accept` is given, does it take the old one's place. Lessons stay in the book
    and in force.

    Args:
        folder: the run folder.
        accept: replace the old judge even if the new one is worse.
        progress: told during long steps.

    Returns:
        `before` and `after` (false rejects of held-out OK parts, misses of NG parts and of lessons), `replaced`.

    Raises:
        InputError: nothing was taught, or the photographs of the calibration are gone.
    """
    old = Inspector.open(folder)
    entries = [entry for entry in old.lessons.entries() if not entry.undone]
    if not entries:
        raise InputError(
            f"{folder}: nothing was taught, so there is nothing to fold in; `mekiki teach` does it"
        )
    facts = old.facts
    ok_lessons = [old.lessons.kept / f"{entry.number}.png" for entry in entries if not entry.ng]
    ng_lessons = [old.lessons.kept / f"{entry.number}.png" for entry in entries if entry.ng]
    ok = [Path(place) for place in facts["places"]]
    ng = [Path(place) for place in facts["ng_places"]]
    trial = folder / ".retrain"
    encoder = facts["eye"]["name"] if facts["eye"]["name"].startswith("hf:") else None
    if encoder is None:
        raise InputError(
            f"{folder}: looks through its own network; train it anew with `mekiki train`, and calibrate again"
        )
    import shutil

    try:
        new, calibration = calibrate_run(
            trial,
            [*ok, *ok_lessons],
            [*ng, *ng_lessons],
            encoder=encoder,
            false_reject=facts["false_reject"],
            confidence=facts["confidence"],
            how=facts["how"],
            seed=facts["seed"] + 1,
            progress=progress,
        )
        held = (
            [Path(name) for name in new.facts["ok"][new.facts["learnt_from"] :]]
            if new.facts["method"] == "split"
            else []
        )
        ng_files = [
            Path(name)
            for name, kind in zip(new.examples.names, new.examples.kinds, strict=True)
            if kind != "OK"
        ]
        compared = {}
        for name, judge in (("before", old), ("after", new)):
            compared[name] = {
                "false_rejects": _share(judge, held, "NG"),
                "missed": _share(judge, ng_files, "OK"),
            }
        worse = any(compared["after"][name] > compared["before"][name] + 0.01 for name in compared["after"])
        replaced = accept or not worse
        if replaced:
            calibration.facts["places"] = facts["places"]
            calibration.facts["ng_places"] = facts["ng_places"]
            new.folder = folder
            new.write(calibration)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return {
        **compared,
        "replaced": replaced,
        "held_out_ok": len(held),
        "ng": len(ng_files),
        "lessons": len(entries),
    }


def _share(inspector: Inspector, paths: list[Path], verdict: str) -> float:
    if not paths:
        return float("nan")
    return float(np.mean([one.verdict == verdict for one in inspector.judge_files(paths)]))


def _content(verdict: Verdict) -> str:
    from mekiki.inspection.files import content_of

    if verdict.pixels is None:
        raise InputError(f"{verdict.path}: {verdict.problem}")
    return content_of(verdict.pixels)
