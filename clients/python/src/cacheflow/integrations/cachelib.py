"""CacheFlow as a cache of cachelib, and so of Flask-Caching and Flask-Session.

    from cacheflow.integrations.cachelib import CacheFlowCache
    cache = CacheFlowCache("redis://localhost:6379", namespace="shop")

With Flask-Caching: CACHE_TYPE = "cacheflow.integrations.cachelib.CacheFlowCache", and its arguments in
CACHE_OPTIONS. docs/python/flask.md tells the rest.
"""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from cachelib.base import BaseCache

from ..api import LoadedTags, Tags
from ..client import CacheFlow
from ..codecs import DecodeError
from ..errors import Unavailable
from ..options import tag_list
from ..units import FOREVER, Duration
from . import operations
from .codecs import codec_of, pickle_errors
from .typed_json import TypedJson

_MISSING: Any = object()


class CacheFlowCache(BaseCache):
    """All of cachelib's BaseCache, and beside it `tags=` and `grace=` on what stores, `get_or_set`, `invalidate`,
    and the client (`client`).

    Timeouts are seconds or timedeltas, 0 is for ever, None the default. When Redis does not answer, reads find
    nothing and writes say False; `delete`, `delete_many`, `clear` and `invalidate` raise cacheflow.Unavailable or
    InvalidationError, for who calls them relies on it.
    """

    def __init__(
        self,
        url: str | None = None,
        default_timeout: int | datetime.timedelta = 300,
        ignore_delete_many_errors: bool = True,
        *,
        namespace: str = "cachelib",
        codec: Any = "json",
        **options: Any,
    ) -> None:
        """`url`: None for CACHEFLOW_URL, else redis://localhost:6379. `codec`: a name ("json", which is that of
        typed_json.py, "msgpack", "pickle"), options of cacheflow.codecs.Framed, a dotted path, or a codec. All
        others are CacheFlow's own. ConfigError."""
        super().__init__(default_timeout, ignore_delete_many_errors)
        self.client = CacheFlow(url, namespace=namespace, codec=codec_of(codec, _json), **options)

    def _ttl(self, timeout: int | datetime.timedelta | None) -> float:
        """Seconds; FOREVER for 0. A negative one has passed: 0."""
        seconds = self._normalize_timeout(timeout)
        return FOREVER if seconds == 0 else max(0.0, float(seconds))

    # --- reading -------------------------------------------------------------------------------
    def get(self, key: str) -> Any:
        """The fresh value; None where there is none that can be read."""
        value = self._get(key)
        return None if value is _MISSING else value

    def _get(self, key: str) -> Any:
        try:
            return self.client.get(_text(key), _MISSING)
        except DecodeError:
            return _MISSING  # the client has told its observers

    def get_many(self, *keys: str) -> list[Any]:
        """The fresh values, None for those that are not there, in one round trip."""
        try:
            found = self.client.get_many([_text(key) for key in keys])
        except DecodeError:  # one of them: each for itself
            return [self.get(key) for key in keys]
        return [found.get(_text(key)) for key in keys]

    def has(self, key: str) -> bool:
        """Whether there is a fresh value."""
        return self._get(key) is not _MISSING

    # --- writing -------------------------------------------------------------------------------
    def set(
        self,
        key: str,
        value: Any,
        timeout: int | datetime.timedelta | None = None,
        *,
        tags: Tags = (),
        grace: Duration | None = None,
    ) -> bool:
        """Store; False where Redis does not answer. `tags`: what invalidates it. PickleEncodeError."""
        return self.set_many({key: value}, timeout, tags=tags, grace=grace) == [key]

    def add(
        self, key: str, value: Any, timeout: int | datetime.timedelta | None = None, *, tags: Tags = ()
    ) -> bool:
        """Store where there is no fresh value, without grace; whether it was. PickleEncodeError."""
        ttl = self._ttl(timeout)
        if ttl == 0:
            return not self.has(key)
        with pickle_errors():
            return self.client._run(operations.add(self.client.core, _text(key), value, ttl, tag_list(tags)))

    def set_many(
        self,
        mapping: Mapping[str, Any],
        timeout: int | datetime.timedelta | None = None,
        *,
        tags: Tags = (),
        grace: Duration | None = None,
    ) -> list[Any]:
        """Store several in one round trip; the keys that were. PickleEncodeError before anything is."""
        ttl = self._ttl(timeout)
        if ttl == 0:
            self.client.delete(*map(_text, mapping))
            return list(mapping)
        values = {_text(key): value for key, value in mapping.items()}
        with pickle_errors():
            stored = set(self.client.set_many(values, ttl=ttl, grace=None if ttl == FOREVER else grace, tags=tags))
        return [key for key in mapping if _text(key) in stored]

    def get_or_set(
        self,
        key: str,
        loader: Callable[..., Any],
        timeout: int | datetime.timedelta | None = None,
        *,
        tags: LoadedTags = (),
        grace: Duration | None = None,
    ) -> Any:
        """The value, loaded by one caller of all processes at a time if it is not there. See
        CacheFlow.get_or_set."""
        ttl = self._ttl(timeout)
        with pickle_errors():
            return self.client.get_or_set(
                _text(key), loader, ttl=ttl, grace=None if ttl == FOREVER else grace, tags=tags
            )

    # --- removing and counting -----------------------------------------------------------------
    def delete(self, key: str) -> bool:
        """Remove; whether it was there. Unavailable."""
        return self.client.delete(_text(key)) > 0

    def delete_many(self, *keys: str) -> list[Any]:
        """Remove several in one round trip; all of them, for they are gone. Where Redis does not answer: [], or
        RuntimeError if errors are not to be ignored."""
        try:
            self.client.delete(*map(_text, keys))
        except Unavailable as error:
            if self.ignore_delete_many_errors:
                return []
            raise RuntimeError(f"Failed to delete keys: {list(keys)}") from error
        return list(keys)

    def clear(self) -> bool:
        """Every key of the namespace is dead when this returns. InvalidationError."""
        self.client.clear()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to an integer, atomically, and return the sum; an absent key counts from 0 and has no end. None
        where Redis does not answer (it may have been counted). ServerError where it is no integer."""
        try:
            return self.client.incr(_text(key), delta)
        except Unavailable:
            return None

    def dec(self, key: str, delta: int = 1) -> int | None:
        """See inc()."""
        return self.inc(key, -delta)

    # --- beyond cachelib's ---------------------------------------------------------------------
    def invalidate(self, *tags: str, soft: bool = False, retry: bool = False) -> int | None:
        """Every entry with any of the tags is dead when this returns; soft: stale. See CacheFlow.invalidate.
        InvalidationError."""
        return self.client.invalidate(*tags, soft=soft, retry=retry)


def _text(key: Any) -> str:
    """cachelib's own backends take what str() makes of a key."""
    return key if isinstance(key, str) else str(key)


def _json() -> TypedJson:
    """With what Flask puts into caches, where Flask is installed."""
    if importlib.util.find_spec("flask") is None:
        return TypedJson()
    from .flask_values import KINDS

    return TypedJson(KINDS)
