"""MessagePack: smaller and quicker than JSON for numbers and binary data; the extra `msgpack`.

What comes back exactly as it was: None, bool, int from -2^63 to 2^64 - 1, float (NaN and infinities
too), str, bytes, datetime in timezone.utc, and list and dict (with str keys) of these; of these very
types, not of subclasses. Everything else is refused, or goes through a hook as with JSON. A datetime
is MessagePack's own timestamp (extension -1), of which Python keeps the microseconds; other
extensions are refused.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NoReturn

from . import frame
from .errors import DecodeError, EncodeError
from .optional import library
from .plain import Default, HookFailed, ObjectHook, Plain, guarded

_ATOMS = frozenset({type(None), bool, int, float, str, bytes})


class MsgpackSerializer:
    """MessagePack by the msgpack library. `default` and `object_hook` as in JsonSerializer.

    MissingLibrary where the library is not installed.
    """

    id = frame.MSGPACK

    def __init__(self, default: Default | None = None, object_hook: ObjectHook | None = None) -> None:
        self._library: Any = library("msgpack", "msgpack")
        self._plain = Plain("MessagePack", _ATOMS, default, also=_is_timestamp)
        self._object_hook = guarded(object_hook)

    def dumps(self, value: object) -> bytes:
        """EncodeError: unsupported_type, not_encodable."""
        plain = self._plain(value)
        try:
            packed: bytes = self._library.packb(plain, datetime=True)
        except UnicodeEncodeError:
            raise EncodeError("not_encodable", "a str with lone surrogates has no UTF-8") from None
        except (ValueError, OverflowError) as error:  # an integer beyond 64 bits; nested too deep
            raise EncodeError("not_encodable", str(error)) from None
        return packed

    def loads(self, data: bytes) -> object:
        """DecodeError: corrupt. What `object_hook` raises comes through as it is."""
        try:
            return self._library.unpackb(
                data,
                timestamp=3,
                ext_hook=_refuse_extension,
                object_hook=self._object_hook,
                strict_map_key=True,
            )
        except HookFailed as failed:
            raise failed.error from None
        except (ValueError, OverflowError, RecursionError, TypeError, self._library.UnpackException) as error:
            # Not all are the library's own: a timestamp may be of no year that datetime has.
            raise DecodeError("corrupt", f"no MessagePack: {str(error) or type(error).__name__}") from None


def _is_timestamp(value: object) -> bool:
    # Of another zone it would come back in UTC: the same moment, another value.
    return type(value) is datetime and value.tzinfo is timezone.utc


def _refuse_extension(code: int, _: bytes) -> NoReturn:
    raise ValueError(f"extension {code}")
