"""CacheFlow as Django's cache.

    CACHES = {
        "default": {
            "BACKEND": "cacheflow.integrations.django.CacheFlowCache",
            "LOCATION": "redis://localhost:6379",
            "OPTIONS": {"namespace": "shop", "local": "64mb"},
        }
    }

In INSTALLED_APPS, "cacheflow.integrations.django" brings the template tag {% load cacheflow %}.
docs/python/django.md tells the rest.
"""

from __future__ import annotations

from .backend import CacheFlowCache, close_clients

__all__ = ["CacheFlowCache", "close_clients"]
