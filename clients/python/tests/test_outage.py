"""Redis is killed, stopped, and comes back. Own servers; bounds are generous, nothing is timed."""

import threading
import time

import pytest
from conftest import Background, Loads, Recorder, url_of, wait_for

from cacheflow import InvalidationError, Unavailable


class Failure(Exception):
    pass


@pytest.fixture(params=["threads", "async"])
def client(request, make, own_server, recorder):
    def maker(**options):
        defaults = {"namespace": "n", "timeout": 0.3, "breaker_cooldown": 0.2, "observers": [recorder]}
        return make(request.param, url_of(own_server), **{**defaults, **options})

    return maker


def test_never_reached_at_all(client, own_server, recorder):
    own_server.kill9()
    cache = client()
    assert cache.get_or_set("k", lambda: 1, ttl=60) == 1
    assert cache.get("k", "default") == "default"
    assert cache.get_many(["k"]) == {}
    assert cache.set("k", 1, ttl=60) is False and cache.set_many({"k": 1}, ttl=60) == []
    for use in (
        lambda: cache.delete("k"),
        lambda: cache.touch("k"),
        lambda: cache.incr("k"),
        lambda: cache.meta("k"),
        lambda: cache.connect(),
        lambda: cache.lock("x", ttl=1).acquire(),
    ):
        with pytest.raises(Unavailable) as error:
            use()
        assert error.value.code in ("connection", "breaker_open")
    with pytest.raises(Failure):
        cache.get_or_set("k", _fail, ttl=60)
    assert cache.breaker_state == "open" and "breaker_open" in recorder.names()


def _fail():
    raise Failure("no")


@pytest.mark.parametrize("how", ["kill9", "pause"])
def test_all_are_answered_while_it_is_away_and_it_is_used_when_it_is_back(client, own_server, how):
    cache, stop, failures, answers = client(), threading.Event(), [], []

    def ask(seed):
        number = 0
        while not stop.is_set():
            key = f"k{(number * seed) % 50}"
            try:
                assert cache.get_or_set(key, lambda key=key: key, ttl=60) == key
                answers.append(key)
            except Exception as error:
                failures.append(error)
            number += 1

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (3, 7, 11, 13)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 200, "answers")
    getattr(own_server, how)()
    wait_for(lambda: cache.breaker_state != "closed", "the breaker to open")
    during = len(answers)
    wait_for(lambda: len(answers) > during + 200, "answers while it is away")
    if how == "pause":
        own_server.resume()
    else:
        own_server.restart()
    wait_for(lambda: cache.breaker_state == "closed", "the breaker to close")
    hits = cache.client_stats()["hit"]
    wait_for(lambda: cache.client_stats()["hit"] > hits + 100, "hits again")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_a_restart_costs_nothing_but_the_values(client, own_server, recorder):
    """What was idle is closed: it is noticed, and asked again over new connections."""
    cache = client()
    assert cache.get_or_set("k", lambda: 1, ttl=60) == 1
    own_server.restart()
    assert cache.get_or_set("k", lambda: 2, ttl=60) == 2
    assert cache.get("k") == 2
    assert not [name for name in recorder.names() if name.startswith(("degraded", "breaker"))]


def test_the_server_dies_while_a_value_is_loaded(client, own_server, loads, recorder):
    cache = client()
    loads.hold()
    call = Background(cache.get_or_set, "k", loads, ttl=60)
    assert loads.begun.wait(20)
    own_server.kill9()
    loads.go_on.set()
    assert call.result() == 1
    assert "fill_failed" in recorder.names()


def test_the_server_stops_while_others_wait_for_a_value(client, own_server):
    first, second, slow = client(), client(), Loads("slow")
    slow.hold()
    holder = Background(first.get_or_set, "k", slow, ttl=60)
    assert slow.begun.wait(20)
    waiter = Background(second.get_or_set, "k", lambda: "own", ttl=60)
    wait_for(lambda: int(own_server.info("clients")["blocked_clients"]) == 1, "the waiter to wait")
    own_server.pause()
    assert waiter.result() == "own"
    own_server.resume()
    slow.go_on.set()
    assert holder.result() == "slow"


def test_loaders_run_under_a_limit_while_it_is_away(client, own_server):
    own_server.kill9()
    cache, lock, inside, worst = client(local_loads=2), threading.Lock(), [0], [0]

    def load():
        with lock:
            inside[0] += 1
            worst[0] = max(worst[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= 1
        return 1

    calls = [Background(cache.get_or_set, f"k{number}", load, ttl=60) for number in range(20)]
    assert [call.result() for call in calls] == [1] * 20
    assert 1 <= worst[0] <= 2


def test_the_level_answers_until_its_grace_is_over(client, own_server):
    cache = client(local=True)
    cache.get_or_set("k", lambda: {"v": 1}, ttl=30, grace=30)
    wait_for(lambda: cache.core.local.live, "the tracking connection")
    # What is told of the write before may still be on its way, and then it is not kept.
    wait_for(lambda: cache.get_or_set("k", dict, ttl=30, grace=30) and len(cache.core.local), "it in the level")
    own_server.kill9()
    wait_for(lambda: not cache.core.local.live, "the loss")
    loads = Loads({"v": 2})
    assert cache.get_or_set("k", loads, ttl=30, grace=30) == {"v": 1}
    assert cache.get("k") == {"v": 1}
    cache.core.local._clock = lambda: time.monotonic() + 61
    assert cache.get_or_set("k", loads, ttl=30, grace=30) == {"v": 2}


def test_a_failed_invalidation_raises(client, own_server):
    cache = client()
    cache.set("k", 1, ttl=60, tags=["t"])
    own_server.kill9()
    with pytest.raises(InvalidationError) as error:
        cache.invalidate("t", "u")
    assert error.value.code == "connection" and error.value.targets == ("t", "u")
    assert not error.value.queued and cache.queued_invalidations == 0
    with pytest.raises(InvalidationError):
        cache.clear()


def test_a_failed_invalidation_is_sent_again_if_asked(client, own_server):
    cache = client()
    cache.connect()
    own_server.pause()
    with pytest.raises(InvalidationError) as error:
        cache.invalidate("t", retry=True)
    with pytest.raises(InvalidationError):
        cache.invalidate_namespace("n", soft=True, retry=True)
    assert error.value.queued and cache.queued_invalidations == 2
    own_server.resume()
    wait_for(lambda: cache.queued_invalidations == 0, "the queue to be empty")
    # Whether what timed out was done too, nobody knows: at least once each.
    log = [entry[entry.index(b"target") + 1] for entry in own_server("CACHE.LOG")]
    assert log[0].endswith(b"n") and any(target.endswith(b"t") for target in log)


def test_the_holder_of_a_lease_is_killed_and_the_next_one_computes(make, own_server):
    """What a FETCH took over a connection ends with it: others wait milliseconds, not the lease."""
    a, b, slow = make("threads", url_of(own_server)), make("threads", url_of(own_server)), Loads("slow")
    slow.hold()
    holder = Background(a.get_or_set, "k", slow, ttl=60, lease=600)
    assert slow.begun.wait(20)
    waiter = Background(b.get_or_set, "k", lambda: "next", ttl=60, wait=60)
    wait_for(lambda: int(own_server.info("clients")["blocked_clients"]) == 1, "the waiter to wait")
    own_server("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert waiter.result() == "next"
    slow.go_on.set()
    assert holder.result() == "slow"
    assert b.get("k") == "next"


def test_a_server_that_refuses_a_value(make, fleet):
    server = fleet.start(name="small", module_args=("max-value-size", "1kb"))
    recorder = Recorder()
    cache = make("threads", url_of(server), observers=[recorder])
    assert cache.get_or_set("k", lambda: "x" * 5000, ttl=60) == "x" * 5000
    assert [e.error.code for e in recorder.events if e.detail == "failed"] == ["toobig"]
    assert cache.get_or_set("k", lambda: "small", ttl=60, wait=0) == "small"
    assert cache.breaker_state == "closed"
    fleet.discard(server)


def test_a_user_who_may_not(make, server):
    server("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-cache.fetch")
    recorder = Recorder()
    url = f"redis://reader:secret@127.0.0.1:{server.port}"
    cache = make("threads", url, namespace="acl", observers=[recorder])
    assert cache.get_or_set("k", lambda: 1, ttl=60) == 1
    assert [e.error.code for e in recorder.events if e.name == "degraded"] == ["noperm"]
    assert cache.set("k", 2, ttl=60) and cache.get("k") == 2
    server("ACL", "DELUSER", "reader")
    wrong = make("threads", f"redis://nobody:wrong@127.0.0.1:{server.port}")
    assert wrong.get_or_set("k", lambda: 1, ttl=60) == 1
    with pytest.raises(Unavailable):
        wrong.connect()
