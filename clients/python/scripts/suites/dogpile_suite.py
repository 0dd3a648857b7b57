"""dogpile's generic test classes with CacheFlow as the backend (see dogpile-suite)."""

import os

from dogpile.testing import fixtures
from tests.cache import test_redis_backend as theirs

URL = os.environ["CACHEFLOW_URL"]


def _arguments(**more):
    return {"arguments": {"url": URL, "namespace": "suite", "timeout": 5, **more}}


class ProcessMutexTest(fixtures._GenericBackendTestSuite):
    backend = "cacheflow"
    config_args = _arguments(distributed_lock=False)


class LockTest(fixtures._GenericBackendTestSuite):
    backend = "cacheflow"
    config_args = _arguments(namespace="locks")


class PickleTest(fixtures._GenericBackendTestSuite):
    backend = "cacheflow"
    config_args = _arguments(namespace="pickle", serializer="pickle", local=True)


class SerializerTest(fixtures._GenericSerializerTestSuite, ProcessMutexTest):
    pass


class MutexTest(fixtures._GenericMutexTestSuite):
    backend = "cacheflow"
    config_args = _arguments(namespace="mutexes")


class AsyncCreationTest(theirs.RedisAsyncCreationTest):
    backend = "cacheflow"
    config_args = _arguments(namespace="async")
