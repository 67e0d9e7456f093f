"""Folder of a pretrained model: found on disk or on the hub, its configuration, its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.models.preprocessing import FILES, Preparation

PREFIX = "hf:"
"""Prefix of an encoder's name that stands for a pretrained model."""

_DOWNLOADED = (
    "config.json",
    *FILES,
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LAYER = re.compile(r"(.+)#(-?\d+)")


def split_name(encoder: str) -> tuple[str, int | None]:
    """Model and layer of an encoder's name.

    Raises:
        InputError: it names no model.

    Example:
        >>> split_name("hf:facebook/dinov2-small#6"), split_name("hf:weights/mobilenet")
        (('facebook/dinov2-small', 6), ('weights/mobilenet', None))
    """
    name, layer = encoder.removeprefix(PREFIX), None
    match = _LAYER.fullmatch(name)
    if match is not None and not Path(name).expanduser().is_dir():
        name, layer = match[1], int(match[2])
    if not name.strip():
        raise InputError(
            f"encoder {encoder!r} names no model; give hf:FOLDER, or hf:NAME of a model on the hub"
        )
    return name, layer


def backbone_input_size(encoder: str) -> tuple[int, int]:
    """Height and width that a backbone was trained at, read from its settings without its weights.

    Raises:
        InputError: as `mekiki.models.backbone.Backbone.load`.
    """
    require("transformers", extra="backbones", purpose=f"encoder {encoder}")
    folder, _ = find_model_folder(split_name(encoder)[0])
    return Preparation.read(folder, read_model_config(folder)).size


def find_model_folder(name: str) -> tuple[Path, str]:
    """Folder of a model, and the name that finds it again: the absolute folder, or the name on the hub.

    Raises:
        InputError: it is neither here nor to be had from the hub.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, str(folder.absolute())
    if folder.exists():
        raise InputError(f"{name}: is a file; give the folder of a model, with its config.json")
    if not _HUB_NAME.fullmatch(name):
        raise InputError(
            f"{name}: no such folder; give the folder of a model, or its name on the hub as OWNER/NAME"
        )
    hub = require("huggingface_hub", extra="backbones", purpose=f"encoder {PREFIX}{name}")
    # The hub's errors share no base class, and a model that is not in the cache yet is no error.
    with suppress(Exception):
        cached = Path(hub.snapshot_download(name, local_files_only=True, allow_patterns=list(_DOWNLOADED)))
        if (cached / "config.json").is_file() and any(cached.glob("*.safetensors")):
            return cached, name
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(_DOWNLOADED))), name
    except Exception as error:
        raise InputError(
            f"{name}: no such folder here, and it could not be had from the model hub ({first_line(error)}); connect "
            "to the internet and check the name, or give a folder that holds the model"
        ) from None


def read_model_config(folder: Path) -> dict[str, Any]:
    """The model's `config.json`.

    Raises:
        InputError: it is missing, unreadable, or not that of a model of `transformers`.
    """
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no model here (config.json is missing); give a folder that transformers wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"{folder}: its config.json is not that of a model of transformers (no model_type)")
    return config


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over all files that features depend on."""
    digest = hashlib.sha256()
    files = [folder / name for name in ("config.json", *FILES) if (folder / name).is_file()]
    for path in [*files, *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
