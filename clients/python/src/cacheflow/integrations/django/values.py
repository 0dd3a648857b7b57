"""JSON for what Django itself puts into a cache: rendered responses, fragments, and what sessions and views hold
beside plain data. So nothing of the framework needs pickle.

A value that JSON has no place for is written as {"$django": [kind, payload]} and comes back as it was: SafeString,
datetime, date, time, timedelta, Decimal, UUID, tuple, set, frozenset, bytes, lazy text (as str), HttpResponse and
its subclasses (as HttpResponse). Data of one's own that has such a key is refused, so that no visitor can have a
string that he sent come back as markup that is trusted.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.http.cookie import SimpleCookie
from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe

from ...codecs import DecodeError, EncodeError, JsonSerializer

_MARK = "$django"
# Within a JSON string a quote has a backslash before it: this is a key, and never part of a text.
_MARKED = re.compile(rb'[{,]"\$django":')


def _response(response: HttpResponse) -> dict[str, Any]:
    if response.streaming:
        raise TypeError("a streaming response cannot be cached")
    if hasattr(response, "is_rendered") and not response.is_rendered:
        raise TypeError("a response that is not rendered cannot be cached")
    return {
        "status": response.status_code,
        "reason": response.__dict__.get("_reason_phrase"),
        "charset": response.__dict__.get("_charset"),
        "headers": [[name, value] for name, value in response.items()],
        "cookies": [
            [morsel.key, morsel.value, morsel.coded_value, {name: item for name, item in morsel.items() if item}]
            for morsel in response.cookies.values()
        ],
        "content": base64.b64encode(response.content).decode(),
    }


def _from_response(data: dict[str, Any]) -> HttpResponse:
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


_WRITERS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (SafeString, "safe", lambda value: value[:]),  # a slice of it is a plain str
    (Promise, "text", str),
    (datetime.datetime, "datetime", lambda value: value.isoformat()),
    (datetime.date, "date", lambda value: value.isoformat()),
    (datetime.time, "time", lambda value: value.isoformat()),
    (datetime.timedelta, "timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    (decimal.Decimal, "decimal", str),
    (uuid.UUID, "uuid", str),
    (tuple, "tuple", list),
    (frozenset, "frozenset", list),
    (set, "set", list),
    (bytes, "bytes", lambda value: base64.b64encode(value).decode()),
    (HttpResponse, "response", _response),
)
_EXACT = (SafeString, tuple, frozenset, set, bytes, decimal.Decimal, uuid.UUID, datetime.timedelta, datetime.time)
_READERS: dict[str, Callable[[Any], Any]] = {
    "safe": mark_safe,
    "text": str,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
    "tuple": tuple,
    "frozenset": frozenset,
    "set": set,
    "bytes": base64.b64decode,
    "response": _from_response,
}


class DjangoJson:
    """The serializer; see the module's docstring."""

    id = JsonSerializer.id

    def __init__(self) -> None:
        self._marks = threading.local()
        self._json = JsonSerializer(self._write, self._read)

    def _write(self, value: object) -> object:
        for kind, name, write in _WRITERS:
            if type(value) is kind or (isinstance(value, kind) and kind not in _EXACT):
                self._marks.count += 1
                return {_MARK: [name, write(value)]}
        raise TypeError("not JSON, and nothing of Django's: convert it, or name a codec of your own")

    @staticmethod
    def _read(data: dict[str, object]) -> object:
        if len(data) != 1 or _MARK not in data:
            return data
        try:
            marked: Any = data[_MARK]
            name, payload = marked
            return _READERS[name](payload)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DecodeError("corrupt", f"{type(error).__name__}: {error}") from error

    def dumps(self, value: object) -> bytes:
        """EncodeError unsupported_type, also for data with a key "$django"."""
        self._marks.count = 0
        data = self._json.dumps(value)
        if len(_MARKED.findall(data)) != self._marks.count:
            raise EncodeError("unsupported_type", f"a key {_MARK!r} in the value")
        return data

    def loads(self, data: bytes) -> object:
        """DecodeError corrupt."""
        return self._json.loads(data)
