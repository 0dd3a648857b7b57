"""get_or_set, on every kind of client."""

import threading
import time

import pytest
from conftest import Background, Loads, OldFormat, settle, url_of, wait_for

from cacheflow import Codec, ConfigError, DecodeError, EncodeError, JsonCodec


class Failure(Exception):
    pass


def test_loads_once(cache, loads, recorder):
    assert [cache.get_or_set("k", loads, ttl=60) for _ in range(3)] == [1, 1, 1]
    assert loads.count == 1
    assert recorder.names() == ["miss", "load", "fill_stored", "hit", "hit"]


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"a": [1, None]}, "snow \u2603", 2**60, 1.5])
def test_every_value_is_one(cache, value):
    loads = Loads()
    loads.value = value
    calls = []

    def load():
        calls.append(1)
        return value

    assert [cache.get_or_set("k", load, ttl=60) for _ in range(2)] == [value, value]
    assert len(calls) == 1
    assert cache.get("k", "absent") == value


def test_what_the_loader_raises_is_raised_and_the_next_loads(cache):
    def fail():
        raise Failure("no")

    with pytest.raises(Failure):
        cache.get_or_set("k", fail, ttl=60)
    assert cache.get_or_set("k", lambda: 2, ttl=60, wait=0) == 2
    assert cache.get("k") == 2, "the lease was given up, and the next one stored"


def test_retry_after_spares_a_loader_that_failed(another):
    cache = another(retry_after=30)

    def fail():
        raise Failure("no")

    with pytest.raises(Failure):
        cache.get_or_set("k", fail, ttl=60)
    assert cache.get_or_set("k", lambda: 2, ttl=60, wait=0.05) == 2
    assert cache.get("k") is None, "nobody has the lease: it was loaded and not stored"


def test_invalidated_by_tag(cache, loads, namespace):
    tags = [f"{namespace}:red", f"{namespace}:blue"]
    assert cache.get_or_set("k", loads, ttl=60, tags=tags) == 1
    assert cache.invalidate(tags[1]) == (1 if cache.capabilities.counted else None)
    assert cache.get("k") is None
    assert cache.get_or_set("k", loads, ttl=60, tags=tags) == 2
    cache.invalidate(f"{namespace}:green")
    assert cache.get_or_set("k", loads, ttl=60) == 2


def test_one_tag_may_be_given_as_it_is(cache, loads):
    cache.get_or_set("k", loads, ttl=60, tags="red")
    assert cache.meta("k").tags == ("red",)


def test_tags_of_the_value(cache):
    cache.get_or_set("k", lambda: {"team": 7}, ttl=60, tags=lambda value: [f"team:{value['team']}"])
    assert cache.meta("k").tags == ("team:7",)
    cache.invalidate("team:7")
    assert cache.get("k") is None


def test_a_soft_invalidation_serves_the_stale_value_and_refreshes_behind(cache, loads):
    cache.get_or_set("k", loads, ttl=60, grace=60, tags=["t"])
    cache.invalidate("t", soft=True)
    assert cache.get("k") is None
    assert cache.get("k", stale=True) == 1
    loads.hold()
    assert cache.get_or_set("k", loads, ttl=60, grace=60, tags=["t"]) == 1, "at once, while it loads"
    assert loads.begun.wait(20)
    loads.go_on.set()
    settle(cache)
    assert cache.get("k") == 2
    assert loads.count == 2


def test_never_two_refreshes_of_a_key(cache, loads):
    cache.get_or_set("k", loads, ttl=60, grace=60, tags=["t"])
    loads.hold()
    for _ in range(3):
        cache.invalidate("t", soft=True)  # voids the lease: each FETCH is elected
        assert cache.get_or_set("k", loads, ttl=60, grace=60, tags=["t"]) == 1
    assert loads.begun.wait(20)
    assert loads.count == 2
    loads.go_on.set()
    settle(cache)
    assert loads.count == 2


def test_grace_begins_when_freshness_ends(cache, loads):
    cache.get_or_set("k", loads, ttl=0.05, grace=60)
    wait_for(lambda: cache.get("k") is None, "the end of freshness")
    assert cache.get_or_set("k", loads, ttl=60, grace=60) == 1
    settle(cache)
    assert cache.get_or_set("k", loads, ttl=60) == 2


def test_max_stale_0_insists_on_fresh(cache, loads):
    cache.get_or_set("k", loads, ttl=60, grace=60, tags=["t"])
    cache.invalidate("t", soft=True)
    assert cache.get_or_set("k", loads, ttl=60, max_stale=0) == 2


def test_gone_when_all_is_over(cache, loads):
    cache.get_or_set("k", loads, ttl=0.05, grace=0)
    wait_for(lambda: cache.get("k", stale=True) is None, "its end")
    assert cache.get_or_set("k", loads, ttl=60) == 2


def test_none_has_a_time_of_its_own(cache):
    cache.get_or_set("k", lambda: None, ttl=600, grace=600, negative_ttl=30)
    meta = cache.meta("k")
    assert 0 < meta.fresh_ms <= 30_000 and meta.ttl_ms <= 30_000
    cache.get_or_set("v", lambda: 1, ttl=600, negative_ttl=30)
    assert cache.meta("v").fresh_ms > 30_000


def test_none_may_be_left_out(cache, recorder):
    assert cache.get_or_set("k", lambda: None, ttl=600, negative_ttl=0) is None
    assert cache.get("k", "absent") == "absent"
    assert "fill_skipped" in recorder.names()


# --- the context -------------------------------------------------------------------------------
def test_the_loader_sets_time_and_tags_after_loading(cache):
    def load(context):
        context.ttl, context.grace = "30s", 0
        context.tags.append("late")
        assert context.key == cache.full_key("k") and context.token > 0
        assert not context.has_stale and context.stale_value is None
        return 1

    assert cache.get_or_set("k", load, ttl=600, grace=600, tags=["early"]) == 1
    meta = cache.meta("k")
    assert meta.fresh_ms <= 30_000 and set(meta.tags) == {"early", "late"}


def test_skip_stores_nothing_and_the_next_loads(cache):
    def load(context):
        context.skip()
        return 1

    assert cache.get_or_set("k", load, ttl=60) == 1
    assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: 2, ttl=60, wait=0) == 2


def test_not_modified_makes_the_stale_value_fresh(cache, recorder):
    cache.get_or_set("k", lambda: {"v": 1}, ttl=60, grace=60, tags=["t"])
    cache.invalidate("t", soft=True)
    seen = []

    def load(context):
        seen.append(context.stale_value)
        return context.not_modified()

    assert cache.get_or_set("k", load, ttl=30, grace=60) == {"v": 1}
    settle(cache)
    assert seen == [{"v": 1}]
    assert cache.get("k") == {"v": 1}
    assert "fill_touched" in recorder.names()
    assert cache.meta("k").fresh_ms <= 30_000 and cache.meta("k").tags == ("t",)


def test_not_modified_without_a_value_is_an_error(cache):
    with pytest.raises(Exception) as error:
        cache.get_or_set("k", lambda context: context.not_modified(), ttl=60)
    assert error.value.code == "no_stale_value"


# --- the fence ---------------------------------------------------------------------------------
@pytest.mark.parametrize("late", [False, True])
def test_what_was_loaded_before_an_invalidation_is_not_stored(cache, another, loads, recorder, late):
    loads.hold()

    def load(context):
        value = loads()
        if late:
            context.tags.append("t")
        return value

    call = Background(cache.get_or_set, "k", load, ttl=60, tags=() if late else ["t"])
    assert loads.begun.wait(20)
    another().invalidate("t")
    loads.go_on.set()
    assert call.result() == 1
    assert "fill_refused" in recorder.names()
    assert cache.get("k") is None


def test_who_asks_after_an_invalidation_never_gets_what_was_loaded_before(cache, loads):
    loads.hold()
    early = Background(cache.get_or_set, "k", loads, ttl=60, tags=["t"])
    assert loads.begun.wait(20)
    cache.invalidate("t")
    late = Background(cache.get_or_set, "k", loads, ttl=60, tags=["t"])
    loads.go_on.set()
    assert early.result() == 1
    assert late.result() == 2


def test_a_namespace_invalidated_meanwhile_refuses_the_fill(cache, loads, recorder):
    loads.hold()
    call = Background(cache.get_or_set, "k", loads, ttl=60)
    assert loads.begun.wait(20)
    cache.clear()
    loads.go_on.set()
    call.result()
    assert "fill_refused" in recorder.names() and cache.get("k") is None


# --- many callers ------------------------------------------------------------------------------
def test_callers_of_a_process_share_one_load(cache, loads, recorder):
    loads.hold()
    calls = [Background(cache.get_or_set, "k", loads, ttl=60) for _ in range(20)]
    assert loads.begun.wait(20)
    loads.go_on.set()
    assert [call.result() for call in calls] == [1] * 20
    assert loads.count == 1


def test_processes_share_one_load(cache, another, loads):
    loads.hold()
    first = Background(cache.get_or_set, "k", loads, ttl=60)
    assert loads.begun.wait(20)
    others = [Background(another().get_or_set, "k", loads, ttl=60) for _ in range(3)]
    loads.go_on.set()
    assert [call.result() for call in [first, *others]] == [1] * 4
    assert loads.count == 1


def test_shared_values_are_each_callers_own(cache, loads):
    loads.value = {"a": []}
    loads.hold()
    calls = [Background(cache.get_or_set, "k", loads, ttl=60) for _ in range(4)]
    assert loads.begun.wait(20)
    loads.go_on.set()
    values = [call.result() for call in calls]
    assert values == [{"a": []}] * 4
    assert len({id(value) for value in values}) == 4


def test_a_loaders_error_is_everybodys_who_waited(cache, recorder):
    begun, go_on, count = threading.Event(), threading.Event(), []

    def fail():
        count.append(1)
        begun.set()
        assert go_on.wait(30)
        raise Failure("no")

    # All join before the leader's FETCH was sent or after: those who came too late load for themselves.
    calls = [Background(cache.get_or_set, "k", fail, ttl=60) for _ in range(5)]
    assert begun.wait(20)
    go_on.set()
    for call in calls:
        with pytest.raises(Failure):
            call.result()
    assert len(count) <= 5


def test_who_waited_long_enough_loads_without_storing(cache, another, loads, recorder):
    slow = Loads("slow")
    slow.hold()
    first = Background(cache.get_or_set, "k", slow, ttl=60)
    assert slow.begun.wait(20)
    other = another()
    assert other.get_or_set("k", loads, ttl=60, wait=0.1) == 1
    assert other.get("k") is None
    slow.go_on.set()
    assert first.result() == "slow"
    assert other.get("k") == "slow"


# --- values that make trouble --------------------------------------------------------------------
def test_what_cannot_be_encoded_is_raised_and_holds_nobody_up(cache):
    with pytest.raises(EncodeError) as error:
        cache.get_or_set("k", lambda: object(), ttl=60)
    assert error.value.key == cache.full_key("k")
    assert cache.get_or_set("k", lambda: 2, ttl=60, wait=0) == 2
    assert cache.get("k") == 2


def test_what_cannot_be_decoded_is_a_miss_that_is_told_and_replaced(cache, another, loads, recorder):
    assert isinstance(OldFormat(), Codec)
    another(codec=OldFormat()).set("k", 1, ttl=60)
    with pytest.raises(DecodeError):
        cache.get("k")
    assert cache.get_or_set("k", loads, ttl=60) == 1
    assert cache.get("k") == 1
    assert recorder.names().count("decode") == 2


def test_a_key_of_another_type_is_loaded_and_told(cache, server, loads, recorder):
    server("RPUSH", cache.full_key("k"), "x")
    assert cache.get_or_set("k", loads, ttl=60) == 1
    assert [e.error.code for e in recorder.events if e.name == "degraded"] == ["wrongtype"]


def test_a_native_string_is_a_fresh_value(cache, server, loads):
    server("SET", cache.full_key("k"), '{"a":1}', "EX", 60)
    assert cache.get_or_set("k", loads, ttl=60) == {"a": 1}
    assert cache.get("k") == {"a": 1}


def test_arguments_that_make_no_sense(cache, loads):
    with pytest.raises(ConfigError):
        cache.get_or_set("k", loads, ttl="soon")
    assert cache.get_or_set("k", loads, ttl=60) == 1, "the lease was given up"
    assert isinstance(cache.options.codec, JsonCodec)


def test_an_observer_that_fails_breaks_nothing(another, loads):
    class Broken:
        def on_event(self, event):
            raise RuntimeError("telemetry")

    assert another(observers=[Broken()]).get_or_set("k", loads, ttl=60) == 1


def test_early_refresh_behind_a_fresh_value(make, server, namespace, recorder, loads):
    """XFetch with a beta that elects at once: the caller has the fresh value, and one refresh runs behind it."""
    cache = make("threads", url_of(server), namespace=namespace, observers=[recorder])

    def load():
        time.sleep(0.01)  # what takes no time is not worth refreshing early
        return loads()

    assert cache.get_or_set("k", load, ttl=0.5) == 1

    def refreshed():
        cache.get_or_set("k", load, ttl=0.5, beta=1e9)
        return "refresh" in recorder.names()

    wait_for(refreshed, "an early election")
    names = recorder.names()  # a miss where this machine was so slow that the value had ended
    assert loads.count == 1 + names.count("miss") and "stale" not in names


def test_no_room_for_a_refresh_gives_the_lease_up(make, server, namespace, recorder, loads):
    cache = make(
        "threads", url_of(server), namespace=namespace, refresh_workers=1, refresh_queue=0, observers=[recorder]
    )
    for key in ("a", "b"):
        cache.get_or_set(key, lambda: "old", ttl=60, grace=60)
        cache.delete(key, soft=True)
    loads.hold()
    assert cache.get_or_set("a", loads, ttl=60, grace=60) == "old"
    assert loads.begun.wait(20)
    assert cache.get_or_set("b", loads, ttl=60, grace=60) == "old"
    assert cache.meta("b").lease_ms == 0 and loads.count == 1
    loads.go_on.set()
    settle(cache)
    assert cache.get("a") == 1
