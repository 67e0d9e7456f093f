"""Arrays from `.npz` files whose headers may lie: nothing is unpickled, and no header can ask for much memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from mekiki.errors import InputError

_MAX_DEFLATE_RATIO = 1032
_SLACK_BYTES = 4096


def read_npz(
    path: Path, choose: Callable[[Sequence[str]], Iterable[str]], fix: str = "save it again"
) -> list[NDArray[Any]]:
    """Some of the arrays of a file, in the order chosen.

    Args:
        path: the file.
        choose: the names in the file → those wanted; may raise an `InputError` of its own.
        fix: what to do if the file is damaged.

    Raises:
        InputError: the file is damaged, or holds Python objects.
        FileNotFoundError: it does not exist.

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
    except Exception as error:  # damaged files raise nearly anything
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise InputError(
                f"{path}: holds Python objects; save plain arrays of numbers or strings"
            ) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is damaged ({reason}); {fix}") from None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    """One array, after its header was compared with the size of the file."""
    if (
        member.compress_size > size
        or member.file_size > _MAX_DEFLATE_RATIO * member.compress_size + _SLACK_BYTES
    ):
        raise ValueError(f"{member.filename} promises more bytes than there are")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} has an unknown version of NumPy's format: {version}")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError("Object arrays")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"the header of {member.filename} promises more than follows it")
    with archive.open(member) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array
