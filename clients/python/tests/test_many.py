"""get_or_set of many keys, on every kind of client."""

import threading

import pytest
from conftest import Background, OldFormat, settle, wait_for

from cacheflow import ConfigError, EncodeError


class Failure(Exception):
    pass


class ManyLoads:
    """A loader of many that remembers what it was asked, and can be held. The value of a key is the key and the
    number of the call; of those that start with "no" there is none."""

    def __init__(self):
        self.asked = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self, keys):
        self.asked.append(list(keys))
        number = len(self.asked)
        self.begun.set()
        assert self.go_on.wait(30)
        return {key: [key, number] for key in keys if not key.startswith("no")}

    def hold(self):
        self.begun.clear()
        self.go_on.clear()


@pytest.fixture
def used(cache):
    """The client, in a namespace that was used before: without the module the first fill of one refuses others
    that are under way, for nobody knows then what was invalidated."""
    cache.set("used", 1, ttl=60)
    return cache


@pytest.fixture
def many():
    return ManyLoads()


def test_one_load_of_what_is_missing(cache, many, recorder):
    cache.set_many({"b": "there", "n": None}, ttl=60)
    found = cache.get_or_set_many(["a", "b", "c", "n", "a"], many, ttl=60)
    assert found == {"a": ["a", 1], "b": "there", "c": ["c", 1], "n": None}
    assert list(found) == ["a", "b", "c", "n"] and many.asked == [["a", "c"]]
    assert cache.get_or_set_many(iter(found), many, ttl=60) == found
    assert many.asked == [["a", "c"]]
    assert recorder.names().count("fill_stored") == 2
    assert cache.get_or_set_many([], many) == {}


def test_what_the_loader_leaves_out_is_none(cache, many):
    assert cache.get_or_set_many(["a", "nobody"], many, ttl=600, negative_ttl=30) == {"a": ["a", 1], "nobody": None}
    assert cache.get("nobody", "absent") is None
    assert cache.meta("nobody").fresh_ms <= 30_000 < cache.meta("a").fresh_ms
    assert cache.get_or_set_many(["none"], many, ttl=600, negative_ttl=0) == {"none": None}
    assert cache.get("none", "absent") == "absent"
    assert cache.get_or_set("none", lambda: 1, ttl=60, wait=0) == 1
    assert cache.get("none") == 1, "its lease was given up"


def test_tags_of_each(cache, many, namespace):
    cache.get_or_set_many(["a", "b"], many, ttl=60, tags=lambda key, value: [f"{namespace}:{key}:{value[1]}"])
    assert cache.meta("a").tags == (f"{namespace}:a:1",)
    cache.invalidate(f"{namespace}:a:1")
    assert cache.get_many(["a", "b"]) == {"b": ["b", 1]}
    cache.get_or_set_many(["c", "d"], many, ttl=60, tags=[namespace])
    cache.invalidate(namespace)
    assert cache.get_many(["c", "d"]) == {}


def test_each_has_a_fence_of_its_own(cache, another, many, namespace, recorder):
    def tags(key, value):
        return [f"{namespace}:{key}"]

    many.hold()
    call = Background(cache.get_or_set_many, ["a", "b"], many, ttl=60, tags=tags)
    assert many.begun.wait(20)
    another().invalidate(f"{namespace}:a")
    another().delete("nobody")
    many.go_on.set()
    assert call.result() == {"a": ["a", 1], "b": ["b", 1]}
    assert sorted(name for name in recorder.names() if name.startswith("fill")) == ["fill_refused", "fill_stored"]
    assert cache.get_many(["a", "b"]) == {"b": ["b", 1]}


def test_stale_ones_are_served_and_refreshed_by_one_load_behind(cache, many):
    cache.set_many({"a": 1, "b": 2, "c": 3}, ttl=60, grace=60)
    cache.delete("a", "b", soft=True)
    many.hold()
    assert cache.get_or_set_many(["a", "b", "c"], many, ttl=60, grace=60) == {"a": 1, "b": 2, "c": 3}
    assert many.begun.wait(20)
    many.go_on.set()
    settle(cache)
    assert many.asked == [["a", "b"]]
    assert cache.get_many(["a", "b", "c"]) == {"a": ["a", 1], "b": ["b", 1], "c": 3}


def test_no_room_for_a_refresh_gives_the_leases_up(another, many):
    cache = another(refresh_workers=1, refresh_queue=0)
    cache.set_many({"a": 1, "b": 2, "c": 3}, ttl=60, grace=60)
    cache.delete("a", "b", "c", soft=True)
    many.hold()
    cache.get_or_set_many(["a"], many, ttl=60, grace=60)
    assert many.begun.wait(20)
    assert cache.get_or_set_many(["b", "c"], many, ttl=60, grace=60) == {"b": 2, "c": 3}
    assert cache.meta("b").lease_ms == 0 and cache.meta("c").lease_ms == 0
    many.go_on.set()
    settle(cache)
    assert many.asked == [["a"]]


def test_what_the_loader_raises_is_raised_and_gives_all_leases_up(cache, many):
    def fail(keys):
        raise Failure("no")

    with pytest.raises(Failure):
        cache.get_or_set_many(["a", "b"], fail, ttl=60)
    with pytest.raises(EncodeError) as error:
        cache.get_or_set_many(["a", "b"], lambda keys: dict.fromkeys(keys, object()), ttl=60)
    assert error.value.key == cache.full_key("a")
    with pytest.raises(ConfigError) as error:
        cache.get_or_set_many(["a", "b"], list, ttl=60)
    assert error.value.code == "bad_function"
    assert cache.get_or_set_many(["a", "b"], many, ttl=60, wait=0) == {"a": ["a", 1], "b": ["b", 1]}
    assert cache.get_many(["a", "b"]) == {"a": ["a", 1], "b": ["b", 1]}


def test_what_another_process_loads_is_waited_for(used, another, many):
    many.hold()
    other = Background(another().get_or_set_many, ["b", "c"], many, ttl=60)
    assert many.begun.wait(20)
    mine = ManyLoads()
    call = Background(used.get_or_set_many, ["a", "b", "c"], mine, ttl=60)
    wait_for(lambda: mine.asked == [["a"]], "what is mine to be loaded first")
    many.go_on.set()
    assert call.result() == {"a": ["a", 1], "b": ["b", 1], "c": ["c", 1]}
    assert other.result() == {"b": ["b", 1], "c": ["c", 1]}
    assert mine.asked == [["a"]]


def test_what_another_gives_up_is_loaded_here(used, another):
    begun, go_on = threading.Event(), threading.Event()

    def fail(keys):
        begun.set()
        assert go_on.wait(30)
        raise Failure("no")

    other = Background(another().get_or_set_many, ["a", "b", "c"], fail, ttl=60)
    assert begun.wait(20)
    mine = ManyLoads()
    call = Background(used.get_or_set_many, ["a", "b", "c"], mine, ttl=60)
    go_on.set()
    assert {key: value[0] for key, value in call.result().items()} == {"a": "a", "b": "b", "c": "c"}
    with pytest.raises(Failure):
        other.result()
    assert sorted(key for keys in mine.asked for key in keys) == ["a", "b", "c"]
    assert sorted(used.get_many(["a", "b", "c"])) == ["a", "b", "c"], "under leases of its own"


def test_who_waited_long_enough_loads_without_storing(cache, another, many):
    many.hold()
    other = Background(another().get_or_set_many, ["a", "b"], many, ttl=60)
    assert many.begun.wait(20)
    mine = ManyLoads()
    assert cache.get_or_set_many(["a", "b"], mine, ttl=60, wait=0.1) == {"a": ["a", 1], "b": ["b", 1]}
    assert cache.get_many(["a", "b"]) == {}
    many.go_on.set()
    other.result()
    assert mine.asked == [["a", "b"]]


def test_callers_of_a_process_share_the_work_on_each_key(used, many):
    many.hold()
    first = Background(used.get_or_set_many, ["a", "b"], many, ttl=60)
    assert many.begun.wait(20)
    mine = ManyLoads()
    second = Background(used.get_or_set_many, ["c", "b", "a"], mine, ttl=60)
    wait_for(lambda: mine.asked == [["c"]], "its own to be loaded")
    third = Background(used.get_or_set, "b", lambda: "own", ttl=60)
    many.go_on.set()
    assert first.result() == {"a": ["a", 1], "b": ["b", 1]}
    assert second.result() == {"c": ["c", 1], "b": ["b", 1], "a": ["a", 1]}
    assert third.result() == ["b", 1]
    assert second.result()["a"] is not first.result()["a"], "each has its own"
    assert many.asked == [["a", "b"]] and mine.asked == [["c"]]


def test_two_who_lead_what_the_other_wants_do_not_wait_for_each_other(used, many):
    """Each leads one key, and is held in its loader while the other joins it."""
    loaders = {key: ManyLoads() for key in "ab"}
    calls = []
    for key, loader in loaders.items():
        loader.hold()
        calls.append(Background(used.get_or_set_many, [key], loader, ttl=60))
        assert loader.begun.wait(20)
    crossed = [Background(used.get_or_set_many, keys, many, ttl=60) for keys in (["c", "a", "b"], ["d", "b", "a"])]
    wait_for(lambda: sorted(many.asked) == [["c"], ["d"]], "what is theirs to be loaded")
    for loader in loaders.values():
        loader.go_on.set()
    assert [sorted(call.result()) for call in (*calls, *crossed)] == [
        ["a"],
        ["b"],
        ["a", "b", "c"],
        ["a", "b", "d"],
    ]


def test_who_asks_after_an_invalidation_never_gets_what_was_loaded_before(cache, many):
    many.hold()
    early = Background(cache.get_or_set_many, ["a", "b"], many, ttl=60, tags=["t"])
    assert many.begun.wait(20)
    cache.invalidate("t")
    late = Background(cache.get_or_set_many, ["b", "a"], many, ttl=60, tags=["t"])
    many.go_on.set()
    assert early.result() == {"a": ["a", 1], "b": ["b", 1]}
    assert late.result() == {"b": ["b", 2], "a": ["a", 2]}


def test_one_that_cannot_be_used_costs_the_others_nothing(cache, another, server, many, recorder):
    server("RPUSH", cache.full_key("list"), "x")
    another(codec=OldFormat()).set("junk", 1, ttl=60)
    found = cache.get_or_set_many(["a", "list", "junk"], many, ttl=60)
    assert {key: value[0] for key, value in found.items()} == {"a": "a", "list": "list", "junk": "junk"}
    assert many.asked in ([["a", "junk"], ["list"]], [["junk", "a"], ["list"]])
    assert [e.error.code for e in recorder.events if e.name == "degraded"] == ["wrongtype"]
    assert cache.get_many(["a", "junk", "list"]) == {"a": ["a", 1], "junk": ["junk", 1]}
    assert "decode" in recorder.names()


def test_the_level_has_them_too(another, many):
    cache = another(local=True)
    cache.get_or_set_many(["a", "b"], many, ttl=60)
    wait_for(lambda: cache.core.local.live, "the tracking connection")

    def local():
        hits = cache.client_stats()["l1_hit"]
        cache.get_or_set_many(["a", "b"], many, ttl=60)
        return cache.client_stats()["l1_hit"] == hits + 2

    wait_for(local, "both in the level")
    assert len(many.asked) == 1
    cache.core.local.validate()
    assert cache.core.local._pending == {}


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_without_redis(make, own_server, many, recorder, kind):
    # Not so short that a busy machine is taken for a loss, with which the level begins anew.
    options = {"timeout": 2, "breaker_cooldown": 600, "observers": [recorder]}
    cache = make(kind, f"redis://127.0.0.1:{own_server.port}", namespace="n", local=True, **options)
    cache.get_or_set_many(["a"], many, ttl=60, grace=60)
    wait_for(lambda: cache.core.local.live, "the tracking connection")
    wait_for(lambda: cache.get_or_set("a", list, ttl=60, grace=60) and len(cache.core.local), "it in the level")
    own_server.kill9()
    wait_for(lambda: not cache.core.local.live, "the loss")
    assert cache.get_or_set_many(["a", "b", "c"], many, ttl=60) == {"a": ["a", 1], "b": ["b", 2], "c": ["c", 2]}
    assert many.asked == [["a"], ["b", "c"]] and "l1_stale" in recorder.names()


# --- touch, with tags ----------------------------------------------------------------------------
def test_touch_adds_tags(cache, namespace):
    cache.set("k", 1, ttl=60, tags=[f"{namespace}:old"])
    assert cache.touch("k", ttl=600, tags=[f"{namespace}:new"])
    meta = cache.meta("k")
    assert meta.fresh_ms > 60_000 and set(meta.tags) == {f"{namespace}:old", f"{namespace}:new"}
    cache.invalidate(f"{namespace}:new")
    assert cache.get("k") is None and not cache.touch("k", tags=["t"])
    with cache.lock("k", ttl=30) as lock, pytest.raises(ConfigError):
        cache.touch("k", tags=["t"], token=lock.token)


@pytest.mark.parametrize("meanwhile", [False, True])
def test_not_modified_with_tags_of_its_own_is_fenced_by_them(cache, another, namespace, recorder, meanwhile):
    tag = f"{namespace}:new"
    cache.set("k", {"v": 1}, ttl=60, grace=60, tags=["old"])
    cache.delete("k", soft=True)
    other = another()

    def load(context):
        if meanwhile:
            Background(other.invalidate, tag).result()
        context.tags.append(tag)
        return context.not_modified()

    assert cache.get_or_set("k", load, ttl=60, grace=60, tags=["old"]) == {"v": 1}
    settle(cache)
    if meanwhile:
        assert "fill_refused" in recorder.names() and cache.get("k") is None
    else:
        assert cache.get("k") == {"v": 1} and set(cache.meta("k").tags) == {"old", tag}
