"""The dogpile backend, beyond dogpile's own tests (scripts/dogpile-suite): fences, regions, creation behind."""

import itertools
import threading

import pytest
from conftest import Background, url_of, wait_for
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE

from cacheflow import ConfigError, InvalidationError, Unavailable
from cacheflow.integrations.dogpile import BackgroundCreation, CacheFlowBackend, RegionInvalidation


@pytest.fixture
def make(server, namespace):
    made = []

    def maker(url=None, expiration_time=60, region_options=(), invalidates=False, **arguments):
        region = make_region(**dict(region_options))
        region.configure(
            "cacheflow",
            expiration_time=expiration_time,
            arguments={"url": url or url_of(server), "namespace": namespace, "timeout": 5, **arguments},
            region_invalidator=RegionInvalidation(region) if invalidates else None,
        )
        made.append(region)
        return region

    yield maker
    for region in made:
        region.backend.client.close()


@pytest.fixture
def region(make):
    return make()


def test_an_invalidation_while_creating_is_not_overwritten(make):
    region = make(tags=lambda key: [f"row:{key}"])
    other = make()

    def creator():
        other.backend.client.invalidate("row:k")
        return "old"

    assert region.get_or_create("k", creator) == "old"
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: "new") == "new"
    assert other.get("k") == "new"


def test_a_write_while_creating_is_not_overwritten(make, region):
    other = make()

    def creator():
        other.set("k", "newer")
        return "older"

    region.get_or_create("k", creator)
    assert region.get("k") == "newer"


def test_multi_is_fenced_and_tagged(make):
    region = make(tags=lambda key: ["every", f"row:{key}"])

    def creator(*keys):
        region.backend.client.invalidate("row:b")
        return [f"{key}!" for key in keys]

    assert region.get_or_create_multi(["a", "b"], creator) == ["a!", "b!"]
    assert region.get_multi(["a", "b"]) == ["a!", NO_VALUE]
    region.set_multi({"c": 1, "d": 2})
    assert region.get_multi(["d", "none", "c"]) == [2, NO_VALUE, 1]
    assert region.backend.client.invalidate("every") == 3
    region.delete_multi(["a", "c", "none"])


def test_tags_of_a_region(make):
    region = make(tags="region")
    region.set_multi({"a": 1, "b": 2})
    assert region.backend.client.invalidate("region") == 2


def test_creators_of_two_processes_take_turns(make):
    one, two = make(), make()
    begun, go_on, created = threading.Event(), threading.Event(), []

    def creator():
        created.append(1)
        begun.set()
        assert go_on.wait(20)
        return "value"

    first = Background(one.get_or_create, "k", creator)
    assert begun.wait(20)
    second = Background(two.get_or_create, "k", creator)
    wait_for(lambda: one.backend.client.meta("k").waiters == 1, "the other one waits in the server", 20)
    go_on.set()
    assert first.result() == second.result() == "value"
    assert len(created) == 1
    assert one.backend.client.stats().server["locks"] == 0
    assert one.backend._held == two.backend._held == {}


def test_a_region_is_invalidated_for_all(make):
    one, two = make(invalidates=True), make(invalidates=True)
    one.set_multi({"a": 1, "b": 2})
    two.invalidate()
    assert one.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
    assert one.get_or_create("a", lambda: "new") == "new"
    assert two.get("a") == "new"


def test_a_region_is_invalidated_softly(make):
    numbers = itertools.count(1)
    one = make(invalidates=True, ttl=60, grace=60)
    two = make(invalidates=True, ttl=60, grace=60)
    assert one.get_or_create("k", lambda: next(numbers)) == 1
    two.invalidate(hard=False)
    assert two.get("k") is NO_VALUE
    assert two.get("k", ignore_expiration=True) == 1
    seen = []

    def creator():
        seen.append(one.get_or_create("k", lambda: "not called"))  # who comes meanwhile has the old value
        return next(numbers)

    assert two.get_or_create("k", creator) == 2
    assert seen == [1]
    assert one.get("k") == 2


def test_invalidation_is_asked_of_this_backend_only():
    region = make_region()
    region.configure("dogpile.cache.memory", region_invalidator=RegionInvalidation(region))
    with pytest.raises(ConfigError):
        region.invalidate()


def test_creation_in_the_background(make):
    creation = BackgroundCreation(workers=1)
    region = make(region_options={"async_creation_runner": creation}, ttl=60, grace=60)
    values, go_on = itertools.count(1), threading.Event()
    go_on.set()

    def creator():
        assert go_on.wait(20)
        return next(values)

    assert region.get_or_create("k", creator) == 1
    region.backend.client.delete("k", soft=True)
    go_on.clear()
    assert region.get_or_create("k", creator) == 1
    assert region.get_or_create("k", creator) == 1  # nobody else begins
    go_on.set()
    wait_for(lambda: region.get("k") == 2, "the new value", 20)
    creation.close()
    assert next(values) == 3
    assert region.backend._held == {} and not region.backend.get_mutex("k").locked()


def test_creation_in_the_background_is_fenced(make):
    creation = BackgroundCreation(workers=1)
    region = make(region_options={"async_creation_runner": creation}, ttl=60, grace=60, tags="t")
    region.set("k", "first")
    region.backend.client.delete("k", soft=True)

    def creator():
        region.backend.client.invalidate("t")
        return "old"

    assert region.get_or_create("k", creator) == "first"
    creation.close()
    assert region.get("k", ignore_expiration=True) is NO_VALUE


def test_a_creator_that_fails_in_the_background_gives_the_mutex_back(make):
    creation = BackgroundCreation(workers=1)
    region = make(region_options={"async_creation_runner": creation}, ttl=60, grace=60)
    region.set("k", "first")
    region.backend.client.delete("k", soft=True)

    def creator():
        raise RuntimeError("for the test")

    assert region.get_or_create("k", creator) == "first"
    creation.close()
    assert not region.backend.get_mutex("k").locked()


def test_no_room_in_the_background(make):
    creation = BackgroundCreation(workers=1, queue=0)
    region = make(region_options={"async_creation_runner": creation}, ttl=60, grace=60)
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go_on.wait(20)
        return "new"

    region.set_multi({"a": "old", "b": "old"})
    region.backend.client.delete("a", "b", soft=True)
    assert region.get_or_create("a", slow) == "old"
    assert begun.wait(20)
    assert region.get_or_create("b", slow) == "old"
    assert not region.backend.get_mutex("b").locked()
    go_on.set()
    creation.close()


def test_serializers(make):
    plain, pickled = make(), make(serializer="pickle", compress="zstd", min_size=10)
    with pytest.raises(Exception, match="unsupported_type"):
        plain.set("k", {1})
    pickled.set("k", {"x" * 100})
    assert pickled.get("k") == {"x" * 100}
    assert plain.get("k") is NO_VALUE  # not JSON: created anew
    assert plain.get_or_create("k", lambda: "new") == "new"
    with pytest.raises(ConfigError):
        make(serializer="yaml")


def test_without_redis(make):
    region = make("redis://127.0.0.1:1", timeout=0.2)
    assert region.get("k") is NO_VALUE
    assert region.get_multi(["k"]) == [NO_VALUE]
    assert region.get_or_create("k", lambda: "created") == "created"
    assert region.get_or_create_multi(["a", "b"], lambda *keys: list(keys)) == ["a", "b"]
    with pytest.raises(Unavailable):
        region.delete("k")
    mutex = region.backend.get_mutex("k")
    assert mutex.acquire() and not mutex.acquire(False) and mutex.locked()
    mutex.release()
    assert not mutex.locked()
    with pytest.raises(InvalidationError):
        make("redis://127.0.0.1:1", timeout=0.2, invalidates=True).invalidate()


def test_it_is_found_by_its_name(region):
    assert isinstance(region.backend, CacheFlowBackend)
