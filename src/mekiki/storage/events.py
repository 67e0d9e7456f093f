"""Logs that only grow, one JSON object a line, each line with its own checksum.

The checksum is the last key of the object, over the bytes before it. Lines of an older mekiki have none, and are read
as they are. A last line without its end is what a crash left: nobody was told that it holds, so it does not.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mekiki.errors import InputError
from mekiki.storage.atomic import append_line, read_complete_lines

KEY = "crc32"
_SEALED = re.compile(rb', "crc32": "([0-9a-f]{8})"\}$')


def append_event(path: Path, facts: Mapping[str, Any]) -> None:
    r"""Add a line, and see it on disk.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
        >>> append_event(path, {"said": "good"})
        >>> path.read_text()
        '{"said": "good", "crc32": "a335b9ac"}\n'
        >>> rows(path)
        [{'said': 'good'}]
    """
    # A file name may hold bytes that are no text; JSON has an escape for them.
    text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "backslashreplace")
    append_line(path, text[:-1] + f', "{KEY}": "{zlib.crc32(text):08x}"}}'.encode())


def rows(path: Path) -> list[dict[str, Any]]:
    """All lines in order; a log that is not there has none.

    Raises:
        InputError: a line is damaged.
    """
    found = []
    for number, line in enumerate(read_complete_lines(path)):
        try:
            found.append(_row(line))
        except (ValueError, RecursionError):
            raise damaged(path, number + 1) from None
    if _end_is_damaged(path):
        raise damaged(path, len(found) + 1)
    return found


def damaged(path: Path, number: int) -> InputError:
    """The error for a line, counted from 1."""
    return InputError(f"{path}, line {number}: cannot be read; mend it or remove it")


def sealed(line: bytes) -> bool:
    """Whether a line has a checksum."""
    return _SEALED.search(line) is not None


def _row(line: bytes) -> dict[str, Any]:
    found = _SEALED.search(line)
    text = line if found is None else line[: found.start()] + b"}"
    if found is not None and int(found[1], 16) != zlib.crc32(text):
        raise ValueError("the checksum is another")
    facts = json.loads(text)
    # A key that only a damaged checksum can be is none of ours.
    if not isinstance(facts, dict) or (found is None and _like_key(list(facts)[-1:])):
        raise ValueError("no object")
    return facts


def _like_key(names: list[str]) -> bool:
    return any(
        len(name) == len(KEY) and sum(a != b for a, b in zip(name, KEY, strict=True)) < 2 for name in names
    )


def _end_is_damaged(path: Path) -> bool:
    """Whether what follows the last line end is a whole line whose own end is another byte now."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return sealed(content[content.rfind(b"\n") + 1 : -1])
