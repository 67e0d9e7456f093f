"""A language model on another machine: vLLM's OpenAI-compatible server takes a prompt as embeddings.

What its documentation says, and what follows from it:

- the server must be started with `--enable-prompt-embeds`, and only for users one trusts: embeddings of a wrong shape
  can crash its engine;
- `/v1/completions` fills in no chat template, so the whole prompt goes out as embeddings, template and all; the model's
  own table of embeddings is therefore needed on this side too;
- the tensor travels as base64 of what `torch.save` writes, `[L, hidden]`, which the server reads as weights only.

The API key comes from the environment and stands in no message.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from mekiki.errors import InputError
from mekiki.extras import require
from mekiki.storage.atomic import replace_file

KEY = "MEKIKI_LM_KEY"
"""Environment variable that holds the API key."""
AGAIN = (408, 409, 429, 500, 502, 503, 504)
"""Status codes after which it is worth asking again."""
PATH = "/completions"


class Endpoint:
    """A server that answers prompts of embeddings.

    Args:
        url: of its API, such as `http://HOST:8000/v1`.
        model: the name it has there.
        timeout: seconds without a sign of life after which it is given up.
        retries: how often it is asked again, before the first word has come.
        wait: seconds before it is asked again the first time; each further wait is twice as long.

    Raises:
        InputError: the address is none.
    """

    def __init__(
        self, url: str, model: str, *, timeout: float = 60.0, retries: int = 3, wait: float = 0.5
    ) -> None:
        if not _is_address(url):
            raise InputError(f"{url}: is no address of a server; give http://HOST:PORT/v1")
        self.url, self.model = url.rstrip("/"), model
        self._timeout, self._retries, self._wait = timeout, retries, wait

    def stream(self, rows: Tensor, *, max_tokens: int, temperature: float = 0.0) -> Iterator[str]:
        """What the server says to a prompt, piece by piece.

        Args:
            rows: the embeddings of the whole prompt, float `[L, hidden]`.
            max_tokens: at most so many tokens.
            temperature: 0 for the likeliest.

        Raises:
            MissingExtraError: the extra `describe` is not installed.
            InputError: it cannot be reached, refuses, or breaks off.
        """
        httpx = require("httpx", extra="describe", purpose=f"asking {self.url}")
        body = request_of(rows, self.model, max_tokens=max_tokens, temperature=temperature) | {"stream": True}
        headers = {"Accept": "text/event-stream"}
        key = os.environ.get(KEY, "").strip()
        if not key.isascii() or not key.isprintable():
            raise InputError(f"{KEY}: holds characters that no API key has; put the right one there")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        with httpx.Client(timeout=httpx.Timeout(self._timeout, connect=min(10.0, self._timeout))) as client:
            for attempt in range(self._retries + 1):
                said = False
                last = attempt == self._retries
                try:
                    with client.stream("POST", self.url + PATH, json=body, headers=headers) as answer:
                        if answer.status_code in AGAIN and not last:
                            time.sleep(self._pause(attempt, answer.headers.get("retry-after")))
                            continue
                        if answer.status_code != 200:
                            answer.read()
                            raise InputError(self._refusal(answer.status_code, answer.text))
                        for piece in self._pieces(answer.iter_lines()):
                            said = True
                            yield piece
                        return
                except httpx.HTTPError as error:
                    if said or last:
                        silent = isinstance(error, httpx.ReadTimeout)
                        what = "does not answer" if silent else "cannot be reached"
                        what = "broke off in the middle" if said else what
                        told = str(error).strip() or type(error).__name__
                        raise InputError(
                            f"{self.url}: {what} ({told}); see whether the server runs, and try again"
                        ) from None
                    time.sleep(self._pause(attempt, None))

    def _pieces(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if not line.startswith("data:"):
                continue
            content = line.removeprefix("data:").strip()
            if content == "[DONE]":
                return
            failed = ""
            try:
                told = json.loads(content)
                failed = _message(told) if "error" in told else ""
                piece = "" if failed else str(told["choices"][0].get("text") or "")
            except (ValueError, LookupError, TypeError, AttributeError):
                raise InputError(f"{self.url}: sent what is no completion ({content[:80]!r})") from None
            if failed:
                raise InputError(f"{self.url}: failed ({failed}); try again later")
            if piece:
                yield piece
        raise InputError(f"{self.url}: broke off in the middle (no end was sent); try again")

    def _pause(self, attempt: int, told: str | None) -> float:
        """Seconds to wait: what the server says, within reason, else twice as long each time."""
        if told is not None and told.isdecimal():
            return min(float(told), self._timeout)
        return self._wait * 2.0**attempt

    def _refusal(self, status: int, text: str) -> str:
        try:
            said = _message(json.loads(text))
        except (ValueError, AttributeError):
            said = " ".join(text.split())[:200]
        if status in (401, 403):
            return f"{self.url}: refuses the key ({status}); put the right one into {KEY}"
        if status == 404:
            return f"{self.url}: has no model {self.model}, or no {PATH} ({said or status})"
        if status == 400:
            fits = "hidden" not in said and "length" not in said  # of another model, or too long
            ask = "; is the server started with --enable-prompt-embeds?" if fits else ""
            return f"{self.url}: refuses the request ({said}){ask}"
        return f"{self.url}: answers {status} ({said}); try again later"


def request_of(rows: Tensor, model: str, *, max_tokens: int, temperature: float = 0.0) -> dict[str, Any]:
    """The body of a request to `/v1/completions`.

    Args:
        rows: the embeddings of the whole prompt, float `[L, hidden]`.
        model: its name on the server.
        max_tokens: at most so many tokens.
        temperature: 0 for the likeliest.

    Example:
        >>> body = request_of(torch.zeros(3, 8), "m", max_tokens=5)
        >>> sorted(body), embeddings_in(body).shape
        (['max_tokens', 'model', 'prompt_embeds', 'temperature'], torch.Size([3, 8]))
    """
    content = io.BytesIO()
    # A copy, because of a view the whole that it is a part of would be written.
    torch.save(rows.detach().cpu().clone(memory_format=torch.contiguous_format), content)
    return {
        "model": model,
        "prompt_embeds": base64.b64encode(content.getvalue()).decode("ascii"),
        "max_tokens": max_tokens,
        "temperature": temperature,
    }


def embeddings_in(body: dict[str, Any]) -> Tensor:
    """The embeddings in a request, read as a server should: as weights only, so that nothing in them can run."""
    content = io.BytesIO(base64.b64decode(body["prompt_embeds"], validate=True))
    rows: Tensor = torch.load(content, weights_only=True, map_location="cpu")
    return rows


def write_requests(path: Path, prompts: Iterable[tuple[str, Tensor]], model: str, *, max_tokens: int) -> int:
    """Requests as OpenAI's batch files have them, one JSON object a line; how many they are.

    Args:
        path: the file; written in one step.
        prompts: of each request a name, and the embeddings of the whole prompt, `[L, hidden]`.
        model: its name on the server.
        max_tokens: at most so many tokens.
    """
    number = 0
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        for name, rows in prompts:
            request = {
                "custom_id": name,
                "method": "POST",
                "url": f"/v1{PATH}",
                "body": request_of(rows, model, max_tokens=max_tokens),
            }
            handle.write(json.dumps(request) + "\n")
            number += 1
    return number


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url


def _message(told: Any) -> str:
    error = told.get("error", told)
    return " ".join(str(error.get("message", error) if isinstance(error, dict) else error).split())[:300]
