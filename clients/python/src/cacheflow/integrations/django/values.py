"""JSON for what Django itself puts into a cache: rendered responses and fragments, beside what sessions and views
hold (typed_json.py). HttpResponse and its subclasses come back as HttpResponse, lazy text as str."""

from __future__ import annotations

import base64
from typing import Any

from django.http import HttpResponse
from django.http.cookie import SimpleCookie
from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe

from ..typed_json import Kind, TypedJson, packed


def _write_response(response: HttpResponse) -> dict[str, Any]:
    if response.streaming or not getattr(response, "is_rendered", True):
        raise TypeError("a response that is streamed, or not yet rendered, has no content to keep")
    return {
        "status": response.status_code,
        "reason": response.__dict__.get("_reason_phrase"),
        "charset": response.__dict__.get("_charset"),
        "headers": [[name, value] for name, value in response.items()],
        "cookies": [
            [morsel.key, morsel.value, morsel.coded_value, {name: item for name, item in morsel.items() if item}]
            for morsel in response.cookies.values()
        ],
        "content": packed(response.content),
    }


def _read_response(data: dict[str, Any]) -> HttpResponse:
    response = HttpResponse(
        base64.b64decode(data["content"]), status=data["status"], reason=data["reason"], charset=data["charset"]
    )
    del response["Content-Type"]  # Django's own guess
    for name, value in data["headers"]:
        response[name] = value
    response.cookies = SimpleCookie()
    for name, value, coded, attributes in data["cookies"]:
        response.cookies[name] = value
        response.cookies[name].set(name, value, coded)
        response.cookies[name].update(attributes)
    return response


KINDS = (
    Kind(SafeString, "safe", lambda value: value[:], mark_safe),  # a slice of it is a plain str
    Kind(Promise, "text", str, str, subclasses=True),
    Kind(HttpResponse, "http_response", _write_response, _read_response, subclasses=True),
)


def django_json() -> TypedJson:
    """The serializer that "json" stands for in Django's settings."""
    return TypedJson(KINDS)
