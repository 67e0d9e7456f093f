"""One run: train, measure, draw, and write the run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.splits import ImageSplit
from mekiki.embedder import Embedder
from mekiki.embedder.saving import write_embedder
from mekiki.errors import InputError
from mekiki.evaluation.summary import Evaluation, evaluate
from mekiki.experiments.draw import FILES, draw_run
from mekiki.experiments.request import DataRequest
from mekiki.experiments.snapshots import SaveSnapshots
from mekiki.report.figures.projection import check_method
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import HISTORY, METRICS
from mekiki.storage.training_run import Run, versions
from mekiki.training.collapse import is_collapsed
from mekiki.training.distributed import ALONE, Ranks
from mekiki.training.fit import Callback, History
from mekiki.training.history import write_history

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ACCURACIES = ("accuracy", "pair_accuracy", "triplet_accuracy")

OnEpoch = Callable[[Mapping[str, float], Sequence[Any]], None]


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run.

    Attributes:
        run: its folder.
        embedder: the trained embedder.
        metrics: the content of `metrics.json`.
        overlap: `[C, C]`, NaN for a class that the test side has not.
        test_vectors: float32 `[N, d]`.
    """

    run: Run
    embedder: Embedder
    metrics: dict[str, Any]
    overlap: NDArray[np.float64] = field(repr=False)
    test_vectors: NDArray[np.float32] = field(repr=False)


def train_run(
    request: DataRequest,
    split: ImageSplit,
    embedder: Embedder,
    folder: Path,
    *,
    resume: bool = False,
    projection: str = "pca",
    command: str = "",
    on_epoch: OnEpoch | None = None,
    fabric: Fabric | None = None,
    snapshots: bool = False,
    progress: Progress = silent,
) -> TrainedRun:
    """Train, measure on the test side, and write the run folder.

    Args:
        request: where the images came from.
        split: the images themselves.
        embedder: not yet fitted; its settings are the experiment.
        folder: the run folder.
        resume: continue from the folder's checkpoint; a complete run of the same settings is returned as it is.
        projection: `"pca"` or `"tsne"`, for vectors of more than two dimensions.
        command: the command line, for the record.
        on_epoch: called after each epoch with its row and the findings of the collapse check.
        fabric: where several processes train together: all joined, this one the first; the others `take_part`.
        snapshots: write the positions of up to 2,000 images after each epoch; see `mekiki.experiments.snapshots`.
        progress: called during long steps.

    Raises:
        InputError: the folder holds another run, or the images cannot be used.
    """
    check_method(projection)
    train, test = split
    if len(train) == 0:
        raise InputError(f"{train.source}: no image to learn from; choose a --test-fraction below 1")
    run = Run(folder)
    ranks = ALONE if fabric is None else Ranks.of(fabric)

    def after_epoch(history: History, findings: Sequence[Any]) -> None:
        if not run.complete:  # the files of a complete run stay together until they are replaced
            write_history(run.folder / HISTORY, history)
        if on_epoch is not None:
            on_epoch({name: column[-1] for name, column in history.items()}, findings)

    with hold_lock(folder, "training", timeout=0, role="training"):
        started = ranks.broadcast(lambda: run.begin(resume=resume))
        about = _about(request, split, projection, command)
        same = _load_if_same(run, embedder, about, split, progress) if run.complete else None
        if ranks.broadcast(lambda: same is not None):
            assert same is not None
            return same
        callbacks: list[Callback] = []
        if snapshots and not run.complete:
            callbacks.append(SaveSnapshots(run.folder, train.class_names, lambda: embedder.classes_))
        try:
            embedder.fit(
                train.pixels,
                train.labels,
                validation=(test.pixels, test.labels),
                checkpoint=run.checkpoint,
                resume=started,
                identity={"data": about["data"]["fingerprint"]},
                on_epoch=after_epoch,
                fabric=fabric,
                callbacks=callbacks,
                progress=progress,
            )
        except BaseException:
            run.remove_if_empty()
            raise
        return _write_results(run, embedder, split, about, progress)


def take_part(split: ImageSplit, embedder: Embedder, folder: Path, fabric: Fabric) -> None:
    """Do the work of a process that is not the first, while the first is in `train_run`; writes nothing.

    Args:
        split: the same images.
        embedder: the same settings.
        folder: the run folder; only the first process reads and writes it.
        fabric: all processes, joined.

    Raises:
        InputError: the first process cannot continue, or has other images.
    """
    ranks = Ranks.of(fabric)
    started = ranks.broadcast(lambda: False)
    if ranks.broadcast(lambda: False):  # the run is complete
        return
    embedder.fit(
        split.train.pixels,
        split.train.labels,
        validation=(split.test.pixels, split.test.labels),
        checkpoint=Run(folder).checkpoint,
        resume=started,
        identity={"data": _fingerprint(split)},
        fabric=fabric,
    )


def _about(request: DataRequest, split: ImageSplit, projection: str, command: str) -> dict[str, Any]:
    data = {
        "place": request.place(),
        "source": split.train.source,
        "fingerprint": _fingerprint(split),
        "notes": list(split.notes),
    }
    return {
        "data": asdict(request) | data,
        "projection": projection,
        "class_names": list(split.train.class_names),
        "command": command,
        "versions": versions(),
    }


def _fingerprint(split: ImageSplit) -> dict[str, str]:
    return {"train": split.train.fingerprint(), "test": split.test.fingerprint()}


def _load_if_same(
    run: Run, requested: Embedder, wanted: Mapping[str, Any], split: ImageSplit, progress: Progress
) -> TrainedRun | None:
    """A complete run, if it has the settings and the images that are requested."""
    about, embedder = run.config()["about"], Embedder.load(run.folder)
    same = (
        embedder.get_params() == requested.get_params() | {"device": embedder.device}
        and about["data"]["fingerprint"] == wanted["data"]["fingerprint"]
        and about["projection"] == wanted["projection"]
    )
    if not same:
        return None
    metrics = run.metrics()
    overlap = np.array(metrics["overlap"], dtype=np.float64)  # null becomes NaN
    return TrainedRun(run, embedder, metrics, overlap, embedder.transform(split.test.pixels, progress))


def _write_results(
    run: Run, embedder: Embedder, split: ImageSplit, about: Mapping[str, Any], progress: Progress
) -> TrainedRun:
    train, test = split
    vectors = embedder.transform(test.pixels, progress)
    progress("measuring", 0, 1)
    start = time.perf_counter()
    evaluation = evaluate(vectors, test.labels, (embedder.reference_vectors_, train.labels))
    seconds = time.perf_counter() - start
    progress("measuring", 1, 1)
    overlap = np.full(
        (len(train.class_names),) * 2, math.nan
    )  # over all classes, also those without test images
    rows = np.array([int(label) for label in evaluation.overlap_classes])
    overlap[np.ix_(rows, rows)] = evaluation.overlap
    metrics = _metrics(embedder, evaluation, overlap, split, about) | {"seconds_evaluation": seconds}
    with run.replace_results([name for name, _ in FILES]) as new:
        write_embedder(embedder, new, about)
        write_json(new / METRICS, metrics)
        draw_run(new, embedder, split, vectors, evaluation, metrics, about, progress)
    return TrainedRun(run, embedder, finite(metrics), overlap, vectors)


def _metrics(
    embedder: Embedder,
    evaluation: Evaluation,
    overlap: NDArray[np.float64],
    split: ImageSplit,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    history = embedder.history_
    seconds = float(sum(history["seconds"]))
    images = sum(s * r for s, r in zip(history["seconds"], history["images_per_second"], strict=True))
    last = {
        name: column[-1] for name, column in history.items() if name not in ("seconds", "images_per_second")
    }
    # `pair_accuracy` is a number of the evaluation too, so that of the history gets another name.
    last = {f"train_{name}" if name in ACCURACIES else name: value for name, value in last.items()}
    return (
        evaluation.to_dict()
        | last
        | {
            "overlap": overlap.tolist(),
            "epochs": int(last["epoch"]),
            "seconds_training": seconds,
            "images_per_second": images / seconds,
            "collapsed": is_collapsed(embedder.findings_),
            "findings": [vars(finding) for finding in embedder.findings_],
            "loss": embedder.loss,
            "dim": embedder.dim,
            "encoder": embedder.encoder,
            "seed": embedder.seed_,
            "n_train": len(split.train),
            "n_test": len(split.test),
            "class_names": about["class_names"],
            "data": about["data"]["source"],
            "data_fingerprint": about["data"]["fingerprint"],
            "data_notes": about["data"]["notes"],
            "versions": about["versions"],
        }
    )
