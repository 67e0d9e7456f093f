"""`Embedder`: the scikit-learn estimator people hold. Images and labels in, vectors out."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load, save
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from mekiki.console import Progress, silent
from mekiki.data.image_set import content_hashes
from mekiki.errors import CollapseWarning, InputError, first_line, not_known
from mekiki.evaluation.verification import pair_histogram
from mekiki.models.backbone import Backbone, Size
from mekiki.models.networks import ENCODERS, build_encoder, embed
from mekiki.models.pretrained_folder import PREFIX, model_fingerprint, split_name
from mekiki.models.sampling import SingletonClassError
from mekiki.models.tuned_backbone import TunedBackbone
from mekiki.storage.atomic import recover_folder, write_text
from mekiki.storage.manifest import Manifest, read_consistently, replace_folder_with_manifest
from mekiki.storage.run import read_config
from mekiki.storage.run_folder import BACKBONE, CONFIG, EMBEDDER_FORMAT, HISTORY, MANIFEST, MODEL, REFERENCE
from mekiki.training.augment import augmentation
from mekiki.training.callbacks import AfterEpoch
from mekiki.training.collapse import Finding, diagnose
from mekiki.training.distributed import Ranks
from mekiki.training.fit import Callback, History
from mekiki.training.objectives import build_objective, check_loss
from mekiki.training.schedules import schedule
from mekiki.training.train_embedding import Examples, TrainingSettings, train_embedding

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MOST_DIM = 16_384
NEIGHBOURS = 5
NEED_PAIRS = ("contrastive", "triplet")
"""Losses that give each example a partner of its class."""
VECTORS_FOR_DISTANCES = 4_000
FINE_TUNE_RATE = 0.1
"""Share of `lr` at which a pretrained network and its head learn together."""
HEAD_EPOCHS = 10
"""Passes over the features in which the head alone learns before that."""
"""In a saved embedder: the network that was fine-tuned, as `transformers` reads it."""


@dataclass(frozen=True)
class Distance:
    """How far two examples lie apart, and what that means.

    Attributes:
        value: Euclidean distance of the two vectors.
        unit: what it is measured in.
        threshold: below it two examples are taken for the same kind (equal error rate on the training pairs).
        same_closer: share of the same-class pairs of the training side that are closer than this.
        different_closer: share of the different-class pairs of the training side that are closer than this.
    """

    value: float
    unit: str
    threshold: float
    same_closer: float
    different_closer: float

    @property
    def same(self) -> bool:
        """Whether the two are taken for the same kind."""
        return self.value < self.threshold

    def __str__(self) -> str:
        verdict = "the same kind" if self.same else "different kinds"
        return (
            f"{self.value:.3f} {self.unit}: {verdict} (the line is at {self.threshold:.3f}). "
            f"Of the training pairs of one kind {_percent(self.same_closer)} are closer than this, "
            f"of those of different kinds {_percent(self.different_closer)}."
        )


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learns from labelled examples to put like beside like: a transformer from images to vectors.

    The defaults are the experiment of QEUR23_SMNRT19: a Siamese perceptron with contrastive loss in two dimensions.

    Args:
        loss: `"contrastive"` (Siamese pairs), `"triplet"`, `"softmax"` (the plain classifier), `"online-contrastive"`,
            `"online-triplet"` (pairs and triplets chosen inside a batch), or `"pml:NAME"`, a loss of
            pytorch-metric-learning.
        dim: length of a vector.
        margin: how far apart different classes are pushed, in units of the embedding; of this project's own losses.
        encoder: `"mlp"` (784-256-256-d, for any input), `"conv"` or `"vgg"` (images only); or `"hf:NAME_OR_FOLDER"`, a
            pretrained network of the Hugging Face hub or a folder for photographs, whose features go through a
            perceptron that is trained (d-256-256-dim); `"hf:NAME_OR_FOLDER#LAYER"` takes them from another layer than
            the middle one. Photographs smaller than it was trained at are enlarged to that, others seen as they are.
        fine_tune: train such a network too, and not its head alone: first the head on features as they come, then
            everything at a tenth of `lr`.
        normalise: put the vectors on the unit sphere.
        epochs: passes over the examples.
        batch_size: examples, pairs or triplets a step.
        lr: learning rate of Adam.
        schedule: `"step"` (a tenth after 8 epochs), `"post19"` (the post's order: one epoch earlier) or `"one-cycle"`
            (up over the first fifth of the training, then down to nothing).
        augment: how training images are changed at random each time they are used: `"digits"`, `"surfaces"`, fields of
            `mekiki.training.augment.Augmentation` by name, or `None` for not at all. Images only.
        loss_options: further settings of the loss, such as `{"selection": "hardest"}`, `{"squared": True}`, or those of
            a loss of pytorch-metric-learning.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"mps"`.
        random_state: seed of weights, order, pairs and triplets; an int gives the same result every time.

    Attributes:
        classes_: the labels seen, sorted.
        history_: one list a column, one number an epoch; see `mekiki.training.train_embedding`.
        seed_: the seed used, drawn from `random_state` if that is no int.
        findings_: what the collapse doctor sees.
        encoder_: the trained network, standardisation included; of a frozen `hf:` encoder the head.
        backbone_: the pretrained network of an `hf:` encoder, else `None`.
        input_shape_: shape of one example as the network takes it.
        n_features_in_: numbers in one example.
        reference_vectors_: vectors of the training side, float32 `[N, dim]`; `score` and later judging rest on them.
        reference_labels_: their labels as positions in `classes_`.
        reference_contents_: a hash of each training example, by which it is known again.
        threshold_: distance below which two examples are taken for the same kind (equal error rate on training pairs).

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
        """Learn from examples and their labels.

        Args:
            X: `[N, features]`, or images `[N, H, W]` or `[N, H, W, 3]`.
            y: `[N]`, any labels that can be sorted.
            validation: examples and labels to measure on after each epoch; labels that `y` has not are left out.
            checkpoint: file to write after each epoch.
            resume: go on from `checkpoint`.
            identity: further facts that must be equal for a checkpoint to be resumed, such as the data's fingerprint.
            on_epoch: called after each epoch with the history so far and what the doctor sees in it.
            fabric: the processes that train together, joined already (see `mekiki.training.processes`); each
                calls this with the same arguments. `None` is this one alone, on `device`.
            callbacks: called before that; their state has as `sample` the labels, as positions in `classes_`, and
                vectors of up to 2,000 examples, of `validation` if it is given.
            progress: called every few steps.

        Raises:
            InputError: settings or input cannot be used; the message says which and why.
            SingletonClassError: a class has one example and the loss needs pairs of it.
            DivergedError: the loss is not finite any more.
        """
        self.check_settings()
        stored, labels = self._check_training(X, y)
        changes = augmentation(self.augment)
        if changes is not None and stored.ndim == 2:
            raise InputError(
                f"augment={self.augment!r} needs images [N, H, W] or [N, H, W, 3], and rows of features were given; "
                "leave it out"
            )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"only one class ({self.classes_[0]!r}) in y; an embedding is learnt from at least two classes"
            )
        counts = np.bincount(codes)
        if self.loss in NEED_PAIRS and counts.min() < 2:
            alone = [str(label) for label in self.classes_[counts < 2]]
            raise SingletonClassError(
                f"{len(alone)} of {len(counts)} classes have only one example, so no pair can be made of them "
                f"({', '.join(alone[:5])}{', …' if len(alone) > 5 else ''}): add examples, or leave these classes out"
            )
        fabric = fabric or self._fabric()
        ranks = Ranks.of(fabric)
        seed = self.seed_ = ranks.broadcast(self._draw_seed)
        self.backbone_: Backbone | None = None
        if self.encoder.startswith(PREFIX):
            self.backbone_ = Backbone.load(self.encoder, device=fabric.device, progress=progress)
        with fabric.rank_zero_first(local=True):  # the others then find them kept
            features = self._features(stored, progress)
        mean, std = _mean_and_std(features)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._network(mean, std)
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
        known_to_doctor: dict[str, Any] = {
            "dim": int(self.dim),
            "classes": len(self.classes_),
            "scale": 1.0 if self.normalise else objective.margin,
            "constant_loss": objective.constant_loss,
        }

        after = [*callbacks]
        if on_epoch is not None:
            after.append(
                AfterEpoch(lambda state: on_epoch(state.history, diagnose(state.history, **known_to_doctor)))
            )
        examples = Examples(features, torch.from_numpy(codes.astype(np.int64)))
        with fabric.rank_zero_first(local=True):
            measured = self._check_validation(validation, progress)
        settings = TrainingSettings(int(self.epochs), float(self.lr), self.schedule, seed, changes)
        known: dict[str, Any] = {"doctor": known_to_doctor} | dict(identity or {})
        if self.backbone_ is not None:
            known |= {"backbone": self.backbone_.fingerprint}
        if isinstance(network[0], TunedBackbone):
            if not resume:
                # A head that knows nothing yet would send the network before it astray (Kumar and others, "Fine-Tuning
                # can Distort Pretrained Features and Underperform Out-of-Distribution", 2022).
                # Its length is fixed, so that a longer training goes on from where a shorter one stopped.
                read_consistently = TrainingSettings(HEAD_EPOCHS, settings.lr, "step", seed)
                head_first = _head_first(progress)
                train_embedding(
                    objective,
                    network,
                    examples,
                    settings=read_consistently,
                    fabric=fabric,
                    progress=head_first,
                )
            network[0].awaken(torch.from_numpy(np.array(stored[:1])).to(fabric.device))
            examples = replace(examples, stored=stored)
            settings = replace(settings, lr=FINE_TUNE_RATE * settings.lr)
        self.history_: History = train_embedding(
            objective,
            network,
            examples,
            validation=measured,
            settings=settings,
            fabric=fabric,
            checkpoint=checkpoint,
            resume=resume,
            identity=self._identity() | known,
            callbacks=after,
            progress=progress,
        )
        self.findings_ = diagnose(self.history_, **known_to_doctor)
        for finding in self.findings_:
            if finding.severity == "problem":
                warnings.warn(f"{finding.message} {finding.advice}", CollapseWarning, stacklevel=2)
        self.encoder_ = network.eval()
        self.margin_ = objective.margin
        seen = self._seen(stored, progress)
        own = embed(network, seen[ranks.share(len(seen))], progress).to(fabric.device)
        self.reference_vectors_ = ranks.gather(own, len(seen)).cpu().numpy()
        self.reference_labels_ = codes.astype(np.int64)
        self.reference_contents_ = content_hashes(stored)
        self._learn_distances()
        return self

    def transform(
        self, X: ArrayLike, progress: Progress = silent, *, one_by_one: bool = False
    ) -> NDArray[np.float32]:
        """Vectors of examples: `[N, …]` as in `fit` → float32 `[N, dim]`.

        An example gets the same vector, to the bit, alone and among others.

        Args:
            X: the examples.
            progress: told after each block.
            one_by_one: each goes through the network by itself, which is sooner for one and later for many. The last
                digits may differ from those of blocks.

        Raises:
            InputError: the examples are of another shape than those learnt from.
        """
        check_is_fitted(self)
        seen = self._seen(self._check_input(X), progress)
        vectors: NDArray[np.float32] = embed(
            self.encoder_, seen, progress, length=1 if one_by_one else None
        ).numpy()
        return vectors

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Share of examples whose 5 nearest training vectors vote for the right class."""
        vectors = self.transform(X)
        codes = self._codes(column_or_1d(np.asarray(y)))
        nearest = KNeighborsClassifier(min(NEIGHBOURS, len(self.reference_vectors_)))
        return float(nearest.fit(self.reference_vectors_, self.reference_labels_).score(vectors, codes))

    def distance(self, a: ArrayLike, b: ArrayLike) -> Distance:
        """How far two single examples lie apart, with its unit and what it means; print it to read it.

        Args:
            a: one example: `[features]`, `[H, W]` or `[H, W, 3]`.
            b: the other.

        Example:
            >>> from sklearn.datasets import load_digits
            >>> X, y = load_digits(return_X_y=True)
            >>> embedder = Embedder(epochs=2).fit(X[:1000], y[:1000])
            >>> print(embedder.distance(X[1001], X[1001]))
            0.000 (margin = 1): the same kind (the line is at ...
        """
        one, two = self.transform(np.stack([np.asarray(a), np.asarray(b)])).astype(np.float64)
        return self.distance_between(one, two)

    def distance_between(self, one: ArrayLike, two: ArrayLike) -> Distance:
        """The same for two vectors `[dim]` that `transform` made."""
        check_is_fitted(self)
        value = float(np.linalg.norm(np.asarray(one, np.float64) - np.asarray(two, np.float64)))
        same, different = self.distance_quantiles_
        return Distance(
            value,
            self.unit,
            self.threshold_,
            _share_below(same, value),
            _share_below(different, value),
        )

    @property
    def unit(self) -> str:
        """What distances are measured in."""
        return f"(margin = {self.margin_:g})" if self.margin_ is not None else "(units of the embedding)"

    def save(self, folder: Path | str, about: Mapping[str, Any] | None = None) -> None:
        """Write the trained embedder to a folder, in one step: safetensors and JSON, nothing executable.

        Args:
            folder: made anew; an embedder that it held before is replaced.
            about: further facts to keep in `config.json`.

        Raises:
            InputError: the folder holds something else, which would be lost.
        """
        folder = Path(folder)
        if folder.exists() and not _holds_embedder_only(folder):
            raise InputError(f"{folder}: holds something else than an embedder; give a new folder")
        with replace_folder_with_manifest(folder) as new:
            self.write_into(new, about)

    def write_into(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write the files of `save` into a folder that is there; for callers that replace the whole folder."""
        check_is_fitted(self)
        own = _trained_here(self.encoder_)
        weights = {name: value.cpu().contiguous().numpy() for name, value in own.state_dict().items()}
        reference = {
            "vectors": np.ascontiguousarray(self.reference_vectors_),
            "labels": np.ascontiguousarray(self.reference_labels_),
            "contents": self.reference_contents_,
        }
        # Through bytes, because the library's own writer makes files that no one else may read.
        (folder / MODEL).write_bytes(save(weights))
        (folder / REFERENCE).write_bytes(save(reference))
        same, different = self.distance_quantiles_
        config = {
            "format": EMBEDDER_FORMAT,
            "parameters": self._identity() | {"epochs": int(self.epochs), "random_state": self.seed_},
            "input": {"shape": list(self.input_shape_), "stored": self.stored_dtype_},
            "classes": {"dtype": self.classes_.dtype.str, "values": self.classes_.tolist()},
            "distances": {
                "margin": self.margin_,
                "threshold": _or_null(self.threshold_),
                "same_quantiles": [_or_null(value) for value in same.tolist()],
                "different_quantiles": [_or_null(value) for value in different.tolist()],
            },
            "findings": [vars(finding) for finding in self.findings_],
            "about": dict(about or {}),
        }
        if self.backbone_ is not None:
            config["backbone"] = self._backbone_into(folder, self.backbone_)
        write_text(folder / CONFIG, json.dumps(config, indent=1, ensure_ascii=False) + "\n")
        write_history(folder / HISTORY, self.history_)

    @classmethod
    def load(cls, folder: Path | str) -> Embedder:
        """Read what `save` wrote.

        Raises:
            InputError: there is no trained embedder in the folder, or its files do not fit together.
        """
        folder = Path(folder)
        recover_folder(folder)
        return read_consistently(folder, lambda: cls._loaded(folder))

    @classmethod
    def _loaded(cls, folder: Path) -> Embedder:
        config = read_config(folder)
        manifest = Manifest.of(folder, mend="train it anew")
        manifest.verify(f"{BACKBONE}/")
        backbone = _load_backbone(folder, config) if "backbone" in config else None
        try:
            parameters = dict(config["parameters"])
            embedder = cls(**parameters)
            embedder.seed_ = parameters["random_state"]
            embedder.input_shape_ = tuple(config["input"]["shape"])
            embedder.stored_dtype_ = config["input"]["stored"]
            embedder.n_features_in_ = math.prod(embedder.input_shape_)
            embedder.classes_ = np.array(config["classes"]["values"], dtype=config["classes"]["dtype"])
            distances = config["distances"]
            embedder.margin_ = distances["margin"]
            embedder.threshold_ = float(np.array(distances["threshold"], np.float64))  # null is NaN
            embedder.distance_quantiles_ = (
                np.array(distances["same_quantiles"], np.float64),
                np.array(distances["different_quantiles"], np.float64),
            )
            embedder.findings_ = [Finding(**finding) for finding in config["findings"]]
            embedder.backbone_ = backbone
            channels = embedder.input_shape_[0]
            if backbone is not None:
                channels = backbone.dims[backbone.default_layer]
            weights = load(manifest.read(MODEL))
            with torch.device("meta"):  # settings that lie would ask for any amount of memory
                planned = _trained_here(embedder._network([0.0] * channels, [1.0] * channels))
            shapes = {name: tuple(value.shape) for name, value in planned.state_dict().items()}
            if shapes != {name: value.shape for name, value in weights.items()}:
                raise ValueError("the weights are not those of the settings")
            network = embedder._network([0.0] * channels, [1.0] * channels)
            own = {name: torch.from_numpy(value) for name, value in weights.items()}
            _trained_here(network).load_state_dict(own)
            reference = load(manifest.read(REFERENCE))
            embedder.reference_vectors_ = reference["vectors"]
            embedder.reference_labels_ = reference["labels"]
            embedder.reference_contents_ = reference["contents"]
            manifest.verify(HISTORY)
            embedder.history_ = read_history(folder / HISTORY)
        except InputError:
            raise
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(
                f"{folder}: the model in this folder is damaged ({first_line(error)}); train it anew"
            ) from None
        embedder.encoder_ = network.eval()
        return embedder

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
        for name, least in (("dim", 1), ("epochs", 1), ("batch_size", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if self.dim > MOST_DIM:
            raise InputError(f"dim must be at most {MOST_DIM:,}, not {self.dim}")
        if isinstance(self.random_state, int | np.integer) and not 0 <= self.random_state < 2**32:
            raise InputError(f"the seed must lie between 0 and {2**32 - 1}, not be {self.random_state}")
        for name in ("margin", "lr"):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.floating) or not 0 < value < math.inf:
                raise InputError(f"{name} must be a number above 0, not {value!r}")
        self._check_encoder()
        check_loss(self.loss, self.loss_options)
        try:
            json.dumps(self._identity())
        except TypeError:
            raise InputError(
                f"loss_options must be plain numbers, words and truth values, not {self.loss_options!r}: "
                "they are saved as JSON"
            ) from None
        schedule(self.schedule)
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise InputError(f"device must be auto, cpu, cuda or mps, not {self.device!r}")

    def _check_encoder(self) -> None:
        pretrained = isinstance(self.encoder, str) and self.encoder.startswith(PREFIX)
        if pretrained:
            split_name(self.encoder)
        elif self.encoder not in ENCODERS:
            raise not_known("encoder", self.encoder, ENCODERS, also=f", {PREFIX}NAME or {PREFIX}FOLDER")
        if not isinstance(self.fine_tune, bool | np.bool_):
            raise InputError(f"fine_tune must be true or false, not {self.fine_tune!r}")
        if self.fine_tune and not pretrained:
            raise InputError(
                f"fine_tune goes with an encoder that is pretrained ({PREFIX}NAME_OR_FOLDER); {self.encoder!r} learns "
                "from nothing anyway, so leave it out"
            )
        if augmentation(self.augment) is not None and pretrained and not self.fine_tune:
            raise InputError(
                f"augment={self.augment!r} changes images each time they are used, and the frozen network of encoder "
                f"{self.encoder!r} looks at them once; say no augmentation (--augment none), or fine-tune it "
                "(--fine-tune)"
            )

    def _network(self, mean: list[float], std: list[float]) -> nn.Sequential:
        """What is trained: the encoder, or the head behind a backbone, or both."""
        if self.backbone_ is None:
            return build_encoder(
                self.encoder, self.input_shape_, self.dim, normalise=self.normalise, mean=mean, std=std
            )
        head = build_encoder("mlp", (len(mean),), self.dim, normalise=self.normalise, mean=mean, std=std)
        if not self.fine_tune:
            return head
        return nn.Sequential(
            TunedBackbone(self.backbone_, self.backbone_.default_layer, self.looked_at), *head
        )

    @property
    def looked_at(self) -> Size:
        """The size at which a backbone looks at the images: theirs, but not less than it was trained at."""
        assert self.backbone_ is not None
        own, given = self.backbone_.input_size, self.input_shape_[1:]
        return "native" if given[0] >= own[0] and given[1] >= own[1] else None

    def _features(self, stored: NDArray[Any], progress: Progress) -> NDArray[Any]:
        """What the head of a backbone learns from, `[N, d]`; without a backbone the examples themselves."""
        if self.backbone_ is None:
            return stored
        return self.backbone_.vectors(stored, size=self.looked_at, cached=True, progress=progress)

    def _seen(self, stored: NDArray[Any], progress: Progress) -> NDArray[Any]:
        """What goes into `encoder_`."""
        return stored if self.fine_tune else self._features(stored, progress)

    def _backbone_into(self, folder: Path, backbone: Backbone) -> dict[str, Any]:
        """What must be known to find the backbone again; one that was fine-tuned is written beside."""
        place, fingerprint = backbone.place, backbone.fingerprint
        if self.fine_tune:
            place = BACKBONE
            (folder / place).mkdir()
            backbone.save(folder / place)
            fingerprint = model_fingerprint(folder / place)
        return {
            "source": backbone.source,
            "place": place,
            "layer": backbone.default_layer,
            "fingerprint": fingerprint,
            "fine_tuned": bool(self.fine_tune),
            "transformers": version("transformers"),
        }

    def _draw_seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _identity(self) -> dict[str, Any]:
        """The settings that make a training what it is: all but its length, its seed and its device."""
        options = {key: _plain(value) for key, value in (self.loss_options or {}).items()} or None
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
            "loss_options": options,
            **({"fine_tune": True} if self.fine_tune else {}),
        }

    def _fabric(self) -> Any:
        from lightning_fabric import Fabric

        try:
            return Fabric(accelerator=self.device, devices=1)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"device {self.device!r} is not to be had here: {error}") from None

    def _check_training(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        if y is None:
            raise InputError(
                "Embedder requires y to be passed, but the target y is None: it learns from labels"
            )
        if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) <= 2:
            stored, labels = validate_data(self, X, y, dtype=[np.float32, np.uint8], ensure_min_samples=2)
            self.input_shape_: tuple[int, ...] = (stored.shape[1],)
        else:
            stored = _check_images(X)
            labels = column_or_1d(np.asarray(y), warn=True)
            check_consistent_length(stored, labels)
            channels = stored.shape[3] if stored.ndim == 4 else 1
            self.input_shape_ = (channels, *stored.shape[1:3])
            self.n_features_in_ = math.prod(self.input_shape_)
        if self.encoder.startswith(PREFIX) and (stored.ndim == 2 or stored.dtype != np.uint8):
            raise InputError(
                f"encoder {self.encoder!r} looks at photographs, uint8 [N, H, W] or [N, H, W, 3], and {stored.dtype} "
                f"{list(stored.shape)} was given; use encoder 'mlp' for rows of features, and values 0…255 for images"
            )
        check_classification_targets(labels)
        self.stored_dtype_ = stored.dtype.name
        return stored, labels

    def _check_input(self, X: ArrayLike) -> NDArray[Any]:
        if len(self.input_shape_) == 1:
            stored: NDArray[Any] = validate_data(self, X, dtype=[np.float32, np.uint8], reset=False)
            return stored.astype(self.stored_dtype_, copy=False) if self.stored_dtype_ != "uint8" else stored
        stored = _check_images(X)
        channels = stored.shape[3] if stored.ndim == 4 else 1
        if stored.dtype.name != self.stored_dtype_:
            raise InputError(
                f"images of {stored.dtype} were given; this embedder learnt from {self.stored_dtype_} "
                f"({'0…255' if self.stored_dtype_ == 'uint8' else 'numbers of your own scale'}): give the same kind"
            )
        if (channels, *stored.shape[1:3]) != self.input_shape_:
            wanted = "×".join(map(str, self.input_shape_[1:]))
            raise InputError(
                f"images of {stored.shape[1]}×{stored.shape[2]} pixels and {channels} channel(s) were given; this "
                f"embedder takes {wanted} and {self.input_shape_[0]}: resize them first"
            )
        return stored

    def _check_validation(
        self, validation: tuple[ArrayLike, ArrayLike] | None, progress: Progress
    ) -> Examples | None:
        if validation is None:
            return None
        stored, labels = self._check_input(validation[0]), column_or_1d(np.asarray(validation[1]))
        check_consistent_length(stored, labels)
        codes = self._codes(labels)
        usable = codes >= 0  # a class that training never saw has no place
        if self.loss != "softmax":
            numbers = np.bincount(codes[usable], minlength=len(self.classes_))
            usable &= numbers[codes] > 1  # and one with one image has no positive pair
        rows = np.flatnonzero(usable)
        if not len(rows) or (self.loss != "softmax" and len(np.unique(codes[rows])) < 2):
            return None
        where = None if len(rows) == len(stored) else torch.from_numpy(rows)
        return Examples(self._seen(stored, progress), torch.from_numpy(codes[rows]), where)

    def _codes(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of labels in `classes_`; -1 for one that training did not see."""
        places = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        return np.where(self.classes_[places] == labels, places, -1).astype(np.int64)

    def _learn_distances(self) -> None:
        # Millions of pairs among some thousand vectors place a quantile well enough, in a fraction of a second.
        chosen = np.random.default_rng(0).permutation(len(self.reference_vectors_))[:VECTORS_FOR_DISTANCES]
        levels = np.linspace(0, 1, 1001)
        try:
            histogram = pair_histogram(self.reference_vectors_[chosen], self.reference_labels_[chosen])
        except InputError:  # one example a class, which softmax can learn from: distances have no meaning yet
            self.threshold_ = math.nan
            self.distance_quantiles_ = (np.full(1001, math.nan), np.full(1001, math.nan))
            return
        self.threshold_ = histogram.eer()[1]
        self.distance_quantiles_ = (histogram.quantiles(True, levels), histogram.quantiles(False, levels))


def write_history(path: Path, history: Mapping[str, list[float]]) -> None:
    """Write a history as CSV, one row an epoch; `read_history` gives the same numbers back."""
    names = list(history)
    rows = zip(*history.values(), strict=True)
    lines = [",".join(names)]
    lines += [
        ",".join(
            str(int(value)) if name == "epoch" else repr(value)
            for name, value in zip(names, row, strict=True)
        )
        for row in rows
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_history(path: Path) -> History:
    """Read a `history.csv`: one list of numbers a column.

    Raises:
        ValueError: the file is cut short, or is something else.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        rows = [[float(value) for value in row] for row in reader]
    if not rows or any(len(row) != len(names) for row in rows):
        raise ValueError(f"{path.name} is cut short")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def _check_images(X: ArrayLike) -> NDArray[Any]:
    images = X if isinstance(X, np.ndarray) else np.asarray(X)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise InputError(f"images must be [N, H, W] or [N, H, W, 3], not {list(images.shape)}")
    if len(images) == 0:
        raise InputError("no images: 0 were given")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.number) or np.iscomplexobj(images):
        raise InputError(f"images must be numbers, not {images.dtype}")
    images = images.astype(np.float32)
    bad = int((~np.isfinite(images)).sum())
    if bad:
        raise InputError(f"images hold {bad} values that are NaN or infinite")
    return images


def _mean_and_std(stored: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation: of each channel of images, of each column of features; in blocks, in float64."""
    if stored.ndim == 3 or (stored.ndim == 2 and stored.dtype == np.uint8):
        axes: tuple[int, ...] | None = None  # one number for all: the rare pixel must not be blown up
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


def _holds_embedder_only(folder: Path) -> bool:
    try:
        read_config(folder)
    except InputError:
        return folder.is_dir() and not any(folder.iterdir())
    own = {MODEL, REFERENCE, CONFIG, HISTORY, BACKBONE, MANIFEST}
    return {entry.name for entry in folder.iterdir()} <= own


def _trained_here(network: nn.Sequential) -> nn.Module:
    """What of a network is in `model.safetensors`: all but a backbone, which has a folder of its own."""
    return network[1:] if isinstance(network[0], TunedBackbone) else network


def _load_backbone(folder: Path, config: Mapping[str, Any]) -> Backbone:
    """The backbone of a saved embedder, if it is still the one that was learnt with."""
    try:
        kept = config["backbone"]
        source, place, layer = str(kept["source"]), str(kept["place"]), int(kept["layer"])
        fingerprint, tuned = str(kept["fingerprint"]), bool(kept["fine_tuned"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: the model in this folder is damaged ({error}); train it anew") from None
    if tuned:
        place = str(folder / BACKBONE)
    elif not Path(place).is_dir() and Path(source).expanduser().is_dir():
        place = source  # everything was moved together, and is found again from where the command is given
    try:
        backbone = Backbone.load(place)
    except InputError as error:
        raise InputError(f"{folder}: the backbone it was trained with cannot be loaded: {error}") from None
    if backbone.fingerprint != fingerprint:
        raise InputError(
            f"{folder}: the backbone at {place} is not the one it was trained with (fingerprint "
            f"{backbone.fingerprint[:12]}, not {fingerprint[:12]}); put that one back, or train anew"
        )
    backbone.source, backbone.default_layer = source, backbone.layer(layer)
    return backbone


def _head_first(progress: Progress) -> Progress:
    return lambda what, done, total: progress(f"the head first: {what}", done, total)


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python number it stands for."""
    return value.item() if isinstance(value, np.generic) else value


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share_below(quantiles: NDArray[np.float64], value: float) -> float:
    return float(np.searchsorted(quantiles, value, side="right") / len(quantiles))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
