"""What people wrote of parts, from a .csv file: `texts.csv`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mekiki.data.text_files import read_text
from mekiki.describing.answer import FIELDS, LANGUAGES, Text
from mekiki.errors import InputError, nearest

COLUMNS = ("file", "text", "language", *FIELDS, "part")
_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")


@dataclass(frozen=True)
class Row:
    """One line of the file.

    Attributes:
        file: the photograph, or the name of a vector, that it is about.
        text: what was written.
        language: `en` or `ja`.
        fields: those of `mekiki.describing.answer.FIELDS` that are filled in.
        part: which part is seen, where a part has several photographs; `None` is one a photograph.
    """

    file: str
    text: str
    language: str
    fields: Mapping[str, str]
    part: str | None = None


def read_texts(path: Path) -> list[Row]:
    r"""Read a .csv file with the columns `file` and `text`, and any of those that `COLUMNS` names beside.

    A language that is not said is seen from the writing. Lines without a text are left out.

    Raises:
        InputError: it cannot be read, lacks a column, or holds no text.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "texts.csv"
        >>> _ = path.write_text("file,text,defect\na.png,左上に傷,scratch\n", encoding="utf-8")
        >>> read_texts(path)
        [Row(file='a.png', text='左上に傷', language='ja', fields={'defect': 'scratch'}, part=None)]
    """
    reader = csv.DictReader(
        io.StringIO(read_text(path, "the columns file and text"), newline=""), skipinitialspace=True
    )
    try:
        names = [name.strip() for name in reader.fieldnames or []]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as .csv in UTF-8") from None
    if len(set(names)) < len(names):
        raise InputError(f"{path}: has two columns of one name among {', '.join(names)}; give each its own")
    for needed in ("file", "text"):
        if needed not in names:
            raise InputError(
                f"{path}: has no column {needed}, but {', '.join(names) or 'nothing'}"
                f"{nearest(needed, names)}; give file, text and, if known, {', '.join(COLUMNS[2:])}"
            )
    rows = []
    try:
        for number, values in enumerate(reader, start=2):
            cells = dict(zip(names, ((value or "").strip() for value in values.values()), strict=False))
            if not cells.get("text"):
                continue
            language = cells.get("language") or ("ja" if _JAPANESE.search(cells["text"]) else "en")
            if language not in LANGUAGES:
                raise InputError(
                    f"{path}, line {number}: language {language!r} is not known; give {' or '.join(LANGUAGES)}, "
                    "or nothing"
                )
            fields = {name: cells[name] for name in FIELDS if cells.get(name)}
            rows.append(
                Row(cells.get("file", ""), cells["text"], language, fields, cells.get("part") or None)
            )
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as .csv in UTF-8") from None
    if not rows:
        raise InputError(f"{path}: holds no text; give a line for each part")
    return rows


def located(rows: Sequence[Row], path: Path) -> tuple[list[Path], list[int]]:
    """The photographs that rows are about, each once, and which of them each row means.

    A file is named by its whole path, or relative to the .csv file, or to where the command runs.

    Args:
        rows: of the file.
        path: the .csv file.

    Raises:
        InputError: a photograph is not there.
    """
    files: dict[Path, int] = {}
    which = []
    for row in rows:
        tried = [base / row.file for base in (path.parent, Path())]
        found = next((one for one in tried if row.file and one.is_file()), None)
        if found is None:
            raise InputError(
                f"{path}: {row.file or 'a line without a file'} is not there; name photographs relative to "
                f"{path.parent}"
            )
        which.append(files.setdefault(found, len(files)))
    return list(files), which


def texts_of_parts(rows: Sequence[Row], which: Sequence[int]) -> list[Text]:
    """The rows as a describer learns from them, each of the part that `which` means."""
    return [
        Text(part, row.text, row.language, row.fields, row.part)
        for part, row in zip(which, rows, strict=True)
    ]
