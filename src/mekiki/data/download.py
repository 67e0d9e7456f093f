"""Download of one file: resumed where it stopped, verified, from the next mirror if one fails."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from mekiki.console import Progress, silent
from mekiki.errors import InputError

TIMEOUT = 10.0
"""Seconds to wait for a connection, and for each block."""
_BLOCK = 2**16


def download(urls: Sequence[str], target: Path, md5: str, *, progress: Progress = silent) -> None:
    """Download `target` from the first URL that delivers it whole.

    What has arrived stays in `<target>.part` when the connection breaks, and the next attempt, from any mirror, asks
    only for the rest (HTTP Range). `target` appears only when its MD5 is right.

    Args:
        urls: the same file on several mirrors.
        target: where to put it; its folder is made.
        md5: 32 hex digits, to notice damage.
        progress: called with bytes.

    Raises:
        InputError: no URL delivered it; the message gives the last reason.
    """
    part = target.with_name(target.name + ".part")
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            resumed = part.exists()
            reason = _attempt(url, part, md5, target.name, progress)
            if reason == _DAMAGED and resumed:  # the old part may have been the bad one
                reason = _attempt(url, part, md5, target.name, progress)
            if reason is None:
                part.replace(target)
                return
            reasons.append(f"{url.split('/')[2]}: {reason}")
    except OSError as error:
        raise InputError(f"{target.parent}: cannot be written ({error.strerror or error})") from None
    raise InputError(f"{target.name} could not be downloaded ({'; '.join(reasons)}); connect and try again")


_DAMAGED = "its content is not the published one"


def _attempt(url: str, part: Path, md5: str, name: str, progress: Progress) -> str | None:
    """Bring `part` to its full length; `None` when its MD5 is right, else why not."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mekiki", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        asked = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(asked, timeout=TIMEOUT) as reply:  # nosec B310 (a mirror of ours)
            if reply.status != 206:
                have = 0  # the server sends everything, whatever was asked for
            reason = _receive(reply, part, have, name, progress)
            if reason is not None:
                return reason
    except urllib.error.HTTPError as error:
        if error.code != 416:
            return f"HTTP {error.code}"
        # 416: nothing lies beyond what is there, so it is whole or wrong; the MD5 tells.
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    with part.open("rb") as handle:
        if hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5:
            return None
    part.unlink()
    return _DAMAGED


def _receive(
    reply: http.client.HTTPResponse, part: Path, have: int, name: str, progress: Progress
) -> str | None:
    length = reply.headers.get("Content-Length")
    total = have + int(length) if length else 0
    with part.open("ab" if have else "wb") as handle:
        while block := reply.read(_BLOCK):
            handle.write(block)
            have += len(block)
            progress(f"fetching {name}", have, max(total, have))
    return f"broke off at {have:,} of {total:,} bytes" if have < total else None
