"""What people wrote about parts: the record, and its table `texts.csv`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mekiki.data.text_files import read_csv_rows
from mekiki.describing.schema import ATTRIBUTES, FIELDS, LANGUAGES
from mekiki.errors import InputError, nearest, not_known

COLUMNS = ("file", "text", "language", *FIELDS, "part")
_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")


@dataclass(frozen=True)
class PartText:
    """What a person wrote about one part.

    Attributes:
        part: row of the part among the vectors; as read from a table, the number of its file.
        text: the full text.
        language: `en` or `ja`.
        fields: the known ones of `FIELDS`.
        group: what is kept on one side of a split, such as all photographs of one part; `None` is the part alone.
        file: the photograph, or the name of a vector, that the text is about.

    Raises:
        InputError: the language is not known.
    """

    part: int
    text: str
    language: str
    fields: Mapping[str, str]
    group: str | None = None
    file: str = ""

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise not_known("language", self.language, LANGUAGES)

    @property
    def has_attributes(self) -> bool:
        """Whether all of `ATTRIBUTES` are known, so that an answer in fields can be trained from it."""
        return all(self.fields.get(name) for name in ATTRIBUTES)


def values_of(texts: Sequence[PartText]) -> dict[str, list[str]]:
    """The values of each of `ATTRIBUTES`, sorted; empty where no text has all of them.

    Example:
        >>> crack = PartText(0, "a crack", "en", {"defect": "crack", "place": "top", "severity": "minor"})
        >>> values_of([crack, PartText(1, "fine", "en", {})])
        {'defect': ['crack'], 'place': ['top'], 'severity': ['minor']}
    """
    known = [text.fields for text in texts if text.has_attributes]
    return {name: sorted({fields[name] for fields in known}) for name in ATTRIBUTES} if known else {}


def read_texts(path: Path) -> list[PartText]:
    r"""Read a .csv file with the columns `file` and `text`, and any others of `COLUMNS`.

    A language that is not given is detected from the characters. Lines without a text are left out. Parts are numbered
    by file, in order of first appearance.

    Raises:
        InputError: the file cannot be read, lacks a column, or holds no text.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "texts.csv"
        >>> _ = path.write_text("file,text,defect\na.png,左上に傷,scratch\n", encoding="utf-8")
        >>> read_texts(path)
        [PartText(part=0, text='左上に傷', language='ja', fields={'defect': 'scratch'}, group=None, file='a.png')]
    """
    names, rows = read_csv_rows(path, "the columns file and text")
    for needed in ("file", "text"):
        if needed not in names:
            raise InputError(
                f"{path}: has no column {needed}, but {', '.join(names) or 'nothing'}"
                f"{nearest(needed, names)}; give file, text and, if known, {', '.join(COLUMNS[2:])}"
            )
    texts: list[PartText] = []
    files: dict[str, int] = {}
    for number, cells in enumerate(rows, start=2):
        text, file = cells.get("text"), cells.get("file", "")
        if not text:
            continue
        language = cells.get("language") or ("ja" if _JAPANESE.search(text) else "en")
        fields = {name: cells[name] for name in FIELDS if cells.get(name)}
        part = files.setdefault(file, len(files))
        try:
            texts.append(PartText(part, text, language, fields, cells.get("part") or None, file))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    if not texts:
        raise InputError(f"{path}: holds no text; give a line for each part")
    return texts


def find_photos(texts: Sequence[PartText], path: Path) -> tuple[list[Path], list[PartText]]:
    """The photographs that texts are about, each once, and the texts with `part` numbering these photographs.

    A file is named by its whole path, relative to the .csv file, or relative to the current folder.

    Args:
        texts: as `read_texts` gives them.
        path: the .csv file.

    Raises:
        InputError: a photograph does not exist.
    """
    photos: dict[Path, int] = {}
    numbered = []
    for text in texts:
        candidates = [base / text.file for base in (path.parent, Path())]
        photo = next((each for each in candidates if text.file and each.is_file()), None)
        if photo is None:
            raise InputError(
                f"{path}: {text.file or 'a line without a file'} is not there; name photographs relative to "
                f"{path.parent}"
            )
        numbered.append(replace(text, part=photos.setdefault(photo, len(photos))))
    return list(photos), numbered
