"""Django's test classes with CacheFlow as the cache (see django-suite)."""

import asyncio
import threading

from cache import tests as theirs
from django.core.cache.backends.base import BaseCache
from django.test import TestCase, override_settings
from sessions_tests import tests as sessions
from template_tests.syntax_tests import test_cache as fragments

from cacheflow.integrations.django import CacheFlowCache

from .django_left_out import ALWAYS, ASYNC, JSON
from .django_settings import URL, caches

_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


def _awaited(name):
    def call(self, *args, **kwargs):
        coroutine = getattr(self, f"a{name}")(*args, **kwargs)
        return asyncio.run_coroutine_threadsafe(coroutine, _loop).result(60)

    return call


class AsyncCache(CacheFlowCache):
    """The backend by its asynchronous methods: each synchronous one awaits its namesake in an event loop."""


for _name in dir(BaseCache):
    if not _name.startswith("_") and hasattr(BaseCache, f"a{_name}"):
        setattr(AsyncCache, _name, _awaited(_name))


def _caches(backend="cacheflow.integrations.django.CacheFlowCache", **options):
    return theirs.caches_setting_for_tests(
        base={"BACKEND": backend, "LOCATION": URL, "OPTIONS": options}, exclude={"cull", "zero_cull"}
    )


def _without(*lists):
    return {name: None for names in lists for name in names}


Generic = type("Generic", (theirs.BaseCacheTests,), _without(ALWAYS))
Awaitable = type("Awaitable", (Generic,), _without(ASYNC))
Storable = type("Storable", (Generic,), _without(JSON))


@override_settings(CACHES=_caches(namespace="pickle", codec="pickle"))
class PickleTests(Generic, TestCase):
    pass


@override_settings(CACHES=_caches(namespace="local", codec="pickle", local=True))
class LevelTests(Generic, TestCase):
    pass


@override_settings(CACHES=_caches(f"{__name__}.AsyncCache", namespace="async", codec="pickle"))
class AsyncTests(Awaitable, TestCase):
    pass


@override_settings(CACHES=_caches(namespace="json"))
class JsonTests(Storable, TestCase):
    pass


def _with(cls, name, caches_setting):
    """A class of theirs whose caches are ours."""
    made = type(name, (cls,), {"__module__": __name__})
    return override_settings(CACHES=caches_setting)(made)


for _cls in (
    theirs.CacheUtils,
    theirs.PrefixedCacheUtils,
    theirs.CacheHEADTest,
    theirs.CacheI18nTest,
    theirs.PrefixedCacheI18nTest,
    theirs.TestWithTemplateResponse,
    sessions.CacheSessionTests,
    sessions.CacheDBSessionTests,
):
    globals()[f"CacheFlow{_cls.__name__}"] = _with(_cls, f"CacheFlow{_cls.__name__}", caches(namespace="views"))

_views = {
    "default": caches(namespace="middleware")["default"],
    "other": {**caches(namespace="middleware2")["default"], "TIMEOUT": "1"},
}
CacheFlowMiddlewareTest = _with(theirs.CacheMiddlewareTest, "CacheFlowMiddlewareTest", _views)


@override_settings(CACHES=caches(namespace="fragments"))
class FragmentTests(fragments.CacheTagTests):
    libraries = {
        **fragments.CacheTagTests.libraries,
        "cache": "cacheflow.integrations.django.templatetags.cacheflow",
    }


del TestCase, Generic, Awaitable, Storable, _cls
