"""Saved embedders: safetensors, JSON and CSV files in a folder, nothing executable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import nn

from mekiki.embedder.distance import DistanceScale
from mekiki.errors import InputError, first_line
from mekiki.models.backbone import Backbone
from mekiki.models.pretrained_folder import model_fingerprint
from mekiki.models.tuned_backbone import TunedBackbone
from mekiki.storage.json_files import write_json
from mekiki.storage.manifest import Manifest
from mekiki.storage.run_folder import BACKBONE, CONFIG, EMBEDDER_FORMAT, HISTORY, MANIFEST, MODEL, REFERENCE
from mekiki.storage.training_run import read_config
from mekiki.training.collapse import Finding
from mekiki.training.history import read_history, write_history

if TYPE_CHECKING:
    from mekiki.embedder.estimator import Embedder

E = TypeVar("E", bound="Embedder")


def write_embedder(embedder: Embedder, folder: Path, about: Mapping[str, Any]) -> None:
    """Write the files of a fitted embedder into a folder that exists.

    Args:
        embedder: the embedder.
        folder: the folder.
        about: further content of `config.json`, as `about`.
    """
    state = _saved_part(embedder.encoder_).state_dict()
    reference = {
        "vectors": np.ascontiguousarray(embedder.reference_vectors_),
        "labels": np.ascontiguousarray(embedder.reference_labels_),
        "contents": embedder.reference_contents_,
    }
    # `save_file` of the library makes files that other users cannot read.
    (folder / MODEL).write_bytes(
        save({name: value.cpu().contiguous().numpy() for name, value in state.items()})
    )
    (folder / REFERENCE).write_bytes(save(reference))
    config = {
        "format": EMBEDDER_FORMAT,
        "parameters": embedder.identity() | {"epochs": int(embedder.epochs), "random_state": embedder.seed_},
        "input": {"shape": list(embedder.input_shape_), "stored": embedder.stored_dtype_},
        "classes": {"dtype": embedder.classes_.dtype.str, "values": embedder.classes_.tolist()},
        "distances": embedder.distances_.to_dict(),
        "findings": [vars(finding) for finding in embedder.findings_],
        "about": dict(about),
    }
    if embedder.backbone_ is not None:
        config["backbone"] = _write_backbone(embedder.backbone_, folder, fine_tuned=embedder.fine_tune)
    write_json(folder / CONFIG, config)
    write_history(folder / HISTORY, embedder.history_)


def read_embedder(cls: type[E], folder: Path) -> E:
    """Read what `write_embedder` wrote.

    Args:
        cls: `Embedder`.
        folder: the folder.

    Raises:
        InputError: there is no trained embedder in the folder, or its files do not fit together.
    """
    config = read_config(folder)
    manifest = Manifest.of(folder, fix="train it again")
    manifest.verify(f"{BACKBONE}/")
    backbone = _read_backbone(folder, config) if "backbone" in config else None
    try:
        embedder = cls(**config["parameters"])
        embedder.seed_ = config["parameters"]["random_state"]
        embedder.input_shape_ = tuple(config["input"]["shape"])
        embedder.stored_dtype_ = config["input"]["stored"]
        embedder.n_features_in_ = math.prod(embedder.input_shape_)
        embedder.classes_ = np.array(config["classes"]["values"], dtype=config["classes"]["dtype"])
        embedder.set_distances(DistanceScale.from_dict(config["distances"]))
        embedder.findings_ = [Finding(**finding) for finding in config["findings"]]
        embedder.backbone_ = backbone
        embedder.encoder_ = _read_network(embedder, load(manifest.read(MODEL)))
        reference = load(manifest.read(REFERENCE))
        embedder.reference_vectors_ = reference["vectors"]
        embedder.reference_labels_ = reference["labels"]
        embedder.reference_contents_ = reference["contents"]
        manifest.verify(HISTORY)
        embedder.history_ = read_history(folder / HISTORY)
    except InputError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise _damage_error(folder, first_line(error)) from None
    return embedder


def holds_embedder_only(folder: Path) -> bool:
    """Whether a folder is empty or holds the files of an embedder and nothing else."""
    try:
        read_config(folder)
    except InputError:
        return folder.is_dir() and not any(folder.iterdir())
    files = {MODEL, REFERENCE, CONFIG, HISTORY, BACKBONE, MANIFEST}
    return {entry.name for entry in folder.iterdir()} <= files


def _saved_part(network: nn.Sequential) -> nn.Module:
    """What of a network is in `model.safetensors`: all but a fine-tuned backbone, which has a folder of its own."""
    return network[1:] if isinstance(network[0], TunedBackbone) else network


def _read_network(embedder: Embedder, weights: Mapping[str, Any]) -> nn.Sequential:
    backbone = embedder.backbone_
    channels = embedder.input_shape_[0] if backbone is None else backbone.dims[backbone.default_layer]
    mean, std = [0.0] * channels, [1.0] * channels
    with torch.device("meta"):  # a damaged config could ask for any amount of memory
        planned = _saved_part(embedder.build_network(mean, std)).state_dict()
    if {name: tuple(value.shape) for name, value in planned.items()} != {
        name: value.shape for name, value in weights.items()
    }:
        raise ValueError("the weights are not those of the settings")
    network = embedder.build_network(mean, std)
    _saved_part(network).load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return network.eval()


def _write_backbone(backbone: Backbone, folder: Path, *, fine_tuned: bool) -> dict[str, Any]:
    """What finds the backbone again; one that was fine-tuned is written into the folder."""
    place, fingerprint = backbone.place, backbone.fingerprint
    if fine_tuned:
        place = BACKBONE
        (folder / place).mkdir()
        backbone.save(folder / place)
        fingerprint = model_fingerprint(folder / place)
    return {
        "source": backbone.source,
        "place": place,
        "layer": backbone.default_layer,
        "fingerprint": fingerprint,
        "fine_tuned": bool(fine_tuned),
        "transformers": version("transformers"),
    }


def _read_backbone(folder: Path, config: Mapping[str, Any]) -> Backbone:
    """The backbone of a saved embedder, if it is still the one that it was trained with."""
    try:
        saved = config["backbone"]
        source, place, layer = str(saved["source"]), str(saved["place"]), int(saved["layer"])
        fingerprint, fine_tuned = str(saved["fingerprint"]), bool(saved["fine_tuned"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damage_error(folder, str(error)) from None
    if fine_tuned:
        place = str(folder / BACKBONE)
    elif not Path(place).is_dir() and Path(source).expanduser().is_dir():
        place = source  # run and network were moved together, and the source is relative to where the command runs
    try:
        backbone = Backbone.load(place)
    except InputError as error:
        raise InputError(f"{folder}: the backbone it was trained with cannot be loaded: {error}") from None
    if backbone.fingerprint != fingerprint:
        raise InputError(
            f"{folder}: the backbone at {place} is not the one it was trained with (fingerprint "
            f"{backbone.fingerprint[:12]}, not {fingerprint[:12]}); put that one back, or train again"
        )
    backbone.source, backbone.default_layer = source, backbone.layer(layer)
    return backbone


def _damage_error(folder: Path, why: str) -> InputError:
    return InputError(f"{folder}: the model in this folder is damaged ({why}); train it again")
