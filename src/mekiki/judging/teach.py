"""Applying corrections: teach a photograph's right verdict, undo that, and retrain the judge with all corrections."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.photo import iter_photos
from mekiki.errors import DataWarning, InputError
from mekiki.judging.calibrate import CalibrationSettings, fit_inspector
from mekiki.judging.corrections import Correction, open_corrections, parse_label
from mekiki.judging.extractors import make_extractor
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.verdict import Verdict

HELD_OUT_DIVISOR = 3
"""Of the OK parts that can be held out of the new judge to compare it with the old one, one in this many is."""


@dataclass(frozen=True)
class CorrectionEffect:
    """What a correction does to other parts.

    Attributes:
        beyond_copies: whether corrections act on parts that are no near copies of those corrected.
        ng_parts: number of known NG parts that had no part in it: other corrections, and those given to calibrate.
        missed_before: how many of them were missed before.
        missed_after: how many are missed with it.
    """

    beyond_copies: bool
    ng_parts: int
    missed_before: int
    missed_after: int

    @property
    def text(self) -> str:
        """The same as a sentence."""
        where = (
            "acts on parts like it" if self.beyond_copies else "acts on near copies of the photograph only"
        )
        if not self.ng_parts:
            return f"{where}; no other NG part is known to weigh it by"
        return (
            f"{where}; of {self.ng_parts:,} NG parts that had no part in it {self.missed_before:,} were missed before, "
            f"{self.missed_after:,} after"
        )

    def to_dict(self) -> dict[str, Any]:
        """The effect for JSON."""
        return asdict(self)


def teach(folder: Path, image: Path, label: str) -> tuple[Correction, Verdict, Verdict, CorrectionEffect]:
    """Correct the verdict on a photograph.

    Args:
        folder: the run folder.
        image: the photograph.
        label: `OK`, `NG` or `NG:TYPE`.

    Returns:
        The correction, the verdicts before and after it, and what it does to other parts.

    Raises:
        InputError: the photograph cannot be read, the label is not one of these, or the label is NG and the photograph
            is one of the OK photographs that the judge was made from.
    """
    return teach_judge(Inspector.open(folder), image, label)


def teach_judge(
    inspector: Inspector, image: Path, label: str, *, name: str | None = None, anomaly_map: bool = False
) -> tuple[Correction, Verdict, Verdict, CorrectionEffect]:
    """The same for an open judge.

    Args:
        inspector: the judge; the correction is active in it afterwards.
        image: the photograph.
        label: `OK`, `NG` or `NG:TYPE`.
        name: name of the photograph in the log, where `image` is a temporary copy.
        anomaly_map: also make the anomaly map, for the verdict after.
    """
    ng, defect_type = parse_label(label)
    before = inspector.judge_file(image)
    photo = before.photo if name is None else replace(before.photo, path=Path(name))
    if photo.pixels is None:
        raise InputError(f"{photo.path}: {photo.problem}")
    if ng and any(os.path.realpath(known) == os.path.realpath(image) for known in inspector.metadata["ok"]):
        raise InputError(
            f"{image}: was given to calibrate as OK; take it out of the OK photographs and calibrate again"
        )
    correction = inspector.corrections.add(
        photo,
        ng=ng,
        defect_type=defect_type,
        before=before.verdict,
        features=inspector.extract_features(before.photo),
        extractor=inspector.extractor.fingerprint,
    )
    unseen = inspector.judge.judge_unseen()
    inspector.reload_corrections()
    counts = unseen.compare(inspector.judge.judge_unseen())
    effect = CorrectionEffect(ng and inspector.judge.acts_beyond_copies, *counts)
    return correction, before, inspector.judge_file(image, anomaly_map=anomaly_map), effect


def undo(folder: Path, number: int | None = None) -> Correction:
    """Undo a correction, the last active one if no number is given.

    Raises:
        InputError: there is no such folder or correction, or it was undone before.
    """
    return open_corrections(folder).undo(number)


def retrain(folder: Path, *, accept: bool = False, progress: Progress = silent) -> dict[str, Any]:
    """Fit and calibrate again with the corrections: corrected parts join the OK parts and the NG examples.

    The new judge is made beside the old one. It replaces the old one if it passes no more bad parts and rejects no more
    good ones, or if `accept` is given. Corrections stay in the log and active.

    The good parts of this comparison are held out of the new judge. After a split calibration they are the last third
    of the OK parts that the old judge did not learn from; after a cross-calibration (CV+), which learns from every part
    it is given, the last third of all. Where the old judge learnt from some of them the comparison favours it, and a
    `DataWarning` counts them. Parts that an earlier `retrain` held out come last, so they are the first to be held out
    again: usually only `calibrate` brings them into a judge.

    Args:
        folder: the run folder.
        accept: replace the old judge even if the new one is worse.
        progress: called during long steps.

    Returns:
        `before` and `after`, each with `false_rejects` of held-out OK parts and `missed` NG parts, as shares;
        `replaced`, `held_out_ok`, `ng` and `lessons`, the number of corrections.

    Raises:
        InputError: nothing was taught, or photographs of the calibration are gone.
    """
    old = Inspector.open(folder)
    corrections = old.corrections.active()
    if not corrections:
        raise InputError(
            f"{folder}: nothing was taught, so there is nothing to retrain with; `mekiki teach` does it"
        )
    extractor = make_extractor(folder, old.metadata["eye"]["name"])
    ok, held_out, ng = _calibration_photos(old)
    ok = _without_corrected(ok, [each for each in corrections if each.ng], extractor)
    not_corrected = _without_corrected(list(ng), [each for each in corrections if not each.ng], extractor)
    ng = {path: ng[path] for path in not_corrected}
    for correction in corrections:
        path = old.corrections.photograph(correction).absolute()
        if correction.ng:
            ng[path] = correction.defect_type
        else:
            ok.append(path)
    confirmed = {each.content for each in corrections if not each.ng}
    metadata = old.metadata
    settings = CalibrationSettings(
        metadata["false_reject"],
        metadata["confidence"],
        how=metadata["how"],
        detectors=_asked_detectors(metadata),
        seed=metadata["seed"] + 1,
        keep_suspicious=metadata.get("keep_suspicious", True),
        smallest_defect=metadata.get("smallest_defect"),
    )
    learnt = set(metadata["ok"][: metadata["learnt_from"]])
    known = sum(str(path) in learnt for path in held_out)
    if known:
        warnings.warn(
            f"{known} of the {len(held_out)} OK parts held out are parts that the old judge learnt from (CV+), so the "
            "comparison favours the old judge",
            DataWarning,
            stacklevel=2,
        )
    new, calibration = fit_inspector(folder, extractor, ok, ng, settings, progress, confirmed)
    # Both are compared with the corrections active, as they judge in use.
    before, after = (
        {
            "false_rejects": _share(inspector, held_out, "NG"),
            "missed": _share(inspector, list(ng), "OK"),
        }
        for inspector in (old, new)
    )
    replaced = accept or not any(after[name] > before[name] for name in after)
    if replaced:
        # The parts held out are known, so that they are not taught as NG.
        calibration.metadata["ok"] += [str(path) for path in held_out]
        calibration.metadata["places"] = metadata["places"]
        new.write(calibration)
    return {
        "before": before,
        "after": after,
        "replaced": replaced,
        "held_out_ok": len(held_out),
        "ng": len(ng),
        "lessons": len(corrections),
    }


def _asked_detectors(metadata: dict[str, Any]) -> tuple[str, ...] | None:
    """The detectors that were asked for; `None` is all that apply. Earlier versions kept one list of names."""
    asked = metadata.get("detectors_asked", metadata.get("detectors", ("mt",)))
    return None if asked is None else tuple(asked)


def _calibration_photos(inspector: Inspector) -> tuple[list[Path], list[Path], dict[Path, str]]:
    """The photographs of a calibration, without those of corrections.

    Returns:
        OK photographs to use again, OK photographs to hold out, and NG photographs with their defect types.

    Raises:
        InputError: one is gone.
    """
    corrections, metadata = inspector.corrections.files.absolute(), inspector.metadata
    # After a split the judge learnt from the first ones, set its threshold with the next, and saw nothing of the last
    # ones, which an earlier retrain held out. After CV+ it learnt from all but those last ones.
    number = metadata["learnt_from"] if metadata["method"] == "split" else 0
    paths = [Path(name) for name in metadata["ok"]]
    learning = [path for path in paths[:number] if path.parent != corrections]
    calibrating = [path for path in paths[number:] if path.parent != corrections]
    ng = {Path(name): type_ for name, type_ in metadata["ng"].items() if Path(name).parent != corrections}
    missing = [path for path in (*learning, *calibrating, *ng) if not path.is_file()]
    if missing:
        raise InputError(
            f"{missing[0]}: is gone, with {len(missing) - 1} more of the calibration; calibrate again with --ok"
        )
    held_out = calibrating[-max(1, len(calibrating) // HELD_OUT_DIVISOR) :]
    return [path for path in (*learning, *calibrating) if path not in set(held_out)], held_out, ng


def _without_corrected(
    paths: list[Path], corrections: Sequence[Correction], extractor: FeatureExtractor
) -> list[Path]:
    """Those photographs that none of these corrections is about."""
    contents = {each.content for each in corrections}
    if not contents:  # nothing to look for in the photographs
        return paths
    return [
        photo.path
        for block in iter_photos(paths, extractor.frame, extractor.channels)
        for photo in block
        if photo.content not in contents
    ]


def _share(inspector: Inspector, paths: Sequence[Path], verdict: str) -> float:
    """The share of photographs that get a verdict; NaN without photographs."""
    if not paths:
        return float("nan")
    return float(np.mean([each.verdict == verdict for each in inspector.judge_files(paths)]))
