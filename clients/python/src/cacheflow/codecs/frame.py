"""The frame around a value that is not plain JSON text: its bits, taken apart and put together.

    byte    0      1      2       3 …
          +------+------+-------+--------------------------------------------------------+
          | 0xCF | 0x01 | flags | body                                       (bit 4 = 0) |
          +------+------+-------+-----+--------+------------+----------------------------+
          | 0xCF | 0x01 | flags | len | key id | nonce (12) | ciphertext, tag (16)  (= 1) |
          +------+------+-------+-----+--------+------------+----------------------------+

    flags   7  6  5 |     4     | 3   2       | 1   0
            0  0  0 | encrypted | compression | serializer

0xCF begins no JSON text, and in UTF-8 it begins a Greek letter, so that one look at the first byte
tells a frame from plain JSON. The body is serialized, then compressed, then encrypted. What is
authenticated beside the ciphertext is every byte before the nonce, followed by the full cache key in
UTF-8: a frame that is copied under another key, or whose flags are altered, is refused.

Every function here is total: whatever bytes come in, it returns or raises DecodeError.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import DecodeError, EncodeError

MAGIC = 0xCF
VERSION = 0x01
HEADER_BYTES = 3
NONCE_BYTES = 12
TAG_BYTES = 16

# Bits 0-1.
JSON, MSGPACK, PICKLE, RAW = 0, 1, 2, 3
SERIALIZER_NAMES = ("JSON", "MessagePack", "pickle", "raw bytes")
# Bits 2-3; 3 is no compression that there is.
UNCOMPRESSED, ZSTD, LZ4 = 0, 1, 2
ENCRYPTED = 0x10
_RESERVED = 0xE0

MAX_SIZE = 64 << 20  # bytes; what a body may decompress to, unless the codec is told otherwise


class Header(NamedTuple):
    """What the first bytes of a frame say. `body` is the offset of what follows: of the nonce, if
    `key_id` is not None, else of the body itself."""

    serializer: int
    compression: int
    key_id: str | None
    body: int


def is_frame(data: bytes) -> bool:
    """Whether the bytes are a frame, as against plain JSON text. Says nothing of their being valid."""
    return data[:1] == b"\xcf"


def begin(serializer: int, compression: int, key_id: str | None = None) -> bytes:
    """The bytes of a frame before its body, or before its nonce where a key id is given."""
    flags = serializer | compression << 2
    if key_id is None:
        return bytes((MAGIC, VERSION, flags))
    name = key_id.encode()
    return bytes((MAGIC, VERSION, flags | ENCRYPTED, len(name))) + name


def parse(data: bytes, key: str) -> Header:
    """The header of a frame; `data` begins with 0xCF. DecodeError: truncated, bad_version, bad_flags."""
    if len(data) < HEADER_BYTES:
        raise DecodeError("truncated", f"a frame of {len(data)} bytes", key)
    if data[1] != VERSION:
        raise DecodeError("bad_version", f"version {data[1]} of the frame", key)
    flags = data[2]
    compression = flags >> 2 & 3
    if flags & _RESERVED or compression == 3:
        raise DecodeError("bad_flags", f"flags {flags:#04x}", key)
    if not flags & ENCRYPTED:
        return Header(flags & 3, compression, None, HEADER_BYTES)
    body = HEADER_BYTES + 1 + (data[3] if len(data) > HEADER_BYTES else 0)
    if len(data) < body + NONCE_BYTES + TAG_BYTES:
        raise DecodeError("truncated", f"an encrypted frame of {len(data)} bytes", key)
    try:
        key_id = data[HEADER_BYTES + 1 : body].decode()
    except UnicodeDecodeError:
        raise DecodeError("bad_flags", "the key id is not UTF-8", key) from None
    return Header(flags & 3, compression, key_id, body)


def encode_key(key: str, error: type[EncodeError] | type[DecodeError]) -> bytes:
    """The cache key as it is bound into an encrypted frame; raises `error` with code bad_key."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise error("bad_key", "a key with lone surrogates has no UTF-8", "") from None
