"""How values become bytes: JSON by default; MessagePack, compression and encryption where asked for.

    JsonCodec()                                            # the default
    MsgpackCodec(compress="zstd", min_size=2048)
    ring = KeyRing(active="2026-11", keys={"2026-11": new, "2026-05": old})
    JsonCodec(compress="lz4", keys=ring)
    Framed(serializer=MySerializer(), compress=Zstd(level=9), keys=ring)

A codec is any object with `encode(key, value) -> bytes` and `decode(key, data) -> value`. The bytes are
the same in every CacheFlow client; clients/conformance/README.md describes them, and
docs/python/codecs.md how to choose. This package imports nothing of the rest of the client, and each
optional library only when a codec that needs it is made, or a value that needs it is read.
"""

from .as_json import JsonSerializer
from .as_msgpack import MsgpackSerializer
from .as_pickle import PickleSerializer
from .as_raw import RawSerializer
from .compression import Compressor, Lz4, Zstd
from .errors import CodecError, DecodeError, EncodeError
from .framed import Framed, JsonCodec, MsgpackCodec, PickleCodec, RawCodec
from .keys import KeyRing
from .optional import MissingLibrary
from .protocol import Codec, Serializer

__all__ = [
    "Codec",
    "CodecError",
    "Compressor",
    "DecodeError",
    "EncodeError",
    "Framed",
    "JsonCodec",
    "JsonSerializer",
    "KeyRing",
    "Lz4",
    "MissingLibrary",
    "MsgpackCodec",
    "MsgpackSerializer",
    "PickleCodec",
    "PickleSerializer",
    "RawCodec",
    "RawSerializer",
    "Serializer",
    "Zstd",
]
