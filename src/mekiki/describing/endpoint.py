"""A language model on a vLLM server, whose OpenAI-compatible API takes a prompt as embeddings.

From its documentation:

- the server must be started with `--enable-prompt-embeds`, and only for trusted users: embeddings of a wrong shape can
  crash its engine;
- `/v1/completions` fills in no chat template, so the whole prompt is sent as embeddings, template included; this side
  therefore needs the model's embedding table too;
- the tensor is sent as base64 of what `torch.save` writes, `[L, hidden]`, which the server reads as weights only.

The API key comes from the environment and appears in no message.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from mekiki.describing.describer import LONGEST, Describer
from mekiki.describing.projector import PartVectors
from mekiki.describing.schema import ATTRIBUTES, FIELDS, QUESTIONS
from mekiki.errors import InputError
from mekiki.extras import require
from mekiki.storage.atomic import replace_file

KEY = "MEKIKI_LM_KEY"
"""Environment variable of the API key."""
RETRY_STATUS = (408, 409, 429, 500, 502, 503, 504)
"""Status codes after which a request is sent again."""
LONGEST_FIELDS = 400
"""Maximum number of tokens of an answer in fields."""
PATH = "/completions"


class Endpoint:
    """A server that answers prompts of embeddings.

    Args:
        url: address of its API, such as `http://HOST:8000/v1`.
        model: name of the model on the server.
        timeout: seconds without data after which a request fails.
        retries: number of further attempts, before the first piece of an answer.
        wait: seconds before the second attempt; each further wait is twice as long.

    Raises:
        InputError: the address is not valid.
    """

    def __init__(
        self, url: str, model: str, *, timeout: float = 60.0, retries: int = 3, wait: float = 0.5
    ) -> None:
        if not _is_address(url):
            raise InputError(f"{url}: is no address of a server; give http://HOST:PORT/v1")
        self.url, self.model = url.rstrip("/"), model
        self._timeout, self._retries, self._wait = timeout, retries, wait

    def stream(self, rows: Tensor, *, max_tokens: int) -> Iterator[str]:
        """The answer to a prompt, in pieces as they arrive.

        Args:
            rows: embeddings of the whole prompt, float `[L, hidden]`.
            max_tokens: maximum number of tokens.

        Raises:
            MissingExtraError: the extra `describe` is not installed.
            InputError: the server cannot be reached, refuses, or breaks off.
        """
        httpx = require("httpx", extra="describe", purpose=f"asking {self.url}")
        body = request_body(rows, self.model, max_tokens=max_tokens) | {"stream": True}
        headers = {"Accept": "text/event-stream"}
        key = os.environ.get(KEY, "").strip()
        if not key.isascii() or not key.isprintable():
            raise InputError(f"{KEY}: holds characters that no API key has; put the right one there")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        with httpx.Client(timeout=httpx.Timeout(self._timeout, connect=min(10.0, self._timeout))) as client:
            for attempt in range(self._retries + 1):
                started, last = False, attempt == self._retries
                try:
                    with client.stream("POST", self.url + PATH, json=body, headers=headers) as response:
                        if response.status_code in RETRY_STATUS and not last:
                            time.sleep(self._pause(attempt, response.headers.get("retry-after")))
                            continue
                        if response.status_code != 200:
                            response.read()
                            raise InputError(self._refusal(response.status_code, response.text))
                        for piece in self._pieces(response.iter_lines()):
                            started = True
                            yield piece
                        return
                except httpx.HTTPError as error:
                    if started or last:
                        timed_out = isinstance(error, httpx.ReadTimeout)
                        what = "does not answer" if timed_out else "cannot be reached"
                        what = "broke off in the middle" if started else what
                        reason = str(error).strip() or type(error).__name__
                        raise InputError(
                            f"{self.url}: {what} ({reason}); check that the server runs, and try again"
                        ) from None
                    time.sleep(self._pause(attempt, None))

    def _pieces(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if not line.startswith("data:"):
                continue
            content = line.removeprefix("data:").strip()
            if content == "[DONE]":
                return
            try:
                event = json.loads(content)
                failure = _message(event) if "error" in event else ""
                piece = "" if failure else str(event["choices"][0].get("text") or "")
            except (ValueError, LookupError, TypeError, AttributeError):
                raise InputError(f"{self.url}: sent what is no completion ({content[:80]!r})") from None
            if failure:
                raise InputError(f"{self.url}: failed ({failure}); try again later")
            if piece:
                yield piece
        raise InputError(f"{self.url}: broke off in the middle (no end was sent); try again")

    def _pause(self, attempt: int, retry_after: str | None) -> float:
        """Seconds to wait: what the server asks for, up to the timeout, else twice as long each time."""
        if retry_after is not None and retry_after.isdecimal():
            return min(float(retry_after), self._timeout)
        return self._wait * 2.0**attempt

    def _refusal(self, status: int, text: str) -> str:
        try:
            message = _message(json.loads(text))
        except (ValueError, AttributeError):
            message = " ".join(text.split())[:200]
        if status in (401, 403):
            return f"{self.url}: refuses the key ({status}); put the right one into {KEY}"
        if status == 404:
            return f"{self.url}: has no model {self.model}, or no {PATH} ({message or status})"
        if status == 400:
            fits = "hidden" not in message and "length" not in message  # of another model, or too long
            hint = "; is the server started with --enable-prompt-embeds?" if fits else ""
            return f"{self.url}: refuses the request ({message}){hint}"
        return f"{self.url}: answers {status} ({message}); try again later"


class RemoteDescriber:
    """Describes parts by a server with the describer's language model; answers as a `Describer` does.

    Args:
        describer: makes the prompts.
        endpoint: the server.
    """

    def __init__(self, describer: Describer, endpoint: Endpoint) -> None:
        self._describer, self._endpoint = describer, endpoint

    def stream(self, part: PartVectors, question: str) -> Iterator[str]:
        """An answer in words about one part, in pieces as they arrive."""
        rows, _ = self._describer.prompt_embeddings(part, question)
        yield from self._endpoint.stream(rows[0], max_tokens=LONGEST)

    def answer_fields(self, parts: PartVectors, language: str, *, question: str = "") -> list[dict[str, str]]:
        """An answer in fields about each part; what the server does not keep to is repaired (`repair_fields`).

        Raises:
            InputError: an answer contains no JSON.
        """
        question = question or QUESTIONS[language]["fields"]
        rows, _ = self._describer.prompt_embeddings(parts, question)
        return [
            repair_fields(
                "".join(self._endpoint.stream(row, max_tokens=LONGEST_FIELDS)), self._describer.values
            )
            for row in rows
        ]


def repair_fields(text: str, values: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The fields in a language model's text, made valid.

    An attribute becomes the nearest of its values, and a missing field "unknown".

    Args:
        text: JSON, with or without words around it.
        values: the possible values of each of `mekiki.describing.schema.ATTRIBUTES`.

    Raises:
        InputError: there is no JSON object in the text.

    Example:
        >>> repair_fields('Sure! {"defect": "Cracks", "place": "top"}', {"defect": ["crack", "pit"]})["defect"]
        'crack'
    """
    for start in (place for place, letter in enumerate(text) if letter == "{"):
        try:
            content, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            continue
        fields = {name: str(content.get(name) or "unknown") for name in FIELDS}
        for name in ATTRIBUTES:
            known = list(values.get(name, ()))
            if known and fields[name] not in known:
                (fields[name],) = get_close_matches(fields[name].lower(), known, 1, cutoff=0.0)
        return fields
    raise InputError(f"the server gave no JSON, but {text[:80]!r}; ask again, or leave out --format json")


def request_body(rows: Tensor, model: str, *, max_tokens: int) -> dict[str, Any]:
    """The body of a request to `/v1/completions` for greedy decoding; for the arguments see `Endpoint.stream`.

    Example:
        >>> body = request_body(torch.zeros(3, 8), "m", max_tokens=5)
        >>> content = io.BytesIO(base64.b64decode(body["prompt_embeds"]))
        >>> sorted(body), torch.load(content, weights_only=True).shape
        (['max_tokens', 'model', 'prompt_embeds', 'temperature'], torch.Size([3, 8]))
    """
    content = io.BytesIO()
    # A copy, because `torch.save` writes all of the tensor that a view belongs to.
    torch.save(rows.detach().cpu().clone(memory_format=torch.contiguous_format), content)
    return {
        "model": model,
        "prompt_embeds": base64.b64encode(content.getvalue()).decode("ascii"),
        "max_tokens": max_tokens,
        "temperature": 0.0,
    }


def write_requests(path: Path, prompts: Iterable[tuple[str, Tensor]], model: str, *, max_tokens: int) -> int:
    """Write requests in the format of OpenAI's batch files, one JSON object a line; returns their number.

    Args:
        path: the file; written in one step.
        prompts: for each request its name and the embeddings of the whole prompt, `[L, hidden]`.
        model: name of the model on the server.
        max_tokens: maximum number of tokens of an answer.
    """
    number = 0
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        for name, rows in prompts:
            request = {
                "custom_id": name,
                "method": "POST",
                "url": f"/v1{PATH}",
                "body": request_body(rows, model, max_tokens=max_tokens),
            }
            handle.write(json.dumps(request) + "\n")
            number += 1
    return number


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url


def _message(content: Any) -> str:
    error = content.get("error", content)
    return " ".join(str(error.get("message", error) if isinstance(error, dict) else error).split())[:300]
