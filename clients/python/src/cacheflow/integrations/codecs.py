"""Codecs as settings name them, and what caches of frameworks ask of them beside: integers that the server can
count, and pickle's own errors where a framework's contract names those."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from ..codecs import Codec, EncodeError, Framed, JsonCodec, Serializer
from ..errors import ConfigError

NAMES = ("json", "msgpack", "pickle", "raw")
_INT64 = 1 << 63


class PickleEncodeError(EncodeError, pickle.PicklingError):
    """An EncodeError for callers that expect pickle's: Django and cachelib promise a PickleError."""


@contextmanager
def pickle_errors() -> Generator[None, None, None]:
    """Raise EncodeErrors as PickleEncodeError."""
    try:
        yield
    except EncodeError as error:
        raise PickleEncodeError(error.code, error.detail, error.key) from error


class Countable:
    """A codec that writes integers as plain digits, as CACHE.INCRBY does, whatever it makes of other values.

    Not for encrypted values: the server can count only what it can read.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec, self._plain = codec, JsonCodec()

    def encode(self, key: str, value: object) -> bytes:
        """The codec's bytes; digits for an int of 64 bits."""
        if type(value) is int and -_INT64 <= value < _INT64:
            return self._plain.encode(key, value)
        return self._codec.encode(key, value)

    def decode(self, key: str, data: bytes) -> object:
        """The codec's value, or the integer."""
        digits = data[1:] if data[:1] == b"-" else data
        # Longer ones are none of the server's, and what int() makes of thousands of digits takes its time.
        countable = len(digits) <= 19 and digits.isdigit()
        return int(data) if countable else self._codec.decode(key, data)


def imported(path: str) -> Any:
    """What a dotted path names. ConfigError `bad_option`."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError("bad_option", f"{path!r} cannot be imported: {error}") from error


def codec_of(setting: Any, json: Callable[[], Serializer] | None = None) -> Codec:
    """The codec that a setting describes:

    - "json", "msgpack", "pickle", "raw", or None for JSON;
    - a mapping of the options of `cacheflow.codecs.Framed`: {"serializer": "json", "compress": "zstd"};
    - a dotted path to a codec, or to what makes one without arguments; or a codec.

    `json`: the serializer that stands for "json". ConfigError `bad_option`.
    """
    if isinstance(setting, str) and "." in setting:
        setting = imported(setting)
    if setting is not None and not isinstance(setting, str | Mapping):
        setting = setting() if isinstance(setting, type) or not hasattr(setting, "encode") else setting
        if not isinstance(setting, Codec):
            raise ConfigError("bad_option", f"{setting!r} is no codec")
        return setting
    options: dict[str, Any] = dict(setting) if isinstance(setting, Mapping) else {"serializer": setting or "json"}
    serializer: Any = options.pop("serializer", "json")
    if isinstance(serializer, str) and serializer not in NAMES:
        raise ConfigError("bad_option", f"codec {serializer!r} is none of {', '.join(NAMES)}, nor a dotted path")
    if serializer == "json" and json is not None:
        serializer = json()
    try:
        codec = Framed(serializer, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError("bad_option", f"codec: {error}") from error
    return codec if serializer == "raw" or codec.keys is not None else Countable(codec)
