"""The estimator: settings, training, vectors, distances."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mekiki.console import Progress, silent
from mekiki.data.image_set import content_hashes
from mekiki.embedder.checks import check_classes, check_input, check_settings, check_training
from mekiki.embedder.distance import Distance, DistanceScale
from mekiki.embedder.saving import holds_embedder_only, read_embedder, write_embedder
from mekiki.errors import CollapseWarning, InputError
from mekiki.models.backbone import Backbone, Size
from mekiki.models.networks import build_encoder, embed
from mekiki.models.pretrained_folder import PREFIX
from mekiki.models.tuned_backbone import TunedBackbone
from mekiki.storage.atomic import recover_folder
from mekiki.storage.manifest import read_consistently, replace_folder_with_manifest
from mekiki.training.augment import augmentation
from mekiki.training.callbacks import AfterEpoch
from mekiki.training.collapse import Finding, diagnose
from mekiki.training.distributed import Ranks
from mekiki.training.fit import Callback, History
from mekiki.training.objectives import build_objective
from mekiki.training.train_embedding import Examples, TrainingSettings, train_embedding

if TYPE_CHECKING:
    from lightning_fabric import Fabric

NEIGHBOURS = 5
FINE_TUNE_RATE = 0.1
"""Share of `lr` at which a pretrained network and its head are trained together."""
HEAD_EPOCHS = 10
"""Passes over the features in which the head alone is trained before that."""


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from images or rows of features to vectors, trained on labelled examples.

    The defaults are the experiment of QEUR23_SMNRT19: a Siamese perceptron with contrastive loss in two dimensions.

    Args:
        loss: `"contrastive"` (Siamese pairs), `"triplet"`, `"softmax"` (the plain classifier), `"online-contrastive"`,
            `"online-triplet"` (pairs and triplets selected inside a batch), or `"pml:NAME"`, a loss of
            pytorch-metric-learning.
        dim: length of a vector.
        margin: how far apart different classes are pushed, in units of the embedding; of this project's own losses.
        encoder: `"mlp"` (784-256-256-d, for any input), `"conv"` or `"vgg"` (images only); or `"hf:NAME_OR_FOLDER"`, a
            pretrained network of the Hugging Face hub or a folder for photographs, whose features go through a
            perceptron that is trained (d-256-256-dim); `"hf:NAME_OR_FOLDER#LAYER"` takes them from another layer than
            the middle one. Photographs smaller than those it was trained on are enlarged.
        fine_tune: train such a network too, after its head, at a tenth of `lr`.
        normalise: put the vectors on the unit sphere.
        epochs: passes over the examples.
        batch_size: examples, pairs or triplets a step.
        lr: learning rate of Adam.
        schedule: `"step"` (a tenth after 8 epochs), `"post19"` (the post's order: one epoch earlier) or `"one-cycle"`
            (up over the first fifth of the training, then down to nothing).
        augment: random changes of training images: `"digits"`, `"surfaces"`, fields of
            `mekiki.training.augment.Augmentation` by name, or `None` for none. Images only.
        loss_options: further settings of the loss, such as `{"selection": "hardest"}`, `{"squared": True}`, or those of
            a loss of pytorch-metric-learning.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"mps"`.
        random_state: seed of weights, order, pairs and triplets; an int gives the same result every time.

    Attributes:
        classes_: the labels, sorted.
        history_: one list a column, one number an epoch; see `mekiki.training.train_embedding`.
        seed_: the seed used, drawn from `random_state` if that is no int.
        findings_: the result of the collapse check.
        encoder_: the trained network, standardisation included; of a frozen `hf:` encoder the head.
        backbone_: the pretrained network of an `hf:` encoder, else `None`.
        input_shape_: shape of one example as the network takes it.
        n_features_in_: numbers in one example.
        reference_vectors_: vectors of the training side, float32 `[N, dim]`; `score` and judging use them.
        reference_labels_: their labels as positions in `classes_`.
        reference_contents_: a hash of each training example.
        distances_: what distances mean, by the training pairs.
        margin_: of the loss, or `None`.
        threshold_: distance below which two examples count as the same class (equal error rate on training pairs).

    Input `X` is `[N, features]`, or images `[N, H, W]` or `[N, H, W, 3]`; uint8 images stay so until the batch, and a
    memory map of them is read batch by batch.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> embedder = Embedder(dim=2, batch_size=32).fit(X[:1200], y[:1200])
        >>> embedder.transform(X[1200:]).shape
        (597, 2)
        >>> embedder.score(X[1200:], y[1200:]) > 0.8
        True
    """

    def __init__(
        self,
        loss: str = "contrastive",
        dim: int = 2,
        margin: float = 1.0,
        *,
        encoder: str = "mlp",
        fine_tune: bool = False,
        normalise: bool = False,
        epochs: int = 10,
        batch_size: int = 128,
        lr: float = 1e-3,
        schedule: str = "step",
        augment: str | Mapping[str, Any] | None = None,
        loss_options: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.loss = loss
        self.dim = dim
        self.margin = margin
        self.encoder = encoder
        self.fine_tune = fine_tune
        self.normalise = normalise
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.schedule = schedule
        self.augment = augment
        self.loss_options = loss_options
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        identity: Mapping[str, Any] | None = None,
        on_epoch: Callable[[History, list[Finding]], None] | None = None,
        fabric: Fabric | None = None,
        callbacks: Sequence[Callback] = (),
        progress: Progress = silent,
    ) -> Self:
        """Train on examples and their labels.

        Args:
            X: `[N, features]`, or images `[N, H, W]` or `[N, H, W, 3]`.
            y: `[N]`, any labels that can be sorted.
            validation: examples and labels to measure on after each epoch; labels that are not in `y` are left out.
            checkpoint: file to write after each epoch.
            resume: continue from `checkpoint`.
            identity: further settings that must be equal for a resumption, such as the data's fingerprint.
            on_epoch: called after each epoch with the history so far and the findings of the collapse check.
            fabric: the processes that train together (see `mekiki.training.processes`); each calls this with the
                same arguments. `None` is this process alone, on `device`.
            callbacks: called before that; their state has as `sample` the labels, as positions in `classes_`, and
                vectors of up to 2,000 examples, of `validation` if it is given.
            progress: called every few steps.

        Raises:
            InputError: settings or input cannot be used.
            SingletonClassError: a class has one example and the loss needs pairs of it.
            DivergedError: the loss is no longer finite.
        """
        self.check_settings()
        stored, labels = check_training(self, X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        check_classes(self.loss, self.classes_, np.bincount(codes))
        fabric = fabric or self._make_fabric()
        ranks = Ranks.of(fabric)
        seed = self.seed_ = ranks.broadcast(self._draw_seed)
        self.backbone_: Backbone | None = None
        if self.encoder.startswith(PREFIX):
            self.backbone_ = Backbone.load(self.encoder, device=fabric.device, progress=progress)
        # The other processes then read the first one's features from disk.
        with fabric.rank_zero_first(local=True):
            features = self._features(stored, progress)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.build_network(*mean_and_std(features))
            objective = build_objective(
                self.loss,
                network,
                dim=self.dim,
                classes=len(self.classes_),
                margin=float(self.margin),
                batch_size=self.batch_size,
                seed=seed,
                options=self.loss_options,
            )
        expected: dict[str, Any] = {
            "dim": int(self.dim),
            "classes": len(self.classes_),
            "scale": 1.0 if self.normalise else objective.margin,
            "constant_loss": objective.constant_loss,
        }
        after = [*callbacks]
        if on_epoch is not None:
            after.append(
                AfterEpoch(lambda state: on_epoch(state.history, diagnose(state.history, **expected)))
            )
        examples = Examples(features, torch.from_numpy(codes.astype(np.int64)))
        with fabric.rank_zero_first(local=True):
            measured = None if validation is None else self._validation(*validation, progress)
        settings = TrainingSettings(
            int(self.epochs), float(self.lr), self.schedule, seed, augmentation(self.augment)
        )
        known: dict[str, Any] = {"doctor": expected} | dict(identity or {})
        if self.backbone_ is not None:
            known |= {"backbone": self.backbone_.fingerprint}
        train = partial(train_embedding, objective, network, fabric=fabric)
        if isinstance(network[0], TunedBackbone):
            if not resume:
                # An untrained head would spoil the network before it (Kumar and others, "Fine-Tuning can Distort
                # Pretrained Features and Underperform Out-of-Distribution", 2022). Its epochs are a fixed number, so
                # that a longer training equals a shorter one that was resumed.
                train(
                    examples,
                    settings=TrainingSettings(HEAD_EPOCHS, settings.lr, "step", seed),
                    progress=lambda what, done, total: progress(f"the head first: {what}", done, total),
                )
            network[0].awaken(torch.from_numpy(np.array(stored[:1])).to(fabric.device))
            examples = replace(examples, stored=stored)
            settings = replace(settings, lr=FINE_TUNE_RATE * settings.lr)
        self.history_: History = train(
            examples,
            validation=measured,
            settings=settings,
            checkpoint=checkpoint,
            resume=resume,
            identity=self.identity() | known,
            callbacks=after,
            progress=progress,
        )
        self.findings_ = diagnose(self.history_, **expected)
        for finding in self.findings_:
            if finding.severity == "problem":
                warnings.warn(f"{finding.message} {finding.advice}", CollapseWarning, stacklevel=2)
        self.encoder_ = network.eval()
        inputs = self._network_input(stored, progress)
        own = embed(network, inputs[ranks.share(len(inputs))], progress).to(fabric.device)
        self.reference_vectors_ = ranks.gather(own, len(inputs)).cpu().numpy()
        self.reference_labels_ = codes.astype(np.int64)
        self.reference_contents_ = content_hashes(stored)
        self.set_distances(
            DistanceScale.of(self.reference_vectors_, self.reference_labels_, objective.margin)
        )
        return self

    def transform(
        self, X: ArrayLike, progress: Progress = silent, *, one_by_one: bool = False
    ) -> NDArray[np.float32]:
        """Vectors of examples: `[N, …]` as in `fit` → float32 `[N, dim]`.

        An example gets the same vector, to the bit, alone and among others.

        Args:
            X: the examples.
            progress: called after each block.
            one_by_one: put each through the network by itself, which is faster for one and slower for many. The last
                digits may differ from those of blocks.

        Raises:
            InputError: the examples are of another shape than the training examples.
        """
        check_is_fitted(self)
        inputs = self._network_input(check_input(self, X), progress)
        vectors: NDArray[np.float32] = embed(
            self.encoder_, inputs, progress, length=1 if one_by_one else None
        ).numpy()
        return vectors

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Share of examples whose 5 nearest training vectors vote for the right class."""
        vectors = self.transform(X)
        codes = self._codes(column_or_1d(np.asarray(y)))
        nearest = KNeighborsClassifier(min(NEIGHBOURS, len(self.reference_vectors_)))
        return float(nearest.fit(self.reference_vectors_, self.reference_labels_).score(vectors, codes))

    def distance(self, a: ArrayLike, b: ArrayLike) -> Distance:
        """The distance of two single examples, with its unit and what it means; print it to read it.

        Args:
            a: one example: `[features]`, `[H, W]` or `[H, W, 3]`.
            b: the other.

        Example:
            >>> from sklearn.datasets import load_digits
            >>> X, y = load_digits(return_X_y=True)
            >>> embedder = Embedder(epochs=2).fit(X[:1000], y[:1000])
            >>> print(embedder.distance(X[1001], X[1001]))
            0.000 (margin = 1): the same kind (threshold ...
        """
        return self.distances_.measure(*self.transform(np.stack([np.asarray(a), np.asarray(b)])))

    def set_distances(self, scale: DistanceScale) -> None:
        """Set what distances mean: `distances_`, `threshold_` and `margin_`."""
        self.distances_, self.threshold_, self.margin_ = scale, scale.threshold, scale.margin

    def save(self, folder: Path | str, about: Mapping[str, Any] | None = None) -> None:
        """Write the trained embedder to a folder, in one step: safetensors and JSON, nothing executable.

        Args:
            folder: made if it does not exist; an embedder in it is replaced.
            about: further content of `config.json`.

        Raises:
            InputError: the folder holds something else, which would be lost.
        """
        folder = Path(folder)
        if folder.exists() and not holds_embedder_only(folder):
            raise InputError(f"{folder}: holds something else than an embedder; give a new folder")
        check_is_fitted(self)
        with replace_folder_with_manifest(folder) as new:
            write_embedder(self, new, about or {})

    @classmethod
    def load(cls, folder: Path | str) -> Embedder:
        """Read what `save` wrote.

        Raises:
            InputError: there is no trained embedder in the folder, or its files do not fit together.
        """
        folder = Path(folder)
        recover_folder(folder)
        return read_consistently(folder, lambda: read_embedder(cls, folder))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.dim

    def check_settings(self) -> None:
        """Check the settings without any data, as `fit` does first.

        Raises:
            InputError: one of them cannot be used; the message says which values can.
        """
        check_settings(self)

    def identity(self) -> dict[str, Any]:
        """The settings that must be equal for a training to be resumed: all but length, seed and device."""
        options = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in (self.loss_options or {}).items()
        }
        return {
            "loss": self.loss,
            "dim": int(self.dim),
            "margin": float(self.margin),
            "encoder": self.encoder,
            "normalise": bool(self.normalise),
            "batch_size": int(self.batch_size),
            "lr": float(self.lr),
            "schedule": self.schedule,
            "augment": self.augment if isinstance(self.augment, str | None) else dict(self.augment),
            "loss_options": options or None,
            **({"fine_tune": True} if self.fine_tune else {}),
        }

    def build_network(self, mean: list[float], std: list[float]) -> nn.Sequential:
        """The network that is trained: an encoder, the head behind a frozen backbone, or both.

        Args:
            mean: of the input, a number a channel or feature.
            std: its standard deviation.
        """
        if self.backbone_ is None:
            return build_encoder(
                self.encoder, self.input_shape_, self.dim, normalise=self.normalise, mean=mean, std=std
            )
        head = build_encoder("mlp", (len(mean),), self.dim, normalise=self.normalise, mean=mean, std=std)
        if not self.fine_tune:
            return head
        return nn.Sequential(
            TunedBackbone(self.backbone_, self.backbone_.default_layer, self.backbone_size), *head
        )

    @property
    def backbone_size(self) -> Size:
        """The size of images for the backbone: their own, or that of its training where they are smaller."""
        assert self.backbone_ is not None
        own, given = self.backbone_.input_size, self.input_shape_[1:]
        return "native" if given[0] >= own[0] and given[1] >= own[1] else None

    def _features(self, stored: NDArray[Any], progress: Progress) -> NDArray[Any]:
        """Features of the backbone `[N, d]`, or the examples as they are where there is none."""
        if self.backbone_ is None:
            return stored
        return self.backbone_.vectors(stored, size=self.backbone_size, cached=True, progress=progress)

    def _network_input(self, stored: NDArray[Any], progress: Progress) -> NDArray[Any]:
        return stored if self.fine_tune else self._features(stored, progress)

    def _draw_seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _make_fabric(self) -> Fabric:
        from lightning_fabric import Fabric

        try:
            return Fabric(accelerator=self.device, devices=1)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"device {self.device!r} is not available here: {error}") from None

    def _validation(self, X: ArrayLike, y: ArrayLike, progress: Progress) -> Examples | None:
        """The validation examples that the loss can be measured on; `None` where there are too few."""
        stored, labels = check_input(self, X), column_or_1d(np.asarray(y))
        check_consistent_length(stored, labels)
        codes = self._codes(labels)
        usable = codes >= 0  # the others are of classes that training has not
        if self.loss != "softmax":
            numbers = np.bincount(codes[usable], minlength=len(self.classes_))
            usable &= numbers[codes] > 1  # a class with one image has no positive pair
        rows = np.flatnonzero(usable)
        if not len(rows) or (self.loss != "softmax" and len(np.unique(codes[rows])) < 2):
            return None
        where = None if len(rows) == len(stored) else torch.from_numpy(rows)
        return Examples(self._network_input(stored, progress), torch.from_numpy(codes[rows]), where)

    def _codes(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of labels in `classes_`; −1 for one that training has not."""
        positions = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        return np.where(self.classes_[positions] == labels, positions, -1).astype(np.int64)


def mean_and_std(stored: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation: of each channel of images, of each column of features; in blocks, in float64."""
    if stored.ndim == 3 or (stored.ndim == 2 and stored.dtype == np.uint8):
        axes: tuple[int, ...] | None = (
            None  # one number for all, so that a pixel that rarely changes is not blown up
        )
    else:
        axes = tuple(range(stored.ndim - 1))
    offset = stored[:1024].astype(np.float64).mean(axis=axes)  # near the mean, so that no digits cancel
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(stored), 1024):
        block = stored[start : start + 1024].astype(np.float64) - offset
        count += block.size if axes is None else block.size // block.shape[-1]
        total = total + block.sum(axis=axes)
        squares = squares + np.square(block).sum(axis=axes)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return np.atleast_1d(mean + offset).tolist(), np.atleast_1d(std).tolist()
