"""An HTTP cache (RFC 9111) in front of any ASGI application, on AsyncCacheFlow. No framework is imported.

    rules.py    what the headers of requests and responses say
    policy.py   what the application says
    names.py    a request's key, and the header values of tags
    stored.py   a response as a value of the cache, and what is sent of it
    run.py      one run of the application, whose response is caught or passed by
    serving.py  all of it together: HTTPCache and CacheMiddleware

docs/python/fastapi.md tells how to use it.
"""

from __future__ import annotations

from .names import surrogate_key, uri_tag
from .policy import Policy, add_tags
from .serving import CacheMiddleware, HTTPCache

__all__ = ["CacheMiddleware", "HTTPCache", "Policy", "add_tags", "surrogate_key", "uri_tag"]
