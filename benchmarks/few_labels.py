"""Naming the defect from a few labelled photographs: `DefectTypeClassifier` against scikit-learn's logistic regression.

The magnetic tiles, six classes (five defects and free), on the same features of the same frozen backbone. Photographs
are split, never views of them: for each seed 20 (5) of each class are drawn to learn from. `OK_PARTS` more free ones
are set aside; all that remain are tested. Both sides are measured without the OK parts set aside, and with them as
further examples of the class free: where a judge was calibrated they are there anyway. The regression then weighs
classes alike (`class_weight="balanced"`). Both see the judge's views, and, as "wherever", these without the places of
the quarters. Figures are balanced accuracies.

Seeds from 100 were used to choose the method; those here only measure it. The photographs tested are largely the same.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DATA = Path(os.environ.get("MEKIKI_DATA", ""))
CLASSES = ("free", "blowhole", "break", "crack", "fray", "uneven")
EXAMPLES = (20, 5)
SEEDS = 5
OK_PARTS = 476
POOLED = (12, 16)
"""Layers whose plain means are features of the baseline too."""
WHITENED = "logistic regression, C by CV, whitened by OK"
STRENGTHS = tuple(float(strength) for strength in np.geomspace(1e-4, 10, 6))


def main(examples: tuple[int, ...] = EXAMPLES, seeds: int = SEEDS) -> dict[str, Any] | None:
    """Measure and print."""
    if not (DATA / "magnetic_tile").is_dir():
        print("few_labels: needs MEKIKI_DATA with magnetic_tile")
        return None
    features, labels = _features(DATA)
    views = features["views"]
    sides: dict[str, tuple[str, Any]] = {
        "logistic regression": ("views", lambda weight: _regression(weight)),
        "logistic regression, C by CV": ("views", lambda weight: _regression(weight, by_cv=True)),
        **{
            f"logistic regression, C by CV, mean of layer {layer}": (
                f"layer {layer}",
                lambda weight: _regression(weight, by_cv=True),
            )
            for layer in POOLED
        },
        WHITENED: ("views", lambda weight: _Whitened()),
        "ours, mean anchor": ("views", lambda weight: _ours("mean")),
        "ours, each an anchor": ("views", lambda weight: _ours("each")),
        "ours, 5 neighbours": ("views", lambda weight: _ours("knn")),
        "logistic regression, wherever": ("wherever", lambda weight: _regression(weight)),
        "logistic regression, C by CV, wherever": (
            "wherever",
            lambda weight: _regression(weight, by_cv=True),
        ),
        "ours, mean anchor, wherever": ("wherever", lambda weight: _ours("mean")),
    }
    rows: list[dict[str, Any]] = []
    print(f"{'classes named by':>52} {'a class':>8} {'OK parts':>9} {'balanced accuracy':>18}   by class")
    for number in examples:
        for with_ok in (False, True):
            for side, (name, make) in sides.items():
                if (with_ok and name.startswith("layer")) or (side == WHITENED and not with_ok):
                    continue
                row = _row(features[name], labels, number, seeds, with_ok, make)
                row |= {"side": side, "examples": number, "ok_parts": OK_PARTS if with_ok else 0}
                rows.append(row)
                print(
                    f"{side:>52} {number:>8} {row['ok_parts']:>9} {100 * row['mean']:>12.1f} ± {100 * row['sd']:.1f}"
                    f"   {' '.join(f'{label} {100 * share:.0f}' for label, share in row['by_class'].items())}"
                )
    none = _none_of_these(views, labels, seeds)
    print(
        f"none of these asked at {none['asked']:.0%}: {none['known']:.1%} of known kinds, and "
        f"{none['unknown']:.1%} of a kind never shown, are called so"
    )
    return {"seeds": seeds, "rows": rows, "milliseconds": _milliseconds(views, labels), "none_of_these": none}


def split(labels: np.ndarray, number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions to learn from, of OK parts set aside, and to test: no photograph is in two of them."""
    rng = np.random.default_rng(seed)
    orders = {label: rng.permutation(np.flatnonzero(labels == label)) for label in CLASSES}
    learn = np.concatenate([order[:number] for order in orders.values()])
    aside = orders["free"][number : number + OK_PARTS]
    return learn, aside, np.setdiff1d(np.arange(len(labels)), np.concatenate([learn, aside]))


def wherever(views: np.ndarray, layers: int = 2) -> np.ndarray:
    """Mean and spread over the quarters of `pool_quadrants`: the place of a defect is not its type."""
    quarters = views.reshape(len(views), layers, 2, 4, -1)
    return np.concatenate([quarters.mean(axis=3), quarters.std(axis=3)], axis=2).reshape(len(views), -1)


def _row(vectors, labels, number, seeds, with_ok, make) -> dict[str, Any]:
    accuracies, recalls = [], []
    for seed in range(seeds):
        learn, aside, test = split(labels, number, seed)
        shown = np.concatenate([learn, aside]) if with_ok else learn
        model = make("balanced" if with_ok else None)
        if isinstance(model, _Whitened):
            model.fit(vectors[learn], labels[learn], vectors[aside])
        else:
            model.fit(vectors[shown], labels[shown])
        found = model.predict(vectors[test])
        accuracies.append(float(balanced_accuracy_score(labels[test], found)))
        recalls.append(recall_score(labels[test], found, labels=CLASSES, average=None))
    return {
        "mean": float(np.mean(accuracies)),
        "sd": float(np.std(accuracies, ddof=1)) if seeds > 1 else 0.0,
        "accuracies": accuracies,
        "by_class": dict(zip(CLASSES, map(float, np.mean(recalls, axis=0)), strict=True)),
    }


def _regression(weight: str | None, *, by_cv: bool = False, standardised: bool = True):
    # Ridge penalties do not change with a rotation; in the span of the examples the same is found much sooner.
    model = LogisticRegression(max_iter=2000, class_weight=weight)
    if by_cv:
        model = LogisticRegressionCV(
            Cs=STRENGTHS, cv=5, scoring="balanced_accuracy", max_iter=2000, class_weight=weight
        )
    return _Quiet(
        make_pipeline(StandardScaler() if standardised else "passthrough", PCA(svd_solver="full"), model)
    )


class _Quiet:
    """scikit-learn's announcements of coming changes are not figures."""

    def __init__(self, model):
        self.model = model

    def fit(self, vectors, labels):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.fit(vectors, labels)
        return self

    def predict(self, vectors):
        return self.model.predict(vectors)


class _Whitened:
    """The regression on few, in the space where OK parts set aside are round (Ledoit and Wolf), C by CV."""

    def fit(self, vectors, labels, aside):
        from mekiki.judging.feature_judge import Judge

        self.judge = Judge(covariance="ledoit-wolf").fit({"views": aside})
        self.model = _regression(None, by_cv=True, standardised=False).fit(self._whiten(vectors), labels)
        return self

    def predict(self, vectors):
        return self.model.predict(self._whiten(vectors))

    def _whiten(self, vectors):
        # Whitened, a vector is about 1 long; times the root of its length, each item has a deviation of about 1.
        return self.judge.whiten({"views": vectors}) * np.sqrt(vectors.shape[1])


def _ours(anchor: str):
    from mekiki.judging.defect_types import DefectTypeClassifier

    return DefectTypeClassifier(anchor)


def _none_of_these(views, labels, seeds, asked: float = 0.1) -> dict[str, float]:
    """How many of known kinds, and of each defect in turn that was never shown, are called none of these."""
    from mekiki.judging.defect_types import NONE, DefectTypeClassifier

    known, unknown = [], []
    for seed in range(seeds):
        learn, aside, test = split(labels, EXAMPLES[0], seed)
        shown = np.concatenate([learn, aside])
        for hidden in CLASSES[1:]:
            some = shown[labels[shown] != hidden]
            nearest = DefectTypeClassifier(none_of_these=asked).fit(views[some], labels[some])
            none = nearest.predict(views[test]) == NONE
            known.append(
                np.mean([none[labels[test] == label].mean() for label in CLASSES if label != hidden])
            )
            unknown.append(none[labels[test] == hidden].mean())
    return {"asked": asked, "known": float(np.mean(known)), "unknown": float(np.mean(unknown))}


def _milliseconds(views, labels) -> float:
    """To name one photograph whose features are there, learnt from 20 a class and the OK parts."""
    learn, aside, test = split(labels, EXAMPLES[0], 0)
    shown = np.concatenate([learn, aside])
    model = _ours("mean").fit(views[shown], labels[shown])
    start = time.perf_counter()
    for place in test[:100]:
        model.predict(views[place : place + 1])
    return 1000 * (time.perf_counter() - start) / 100


def _features(data: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the judge sees of each photograph (two layers by quarters), and plain means of layers."""
    from mekiki.judging.anomaly_map import pool_quadrants
    from mekiki.judging.extractors import BackboneExtractor
    from mekiki.models.backbone import Backbone

    backbone = Backbone.load(f"hf:{data / 'weights' / 'mobilenet_v1_0.75_224'}")
    files = [
        (label, path) for label in CLASSES for path in sorted((data / "magnetic_tile" / label).glob("*.jpg"))
    ]
    layers = BackboneExtractor(backbone).layers
    wanted = sorted({*layers, *POOLED})
    pixels = (np.asarray(Image.open(path).convert("L")) for _, path in files)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("views", *(f"layer {one}" for one in POOLED))}
    for seen in backbone.extract(pixels, wanted):
        found["views"].append(
            np.concatenate([pool_quadrants(seen.patches[layer]) for layer in layers], axis=1)
        )
        for layer in POOLED:
            found[f"layer {layer}"].append(seen.vectors(layer))
    labels = np.array([label for label, _ in files])
    found["wherever"] = [wherever(views) for views in found["views"]]
    return {name: np.concatenate(blocks) for name, blocks in found.items()}, labels
