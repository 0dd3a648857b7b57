"""JSON: the serializer that every CacheFlow client has, and the only one whose values need no frame.

What comes back exactly as it was: None, bool, int, finite float, str, and list and dict (with str
keys) of these; of these very types, not of subclasses. Everything else is refused, because it would
come back as something else: a tuple as a list, a dict's key 1 as "1", an IntEnum as its number, a
datetime, Decimal, bytes or set not at all. A hook may say what such a value is to be written as.

Other languages read the same text by their own rules: JavaScript has no integers beyond 2^53 and no
difference between 1 and 1.0.
"""

from __future__ import annotations

import json
from typing import NoReturn

from . import frame
from .errors import DecodeError, EncodeError
from .plain import Default, HookFailed, ObjectHook, Plain, guarded

_ATOMS = frozenset({type(None), bool, int, float, str})


class JsonSerializer:
    """JSON text in UTF-8, without spaces.

    `default(value)` is called with each value, at any depth, that JSON has no place for, and returns
    what to write in its place (raising TypeError or ValueError refuses it). `object_hook(dict)` is called
    with each object read, the innermost first, and returns what the caller gets instead. The two are
    inverse, or values change on their way:

        def default(value):
            if isinstance(value, Decimal):
                return {"$decimal": str(value)}
            raise TypeError("not cacheable")

        def object_hook(read):
            return Decimal(read["$decimal"]) if read.keys() == {"$decimal"} else read
    """

    id = frame.JSON

    def __init__(self, default: Default | None = None, object_hook: ObjectHook | None = None) -> None:
        self._plain = Plain("JSON", _ATOMS, default)
        self._decode = json.JSONDecoder(object_hook=guarded(object_hook), parse_constant=_refuse_constant).decode
        self._encode = json.JSONEncoder(
            ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
        ).encode

    def dumps(self, value: object) -> bytes:
        """EncodeError: unsupported_type, not_encodable."""
        plain = self._plain(value)
        try:
            return self._encode(plain).encode()
        except RecursionError:
            raise EncodeError("not_encodable", "nested too deep") from None
        except UnicodeEncodeError:
            raise EncodeError("not_encodable", "a str with lone surrogates has no UTF-8") from None
        except ValueError as error:  # NaN, infinities, an integer of more digits than Python prints
            raise EncodeError("not_encodable", str(error)) from None

    def loads(self, data: bytes) -> object:
        """DecodeError: corrupt. What `object_hook` raises comes through as it is."""
        try:
            # Not json.loads(data): it would guess UTF-16 and UTF-32 as well, and skip a mark.
            return self._decode(str(data, "utf-8"))
        except HookFailed as failed:
            raise failed.error from None
        except json.JSONDecodeError as error:
            raise DecodeError("corrupt", f"no JSON text: {error.msg} at {error.pos}") from None
        except UnicodeDecodeError:
            raise DecodeError("corrupt", "no UTF-8") from None
        except RecursionError:
            raise DecodeError("corrupt", "JSON nested too deep") from None
        except ValueError as error:  # _refuse_constant; an integer of more digits than Python reads
            raise DecodeError("corrupt", str(error)) from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"JSON has no {text}")
