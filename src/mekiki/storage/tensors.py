"""Safetensors files that carry their own checksum, in their metadata."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from mekiki.storage.atomic import replace_file
from mekiki.storage.json_files import CHECKSUM, damaged_file, is_nearly, json_digest


def write_tensors(path: Path, content: bytes) -> None:
    """Write safetensors with a checksum, in one step.

    Args:
        path: the file.
        content: what `safetensors.…save` returned.
    """
    header, data = _split(content)
    metadata = header.setdefault("__metadata__", {})
    metadata[CHECKSUM] = json_digest(header, data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(data)


def read_tensors(path: Path) -> tuple[bytes, dict[str, str]]:
    """The checked content of a safetensors file, for `safetensors.…load`, and its metadata.

    A file that an older mekiki wrote without a checksum is read without a check.

    Raises:
        InputError: it is damaged.
        OSError: it does not exist, or cannot be read.
    """
    content = path.read_bytes()
    try:
        header, data = _split(content)
        metadata = dict(header.get("__metadata__", {}))
    except (ValueError, RecursionError, AttributeError, TypeError, struct.error) as error:
        raise damaged_file(path, str(error)) from None
    without = {key: value for key, value in metadata.items() if key != CHECKSUM}
    if CHECKSUM in metadata:
        damaged = metadata[CHECKSUM] != json_digest({**header, "__metadata__": without}, data)
    else:
        damaged = any(
            is_nearly(key, CHECKSUM) and re.fullmatch(r"[0-9a-f]{64}", str(value))
            for key, value in metadata.items()
        )
    if damaged:
        raise damaged_file(path)
    return content, {str(key): str(value) for key, value in metadata.items()}


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and data of safetensors."""
    (length,) = struct.unpack_from("<Q", content)
    if length > len(content) - 8:
        raise ValueError("it is cut short")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("it has no header")
    return header, memoryview(content)[8 + length :]
