"""AES-256-GCM with keys that rotate: one writes, several read.

To rotate: give every process the new key as readable, then make it the active one, then, when the
longest TTL and grace have passed, take the old one away. Nonces are random, 96 bits: with 2^32
values written under one key the chance of a repeated nonce is 2^-33 (NIST SP 800-38D sets that
bound), so rotate before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from . import frame
from .errors import DecodeError, EncodeError
from .optional import library

KEY_BYTES = 32


class KeyRing:
    """Keys by id. `active` is the id that values are written with; all of `keys` are read.

    An id is text of 1 to 255 bytes in UTF-8 and is stored, readable, in every value: a date or a number
    serves. A key is 32 random bytes (generate_key()). ValueError for anything else; MissingLibrary where
    the library `cryptography` (the extra `crypto`) is not installed.
    """

    def __init__(self, active: str, keys: Mapping[str, bytes]) -> None:
        aead: Any = library("cryptography.hazmat.primitives.ciphers.aead", "crypto")
        self._invalid_tag: Any = library("cryptography.exceptions", "crypto").InvalidTag
        for key_id, secret in keys.items():
            if not 1 <= len(key_id.encode()) <= 255:
                raise ValueError(f"a key id has 1 to 255 bytes: {key_id!r}")
            if len(secret) != KEY_BYTES:
                raise ValueError(f"key {key_id!r} has {len(secret)} bytes, not {KEY_BYTES}")
        if active not in keys:
            raise ValueError(f"the active key {active!r} is not among the keys")
        self.active = active
        self._ciphers: dict[str, Any] = {key_id: aead.AESGCM(bytes(key)) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        return f"KeyRing(active={self.active!r}, ids={sorted(self._ciphers)!r})"

    @staticmethod
    def generate_key() -> bytes:
        """A new key: 32 bytes from the system's random source."""
        return os.urandom(KEY_BYTES)

    def seal(self, key: str, serializer: int, compression: int, body: bytes) -> bytes:
        """The whole encrypted frame of a body, bound to the cache key. EncodeError: bad_key."""
        start = frame.begin(serializer, compression, self.active)
        nonce = os.urandom(frame.NONCE_BYTES)
        bound = start + frame.encode_key(key, EncodeError)
        sealed: bytes = self._ciphers[self.active].encrypt(nonce, body, bound)
        return start + nonce + sealed

    def open(self, key: str, header: frame.Header, data: bytes) -> bytes:
        """The body of an encrypted frame. DecodeError: unknown_key_id, decryption_failed, bad_key."""
        cipher = self._ciphers.get(header.key_id or "")
        if cipher is None:
            raise DecodeError("unknown_key_id", f"encrypted with key {header.key_id!r}", key)
        at = header.body
        bound = data[:at] + frame.encode_key(key, DecodeError)
        nonce, sealed = data[at : at + frame.NONCE_BYTES], data[at + frame.NONCE_BYTES :]
        try:
            body: bytes = cipher.decrypt(nonce, sealed, bound)
        except self._invalid_tag:
            raise DecodeError("decryption_failed", "altered, or written for another cache key", key) from None
        return body
