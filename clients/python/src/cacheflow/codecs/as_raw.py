"""Bytes as they are: images, rendered pages, whatever another library has serialized already."""

from __future__ import annotations

from . import frame
from .errors import EncodeError


class RawSerializer:
    """Takes and returns bytes, and nothing else."""

    id = frame.RAW

    def dumps(self, value: object) -> bytes:
        """EncodeError: unsupported_type."""
        if type(value) is not bytes:
            raise EncodeError("unsupported_type", f"raw values are bytes, not {type(value).__qualname__}")
        return value

    def loads(self, data: bytes) -> object:
        """The bytes."""
        return bytes(data)
