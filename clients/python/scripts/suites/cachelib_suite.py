"""cachelib's common test classes with CacheFlow as the backend (see cachelib-suite)."""

import inspect
import os

import pytest
from cachelib import BaseCache
from clear import ClearTests
from common import CommonTests
from conftest import TestData
from delete_many_with_prefix import DeleteManyWithPrefixTests
from has import HasTests

from cacheflow.integrations.cachelib import CacheFlowCache

URL = os.environ["CACHEFLOW_URL"]


class Every(CommonTests, ClearTests, HasTests, DeleteManyWithPrefixTests):
    options = {"codec": "pickle"}

    @pytest.fixture(autouse=True)
    def opened(self):
        """Caches are closed after each test, and begin empty."""
        self.made = []
        yield
        for cache in self.made:
            cache.client.close()

    def cache_factory(self, *args, key_prefix=None, **kwargs):
        namespace = (key_prefix or type(self).__name__).rstrip(":")
        cache = CacheFlowCache(URL, *args, namespace=namespace, timeout=5, **self.options, **kwargs)
        self.made.append(cache)
        cache.clear()
        return cache


class TestPickle(Every):
    pass


class TestLevel(Every):
    options = {"codec": "pickle", "local": True}


class TestJson(Every):
    options = {}
    sample_pairs = {key: value for key, value in TestData.sample_pairs.items() if key != "4096"}


def test_it_has_all_base_methods():
    for name, _ in inspect.getmembers(BaseCache, predicate=inspect.isfunction):
        assert name.startswith("_") or callable(getattr(CacheFlowCache, name))
