"""Optional libraries and public names, imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from mekiki.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module that an extra installs.

    Args:
        module: such as `"openTSNE"`.
        extra: the extra of mekiki that installs it.
        purpose: what it is needed for, for the error message.

    Raises:
        MissingExtraError: the library is not installed.

    Example:
        >>> require("json", extra="none", purpose="reading JSON").__name__
        'json'
        >>> require("no_such_library", extra="tsne", purpose="a t-SNE projection")
        Traceback (most recent call last):
        mekiki.errors.MissingExtraError: a t-SNE projection needs no_such_library: pip install 'mekiki[tsne]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name != module.partition(".")[0] and error.name != module:
            raise  # something that the library needs is missing: its own message says more
        raise MissingExtraError(f"{purpose} needs {module}: pip install 'mekiki[{extra}]'") from None


@contextmanager
def quiet_transformers(transformers: Any) -> Iterator[None]:
    """Within the block transformers shows no progress bars and logs nothing."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package that imports a public name from its module when it is first used.

    `mekiki --help` imports every package with commands, so their `__init__` must import nothing else.

    Args:
        package: `__name__` of the package.
        homes: module of each public name, relative to the package.

    Example:
        >>> lazy_names("mekiki", {"InputError": "errors"})("InputError").__name__
        'InputError'
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return load
