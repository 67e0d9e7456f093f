"""Comparison of several losses, or several networks, on the same images over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.splits import ImageSplit
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.experiments.draw import scatter_content
from mekiki.experiments.request import DataRequest
from mekiki.experiments.train import OnEpoch, TrainedRun, train_run
from mekiki.report import figures
from mekiki.report.comparison_page import write_comparison
from mekiki.report.content import COMPARISON_COLUMNS, ComparisonContent, ComparisonEntry
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.run_folder import CHECKPOINT, COMPARISON, COMPARISON_CHART, REPORT
from mekiki.storage.training_run import folder_name, versions

MeanAndSd = tuple[float | None, float | None]

TOUCHING = 0.01
"""Overlap above which two classes are said to touch."""

COMPARED = {
    "knn": "knn5_accuracy",
    "eer": "pair_eer",
    "auc": "pair_auc",
    "pair_accuracy": "pair_accuracy",
    "overlap_max": "overlap_max",
    "silhouette": "silhouette",
    "seconds": "seconds_training",
}
"""Columns of a comparison, and the number of `metrics.json` that each shows."""


def compare(
    request: DataRequest,
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    *,
    command: str = "",
    on_run: Callable[[str, int], None] | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train several variants, each with several seeds, and write one table and one report.

    Complete runs in the folder are used as they are, and unfinished ones are continued, so the same call resumes an
    interrupted comparison.

    Args:
        request: the images.
        variants: settings of `Embedder` by name in the table.
        seeds: one run each.
        folder: gets one run folder a variant and seed, `comparison.json`, `comparison.png` and `report.html`.
        command: the command line, for the record.
        on_run: called before each run with its name and seed.
        on_epoch: as in `train_run`.
        progress: called during long steps.

    Returns:
        The content of `comparison.json`, and the path of the `report`.
    """
    _check_folder(folder)
    if not variants:
        raise InputError("no losses to compare; give at least one, such as --losses softmax,contrastive")
    for settings in variants.values():
        Embedder(**settings).check_settings()
        request = request.for_encoder(settings.get("encoder", ""))
    split = request.load(progress)
    shown: dict[str, TrainedRun] = {}
    table: dict[str, list[dict[str, Any]]] = {}
    for name, settings in variants.items():
        for seed in seeds:
            if on_run is not None:
                on_run(name, seed)
            result = train_run(
                request,
                split,
                Embedder(**settings, random_state=seed),
                folder / _run_name(name, seed),
                resume=True,
                command=command,
                on_epoch=on_epoch,
                progress=progress,
            )
            shown.setdefault(name, result)
            table.setdefault(name, []).append(result.metrics)
    summary = {name: _mean_and_sd(runs) for name, runs in table.items()}
    comparison: dict[str, Any] = finite(
        {
            "data": request.spec,
            "seeds": list(seeds),
            "settings": {name: dict(settings) for name, settings in variants.items()},
            "in_common": _in_common([result.embedder for result in shown.values()]),
            "compared": {
                name: {column: {"mean": mean, "sd": sd} for column, (mean, sd) in columns.items()}
                for name, columns in summary.items()
            },
            "runs": {name: [_run_name(name, seed) for seed in seeds] for name in variants},
            "findings": _claim(summary, shown, split.train.class_names),
            "versions": versions(),
            "command": command,
        }
    )
    write_json(folder / COMPARISON, comparison)
    _write_report(folder, split, shown, summary, comparison)
    return comparison | {"report": str(folder / REPORT)}


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder as --out")
    if not folder.is_dir() or (folder / COMPARISON).is_file():
        return
    strange = [entry.name for entry in folder.iterdir() if not (entry / CHECKPOINT).is_file()]
    if strange:
        raise InputError(f"{folder}: holds something else ({strange[0]}); give another --out")


def _run_name(name: str, seed: int) -> str:
    return folder_name(f"{name}-seed{seed}")


def _in_common(embedders: Sequence[Embedder]) -> str:
    """Those of loss, encoder and dimensions that are the same for all, in words."""
    values = [{e.loss for e in embedders}, {e.encoder for e in embedders}]
    values.append({f"{e.dim} dimensions" for e in embedders})
    return ", ".join(next(iter(each)) for each in values if len(each) == 1)


def _mean_and_sd(runs: Sequence[Mapping[str, Any]]) -> dict[str, MeanAndSd]:
    columns: dict[str, MeanAndSd] = {}
    for column, metric in COMPARED.items():
        values = np.array([run[metric] for run in runs if run[metric] is not None], dtype=np.float64)
        sd = float(values.std(ddof=1)) if len(values) > 1 else None
        columns[column] = (float(values.mean()) if len(values) else None, sd)
    return columns


def _claim(
    summary: Mapping[str, Mapping[str, MeanAndSd]],
    shown: Mapping[str, TrainedRun],
    class_names: Sequence[str],
) -> list[str]:
    """What the numbers show about the post's claim that the classes of a Siamese embedding do not overlap."""
    sentences = []
    for loss, result in shown.items():
        matrix = result.overlap.copy()
        np.fill_diagonal(matrix, np.nan)
        if not np.isfinite(matrix).any():
            continue
        i, j = np.unravel_index(int(np.nanargmax(matrix)), matrix.shape)
        touching = int(((np.nan_to_num(matrix) > TOUCHING) | (np.nan_to_num(matrix.T) > TOUCHING)).sum()) // 2
        pairs = len(class_names) * (len(class_names) - 1) // 2
        sentences.append(
            f"{loss}: {touching} of {pairs} pairs of classes touch (an overlap above {TOUCHING:.0%}); the largest is "
            f"that of {class_names[int(i)]} and {class_names[int(j)]}, {matrix[i, j]:.1%}."
        )
    if not sentences:
        return []
    opening = (
        "The post that this experiment repeats says that the classes of a Siamese embedding do not overlap. Overlap is "
        "measured here on the test images, for one seed: the probability that two members of one class lie farther "
        "apart than a member of it and one of another."
    )
    siamese = [r for r in shown.values() if r.embedder.loss in ("contrastive", "online-contrastive")]
    if not siamese:
        return [opening, *sentences]
    worst = max(float(r.metrics["overlap_max"] or 0) for r in siamese)
    verdict = "The claim holds here: no two classes touch."
    if worst > TOUCHING:
        verdict = f"The claim does not hold to the letter: the largest overlap of a Siamese embedding is {worst:.1%}."
    soft, pair = (
        summary.get(loss, {}).get("overlap_max", (None, None))[0] for loss in ("softmax", "contrastive")
    )
    if soft is not None and pair is not None:
        verdict += (
            f" It is {'less' if pair < soft else 'not less'} than that of the plain classifier: on the mean of the "
            f"seeds the largest overlap is {pair:.1%} with contrastive and {soft:.1%} with softmax."
        )
    return [opening, *sentences, verdict]


def _write_report(
    folder: Path,
    split: ImageSplit,
    shown: Mapping[str, TrainedRun],
    summary: Mapping[str, Mapping[str, MeanAndSd]],
    comparison: Mapping[str, Any],
) -> None:
    test, seeds = split.test, comparison["seeds"]
    entries = []
    for name, result in shown.items():
        projection = figures.project(result.test_vectors, fit=result.embedder.reference_vectors_)
        scatter = scatter_content(projection.points, test, np.arange(len(test)), projection)
        history, note = result.embedder.history_, f"drawn: seed {seeds[0]}"
        entries.append(ComparisonEntry(name, summary[name], history, scatter, result.overlap, note))
    values = {
        column.label: tuple(
            column.factor * np.array([summary[name][column.key][side] for name in shown], dtype=np.float64)
            for side in (0, 1)  # None becomes NaN
        )
        for column in COMPARISON_COLUMNS
    }
    figures.save(figures.comparison(list(shown), values), folder / COMPARISON_CHART)  # type: ignore[arg-type]
    files = [(COMPARISON, "every number of this page"), (COMPARISON_CHART, "the chart")]
    for name, runs in comparison["runs"].items():
        files += [(f"{run}/{REPORT}", f"{name}, seed {seed}") for run, seed in zip(runs, seeds, strict=True)]
    content = ComparisonContent(
        f"{comparison['data']}: {len(shown)} embeddings side by side",
        split.train.class_names,
        entries,
        f"{len(split.train):,} training and {len(test):,} test images, {len(seeds)} seed(s) each",
        comparison["findings"],
        {
            "command": comparison["command"] or "from Python",
            "data": split.train.source,
            "seeds": ", ".join(map(str, seeds)),
            "versions": ", ".join(f"{name} {number}" for name, number in comparison["versions"].items()),
        },
        files=files,
    )
    write_comparison(folder / REPORT, content)
