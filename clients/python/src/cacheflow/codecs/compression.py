"""zstd and LZ4, each bounded: what is read never becomes more than the limit says, whatever it claims.

A frame of a few hundred bytes can decompress to gigabytes. So nothing here trusts a size that the
data states, beyond using it to refuse early, and output is taken in pieces until it is too much.
Exactly one zstd or LZ4 frame is read: what follows it, or is missing of it, is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal, NoReturn, Protocol

from . import frame
from .errors import DecodeError
from .optional import library

Compression = Literal["zstd", "lz4"]

# Input pieces for zstd frames that do not state their size. A block of 4 bytes can stand for 128 KiB, so
# that a piece makes at most 8 MiB.
_ZSTD_PIECE = 256
_ZSTD_WINDOW = 8 << 20  # bytes: what RFC 8878 recommends every decoder to support
_LZ4_PIECE = 1 << 20


class Compressor(Protocol):
    """One way of compressing. Safe to use from many threads."""

    @property
    def id(self) -> int:
        """Bits 2-3 of the frame's flags."""
        ...

    def compress(self, body: bytes) -> bytes:
        """One whole frame of the compression's own, stating the body's size."""
        ...

    def decompress(self, data: bytes, limit: int) -> bytes:
        """The body, of `limit` bytes at most. DecodeError: corrupt, too_large."""
        ...


class Zstd:
    """Zstandard (RFC 8878) by the zstandard library; the extra `zstd`. MissingLibrary without it."""

    id = frame.ZSTD

    def __init__(self, level: int = 3) -> None:
        self._zstd: Any = library("zstandard", "zstd")
        self._level = level
        self._contexts = threading.local()  # the library's are for one thread at a time, and costly to make

    def compress(self, body: bytes) -> bytes:
        """At the level given: 1 is quick, 3 the default, 19 small and slow."""
        context = getattr(self._contexts, "compressor", None)
        if context is None:
            context = self._contexts.compressor = self._zstd.ZstdCompressor(level=self._level)
        packed: bytes = context.compress(body)
        return packed

    def decompress(self, data: bytes, limit: int) -> bytes:
        """DecodeError: corrupt, too_large. A window larger than 8 MiB and the limit is too_large."""
        try:
            said = self._zstd.get_frame_parameters(data)
        except self._zstd.ZstdError as error:
            _corrupt(error)
        window = max(_ZSTD_WINDOW, limit)
        unstated = said.content_size == self._zstd.CONTENTSIZE_UNKNOWN
        if said.window_size > window or (said.content_size > limit and not unstated):
            _too_large(limit)
        context = self._zstd.ZstdDecompressor(max_window_size=window)
        try:
            if not unstated:  # the library writes no byte beyond what the frame states, and checks it
                body: bytes = context.decompress(
                    data, max_output_size=limit, read_across_frames=False, allow_extra_data=False
                )
                return body
            return self._in_pieces(context.decompressobj(), data, limit)
        except self._zstd.ZstdError as error:
            _corrupt(error)

    @staticmethod
    def _in_pieces(stream: Any, data: bytes, limit: int) -> bytes:
        pieces, size = [], 0
        for at in range(0, len(data), _ZSTD_PIECE):
            if stream.eof:
                _corrupt("bytes after its end")
            pieces.append(stream.decompress(data[at : at + _ZSTD_PIECE]))
            size += len(pieces[-1])
            if size > limit:
                _too_large(limit)
        if not stream.eof:
            _corrupt("it breaks off")
        if stream.unused_data:
            _corrupt("bytes after its end")
        return b"".join(pieces)


class Lz4:
    """LZ4's frame format by the lz4 library; the extra `lz4`. MissingLibrary without it."""

    id = frame.LZ4

    def __init__(self, level: int = 0) -> None:
        self._lz4: Any = library("lz4.frame", "lz4")
        self._level = level

    def compress(self, body: bytes) -> bytes:
        """At the level given: 0 is the default, 3 to 16 smaller and slower."""
        packed: bytes = self._lz4.compress(body, compression_level=self._level)
        return packed

    def decompress(self, data: bytes, limit: int) -> bytes:
        """DecodeError: corrupt, too_large."""
        stream = self._lz4.LZ4FrameDecompressor()
        pieces, size, feed = [], 0, data
        try:
            stated = self._lz4.get_frame_info(data)["content_size"]  # 0: it does not say
            if stated > limit:
                _too_large(limit)
            while not stream.eof:
                # At least a byte more than stated: where the buffer is just full, the end is not seen.
                room = min(stated + 1 if stated and not size else _LZ4_PIECE, limit - size + 1)
                piece = stream.decompress(feed, max_length=room)
                pieces.append(piece)
                size, feed = size + len(piece), b""
                if size > limit:
                    _too_large(limit)
                if not piece and not stream.eof:
                    _corrupt("it breaks off")
        except (RuntimeError, ValueError, EOFError) as error:  # all the library's way of saying so
            _corrupt(error)
        if stream.unused_data:
            _corrupt("bytes after its end")
        return b"".join(pieces)


COMPRESSORS: dict[Compression, Callable[[], Compressor]] = {"zstd": Zstd, "lz4": Lz4}
NAMES: dict[int, Compression] = {frame.ZSTD: "zstd", frame.LZ4: "lz4"}


def _corrupt(why: object) -> NoReturn:
    raise DecodeError("corrupt", f"the compressed data: {why}") from None


def _too_large(limit: int) -> NoReturn:
    raise DecodeError("too_large", f"decompresses to more than {limit} bytes") from None
