"""The pictures and the report of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress
from mekiki.data.image_set import ImageSet
from mekiki.data.splits import ImageSplit
from mekiki.embedder import Embedder
from mekiki.evaluation.confused_pairs import RankedPairs, confused_pairs
from mekiki.evaluation.summary import Evaluation
from mekiki.evaluation.verification import PairHistogram, pair_histogram
from mekiki.report import figures
from mekiki.report.content import (
    ConfusedPairs,
    Headline,
    PairDistances,
    ReportContent,
    ScatterContent,
)
from mekiki.report.run_page import write_report
from mekiki.storage.json_files import finite
from mekiki.storage.run_folder import BACKBONE, CHECKPOINT, CONFIG, HISTORY, METRICS, MODEL, REFERENCE, REPORT

if TYPE_CHECKING:
    from mekiki.report.figures.projection import Projection

Vectors = NDArray[np.float32]

PLACED_BY_TSNE = 20_000
"""Images of a side that t-SNE places; a seeded sample of more."""

FILES = (
    (MODEL, "weights of the network, standardisation included"),
    (BACKBONE, "the pretrained network as it was fine-tuned, as transformers reads it"),
    (REFERENCE, "vectors and labels of the training images"),
    (CONFIG, "how the run was made, and all that loading the model needs"),
    (HISTORY, "loss, accuracy, rate, seconds and the doctor's figures, one row an epoch"),
    (METRICS, "every number of this page"),
    (CHECKPOINT, "state after the last epoch, for --resume"),
    ("scatter_train.png", "training images by label"),
    ("scatter_test.png", "test images by label"),
    ("loss.png", "loss and accuracy by epoch"),
    ("pair_distances.png", "distances of same-class and different-class pairs"),
    ("overlap.png", "overlap between classes"),
    ("confused_different.png", "pairs of different classes that lie closest"),
    ("confused_same.png", "pairs of one class that lie farthest apart"),
)


def draw_run(
    folder: Path,
    embedder: Embedder,
    split: ImageSplit,
    vectors: Vectors,
    evaluation: Evaluation,
    overlap: NDArray[np.float64],
    metrics: Mapping[str, Any],
    about: Mapping[str, Any],
    projection: str,
    progress: Progress,
) -> None:
    """All pictures, and the report."""
    train, test = split
    names = train.class_names
    steps = iter(range(1, 8))

    def done(what: str) -> None:
        progress(f"drawing {what}", next(steps), 7)

    # Pictures and report thin what they draw by themselves; only t-SNE is too slow to place every image.
    most = PLACED_BY_TSNE if projection == "tsne" and embedder.dim > 2 else None
    drawn = {"train": _drawn(len(train), most), "test": _drawn(len(test), most)}
    placed = figures.project(
        vectors[drawn["test"]],
        projection,  # type: ignore[arg-type]
        fit=embedder.reference_vectors_[drawn["train"]],
    )
    points = {"test": placed.points, "train": placed.transform(embedder.reference_vectors_[drawn["train"]])}
    scatters: dict[str, ScatterContent] = {}
    for side, images in (("test", test), ("train", train)):
        chosen = drawn[side]
        figure = figures.scatter(
            points[side],
            images.labels[chosen],
            names,
            placed.axis_names,
            _scatter_title(side, images, chosen),
        )
        figures.save(figure, folder / f"scatter_{side}.png")
        scatters[side] = scatter_content(points[side], images, chosen, placed)
        done(f"scatter of the {side} images")
    figures.save(figures.loss_curve(embedder.history_), folder / "loss.png")
    done("loss curve")

    distances = None
    if evaluation.n_pairs:
        histogram = pair_histogram(vectors, test.labels)
        distances = _pair_distances(histogram, evaluation, f"Euclidean distance {embedder.distances_.unit}")
        figures.save(
            figures.pair_distances(
                distances.edges,
                distances.same,
                distances.different,
                distances.threshold,
                distances.eer,
                distances.axis_name,
            ),
            folder / "pair_distances.png",
        )
    done("pair distances")
    figures.save(figures.overlap_matrix(overlap, names), folder / "overlap.png")
    done("overlap")
    confused = _confused(test, vectors) if len(test) > 1 else ()
    for pairs, file in zip(confused, ("confused_different.png", "confused_same.png"), strict=False):
        if len(pairs.captions):
            figures.save(
                figures.confused_pairs(pairs.pixels_a, pairs.pixels_b, pairs.captions, pairs.title),
                folder / file,
            )
    done("confused pairs")
    content = ReportContent(
        title=f"{about['data']['spec']}: {embedder.loss}, {embedder.dim} dimensions",
        class_names=names,
        subtitle=f"{len(train):,} training and {len(test):,} test images of {len(names)} classes",
        facts=_facts(embedder, about),
        headline=_headline(metrics),
        findings=[(found.severity, found.message, found.advice) for found in embedder.findings_],
        notes=[*split.notes, *evaluation.notes],
        history=embedder.history_,
        test=scatters["test"],
        train=scatters["train"],
        distances=distances,
        overlap=overlap,
        confused=[pairs for pairs in confused if len(pairs.captions)],
        metrics=finite(metrics),
        files=[
            (name, text) for name, text in FILES if (folder / name).exists() or name.startswith("checkpoint")
        ],
    )
    write_report(folder / REPORT, content)
    done("report")


def _drawn(n: int, most: int | None) -> NDArray[np.int64]:
    if most is None or n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:most])


def _scatter_title(side: str, images: ImageSet, chosen: NDArray[np.int64]) -> str:
    shown = f"{len(images):,}" if len(chosen) == len(images) else f"{len(chosen):,} of {len(images):,}"
    return f"Embedding of {shown} {'training' if side == 'train' else 'test'} images"


def scatter_content(
    points: NDArray[np.float64], images: ImageSet, chosen: NDArray[np.int64], placed: Projection
) -> ScatterContent:
    """Points of the chosen images, with the images themselves, for a report."""
    pixels = images.pixels if len(chosen) == len(images) else images.pixels[chosen]
    names = [images.names[i] for i in chosen]
    return ScatterContent(
        points, images.labels[chosen], names, pixels, placed.axis_names, placed.note, chosen
    )


def _pair_distances(histogram: PairHistogram, evaluation: Evaluation, axis_name: str) -> PairDistances:
    curves = histogram.curves(120)
    return PairDistances(
        curves.edges, curves.same, curves.different, evaluation.eer_threshold, evaluation.pair_eer, axis_name
    )


def _confused(test: ImageSet, vectors: Vectors) -> tuple[ConfusedPairs, ConfusedPairs]:
    closest, farthest = confused_pairs(vectors, test.labels)

    def shown(pairs: RankedPairs, title: str, explanation: str) -> ConfusedPairs:
        one, two = pairs.indices[:, 0], pairs.indices[:, 1]
        captions = [
            f"{test.class_names[test.labels[a]]} – {test.class_names[test.labels[b]]}: {distance:.3g}"
            for a, b, distance in zip(one, two, pairs.distances, strict=True)
        ]
        return ConfusedPairs(title, test.pixels[one], test.pixels[two], captions, explanation)

    return (
        shown(
            closest,
            "Different classes, closest together",
            "Each pair would pass for one class; look for wrong labels and for classes that the eye confuses too.",
        ),
        shown(
            farthest,
            "One class, farthest apart",
            "Each pair would pass for two classes; look for wrong labels, bad photographs and classes of two kinds.",
        ),
    )


def _facts(embedder: Embedder, about: Mapping[str, Any]) -> dict[str, str]:
    data = about["data"]
    return {
        "command": about["command"] or "from Python",
        "data": data["source"],
        "fingerprint of the data": f"train {data['fingerprint']['train']}, test {data['fingerprint']['test']}",
        "loss": f"{embedder.loss}, margin {embedder.margin:g}"
        if embedder.margin_ is not None
        else embedder.loss,
        "encoder": _encoder(embedder),
        "training": (
            f"{embedder.epochs} epochs of batches of {embedder.batch_size}, Adam at {embedder.lr:g}, "
            f"schedule {embedder.schedule}" + (f", augmented: {embedder.augment}" if embedder.augment else "")
        ),
        "seed": str(embedder.seed_),
        "versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }


def _encoder(embedder: Embedder) -> str:
    said = f"{embedder.encoder}, {' × '.join(map(str, embedder.input_shape_))} → {embedder.dim}"
    backbone = embedder.backbone_
    if backbone is None:
        return said
    state = "fine-tuned" if embedder.fine_tune else "frozen"
    return (
        f"{said}; {state}, hidden state {backbone.default_layer} of 0 … {backbone.layers - 1}, fingerprint "
        f"{backbone.fingerprint[:12]}"
    )


def _headline(metrics: Mapping[str, Any]) -> list[Headline]:
    def share(name: str) -> str:
        value = metrics.get(name)
        return f"{100 * value:.2f} %" if value is not None and math.isfinite(value) else "–"

    return [
        Headline(
            "5-NN accuracy",
            share("knn5_accuracy"),
            "share of test images whose five nearest training images name the right class",
        ),
        Headline(
            "equal error rate",
            share("pair_eer"),
            "same or different? the error where as many pairs of one class are parted as of two are joined",
        ),
        Headline(
            "pair AUC",
            share("pair_auc"),
            "probability that a pair of one class lies closer than a pair of two; a coin would reach 50 %",
        ),
        Headline(
            "pair accuracy",
            share("pair_accuracy"),
            "share judged rightly, half of the pairs of one class, at the threshold chosen on training pairs",
        ),
        Headline(
            "largest overlap",
            share("overlap_max"),
            "two members of a class lie farther apart than one of it and one of another; 50 % is one cloud",
        ),
        Headline(
            "silhouette",
            f"{metrics['silhouette']:.3f}" if metrics.get("silhouette") is not None else "–",
            "how compact the classes are against the distance to the next; from −1 to 1",
        ),
        Headline(
            "training",
            f"{metrics['seconds_training']:.1f} s",
            f"{metrics['images_per_second']:,.0f} images a second through the network, both sides of a pair counted",
        ),
    ]
