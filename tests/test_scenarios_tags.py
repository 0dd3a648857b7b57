"""The threads in which people lost data to tags, or memory to their bookkeeping, played again.

Each test is named after the thread it is from.
"""

import random

import pytest

from harness.resp import ReplyError, fields
from harness.server import free_port, wait_for
from harness.tagged import DEBUG, all_tags, await_sweep, figure, turn_clock
from harness.topology import assert_verified


def bookkeeping(server):
    """What there is of tags and entries, in all databases."""
    return [figure(server, name) for name in ("entries", "tags", "memberships", "tombstones")]


def nothing(server):
    """The bookkeeping of an empty server: tombstones alone, once what was freed in the background
    before (Redis 8.6 and Valkey flush so) has been let go of."""
    names = ("entries", "memberships")
    wait_for(lambda: not any(figure(server, name) for name in names), "the entries to be gone")
    wait_for(lambda: figure(server, "tags") == figure(server, "tombstones"), "the tags to be let go of")
    return bookkeeping(server)


def settle(server):
    """No sweep to come."""
    await_sweep(server)
    assert_verified(server)


# --- mageos-magento2#283: tag sets whose members had expired: 3.6 million orphans, 141,000 keys ---------
def test_mageos_283_orphans_after_expiry(server):
    was = nothing(server)
    connection = server.connect()
    for round_ in range(5):
        named = [(f"p{round_}:{n}{{t}}", 1 + n % 40, f"cat{n % 50}", f"p{n}") for n in range(2000)]
        connection.pipeline(
            [("CACHE.SET", key, "v", "PX", ms, "TAGS", *tags, "all") for key, ms, *tags in named]
        )
    wait_for(lambda: server("DBSIZE") == 0, "everything to expire")
    wait_for(lambda: bookkeeping(server) == was, f"{bookkeeping(server)} to be {was}")
    assert all_tags(server) == {}
    assert server("CACHE.INVALIDATE", "TAGS", "all", "cat1") == 0


def test_mageos_283_orphans_after_deletion_by_others(server):
    """What does not go through the application's tag code: DEL, native SET, FLUSHDB."""
    was = nothing(server)
    names = [f"p:{n}{{t}}" for n in range(900)]
    server.connect().pipeline([("CACHE.SET", name, "v", "TAGS", name, "all") for name in names])
    server("DEL", *names[:300])
    server("UNLINK", *names[300:600])
    server("MSET", *[part for name in names[600:] for part in (name, "native")])
    assert bookkeeping(server) == was
    assert all_tags(server) == {}


# --- next-shared-cache#852: the same under eviction ------------------------------------------------------
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_next_shared_cache_852_orphans_after_eviction(server, policy):
    was = nothing(server)
    server.config("maxmemory-policy", policy)
    server.config("repl-backlog-size", 1 << 20)  # it fills meanwhile
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + (4 << 20))
    connection = server.connect()
    for first in range(0, 20_000, 1000):
        replies = connection.pipeline(
            [
                (
                    "CACHE.SET",
                    f"page:{n}{{t}}",
                    b"v" * 500,
                    "EX",
                    1000 + n,
                    "TAGS",
                    f"page{n}",
                    f"site{n % 7}",
                )
                for n in range(first, first + 1000)
            ]
        )
        assert set(map(type, replies)) != {ReplyError}
    server.config("maxmemory", 0)
    left = server("DBSIZE")
    assert int(server.info("stats")["evicted_keys"]) > 5000 and left < 15_000
    entries, tags, memberships, _ = (now - then for now, then in zip(bookkeeping(server), was, strict=True))
    assert (entries, memberships) == (left, 2 * left), "an evicted entry is a member of nothing"
    assert left <= tags <= left + 7  # the sites' may be remembered from before
    assert sum(all_tags(connection, "COUNT", 10_000).values()) == 2 * left
    assert server("CACHE.INVALIDATE", "TAGS", *[f"site{n}" for n in range(7)]) == left
    settle(server)
    assert server("DBSIZE") == 0


# --- symfony#33953, symfony#44015: the tag's version was evicted, and what was invalidated came back -----
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-random"])
def test_symfony_33953_44015_eviction_revives_nothing(server, policy):
    """Whatever is evicted, entries or anything else: an acknowledged invalidation stays."""
    dice, connection = random.Random(policy), server.connect()
    server.config("maxmemory-policy", policy)
    server.config("repl-backlog-size", 1 << 20)  # it fills meanwhile
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + (2 << 20))
    version = dict.fromkeys(range(20), 0)  # of each tag: what its entries hold
    payloads = []
    for _ in range(60):
        keys = [(dice.randrange(20), dice.randrange(300)) for _ in range(60)]
        connection.pipeline(
            [
                (
                    "CACHE.SET",
                    f"k:{n}{{t}}",
                    f"{tag} {version[tag]} {'v' * 400}",
                    "EX",
                    1000,
                    "TAGS",
                    f"tag{tag}",
                )
                for tag, n in keys
            ]
        )
        payloads += [connection("DUMP", f"k:{keys[0][1]}{{t}}")]
        tag = dice.randrange(20)
        version[tag] += 1
        connection("CACHE.INVALIDATE", "TAGS", f"tag{tag}")
        # Native data presses too, and what was saved elsewhere comes back.
        connection.pipeline(
            [("SET", f"n:{dice.randrange(4000)}", b"x" * 1000, "EX", 1000) for _ in range(100)]
        )
        payload = dice.choice(payloads)
        if payload is not None:
            connection.send("RESTORE", f"k:{dice.randrange(300)}{{t}}", 0, payload, "REPLACE")
            connection.read()
        for value in connection("CACHE.MGET", *[f"k:{n}{{t}}" for n in range(300)]):
            if value is not None:
                of, was = map(int, value.split()[:2])
                assert was == version[of], "a value from before its tag's invalidation"
    assert int(server.info("stats")["evicted_keys"]) > 500


# --- laravel#43850: the reverse sets of a week's churn ate the memory --------------------------------------
@pytest.mark.slow
@pytest.mark.topology("single")
def test_laravel_43850_a_week_of_churn(fresh_server):
    """Each day new users with tags of their own, entries that expire, are forgotten, invalidated,
    written again: after the first days memory is level."""
    server = fresh_server(module_args=DEBUG)
    connection, dice, levels = server.connect(), random.Random(43850), []
    for day in range(21):
        turn_clock(server, day * 86_400_000)
        users = range(day * 2000, (day + 1) * 2000)
        for user in users:
            page, tags = f"page{user % 10}:{user % 4000}", (f"user:{user}", f"team:{user % 50}", "pages")
            connection.send("CACHE.SET", page, b"v" * 100, "EX", 86_400, "TAGS", *tags)
            # The server's own clock is not turned: what is to end ends by that.
            connection.send("CACHE.SET", f"session:{user}", "v", "TAGS", *tags)
            connection.send("PEXPIRE", f"session:{user}", dice.randrange(1, 30))
            connection.send("CACHE.TAG", page, f"visit:{user}")
            if user % 3 == 0:
                connection.send("CACHE.INVALIDATE", "TAGS", f"user:{user - 500}", f"visit:{user - 7}")
            else:
                connection.send("CACHE.UNTAG", page, f"visit:{user}")
            for _ in range(5):
                assert not isinstance(connection.read(), ReplyError)
        connection("CACHE.INVALIDATE", "TAGS", f"team:{day}")
        connection("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "page7")
        await_sweep(server)
        sessions = [f"session:{user}" for user in users]
        wait_for(lambda names=sessions: connection("EXISTS", *names) == 0, "sessions to end")
        wait_for(lambda: figure(server, "tombstones") < 10_000, "the old to be forgotten")
        levels.append((int(server.info("memory")["used_memory"]), figure(server, "index_bytes")))
    settled = levels[7]
    for memory, index in levels[8:]:
        assert memory < 1.1 * settled[0] and index < 1.25 * settled[1], levels
    for name in connection("KEYS", "*"):
        connection("DEL", name)
    turn_clock(server, 30 * 86_400_000)
    wait_for(lambda: bookkeeping(server) == [0, 0, 0, 0], "nothing to be left")
    settle(server)


# --- nextjs-turbo#101: CROSSSLOT, for tag sets and entries lie in different slots --------------------------
def slot(server, key):
    """The slot that a key would be in."""
    return server("CLUSTER", "KEYSLOT", key)


def test_nextjs_turbo_101_tags_need_no_hashtags(server):
    """A tag, the entries that carry it and a namespace lie anywhere; no command needs one slot."""
    keys = [f"page:{n}" for n in range(50)]
    for key in keys:
        server("CACHE.SET", key, "v", "TAGS", "{x}tag", "tag", "{y}")
    assert server("CACHE.KEYS", "{x}tag", 0, "COUNT", 100)[1] != []
    assert server("CACHE.INVALIDATE", "TAGS", "{y}", "{x}tag") == 100
    assert [server("CACHE.GET", key) for key in keys] == [None] * 50


def test_nextjs_turbo_101_what_is_a_key(server):
    """What COMMAND GETKEYS says is what a cluster routes by: keys, and never tags."""
    for request, keys in (
        (("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a", "b"), [b"k"]),
        (("CACHE.TAG", "k", "a", "b"), [b"k"]),
        (("CACHE.UNTAG", "k", "a", "b"), [b"k"]),
        (("CACHE.GET", "k", "STALE"), [b"k"]),
        (("CACHE.META", "k"), [b"k"]),
        (("CACHE.DEL", "k", "j"), [b"k", b"j"]),
        (("CACHE.STALE", "k", "j"), [b"k", b"j"]),
        (("CACHE.MGET", "k", "j"), [b"k", b"j"]),
    ):
        assert server("COMMAND", "GETKEYS", *request) == keys, request
    for request in (
        ("CACHE.INVALIDATE", "TAGS", "a", "b"),
        ("CACHE.INVALIDATE", "SOFT", "LOCAL", "NAMESPACE", "n", "m"),
        ("CACHE.TAGS", "0"),
        ("CACHE.KEYS", "a", "0"),
        ("CACHE.LOG", "5"),
        ("CACHE.STATS", "NAMESPACE", "n"),
        ("CACHE.VERIFY", "REPAIR"),
    ):
        assert "no key" in server.error("COMMAND", "GETKEYS", *request), request


@pytest.mark.topology("single")
def test_nextjs_turbo_101_in_a_cluster_of_one(fresh_server):
    """Cluster mode itself, all slots on one node: it refuses what crosses slots, and none of ours does."""
    server = fresh_server(["--cluster-enabled", "yes", "--cluster-port", free_port()])
    server("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_for(lambda: b"cluster_state:ok" in server("CLUSTER", "INFO"), "the cluster")
    keys = [f"page:{n}" for n in range(50)]
    assert len({slot(server, key) for key in keys}) > 40
    for key in keys:
        assert server("CACHE.SET", key, "v", "EX", 100, "TAGS", "a", key, "{b}") == b"OK"
    assert server.error("MGET", *keys).startswith("CROSSSLOT"), "the server does check"
    assert all_tags(server)[b"a"] == 50
    assert server("CACHE.TAG", keys[0], "c", keys[1]) == 2
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", "{b}", "c") == 51
    assert server("CACHE.GET", keys[3]) is None and server("CACHE.GET", keys[3], "STALE") == b"v"
    connection = server.connect()
    connection("MULTI")
    connection("CACHE.INVALIDATE", "TAGS", "a", "x")
    connection("CACHE.INVALIDATE", "NAMESPACE", "page")
    assert connection("EXEC")[0] == 50
    assert [server("CACHE.META", key) for key in keys] == [None] * 50
    assert fields(server("CACHE.VERIFY"))["problems"] == []
    await_sweep(server)
    assert server("DBSIZE") == 0
