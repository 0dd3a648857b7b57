"""CacheFlow: a cache in Redis or Valkey that is right by default.

    from cacheflow import CacheFlow

    cache = CacheFlow("redis://localhost:6379", namespace="shop")
    user = cache.get_or_set("user:42", load_user, ttl=60, grace=300, tags=["user:42"])
    cache.invalidate("user:42")

`AsyncCacheFlow` is the same for asyncio.
"""

from __future__ import annotations

from .aio import AsyncCacheFlow, AsyncLock
from .backends import Capabilities, Meta
from .breaker import BreakerState
from .client import CacheFlow, Lock
from .codecs import Codec, CodecError, DecodeError, EncodeError, JsonCodec
from .context import LoadContext
from .core.locking import Stats
from .decorators import AsyncCached, Cached
from .errors import (
    CacheFlowError,
    ConfigError,
    InvalidationError,
    LockError,
    ServerError,
    Unavailable,
)
from .events import Event, Observer
from .options import LocalOptions
from .units import FOREVER, AutoTTL, Duration

__version__ = "0.1.0"

__all__ = [
    "FOREVER",
    "AsyncCacheFlow",
    "AsyncCached",
    "AsyncLock",
    "AutoTTL",
    "BreakerState",
    "CacheFlow",
    "CacheFlowError",
    "Cached",
    "Capabilities",
    "Codec",
    "CodecError",
    "ConfigError",
    "DecodeError",
    "Duration",
    "EncodeError",
    "Event",
    "InvalidationError",
    "JsonCodec",
    "LoadContext",
    "LocalOptions",
    "Lock",
    "LockError",
    "Meta",
    "Observer",
    "ServerError",
    "Stats",
    "Unavailable",
]
