"""Notes that people wrote, from a .csv file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mekiki.data.text_files import read_csv_rows
from mekiki.errors import InputError, nearest

COLUMNS = ("file", "label", "note")


@dataclass(frozen=True)
class Note:
    """One line of the file.

    Attributes:
        file: the photograph it is about; empty for none.
        label: what was judged; empty for unknown.
        note: the text.
    """

    file: str = ""
    label: str = ""
    note: str = ""


def read_notes(path: Path) -> list[Note]:
    r"""Read a .csv file with the columns `file`, `label` and `note`, of which `note` or `label` must be there.

    UTF-8, or CP932 as Excel in Japan writes it.

    Raises:
        InputError: it cannot be read, or has no such column.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.csv"
        >>> _ = path.write_text("file,note\na.png,oil leak\n")
        >>> read_notes(path)
        [Note(file='a.png', label='', note='oil leak')]
    """
    names, rows = read_csv_rows(path, f"a .csv file with the columns {', '.join(COLUMNS)}")
    if not {"label", "note"} & set(names):
        raise InputError(
            f"{path}: has no column note or label, but {', '.join(names) or 'nothing'}"
            f"{nearest(names[0], COLUMNS) if names else ''}"
        )
    return [Note(*(row.get(name, "") for name in COLUMNS)) for row in rows]


def match_notes(
    notes: Sequence[Note], files: Sequence[Path], folders: Sequence[Path]
) -> tuple[dict[Path, Note], list[Note]]:
    """Match notes to photographs.

    A note names a file by its whole path, by its path within one of the folders, or by its name alone if only one file
    has that name.

    Args:
        notes: those that name a file.
        files: the photographs.
        folders: what names may be relative to.

    Returns:
        The note of each file that has one, and the notes whose file is not there.
    """
    by_path = {file.resolve(): file for file in files}
    by_name: dict[str, list[Path]] = {}
    for file in files:
        by_name.setdefault(file.name, []).append(file)
    matched: dict[Path, Note] = {}
    unmatched: list[Note] = []
    for note in notes:
        candidates = [by_path.get((folder / note.file).resolve()) for folder in (Path(), *folders)]
        same_name = by_name.get(note.file, [])
        candidates += same_name if len(same_name) == 1 else []
        found = [file for file in candidates if file is not None]
        if found:
            matched[found[0]] = note
        else:
            unmatched.append(note)
    return matched, unmatched
