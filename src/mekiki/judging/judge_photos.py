"""`Inspector`: the feature extractor and the calibrated judge of a run folder. From photographs to verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save_file

from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Photo, PhotoConditions, map_photos, map_readable, read_photo
from mekiki.errors import InputError
from mekiki.judging.corrections import Correction, CorrectionLog
from mekiki.judging.extractors import make_extractor
from mekiki.judging.feature_judge import Judge
from mekiki.judging.features import FeatureExtractor, Features
from mekiki.judging.judge_result import CORRECTION_COLUMN
from mekiki.judging.reference_parts import ReferenceParts
from mekiki.judging.suspicious_photos import SuspiciousPhoto, write_list
from mekiki.judging.trade_off import TradeOff
from mekiki.judging.verdict import Because, Verdict
from mekiki.report.figures.charts import save
from mekiki.report.figures.judge_figures import score_histogram, trade_off_curve
from mekiki.storage.atomic import recover_folder
from mekiki.storage.json_files import write_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, check_format, read_consistently, replace_folder_with_manifest
from mekiki.storage.run_folder import (
    JUDGE,
    JUDGE_ARRAYS,
    JUDGE_FORMAT,
    JUDGE_SCORES,
    JUDGE_SETTINGS,
    JUDGE_SUSPICIOUS,
    JUDGE_TRADE_OFF,
)


@dataclass(frozen=True, eq=False)
class Calibration:
    """The result of a calibration.

    Attributes:
        metadata: numbers for JSON.
        guarantee: what is promised, in a sentence.
        notes: what is noteworthy.
        trade_off: both errors at every threshold, where NG parts were given.
        ng_scores: float64 `[m]`, the scores of these.
        suspicious: the OK photographs that look least like the others, worst first.
    """

    metadata: dict[str, Any]
    guarantee: str
    notes: list[str]
    trade_off: TradeOff | None
    ng_scores: NDArray[np.float64]
    suspicious: list[SuspiciousPhoto]


class Inspector:
    """A calibrated judge with its feature extractor; made by `calibrate_run`, opened by `Inspector.open`.

    Attributes:
        folder: the run folder.
        extractor: the feature extractor.
        judge: what decides.
        references: OK and NG parts to compare with.
        corrections: the log of corrections.
        classifier: what names defect types; `None` without NG examples.
        metadata: how it was calibrated.
        conditions: how the OK parts were photographed.
    """

    def __init__(
        self,
        folder: Path,
        extractor: FeatureExtractor,
        judge: Judge,
        references: ReferenceParts,
        metadata: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.extractor = extractor
        self.judge = judge
        self.references = references
        self.metadata = metadata
        conditions = metadata["conditions"]
        heights, widths = conditions["heights"], conditions["widths"]
        self.conditions = PhotoConditions(tuple(heights), tuple(widths), conditions["coloured"])
        self.corrections = CorrectionLog(folder)
        self.reload_corrections()

    @classmethod
    def open(cls, folder: Path) -> Inspector:
        """Open the calibrated judge of a run folder.

        Raises:
            InputError: there is none, its files do not fit together, or its feature extractor has changed since.
        """
        recover_folder(folder / JUDGE)
        return read_consistently(folder / JUDGE, lambda: cls._read(folder))

    @classmethod
    def _read(cls, folder: Path) -> Inspector:
        place = folder / JUDGE
        path = place / JUDGE_SETTINGS
        if not path.is_file():
            raise InputError(f"{folder}: is not calibrated; `mekiki calibrate {folder} --ok FOLDER` does it")
        try:
            manifest = Manifest.of(place, fix="calibrate again")
            metadata: dict[str, Any] = json.loads(manifest.read(JUDGE_SETTINGS))
            if not isinstance(metadata, dict):
                raise ValueError("it holds no object")
            arrays = load(manifest.read(JUDGE_ARRAYS))
        except InputError:
            raise
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(f"{place}: cannot be read ({error}); calibrate again") from None
        check_format(path, metadata.get("format"), JUDGE_FORMAT, fix="calibrate again")
        try:
            return cls._restore(folder, metadata, arrays)
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{place}: does not hold all of a judge ({error}); calibrate again") from None

    @classmethod
    def _restore(cls, folder: Path, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Inspector:
        extractor = make_extractor(folder, metadata["eye"]["name"])
        if extractor.fingerprint != metadata["eye"]["fingerprint"]:
            raise InputError(
                f"{folder}: what it looks with ({extractor.name}) has changed since it was calibrated; calibrate again"
            )
        extractor.load_state(_under(arrays, "eye/"))
        judge = Judge.from_state(_under(arrays, "judge/"), metadata["judge"])
        references = ReferenceParts(
            metadata["examples"]["names"], metadata["examples"]["kinds"], **_under(arrays, "examples/")
        )
        return cls(folder, extractor, judge, references, metadata)

    def reload_corrections(self) -> None:
        """Apply the active corrections; called when their log has changed."""
        corrected = self.corrections.active_parts(
            self.judge.groups, self.extractor.fingerprint, self._extract_file
        )
        self.judge.teach(corrected)
        more = [
            (
                self.references.project(
                    self.judge.whiten(
                        {name: each[None] for name, each in part.features.items() if each.ndim == 1}
                    )
                ),
                part.defect_type,
            )
            for part in corrected
            if part.ng
        ]
        self.classifier = self.references.fit_classifier(str(self.metadata.get("kinds_by")), more)
        self._by_content = {each.content: each for each in self.corrections.active()}

    def _extract_file(self, path: Path) -> dict[str, NDArray[np.float32]]:
        photo = read_photo(path, self.extractor.frame, self.extractor.channels)
        if photo.pixels is None:
            raise InputError(f"{path}: {photo.problem}")
        return self.extract_features(photo)

    def extract_features(self, photo: Photo) -> dict[str, NDArray[np.float32]]:
        """The features that the judge compares of a photograph that could be read, `[d]` or `[h, w, c]` by group."""
        assert photo.pixels is not None
        groups = self.judge.select(self.extractor.extract([photo.pixels]).groups)
        return {name: group[0] for name, group in groups.items()}

    def correction_of(self, photo: Photo) -> Correction | None:
        """The active correction on this very photograph."""
        return self._by_content.get(photo.content)

    def judge_files(
        self, paths: Sequence[Path], *, anomaly_maps: bool = False, progress: Progress = silent
    ) -> Iterator[Verdict]:
        """Verdicts on files, in order, as a stream; a file that cannot be read gets one too.

        Args:
            paths: the files.
            anomaly_maps: also make the anomaly map of each NG part.
            progress: called after each block.
        """
        extractor = self.extractor
        for photo, features in map_photos(
            paths, extractor.frame, extractor.channels, self._extract, progress=progress, label="judging"
        ):
            yield self._judge(photo, features, anomaly_maps)

    def judge_file(self, path: Path, *, anomaly_map: bool = False) -> Verdict:
        """The verdict on one file."""
        # To its end: a Ctrl-C while the garbage collector closes a generator would be lost.
        (verdict,) = self.judge_files([path], anomaly_maps=anomaly_map)
        return verdict

    def judge_photos(self, photos: Sequence[Photo]) -> Iterator[Verdict]:
        """Verdicts on photographs that have been read."""
        for photo, features in map_readable(photos, self._extract):
            yield self._judge(photo, features, anomaly_map=False)

    def _extract(self, pixels: list[Pixels]) -> Iterable[Features]:
        return self.extractor.extract(pixels).rows()

    def _judge(self, photo: Photo, features: Features | None, anomaly_map: bool) -> Verdict:
        pixels = photo.pixels
        if pixels is None or features is None:
            return Verdict(photo, "unreadable")
        photo = replace(photo, remark=self.conditions.remark(photo))
        threshold = self._threshold
        result = self.judge.judge(self.judge.select(features.groups))
        vector = self.references.project(result.whitened)[0]
        ng, why, defect_type = bool(result.ng[0]), result.leading_groups()[0], ""
        because: Because = "view"
        correction = self.correction_of(photo)
        if correction is not None:
            ng, why, because = correction.ng, f"taught: {correction.note}", "taught"
            defect_type = correction.defect_type
        elif ng and why == CORRECTION_COLUMN and result.nearest[0] >= 0:
            part = self.judge.taught[result.nearest[0]]
            why, defect_type, because = f"like {part.note}", part.defect_type, "lesson"
        elif ng and self.classifier is not None:
            why = "like NG parts that were given" if why == CORRECTION_COLUMN else why
            defect_type = str(self.classifier.predict(vector[None])[0])
        like_ok, like_ng = self.references.nearest(vector)
        maps = self.extractor.anomaly_maps([pixels], features, self.judge) if anomaly_map and ng else None
        return Verdict(
            photo,
            "NG" if ng else "OK",
            float(result.score[0]),
            float(result.p[0]),
            float("nan") if threshold is None else threshold,
            why,
            defect_type,
            like_ok,
            like_ng,
            maps[0] if maps is not None else None,
            _vectors(features),
            because,
        )

    @property
    def _threshold(self) -> float | None:
        """Of the score; `None` where the judge has no single one."""
        return None if self.judge.threshold is None else self.judge.threshold.value

    def write(self, calibration: Calibration) -> None:
        """Write the judge into its run folder in one step; corrections stay."""
        arrays, settings = self.judge.state()
        references = self.references
        self.metadata = calibration.metadata | {
            "format": JUDGE_FORMAT,
            "guarantee": calibration.guarantee,
            "notes": calibration.notes,
            "judge": settings,
            "examples": {"names": references.names, "kinds": references.labels},
        }
        tensors = {f"judge/{name}": array for name, array in arrays.items()}
        tensors |= {f"eye/{name}": array for name, array in self.extractor.state().items()}
        for name in ("vectors", "directions", "thumbnails", "sizes"):
            tensors[f"examples/{name}"] = getattr(references, name)
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.folder, "calibrating"), replace_folder_with_manifest(self.folder / JUDGE) as new:
            save_file(
                {name: np.ascontiguousarray(array) for name, array in tensors.items()},
                new / JUDGE_ARRAYS,
            )
            write_json(new / JUDGE_SETTINGS, self.metadata)
            self._write_figures(new, calibration)

    def _write_figures(self, folder: Path, calibration: Calibration) -> None:
        """Draw the scores, the suspicious OK photographs, and the trade-off where there are NG parts."""
        write_list(folder / JUDGE_SUSPICIOUS, calibration.suspicious, calibration.metadata["ok_parts"])
        threshold = self._threshold
        figure = score_histogram(self.judge.calibration_scores, calibration.ng_scores, threshold)
        save(figure, folder / JUDGE_SCORES)
        curve = calibration.trade_off
        if curve is not None:
            errors = None if threshold is None else curve.at(threshold)
            chosen = None if errors is None else (errors.false_reject, errors.miss)
            save(trade_off_curve(curve.false_rejects, curve.misses, chosen), folder / JUDGE_TRADE_OFF)


def _vectors(features: Features) -> dict[str, NDArray[np.float32]]:
    """The feature groups of one photograph that are vectors, `[d]` each."""
    return {name: group[0] for name, group in features.groups.items() if group.ndim == 2}


def _under(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
