"""A server whose own commands were renamed away: the module calls few of them, and lives without."""

import pytest

from harness.leases import wait_in_line
from harness.sample import meta
from harness.server import wait_for
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")


@pytest.fixture
def renamed(fresh_server):
    """A server without GET, UNLINK, DEL, TYPE and MEMORY."""
    names = ("GET", "UNLINK", "DEL", "TYPE", "MEMORY")
    return fresh_server(args=[word for name in names for word in ("--rename-command", name, "")])


def test_deleting_needs_no_native_command(renamed):
    renamed("CACHE.SET", "a", "v", "EX", 60)
    renamed("SET", "native", "x")
    assert renamed("CACHE.DEL", "a", "native", "none") == 2
    renamed("CACHE.SET", "a", "v")
    assert renamed("CACHE.SET", "a", "w", "EXAT", 1) == b"OK"
    assert renamed("EXISTS", "a") == 0
    assert_verified(renamed)


def test_the_sweep_needs_no_native_command(renamed):
    renamed("CACHE.SET", "a", "v", "EX", 60, "TAGS", "one")
    renamed("CACHE.SET", "b:c", "v", "TAGS", "two")
    assert renamed("CACHE.TAG", "a", "two") == 1 and renamed("CACHE.UNTAG", "a", "two") == 1
    assert renamed("CACHE.INVALIDATE", "TAGS", "one") == 1
    assert renamed("CACHE.INVALIDATE", "NAMESPACE", "b") == 1
    wait_for(lambda: renamed("DBSIZE") == 0, "the sweep")
    assert_verified(renamed)


@pytest.mark.parametrize("name", ["UNLINK", "DEL"])
def test_what_the_sweep_removes_is_removed_elsewhere_too(fresh_server, name):
    """It replicates UNLINK, or its own command where that has another name."""
    options = ("--rename-command", name, "")
    server = fresh_server(args=["--appendonly", "yes", *options])
    replica = fresh_server(args=[*options, "--replicaof", f"127.0.0.1 {server.port}"])
    replica.wait_replica_of(server)
    for key in ("a", "b", "c"):
        server("CACHE.SET", key, "v", "TAGS", "one" if key < "c" else "two")
    assert server("CACHE.INVALIDATE", "TAGS", "one") == 2
    server.wait_swept()
    assert server("KEYS", "*") == [b"c"]
    replica.wait_replica_of(server)
    assert replica("KEYS", "*") == [b"c"]
    server.restart()
    assert server("KEYS", "*") == [b"c"]
    assert_verified(server)
    assert_verified(replica)


def test_leases_and_locks_need_no_native_command(renamed):
    renamed("SET", "native", "12345")
    assert renamed("CACHE.FETCH", "native")[:3] == [b"FRESH", b"12345", None]
    token = renamed("CACHE.LOCK", "a", 60_000)
    waiter = wait_in_line(renamed, "CACHE.FETCH", "a", "BLOCK", 0)
    renamed("SET", "b", "there")
    renamed("RENAME", "b", "a")
    assert waiter.read()[:3] == [b"FRESH", b"there", None]
    assert renamed("CACHE.SET", "a", "v", "LEASE", token) is None, "written since"
    token = renamed("CACHE.LOCK", "a", 60_000)
    assert renamed("CACHE.SET", "a", "v", "LEASE", token, "EXAT", 1) == b"OK"
    assert renamed("EXISTS", "a") == 0
    assert_verified(renamed)


def test_native_keys_are_read_all_the_same(renamed):
    renamed("SET", "string", "12345")
    renamed("HSET", "hash", "f", "v")
    assert renamed("CACHE.GET", "string") == b"12345"
    assert renamed("CACHE.MGET", "string", "hash") == [b"12345", None]
    assert meta(renamed, "string")["bytes"] == 5
    assert meta(renamed, "hash")["state"] == b"fresh"
