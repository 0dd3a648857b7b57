"""What goes wrong between a value and its bytes: one class a direction, each with a code and the key.

The codes are part of the interface: they are what metrics count by, and the same in every CacheFlow
client (clients/conformance/README.md lists them). Messages may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class CodecError(Exception):
    """A value that cannot be written, or bytes that cannot be read.

    `code` is a short fixed name, `key` the full cache key ("" where a serializer was called without
    one), `detail` a sentence for people. None of the three holds any part of the value.
    """

    def __init__(self, code: str, detail: str, key: str = "") -> None:
        super().__init__(code, detail, key)
        self.code = code
        self.detail = detail
        self.key = key

    def at(self, key: str) -> Self:
        """The same error, of that key: for serializers, which are not told it."""
        return type(self)(self.code, self.detail, key)

    def __str__(self) -> str:
        where = f" (key {self.key!r})" if self.key else ""
        return f"{self.code}: {self.detail}{where}"


class EncodeError(CodecError):
    """The value cannot be written as it is: nothing was stored.

    Codes: `unsupported_type` (it would not come back as it was), `not_encodable` (of a supported type,
    and yet not: a NaN, a lone surrogate, an integer too long, a cycle), `bad_key` (the key is not Unicode
    text).
    """


class DecodeError(CodecError):
    """The bytes are no value that this codec may read.

    Codes: `truncated`, `bad_version`, `bad_flags`, `bad_serializer` (pickle, where it was not asked for
    by name), `corrupt` (body or compressed data make no sense), `too_large` (more than `max_size` when
    decompressed), `not_encrypted`, `no_keys` (encrypted, and the codec has no key ring),
    `unknown_key_id`, `decryption_failed` (altered, of another key, or moved from another cache key),
    `bad_key`, `library_missing` (compressed or serialized by what is not installed here).
    """
