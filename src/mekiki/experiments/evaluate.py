"""Measurements of a run: on its own test images or others, and of its training."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mekiki.console import Progress, silent
from mekiki.data.image_set import content_hashes
from mekiki.embedder import Embedder
from mekiki.errors import DataWarning, InputError
from mekiki.evaluation.summary import evaluate
from mekiki.experiments.embed import load_image_embedder
from mekiki.experiments.request import DataRequest
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.run_folder import EVALUATION, EVALUATION_OF
from mekiki.storage.training_run import Run, folder_name
from mekiki.training.checkpoints import read_checkpoint
from mekiki.training.collapse import diagnose, is_collapsed


def evaluate_run(
    folder: Path, request: DataRequest | None = None, *, progress: Progress = silent
) -> dict[str, Any]:
    """Measure a run on its own test images, or on others, and write the numbers into the run folder.

    Classes of other images are matched to the run's by name; those that the run does not know are measured too, and a
    `DataWarning` names them. Images that the run was trained on are left out, and a `DataWarning` counts them.

    Returns:
        The numbers, also written to `evaluation.json` (own images) or `evaluation-<name>.json`.
    """
    run = Run(folder)
    embedder, (channels, height, width) = load_image_embedder(folder)
    about = run.config()["about"]
    own = request is None
    if request is None:
        request = DataRequest.of_run(about["data"])
    test = replace(request, size=(height, width), channels=channels).load(progress).test
    if own:
        if test.fingerprint() != about["data"]["fingerprint"]["test"]:
            _note("the images are not those the run was made from: their content has changed since")
    else:
        trained = np.isin(content_hashes(test.pixels), embedder.reference_contents_)
        if trained.all():
            raise InputError(f"{request.spec}: the run learnt from every one of these images; give others")
        if trained.any():
            _note(f"{trained.sum():,} of {len(test):,} images left out, since the run learnt from them")
            test = test.subset(np.flatnonzero(~trained))
    names = np.array(about["class_names"], dtype=object)
    vectors = embedder.transform(test.pixels, progress)
    labels = np.array(test.class_names, dtype=object)[test.labels].astype(str)
    reference = names[embedder.classes_[embedder.reference_labels_]].astype(str)
    evaluation = evaluate(vectors, labels, (embedder.reference_vectors_, reference))
    for note in evaluation.notes:
        _note(note)
    metrics: dict[str, Any] = finite(
        evaluation.to_dict()
        | {"data": request.spec, "data_fingerprint": {"test": test.fingerprint()}, "n_test": len(test)}
    )
    file = run.folder / (EVALUATION if own else EVALUATION_OF.format(name=folder_name(request.spec)))
    write_json(file, metrics)
    return metrics | {"file": str(file)}


def examine(folder: Path) -> dict[str, Any]:
    """Check the training of a run, finished or not, for collapse.

    Returns:
        `run`, `complete`, `epochs`, `collapsed`, `findings` and `history`.
    """
    run = Run(folder)
    if run.checkpoint.is_file() and not run.complete:
        checkpoint = read_checkpoint(run.checkpoint, tensors=False)
        history, findings = checkpoint.history, diagnose(checkpoint.history, **checkpoint.settings["doctor"])
    else:
        embedder = Embedder.load(run.open().folder)
        history, findings = embedder.history_, embedder.findings_
    result: dict[str, Any] = finite(
        {
            "run": str(folder),
            "complete": run.complete,
            "epochs": len(history["epoch"]),
            "collapsed": is_collapsed(findings),
            "findings": [vars(finding) for finding in findings],
            "history": history,
        }
    )
    return result


def _note(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
