"""JSON for what Flask-Caching puts into a cache: responses of views, and markup of templates and fragments. Any
Response comes back as flask.Response, Markup as Markup."""

from __future__ import annotations

import base64
from typing import Any

from flask import Response
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from .typed_json import Kind, packed


def _write_response(response: AnyResponse) -> dict[str, Any]:
    if response.is_streamed or response.direct_passthrough:
        raise TypeError("a response that is streamed has no content to keep")
    return {
        "status": response.status,
        "headers": [[name, value] for name, value in response.headers],
        "content": packed(response.get_data()),
    }


def _read_response(data: dict[str, Any]) -> Response:
    headers = [(name, value) for name, value in data["headers"]]
    return Response(base64.b64decode(data["content"]), status=data["status"], headers=headers)


KINDS = (
    Kind(Markup, "safe", lambda value: str.__getitem__(value, slice(None)), Markup),  # str() of it is Markup
    Kind(AnyResponse, "flask_response", _write_response, _read_response, subclasses=True),
)
