"""Text files that people write."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mekiki.errors import InputError


def read_text(path: Path, wanted: str = "a .csv file") -> str:
    r"""The content of a text file in UTF-8, or in CP932, the Shift-JIS that Excel writes in Japan.

    Args:
        path: the file.
        wanted: what to give instead, if there is no such file.

    Raises:
        InputError: it cannot be read, or is neither.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.csv"
        >>> _ = path.write_bytes("note\n油漏れ\n".encode("cp932"))
        >>> read_text(path).split()
        ['note', '油漏れ']
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give {wanted}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    # In this order: most UTF-8 text is also valid CP932, as other characters.
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Python decodes bytes that CP932 does not have to these.
        if not any("\uf8f0" <= letter <= "\uf8f3" for letter in text):
            return text
    raise InputError(f"{path}: is neither UTF-8 nor Shift-JIS; save it as .csv in UTF-8")


def read_csv_rows(path: Path, wanted: str = "a .csv file") -> tuple[list[str], list[dict[str, str]]]:
    r"""The column names of a .csv file that people write, and its rows by name; cells are stripped.

    Args:
        path: the file.
        wanted: what to give instead, if there is no such file.

    Raises:
        InputError: it cannot be read, or two columns have one name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.csv"
        >>> _ = path.write_text("file, note\na.png, oil leak\nb.png\n")
        >>> read_csv_rows(path)
        (['file', 'note'], [{'file': 'a.png', 'note': 'oil leak'}, {'file': 'b.png', 'note': ''}])
    """
    try:
        reader = csv.DictReader(
            io.StringIO(read_text(path, wanted), newline=""), restval="", skipinitialspace=True
        )
        given = reader.fieldnames or []
        rows = [{name.strip(): row[name].strip() for name in given} for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as .csv in UTF-8") from None
    names = [name.strip() for name in given]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: has two columns of one name among {', '.join(names)}; give each its own")
    return names, rows
