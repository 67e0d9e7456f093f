"""What makes the vectors of cases: a calibrated judge, a trained run, or an encoder of text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.case import Encoder
from mekiki.data.image_set import Pixels
from mekiki.data.photo import iter_photos
from mekiki.errors import InputError, first_line
from mekiki.extras import quiet_transformers, require
from mekiki.judging.features import EmbedderExtractor
from mekiki.judging.inspector import Inspector, Verdict, make_extractor
from mekiki.storage.run_folder import JUDGE

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """One photograph and its vector.

    Attributes:
        path: the file.
        pixels: as the eye saw it; `None` if it could not be read.
        vector: float32 `[d]`, or `None`.
        label: what the judge says of it, empty without one.
        problem: why it could not be read.
    """

    path: Path
    pixels: Pixels | None
    vector: Floats | None
    label: str = ""
    problem: str = ""


class View(Protocol):
    """What makes vectors of photographs.

    Attributes:
        encoder: who it is, for stores.
    """

    encoder: Encoder

    def extract(self, paths: Sequence[Path]) -> Iterator[Seen]:
        """Look at files, in order; one that cannot be read is told."""


class JudgeView:
    """The space of a calibrated judge: whitened, so that distance is Mahalanobis', along its foremost directions.

    Args:
        inspector: the judge with its eye.
    """

    def __init__(self, inspector: Inspector) -> None:
        self.inspector = inspector
        directions = inspector.examples.directions
        arrays, _ = inspector.judge.state()
        digest = hashlib.sha256(inspector.extractor.fingerprint.encode())
        # Of what whitens; the threshold is another matter.
        for name in sorted(name for name in arrays if name.startswith("model0/") and name.count("/") >= 2):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        digest.update(np.ascontiguousarray(directions).tobytes())
        name = f"the judge of {inspector.folder.name}"
        self.encoder = Encoder(name, digest.hexdigest()[:32], directions.shape[1])

    def extract(self, paths: Sequence[Path]) -> Iterator[Seen]:
        """See `View.see`."""
        for verdict in self.inspector.judge_files(paths):
            if verdict.pixels is None:
                yield Seen(verdict.path, None, None, "", verdict.problem)
                continue
            said = verdict.verdict if verdict.verdict == "OK" else verdict.kind or "NG"
            yield Seen(verdict.path, verdict.pixels, self.vector(verdict), said)

    def vector(self, verdict: Verdict) -> Floats:
        """Where a photograph that was judged lies, float32 `[d]`."""
        placed: Floats
        (placed,) = self.placed({name: view[None] for name, view in verdict.views.items()})
        return placed

    def placed(self, views: Mapping[str, Floats]) -> Floats:
        """The same from what the eye saw of photographs: float32 `[N, d]`."""
        placed = self.inspector.judge.whiten(views) @ self.inspector.examples.directions
        return np.asarray(placed, np.float32)


class RunView:
    """The vectors of a trained run.

    Args:
        folder: the run.
    """

    def __init__(self, folder: Path) -> None:
        extractor = make_extractor(folder, None)
        if not isinstance(extractor, EmbedderExtractor):  # make_eye gives no other without a name
            raise InputError(f"{folder}: has no network of its own")
        self.extractor = extractor
        dimension = extractor.embedder.reference_vectors_.shape[1]
        self.encoder = Encoder(f"the network of {folder.name}", extractor.fingerprint, dimension)

    def extract(self, paths: Sequence[Path]) -> Iterator[Seen]:
        """See `View.see`."""
        for block in iter_photos(paths, self.extractor.frame, self.extractor.channels):
            readable = [one.pixels for one in block if one.pixels is not None]
            vectors = iter(self.extractor.extract(readable).views["embedding"]) if readable else iter(())
            for one in block:
                vector = None if one.pixels is None else next(vectors)
                yield Seen(one.path, one.pixels, vector, "", one.problem)


def view_of(folder: Path) -> View:
    """What a run folder looks with: its judge if it is calibrated, else its network.

    Raises:
        InputError: it is neither calibrated nor trained.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give one that `mekiki train` or `mekiki calibrate` wrote"
        )
    if (folder / JUDGE).is_dir():
        return JudgeView(Inspector.open(folder))
    return RunView(folder)


class TextView:
    """Vectors of texts by a sentence-transformers model, of length 1.

    Args:
        model: its name, or a folder.
        dimensions: keep the first so many, for models trained for that (Matryoshka; Kusupati et al. 2022); `None` all.

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
                f"text model {model}: cannot be loaded ({first_line(error)}); give a folder or a name it is known by"
            ) from None
        digest = hashlib.sha256(str(dimensions).encode())
        for key, weights in sorted(self._model.state_dict().items()):
            digest.update(key.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
        self.dimensions = dimensions
        width = self.embed(["a"]).shape[1]
        if dimensions is not None and width != dimensions:
            raise InputError(f"text model {model}: has {width} dimensions, fewer than {dimensions}")
        self.encoder = Encoder(f"text model {Path(model).name}", digest.hexdigest()[:32], width)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Float32 `[N, d]`."""
        vectors: Floats = self._model.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors.astype(np.float32)
