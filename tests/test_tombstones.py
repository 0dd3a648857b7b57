"""Tags that nobody carries any more: remembered for a time, in bounded number, and then nothing is left.

CACHEFLOW_FULL=1 runs them with the full numbers: a million one-off tags, 300,000 never seen.
"""

import os

import pytest

from harness.server import wait_for
from harness.tagged import DEBUG, all_tags, await_sweep, figure, turn_clock
from harness.topology import assert_verified

pytestmark = [pytest.mark.topology("single"), pytest.mark.slow]

FULL = bool(os.environ.get("CACHEFLOW_FULL"))
ONE_OFF = 1_000_000 if FULL else 100_000
NEVER_SEEN = 300_000 if FULL else 30_000
# What an allocator keeps for itself, whatever the number of tags: some slabs of each size.
SLACK = 1 << 20


def loop(server, count, body, at_a_time=2000):
    """Run a script's body for i from 1 to count."""
    script = f"for i = ARGV[1], ARGV[2] do {body} end"
    for first in range(1, count + 1, at_a_time):
        server("EVAL", script, 0, first, min(first + at_a_time - 1, count))


def used(server):
    """Bytes that the server has allocated."""
    return int(server.info("memory")["used_memory"])


@pytest.fixture
def warm(fresh_server):
    """A server that has done a little of everything, so that what is made once is made."""
    server = fresh_server(module_args=DEBUG)
    for i in range(10):
        server("CACHE.SET", f"s:{i}", "v", "TAGS", f"w{i}")
    loop(server, 1, "redis.call('PING')")
    server("CACHE.INVALIDATE", "TAGS", "w1")
    await_sweep(server)
    server("FLUSHALL")
    turn_clock(server, 400_000)
    wait_for(lambda: figure(server, "tombstones") == 0, "nothing to be remembered")
    turn_clock(server, 0)
    return server


def assert_back(server, memory, index):
    """Wait until everything is as it was."""
    wait_for(lambda: figure(server, "tags") == figure(server, "memberships") == 0, "no tag to be left")
    assert figure(server, "tombstones") == 0 and all_tags(server) == {}
    wait_for(lambda: figure(server, "index_bytes") < index + 65_536, "the index to shrink")
    wait_for(lambda: used(server) < memory + SLACK, f"memory to be back at {memory}: {used(server)}")
    assert_verified(server)


GONE = {
    "DEL": "redis.call('DEL', 's:' .. i)",
    "UNLINK": "redis.call('UNLINK', 's:' .. i)",
    "CACHE.DEL": "redis.call('CACHE.DEL', 's:' .. i)",
    "expiry": "redis.call('PEXPIRE', 's:' .. i, 1)",
    "untagged": "redis.call('CACHE.UNTAG', 's:' .. i, 'once:' .. i) redis.call('CACHE.SET', 's:' .. i, '') "
    "redis.call('DEL', 's:' .. i)",
    "overwritten": "redis.call('SET', 's:' .. i, 'native') redis.call('DEL', 's:' .. i)",
}


@pytest.mark.parametrize("how", GONE)
def test_one_off_tags_leave_nothing(warm, how):
    memory, index = used(warm), figure(warm, "index_bytes")
    count = ONE_OFF if how in ("DEL", "expiry") else ONE_OFF // 10
    loop(warm, count, "redis.call('CACHE.SET', 's:' .. i, 'v', 'TAGS', 'once:' .. i, 'all')")
    assert figure(warm, "tags") == count + 1 and figure(warm, "memberships") == 2 * count
    assert figure(warm, "index_bytes") > index + 20 * count
    loop(warm, count, GONE[how])
    wait_for(lambda: warm("DBSIZE") == 0, "the last key to be gone", 60)
    assert_back(warm, memory, index)


def test_one_off_tags_beside_one_that_stays(warm):
    """One entry from the beginning and one from the end hold no memory of those between."""
    memory, index = used(warm), figure(warm, "index_bytes")
    warm("CACHE.SET", "first", "v", "TAGS", "stays")
    loop(warm, ONE_OFF, "redis.call('CACHE.SET', 's:' .. i, 'v', 'TAGS', 'once:' .. i, 'stays')")
    warm("CACHE.SET", "last", "v", "TAGS", "stays", "last")
    loop(warm, ONE_OFF, GONE["DEL"])
    assert all_tags(warm, "COUNT", 10_000) == {b"stays": 2, b"last": 1}
    # What is numbered keeps a place of some bytes for its number, no more.
    wait_for(lambda: figure(warm, "index_bytes") < index + 16 * ONE_OFF + 65_536, "the index to shrink")
    warm("DEL", "first", "last")
    assert_back(warm, memory, index)


@pytest.mark.parametrize("how", ["all at once", "each", "namespace"])
def test_invalidated_tags_leave_nothing(warm, how):
    count = ONE_OFF // (10 if how == "each" else 4)  # some 5000 a second are forgotten
    memory, index = used(warm), figure(warm, "index_bytes")
    loop(warm, count, "redis.call('CACHE.SET', 's:' .. i, 'v', 'TAGS', 'once:' .. i, 'all')")
    if how == "each":
        loop(warm, count, "redis.call('CACHE.INVALIDATE', 'TAGS', 'once:' .. i)")
        assert figure(warm, "tombstones") == min(count, 1 << 18)
    else:
        warm("CACHE.INVALIDATE", *(("TAGS", "all") if how == "all at once" else ("NAMESPACE", "s")))
    await_sweep(warm)
    wait_for(lambda: warm("DBSIZE") == 0, "the sweep")
    # As long as they are remembered they take their bytes; afterwards they do not.
    turn_clock(warm, 400_000)
    wait_for(lambda: figure(warm, "tombstones") == 0, "them to be forgotten", 120)
    # CACHE.LOG keeps its last records, and a namespace its name.
    warm("CACHE.LOG", "RESET")
    assert_back(warm, memory, index)


def test_never_seen_tags_are_bounded_in_number(warm):
    warm.config("cacheflow.max-tombstones", 1000)
    memory, index = used(warm), figure(warm, "index_bytes")
    for first in range(0, NEVER_SEEN, 500):
        warm("CACHE.INVALIDATE", "TAGS", *[f"never:{n}" for n in range(first, first + 500)])
        assert figure(warm, "tombstones") <= 1000
    assert figure(warm, "tombstones") == 1000
    assert figure(warm, "index_bytes") < index + 1000 * 400
    turn_clock(warm, 400_000)
    wait_for(lambda: figure(warm, "tombstones") == 0, "the last to be forgotten")
    warm("CACHE.LOG", "RESET")
    assert_back(warm, memory, index)


def test_never_seen_tags_are_bounded_in_time(warm):
    warm.config("cacheflow.tombstone-ttl", 1)
    memory, index = used(warm), figure(warm, "index_bytes")
    loop(warm, NEVER_SEEN, "redis.call('CACHE.INVALIDATE', 'TAGS', 'never:' .. i)", at_a_time=100)
    wait_for(lambda: figure(warm, "tombstones") == 0, "the last to be forgotten")
    warm("CACHE.LOG", "RESET")
    assert_back(warm, memory, index)


@pytest.mark.parametrize("most", [0, 1, 100])
def test_the_bound_holds_within_one_line_and_when_lowered(warm, most):
    warm("CACHE.INVALIDATE", "TAGS", *range(5000))
    assert figure(warm, "tombstones") == 5000
    warm.config("cacheflow.max-tombstones", most)
    wait_for(lambda: figure(warm, "tombstones") <= most, "it to come down")
    warm("CACHE.INVALIDATE", "TAGS", *range(5000))
    assert figure(warm, "tombstones") <= most
    # What is forgotten is so only for what comes from before: entries are hit all the same.
    warm("CACHE.SET", "k", "v", "TAGS", "a", "b")
    assert warm("CACHE.INVALIDATE", "TAGS", "a") == 1 and warm("CACHE.GET", "k") is None
    warm("CACHE.SET", "k", "v", "TAGS", "a", "b")
    assert warm("CACHE.GET", "k") == b"v"
    warm("CACHE.INVALIDATE", "SOFT", "TAGS", "b", *range(5000))
    assert warm("CACHE.GET", "k") is None and warm("CACHE.GET", "k", "STALE") == b"v"
    assert figure(warm, "tombstones") <= most
    assert_verified(warm)


def test_an_entry_outlives_the_memory_of_its_tags_invalidation(warm):
    """A stale entry stays stale when the tombstone goes, a dead one dead until it is swept."""
    warm("CACHE.DEBUG", "SWEEP", 0)
    warm("CACHE.SET", "stale", "v", "TAGS", "soft")
    warm("CACHE.SET", "dead", "v", "TAGS", "hard")
    warm("CACHE.INVALIDATE", "SOFT", "TAGS", "soft")
    warm("CACHE.INVALIDATE", "TAGS", "hard")
    turn_clock(warm, 400_000)
    wait_for(lambda: figure(warm, "tombstones") == 0, "them to be forgotten")
    seen = [warm("CACHE.GET", key, "STALE") for key in ("stale", "dead")]
    assert seen == [b"v", None] and warm("CACHE.GET", "stale") is None
    warm("DEBUG", "RELOAD")
    seen = [warm("CACHE.GET", key, "STALE") for key in ("stale", "dead")]
    assert seen == [b"v", None] and warm("CACHE.GET", "stale") is None
    assert_verified(warm)
