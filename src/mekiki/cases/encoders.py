"""Encoders: what makes the vectors of cases, from photographs by a judge or a trained run, and from texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import EncoderInfo
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Photo, map_photos
from mekiki.errors import InputError, first_line
from mekiki.extras import quiet_transformers, require
from mekiki.judging.extractors import make_extractor
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.verdict import Verdict
from mekiki.storage.run_folder import JUDGE

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EncodedPhoto:
    """One photograph and its vector.

    Attributes:
        photo: the photograph.
        vector: float32 `[d]`; `None` if it could not be read.
        label: the judge's verdict or defect type; empty without a judge.
    """

    photo: Photo
    vector: Floats | None
    label: str = ""


class PhotoEncoder(Protocol):
    """What makes vectors of photographs.

    Attributes:
        info: its identity, for stores.
        extractor: of the features that it encodes.
    """

    info: EncoderInfo
    extractor: FeatureExtractor

    def vectors(self, features: Mapping[str, Floats]) -> Floats:
        """Vectors of extracted features: float32 `[N, d]`."""

    def extract(self, paths: Sequence[Path]) -> Iterator[EncodedPhoto]:
        """Encode files, in order; one that cannot be read has no vector."""


class JudgeEncoder:
    """The space of a calibrated judge: whitened, so that distance is Mahalanobis', in the directions of its examples.

    Args:
        inspector: the judge with its feature extractor.
    """

    def __init__(self, inspector: Inspector) -> None:
        self.inspector, self.extractor = inspector, inspector.extractor
        directions = inspector.references.directions
        arrays, _ = inspector.judge.state()
        digest = hashlib.sha256(inspector.extractor.fingerprint.encode())
        # Of what whitens only: another threshold changes no vector.
        for name in sorted(name for name in arrays if name.startswith("model0/") and name.count("/") == 2):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        digest.update(np.ascontiguousarray(directions).tobytes())
        name = f"the judge of {inspector.folder.name}"
        self.info = EncoderInfo(name, digest.hexdigest()[:32], directions.shape[1])

    def extract(self, paths: Sequence[Path]) -> Iterator[EncodedPhoto]:
        """See `PhotoEncoder.extract`."""
        for verdict in self.inspector.judge_files(paths):
            if verdict.photo.pixels is None:
                yield EncodedPhoto(verdict.photo, None)
            else:
                label = "OK" if verdict.verdict == "OK" else verdict.defect_type or "NG"
                yield EncodedPhoto(verdict.photo, self.vector(verdict), label)

    def vector(self, verdict: Verdict) -> Floats:
        """The vector of a photograph that was judged, float32 `[d]`."""
        vector: Floats = self.vectors({name: feature[None] for name, feature in verdict.features.items()})[0]
        return vector

    def vectors(self, features: Mapping[str, Floats]) -> Floats:
        """See `PhotoEncoder.vectors`."""
        return self.inspector.references.project(self.inspector.judge.whiten(features))


class RunEncoder:
    """The embedding of a trained run.

    Args:
        folder: the run.
    """

    def __init__(self, folder: Path) -> None:
        extractor = make_extractor(folder, None)
        if extractor.embedder is None:
            raise InputError(
                f"{folder}: is neither calibrated nor trained; `mekiki calibrate` or `mekiki train` it"
            )
        self.extractor = extractor
        dimension = extractor.embedder.reference_vectors_.shape[1]
        self.info = EncoderInfo(f"the network of {folder.name}", extractor.fingerprint, dimension)

    def vectors(self, features: Mapping[str, Floats]) -> Floats:
        """See `PhotoEncoder.vectors`."""
        return features["embedding"]

    def extract(self, paths: Sequence[Path]) -> Iterator[EncodedPhoto]:
        """See `PhotoEncoder.extract`."""

        def embed(images: list[Pixels]) -> Floats:
            return self.vectors(self.extractor.extract(images).groups)

        for photo, vector in map_photos(paths, self.extractor.frame, self.extractor.channels, embed):
            yield EncodedPhoto(photo, vector)


def open_photo_encoder(folder: Path) -> PhotoEncoder:
    """The photo encoder of a run folder: its judge if it is calibrated, else its network.

    Raises:
        InputError: it is neither calibrated nor trained.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give one that `mekiki train` or `mekiki calibrate` wrote"
        )
    if (folder / JUDGE).is_dir():
        return JudgeEncoder(Inspector.open(folder))
    return RunEncoder(folder)


class TextEncoder:
    """Vectors of texts by a sentence-transformers model, of length 1.

    Args:
        model: its name, or a folder.
        dimensions: how many of the first dimensions to keep, for Matryoshka models (Kusupati et al. 2022); `None` all.

    Raises:
        InputError: there is no such model, or it has fewer dimensions.
        MissingExtraError: the extra `text` is not installed.
    """

    def __init__(self, model: str, dimensions: int | None = None) -> None:
        library = require("sentence_transformers", extra="text", purpose="searching notes by text")
        name = str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model
        try:
            with quiet_transformers(require("transformers", extra="text", purpose="searching notes by text")):
                self._model: Any = library.SentenceTransformer(name, device="cpu", truncate_dim=dimensions)
        except Exception as error:  # of the network, of the hub, of the files
            raise InputError(
                f"text model {model}: cannot be loaded ({first_line(error)}); give a folder or the name of a model"
            ) from None
        digest = hashlib.sha256(str(dimensions).encode())
        for key, weights in sorted(self._model.state_dict().items()):
            digest.update(key.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
        self.dimensions = dimensions
        width = self.embed(["a"]).shape[1]
        if dimensions is not None and width != dimensions:
            raise InputError(f"text model {model}: has {width} dimensions, fewer than {dimensions}")
        self.info = EncoderInfo(f"text model {Path(model).name}", digest.hexdigest()[:32], width)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Float32 `[N, d]`."""
        vectors: Floats = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors.astype(np.float32)
