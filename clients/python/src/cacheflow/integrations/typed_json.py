"""JSON that keeps the types which frameworks put into caches: nothing that is usual needs pickle.

A value that JSON has no place for is written as {"$type": [name, payload]} and comes back as it was: tuple, set,
frozenset, bytes, datetime, date, time, timedelta, Decimal, UUID, and the kinds that a framework adds. Other clients
read it as such an object. Data of one's own that has such a key is refused, so that no visitor can have a string
that he sent come back as markup that is trusted.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import re
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..codecs import DecodeError, EncodeError, JsonSerializer

_MARK = "$type"
# Within a JSON string a quote has a backslash before it: this is a key, and never part of a text.
_MARKED = re.compile(rb'[{,]"\$type":')


class Kind(NamedTuple):
    """A type, its name, and how it becomes JSON (or other values that have a place) and back. TypeError and
    ValueError refuse a value. `subclasses`: theirs too, which come back as what `read` makes."""

    type: type
    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    subclasses: bool = False


def packed(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


_GENERAL = (
    Kind(tuple, "tuple", list, tuple),
    Kind(set, "set", list, set),
    Kind(frozenset, "frozenset", list, frozenset),
    Kind(bytes, "bytes", packed, base64.b64decode),
    Kind(datetime.datetime, "datetime", datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    Kind(datetime.date, "date", datetime.date.isoformat, datetime.date.fromisoformat),
    Kind(datetime.time, "time", datetime.time.isoformat, datetime.time.fromisoformat),
    Kind(
        datetime.timedelta,
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
    Kind(decimal.Decimal, "decimal", str, decimal.Decimal),
    Kind(uuid.UUID, "uuid", str, uuid.UUID),
)


class TypedJson:
    """The serializer; see the module's docstring."""

    id = JsonSerializer.id

    def __init__(self, kinds: Sequence[Kind] = ()) -> None:
        every = (*kinds, *_GENERAL)
        self._exact = {kind.type: kind for kind in reversed(every)}
        self._open = [kind for kind in every if kind.subclasses]
        self._named = {kind.name: kind.read for kind in reversed(every)}
        self._marks = threading.local()
        self._json = JsonSerializer(self._write, self._read)

    def _write(self, value: object) -> object:
        kind = self._exact.get(type(value))
        if kind is None:
            kind = next((kind for kind in self._open if isinstance(value, kind.type)), None)
        if kind is None:
            raise TypeError("convert it, or name a codec of your own")
        payload = kind.write(value)
        self._marks.count += 1
        return {_MARK: [kind.name, payload]}

    def _read(self, data: dict[str, object]) -> object:
        if len(data) != 1 or _MARK not in data:
            return data
        try:
            marked: Any = data[_MARK]
            name, payload = marked
            return self._named[name](payload)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DecodeError("corrupt", f"{type(error).__name__}: {error}") from error

    def dumps(self, value: object) -> bytes:
        """EncodeError unsupported_type, also for data with a key "$type"."""
        self._marks.count = 0
        data = self._json.dumps(value)
        if len(_MARKED.findall(data)) != self._marks.count:
            raise EncodeError("unsupported_type", f"a key {_MARK!r} in the value")
        return data

    def loads(self, data: bytes) -> object:
        """DecodeError corrupt."""
        return self._json.loads(data)
