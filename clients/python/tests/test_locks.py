"""Locks, on every kind of client."""

import pytest
from conftest import Background, wait_for

from cacheflow import LockError


def is_free(cache):
    meta = cache.meta("x")
    return meta is None or meta.lease_ms == 0


def test_tokens_only_grow(cache):
    tokens = []
    for _ in range(3):
        with cache.lock("x", ttl=30) as lock:
            assert lock.held
            tokens.append(lock.token)
    assert tokens == sorted(set(tokens))


def test_one_at_a_time(cache, another):
    other = another().lock("x", ttl=30, wait=0)
    with cache.lock("x", ttl=30):
        assert other.acquire() is False
        with pytest.raises(LockError) as error:
            other.__enter__()
        assert error.value.code == "locked"
    assert other.acquire() is True
    assert other.release() is True


def test_waiting_for_who_has_it(cache, another):
    first = cache.lock("x", ttl=30)
    assert first.acquire()
    second = another().lock("x", ttl=30, wait=20)
    call = Background(second.acquire)
    wait_for(lambda: call.thread.is_alive(), "the waiter")
    token = first.token
    first.release()
    assert call.result() is True
    assert second.token > token
    second.release()


def test_what_is_not_held_has_no_token(cache):
    lock = cache.lock("x", ttl=30)
    for use in (lambda: lock.token, lock.release, lock.extend):
        with pytest.raises(LockError) as error:
            use()
        assert error.value.code == "not_held"


def test_it_is_not_reentrant(cache):
    with cache.lock("x", ttl=30) as lock, pytest.raises(LockError):
        lock.acquire()


def test_it_runs_out_and_says_so(cache):
    lock = cache.lock("x", ttl=0.05)
    assert lock.acquire()
    wait_for(lambda: is_free(cache), "its end")
    assert lock.extend(30) is False
    assert lock.release() is False
    with pytest.raises(LockError) as error:
        with cache.lock("x", ttl=0.05):
            wait_for(lambda: is_free(cache), "its end")
    assert error.value.code == "lost"


def test_what_the_body_raises_goes_first(cache):
    with pytest.raises(ZeroDivisionError):
        with cache.lock("x", ttl=0.05):
            wait_for(lambda: is_free(cache), "its end")
            raise ZeroDivisionError
    assert cache.lock("x", ttl=1, wait=0).acquire()


def test_extend(cache):
    with cache.lock("x", ttl=5) as lock:
        assert lock.extend(60) is True
        assert cache.meta("x").lease_ms > 50_000
        assert lock.extend() is True
        assert cache.meta("x").lease_ms <= 5_000


def test_publishing_with_the_locks_token(cache, another):
    """Lock the key, write the database, publish: nothing older comes after it, and a write by another in
    between has it refused."""
    with cache.lock("product:1", ttl=30) as lock:
        assert cache.set("product:1", "new", ttl=60, token=lock.token)
    assert cache.get("product:1") == "new"
    lock = cache.lock("product:1", ttl=30)
    assert lock.acquire()
    another().set("product:1", "newer", ttl=60)
    assert not cache.set("product:1", "older", ttl=60, token=lock.token)
    assert cache.get("product:1") == "newer"


def test_a_lock_keeps_loaders_waiting(cache, another, loads):
    with cache.lock("k", ttl=30) as lock:
        call = Background(another().get_or_set, "k", loads, ttl=60)
        cache.set("k", "published", ttl=60, token=lock.token)
        assert call.result() == "published"
    assert loads.count == 0
