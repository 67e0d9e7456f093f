"""Types and encodings that the routes of all packages share."""

from __future__ import annotations

import base64
import io
import json
from types import GenericAlias
from typing import Annotated, Any

import numpy as np
from fastapi import Path as PathParameter
from fastapi import Response
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, create_model

from mekiki.errors import InputError

Index = Annotated[int, PathParameter(ge=0, lt=2**31)]
Name = Annotated[str, PathParameter(min_length=1, max_length=200, pattern=r"^[\w.=-]+$")]
PhotoId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
CaseId = Annotated[str, Field(min_length=1, max_length=200)]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class RequestBody(BaseModel):
    """Base of every JSON request; an unknown field is refused instead of ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ResponseBody(BaseModel):
    """Base of JSON answers; every field is always present, which OpenAPI says too."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Problem(ResponseBody):
    """Answer to a request that failed."""

    error: str = Field(description="one line: what, where and what to do")


def list_model(key: str, item: type) -> type[BaseModel]:
    """Return the model of an answer with one list.

    Example:
        >>> list_model("rows", int).model_validate({"rows": [1]})
        intList(rows=[1])
    """
    fields: dict[str, Any] = {key: (GenericAlias(list, (item,)), ...)}
    model: type[BaseModel] = create_model(f"{item.__name__}List", __base__=ResponseBody, **fields)
    return model


def check_label(label: str) -> None:
    """Refuse a label with control characters.

    Raises:
        InputError: it has some.
    """
    if not label.isprintable():
        raise InputError("label: holds characters that cannot be printed; give plain text such as scratch")


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a picture, uint8 `[H, W]` or `[H, W, 3]`, as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def png_response(content: bytes) -> Response:
    """Return the response for a PNG, which the browser may cache for itself."""
    return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def encode_column(values: NDArray[Any], dtype: str) -> str:
    """Encode an array as base64 of little-endian numbers.

    Example:
        >>> encode_column(np.array([1, 258]), "<u2")
        'AQACAQ=='
    """
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")


def format_event(name: str, data: Any, number: int | None = None) -> str:
    r"""Format one server-sent event.

    Example:
        >>> format_event("end", {}, 3)
        'event: end\nid: 3\ndata: {}\n\n'
    """
    numbered = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{numbered}data: {json.dumps(data, allow_nan=False)}\n\n"
