"""Arrays from `.npz` files whose headers may lie: nothing unpickled, no more memory asked for than there is data."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from mekiki.errors import InputError

_SQUEEZED = 1032
"""Deflate makes data at most so many times smaller."""
_SLACK = 4096


def read_npz(
    path: Path, choose: Callable[[Sequence[str]], Iterable[str]], mend: str = "save it again"
) -> list[NDArray[Any]]:
    """Some of the arrays of a file, in the order chosen.

    Args:
        path: the file.
        choose: from the names there are to those wanted; may raise an `InputError` of its own.
        mend: what to do where the file is damaged.

    Raises:
        InputError: the file is damaged, or holds Python objects.
        FileNotFoundError: it is not there.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "some.npz"
        >>> np.savez(path, a=[1, 2], b=[3])
        >>> read_npz(path, lambda names: sorted(names, reverse=True))
        [array([3]), array([1, 2])]
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
            return [_read(archive, members[name], path.stat().st_size) for name in choose(list(members))]
    except (InputError, FileNotFoundError):
        raise
    except MemoryError:
        raise InputError(f"{path}: holds more than fits into memory; give fewer at a time") from None
    except (
        OSError,
        EOFError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        SyntaxError,
        RuntimeError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise InputError(
                f"{path}: holds Python objects; save plain arrays of numbers or strings"
            ) from None
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is damaged ({said}); {mend}") from None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    if member.compress_size > size or member.file_size > _SQUEEZED * member.compress_size + _SLACK:
        raise ValueError(f"{member.filename} promises more bytes than there are")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = npy.read_array_header_2_0(stream)
        else:
            raise ValueError(f"{member.filename} is of a version of numpy's that is not known: {version}")
        if dtype.hasobject:
            raise ValueError("Object arrays")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"the header of {member.filename} promises more than follows it")
    with archive.open(member) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array
