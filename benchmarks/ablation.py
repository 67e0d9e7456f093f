"""What each part of the recipe `best` brings: the recipe, and the recipe with one thing changed.

Measured on 10,000 of the training images of MNIST, kept out of training; the test images are not touched. So was
the recipe chosen. Fewer epochs than the recipe has, so that all of it takes minutes; one seed, so differences
below about .002 (perceptron) and .001 (convolutional) may be luck.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

from benchmarks.measuring import MNIST
from mekiki import Embedder, load_images
from mekiki.data.image_set import stratified_split
from mekiki.evaluation.verification import pair_histogram
from mekiki.recipes import recipe

KEPT_OUT = 10_000
EPOCHS = {"mlp": 10, "vgg": 3}
STRONGER = {"rotate": 12, "shift": 0.1, "scale": 0.12, "shear": 0.12, "elastic": 0.036}
UNSUPERVISED = "the hidden vector is not asked"

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "mlp": {
        "the recipe": {},
        "no augmentation": {"augment": None},
        "augmentation twice as strong": {"augment": STRONGER},
        "random pairs, one an image": {"loss": "contrastive"},
        "contrastive loss of the hardest pairs": {"loss": "online-contrastive"},
        "contrastive loss of all pairs": {
            "loss": "online-contrastive",
            "loss_options": {"selection": "all"},
        },
        "no pull within a class": {"loss_options": {"pull": 0.0}},
        "rate in steps": {"schedule": "step", "lr": 1e-3},
        "batches of 250": {"batch_size": 250},
    },
    "vgg": {
        "the recipe": {},
        UNSUPERVISED: {},
        "no augmentation": {"augment": None},
        "contrastive loss of all pairs": {
            "loss": "online-contrastive",
            "loss_options": {"selection": "all"},
        },
        "batches of 60": {"batch_size": 60},
        "32 dimensions": {"dim": 32},
    },
}


def main(epochs: dict[str, int] = EPOCHS) -> dict[str, Any] | None:
    """Train, measure on the images kept out, and print."""
    if not MNIST.is_dir():
        print("ablation: needs MNIST ($MEKIKI_DATA/mnist); skipped")
        return None
    train, _ = load_images("mnist")
    learn, judge = stratified_split(train.labels, test_fraction=KEPT_OUT / len(train), seed=0)
    rows = []
    for encoder, changes in CHANGES.items():
        for name, change in changes.items():
            settings = recipe("best", encoder=encoder, epochs=epochs[encoder], **change)
            alone = patch("mekiki.training.objectives.deeply_supervised", lambda encoder: encoder)
            with alone if name == UNSUPERVISED else nullcontext():
                embedder = Embedder(**settings).fit(train.pixels[learn], train.labels[learn])
            pixels, labels = train.pixels[judge], train.labels[judge]
            error = pair_histogram(embedder.transform(pixels), labels).eer()[0]
            row = {
                "encoder": encoder,
                "change": name,
                "epochs": epochs[encoder],
                "knn": embedder.score(pixels, labels),
                "eer": error,
                "seconds": sum(embedder.history_["seconds"]),
            }
            rows.append(row)
            print(
                f"{encoder}, {name}: 5-NN {row['knn']:.4f}, EER {error:.2%}, {row['seconds']:.0f} s",
                flush=True,
            )
    return {"kept_out": KEPT_OUT, "rows": rows}
