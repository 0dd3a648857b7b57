"""The codec that puts serializer, compression and encryption together, and the named ones made of it.

Reading is liberal, writing is not: every codec here reads whatever any of them writes, as far as the
libraries are installed, with two exceptions that are a matter of trust. pickle is read only where it
was asked for by name, and with a key ring nothing is read that is not encrypted. So compression, or
another serializer, can be turned on in one process after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

from . import frame
from .as_json import JsonSerializer
from .as_msgpack import MsgpackSerializer
from .as_pickle import PickleSerializer
from .as_raw import RawSerializer
from .compression import COMPRESSORS, NAMES, Compression, Compressor
from .errors import DecodeError, EncodeError
from .keys import KeyRing
from .optional import MissingLibrary
from .plain import Default, ObjectHook
from .protocol import Serializer

if TYPE_CHECKING:
    from typing_extensions import Unpack

SerializerName = Literal["json", "msgpack", "pickle", "raw"]
_BY_NAME: dict[str, Callable[[], Serializer]] = {
    "json": JsonSerializer,
    "msgpack": MsgpackSerializer,
    "pickle": PickleSerializer,
    "raw": RawSerializer,
}
# What is read without being named: these make plain data of whatever bytes come, and run nothing.
_SAFE: dict[int, Callable[[], Serializer]] = {
    frame.JSON: JsonSerializer,
    frame.MSGPACK: MsgpackSerializer,
    frame.RAW: RawSerializer,
}


class Framed:
    """A codec (see protocol.Codec): serialized, then compressed, then encrypted.

    serializer   writes; by name, or an object with id, dumps and loads.
    compress     "zstd", "lz4", a Compressor (Zstd(level=9)), or None.
    min_size     bytes of the serialized value from which on it is compressed, where that makes it smaller.
    keys         a KeyRing: every value is encrypted, and none is read that is not.
    reads        further serializers to read with: `reads=["pickle"]` while values written by pickle are
                 still about, or one with other hooks.
    max_size     bytes that a value may decompress to when read; larger ones are not compressed when written.
    allow_plain  with keys: read unencrypted values too, for as long as encryption is being introduced.
                 Meanwhile whoever can write to the server can have any value believed.

    ValueError for a name or size that makes no sense, MissingLibrary where a library is not installed.
    """

    def __init__(
        self,
        serializer: SerializerName | Serializer = "json",
        *,
        compress: Compression | Compressor | None = None,
        min_size: int = 1024,
        keys: KeyRing | None = None,
        reads: Iterable[SerializerName | Serializer] = (),
        max_size: int = frame.MAX_SIZE,
        allow_plain: bool = False,
    ) -> None:
        if min_size < 0 or max_size < 1:
            raise ValueError("min_size is 0 or more bytes, max_size 1 or more")
        self.serializer = _serializer(serializer)
        self.min_size, self.max_size, self.keys = min_size, max_size, keys
        self._readers = {reader.id: reader for reader in map(_serializer, reads)}
        self._readers[self.serializer.id] = self.serializer
        self._compressor = _compressor(compress)
        self._decompressors: dict[int, Compressor] = {}
        if self._compressor is not None:
            self._decompressors[self._compressor.id] = self._compressor
        self._reads_plain = keys is None or allow_plain

    def encode(self, key: str, value: object) -> bytes:
        """The bytes to store under `key`, the full cache key. EncodeError."""
        try:
            body = self.serializer.dumps(value)
        except EncodeError as error:
            raise error.at(key) from error.__cause__
        compression = frame.UNCOMPRESSED
        if self._compressor is not None and self.min_size <= len(body) <= self.max_size:
            packed = self._compressor.compress(body)
            if len(packed) < len(body):
                body, compression = packed, self._compressor.id
        if self.keys is not None:
            return self.keys.seal(key, self.serializer.id, compression, body)
        if self.serializer.id == frame.JSON and not compression:
            return body
        return frame.begin(self.serializer.id, compression) + body

    def decode(self, key: str, data: bytes) -> object:
        """The value of bytes that were stored under `key`. DecodeError."""
        try:
            if not frame.is_frame(data):
                if not self._reads_plain:
                    raise DecodeError("not_encrypted", "plain text, and the codec has keys")
                return self._reader(frame.JSON).loads(data)
            header = frame.parse(data, key)
            body = data[header.body :] if header.key_id is None else b""
            if header.key_id is not None:
                if self.keys is None:
                    raise DecodeError("no_keys", f"encrypted with key {header.key_id!r}")
                body = self.keys.open(key, header, data)
            elif not self._reads_plain:
                raise DecodeError("not_encrypted", "a frame in the clear, and the codec has keys")
            reader = self._reader(header.serializer)  # first: what may not be read is not decompressed
            if header.compression:
                body = self._decompressor(header.compression).decompress(body, self.max_size)
            return reader.loads(body)
        except DecodeError as error:
            raise error.at(key) from error.__cause__

    def _reader(self, number: int) -> Serializer:
        reader = self._readers.get(number)
        if reader is None:
            make = _SAFE.get(number)
            if make is None:
                raise DecodeError("bad_serializer", f"{frame.SERIALIZER_NAMES[number]} was not asked for by name")
            reader = self._readers[number] = _made(make)
        return reader

    def _decompressor(self, number: int) -> Compressor:
        found = self._decompressors.get(number)
        if found is None:
            found = self._decompressors[number] = _made(COMPRESSORS[NAMES[number]])
        return found


class Options(TypedDict, total=False):
    """What every named codec takes besides its own; see Framed."""

    compress: Compression | Compressor | None
    min_size: int
    keys: KeyRing | None
    reads: Iterable[SerializerName | Serializer]
    max_size: int
    allow_plain: bool


class JsonCodec(Framed):
    """The default: JSON. `default` and `object_hook` as in JsonSerializer, the rest as in Framed."""

    def __init__(
        self,
        default: Default | None = None,
        object_hook: ObjectHook | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(JsonSerializer(default, object_hook), **options)


class MsgpackCodec(Framed):
    """MessagePack. `default` and `object_hook` as in JsonSerializer, the rest as in Framed."""

    def __init__(
        self,
        default: Default | None = None,
        object_hook: ObjectHook | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(MsgpackSerializer(default, object_hook), **options)


class RawCodec(Framed):
    """bytes as they are, in a frame. The options are those of Framed."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(RawSerializer(), **options)


class PickleCodec(Framed):
    """pickle: read what as_pickle.py says of it first. The options are those of Framed; give it `keys`."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(PickleSerializer(), **options)


def _serializer(named: SerializerName | Serializer) -> Serializer:
    if not isinstance(named, str):
        if named.id not in range(len(frame.SERIALIZER_NAMES)):
            raise ValueError(f"a serializer's id is 0 to 3, not {named.id}")
        return named
    if named not in _BY_NAME:
        raise ValueError(f"no serializer {named!r}: {', '.join(_BY_NAME)}")
    return _BY_NAME[named]()


def _compressor(named: Compression | Compressor | None) -> Compressor | None:
    if not isinstance(named, str):
        return named
    if named not in COMPRESSORS:
        raise ValueError(f"no compression {named!r}: {', '.join(COMPRESSORS)}")
    return COMPRESSORS[named]()


_Made = TypeVar("_Made")


def _made(make: Callable[[], _Made]) -> _Made:
    """What reading needs, or that its library is missing as an error of the value that asks for it."""
    try:
        return make()
    except MissingLibrary as error:
        raise DecodeError("library_missing", str(error)) from error
