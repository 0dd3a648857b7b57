"""A server whose own commands were renamed away: the module calls few of them, and lives without."""

import pytest

from harness.sample import meta
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


def test_native_keys_are_read_all_the_same(renamed):
    renamed("SET", "string", "12345")
    renamed("HSET", "hash", "f", "v")
    assert renamed("CACHE.GET", "string") == b"12345"
    assert renamed("CACHE.MGET", "string", "hash") == [b"12345", None]
    assert meta(renamed, "string")["bytes"] == 5
    assert meta(renamed, "hash")["state"] == b"fresh"
