"""redis-py's errors as ours."""

from __future__ import annotations

from redis import exceptions

from ..errors import CacheFlowError, ServerError, Unavailable

#: What a broken or silent connection raises, in redis-py and below it.
BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, EOFError, TimeoutError)

#: What a server says of not being able to serve: its word in lower case. No error of the command.
_UNABLE = frozenset({"loading", "masterdown", "clusterdown", "tryagain", "unblocked", "noreplicas"})

# redis-py takes the first word off these.
_CLASSES: tuple[tuple[type[Exception], type[CacheFlowError], str], ...] = (
    (exceptions.BusyLoadingError, Unavailable, "loading"),
    (exceptions.TryAgainError, Unavailable, "tryagain"),
    (exceptions.ClusterDownError, Unavailable, "clusterdown"),
    (exceptions.ReadOnlyError, Unavailable, "readonly"),
    (exceptions.TimeoutError, Unavailable, "timeout"),
    (TimeoutError, Unavailable, "timeout"),
    (exceptions.NoPermissionError, ServerError, "noperm"),
    (exceptions.NoScriptError, ServerError, "noscript"),
    (exceptions.OutOfMemoryError, ServerError, "oom"),
)


def translate(error: BaseException, key: str | None) -> CacheFlowError:
    """The error that a caller sees, for one of redis-py's or of the operating system's."""
    detail, name = str(error), key or ""
    for kind, ours, code in _CLASSES:
        if isinstance(error, kind):
            return ours(code, detail or code, name)
    if isinstance(error, exceptions.ResponseError):
        word = detail.split(" ", 1)[0]
        code = word.lower() if word.isupper() else "err"
        return (Unavailable if code in _UNABLE else ServerError)(code, detail, name)
    return Unavailable("connection", f"{type(error).__name__}: {detail}", name)
