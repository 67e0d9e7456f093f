"""JSON files: plain ones, and ones that carry their own checksum."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mekiki.errors import InputError
from mekiki.storage.atomic import write_text
from mekiki.storage.run_folder import MANIFEST

CHECKSUM = "sha256"
"""Key of the checksum in a file that carries its own."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON in one step; numbers that are not finite become null, because JSON has none."""
    text = json.dumps(finite(content), indent=1, ensure_ascii=False) + "\n"
    # A file name may hold bytes that are not text; JSON has an escape for them.
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def finite(value: Any) -> Any:
    """The same with `None` for every number that is not finite.

    Example:
        >>> finite({"a": [1.0, float("nan")]})
        {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_checked_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON that carries its own checksum, in one step."""
    text = json.dumps({**content, CHECKSUM: json_digest(content)}, indent=1, ensure_ascii=False)
    write_text(path, text + "\n")


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what `write_checked_json` wrote, or an object that an older mekiki wrote without a checksum.

    Raises:
        InputError: it is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        checksum = content.pop(CHECKSUM, None)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise damaged_file(path, str(error)) from None
    written_without = path.name != MANIFEST and "format" not in content
    if checksum != json_digest(content) and not (checksum is None and written_without):
        raise damaged_file(path)
    return content


def json_digest(content: Mapping[str, Any], data: bytes | memoryview = b"") -> str:
    """SHA-256 of an object in one canonical form, and of bytes that belong to it."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    digest.update(data)
    return digest.hexdigest()


def damaged_file(
    path: Path, reason: str = "its checksum is another than when it was written", fix: str = "make it again"
) -> InputError:
    """The error for a file that does not hold what was written."""
    return InputError(f"{path}: is damaged ({reason}); {fix}, or restore it from a copy")


def is_nearly(key: str, name: str) -> bool:
    """Whether a key is a name, or was before one of its bytes was damaged."""
    return len(key) == len(name) and sum(a != b for a, b in zip(key, name, strict=True)) < 2
