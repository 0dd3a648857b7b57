"""What a codec is to the client, and a serializer to a codec."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Codec(Protocol):
    """Turns values into the bytes that are stored, and back. Must be safe to use from many threads.

    Any object with these two methods will do; what raises is expected to raise EncodeError or
    DecodeError, and anything else it raises is a bug that the caller sees.
    """

    def encode(self, key: str, value: object) -> bytes:
        """The bytes for a value. `key` is the full cache key, as the server sees it. EncodeError."""
        ...

    def decode(self, key: str, data: bytes) -> object:
        """The value of such bytes, stored under that key. DecodeError."""
        ...


@runtime_checkable
class Serializer(Protocol):
    """Turns values into bytes before compression and encryption, and back.

    `id` is its number in the frame (frame.JSON, MSGPACK, PICKLE, RAW); there are no others.
    """

    @property
    def id(self) -> int:
        """Bits 0-1 of the frame's flags."""
        ...

    def dumps(self, value: object) -> bytes:
        """EncodeError with code unsupported_type or not_encodable, its `key` empty."""
        ...

    def loads(self, data: bytes) -> object:
        """DecodeError with code corrupt, its `key` empty."""
        ...
