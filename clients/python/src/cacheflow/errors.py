"""What a caller can meet, each with a code that does not change and the key or tag that it is about.

Codes are lower case and part of the interface: metrics count by them. Messages may change. Errors of values
that cannot be encoded or decoded are in `cacheflow.codecs` (CodecError), of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence


class CacheFlowError(Exception):
    """The root of this module's errors. `code` is a short fixed name, `key` the full cache key (or lock,
    or "" where there is none), `detail` a sentence for people."""

    def __init__(self, code: str, detail: str, key: str = "") -> None:
        super().__init__(code, detail, key)
        self.code = code
        self.detail = detail
        self.key = key

    def __str__(self) -> str:
        where = f" (key {self.key!r})" if self.key else ""
        return f"{self.code}: {self.detail}{where}"


class Unavailable(CacheFlowError):
    """Redis did not answer, or said that it cannot.

    Codes: `connection` (refused, reset, closed), `timeout`, `breaker_open` (not even asked), `pool_exhausted`
    (every connection was in use for the whole timeout), `closed` (this client was), and what servers say
    while they cannot serve: `loading`, `readonly`, `masterdown`, `clusterdown`, `tryagain`, `unblocked`.
    """


class ServerError(CacheFlowError):
    """The server refused the command. The code is the first word of its answer in lower case: `wrongtype`,
    `noperm`, `oom`, `toobig`, `toomanytags`, `err`."""


class InvalidationError(CacheFlowError):
    """An invalidation that is not known to be done everywhere: readers may still see what it was to remove.

    `targets` are the tags or namespaces; `queued` says whether this client goes on trying. Codes: `partial`
    (some primaries have it, and the server goes on retrying by itself), else those of the error that is its
    `__cause__`.
    """

    def __init__(self, code: str, detail: str, targets: Sequence[str], queued: bool) -> None:
        super().__init__(code, detail, targets[0] if targets else "")
        self.targets = tuple(targets)
        self.queued = queued


class LockError(CacheFlowError):
    """Codes: `locked` (somebody else held it for as long as we would wait), `not_held` (released or extended
    without being held), `lost` (it ran out, or was taken, before it was released)."""


class ConfigError(CacheFlowError, ValueError):
    """Arguments that make no sense. Codes: `bad_duration`, `bad_size`, `bad_address`, `bad_template`,
    `bad_option`, `bad_function`, `not_async` (a coroutine function given to the synchronous client)."""
