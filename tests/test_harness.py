"""The harness must be able to fail: a check that cannot see a fault proves nothing."""

import pytest

from harness.dataset import differences, snapshot
from harness.resp import ReplyError, Simple
from harness.server import BROKEN
from harness.transcript import _Reply, matches, play, split

pytestmark = pytest.mark.topology("single")


@pytest.mark.parametrize(
    ("expected", "reply", "same"),
    [
        ("OK", Simple(b"OK"), True),
        ("OK", b"OK", False),
        ('"OK"', b"OK", True),
        ('"OK"', Simple(b"OK"), False),
        ('"a\\x00\\n\\""', b'a\x00\n"', True),
        ("7", 7, True),
        ("7", b"7", False),
        ("-1", -1, True),
        ("1..60", 60, True),
        ("1..60", 61, False),
        ("nil", None, True),
        ("nil", b"", False),
        ('["v", nil, [1]]', [b"v", None, [1]], True),
        ('["v", nil, [1]]', [b"v", None], False),
        ("[]", [], True),
        ("[]", None, False),
        ("!ERR syntax", ReplyError("ERR syntax error"), True),
        ("!ERR syntax", ReplyError("WRONGTYPE"), False),
        ("_", [1], True),
    ],
)
def test_transcript_replies_are_compared_with_their_types(expected, reply, same):
    assert matches(_Reply(expected).parse(), reply) is same


def test_transcript_requests_are_split_as_redis_cli_does():
    assert split(r'CACHE.SET "a\x00b" v\n "" EX') == [b"CACHE.SET", b"a\x00b", rb"v\n", b"", b"EX"]


def test_transcript_sees_a_wrong_reply(server):
    play(server, "SET k v => OK")
    with pytest.raises(AssertionError, match="expected nil"):
        play(server, "GET k => nil")


def test_datasets_differ_by_each_thing_that_is_compared(server):
    server("SET", "k", "v", "EX", 1000)
    before = snapshot(server)
    assert differences(before, snapshot(server)) == []
    for change in (("SET", "k", "w", "KEEPTTL"), ("EXPIRE", "k", 900), ("SET", "new", 1), ("DEL", "k")):
        server(*change)
        assert differences(before, snapshot(server)), f"{change} not seen"


def test_entries_differ_by_each_thing_that_is_compared(server):
    def fresh():
        server("FLUSHALL")
        server("CACHE.SET", "k", "v", "EX", 1000, "GRACE", 1000, "COST", 5, "TAGS", "one", "two")

    fresh()
    server("CACHE.GET", "k")
    before = snapshot(server)
    server("CACHE.GET", "k")
    assert differences(before, snapshot(server)) == [], "a read is no difference"
    for change in (
        ("CACHE.SET", "k", "v", "EX", 1001, "GRACE", 999, "COST", 5, "TAGS", "one", "two"),
        ("CACHE.SET", "k", "w", "KEEPTTL", "COST", 5, "TAGS", "one", "two"),
        ("CACHE.SET", "k", "v", "KEEPTTL", "COST", 6, "TAGS", "one", "two"),
        ("CACHE.STALE", "k"),
        ("PERSIST", "k"),
        ("CACHE.TAG", "k", "three"),
        ("CACHE.UNTAG", "k", "two"),
        ("CACHE.INVALIDATE", "SOFT", "TAGS", "two"),
        ("CACHE.INVALIDATE", "TAGS", "two"),
        ("CACHE.INVALIDATE", "NAMESPACE", ""),
    ):
        fresh()
        before = snapshot(server)
        server(*change)
        after = snapshot(server)
        assert differences(before, after), f"{change} not seen"
        if (key := after.keys.get((0, b"k"))) is not None:
            # By what META says too, and not by the digest alone.
            key.digest, key.expires = before.keys[0, b"k"].digest, before.keys[0, b"k"].expires
            assert differences(before, after) or change[0] == "PERSIST", f"{change} not seen in META"


def test_keys_that_expire_between_two_readings_are_no_difference(server):
    server("SET", "soon", "v", "PX", 1)
    server("CACHE.SET", "entry", "v", "PX", 1)
    before = snapshot(server)
    server("DEL", "soon", "entry")
    assert differences(before, snapshot(server)) == []


def test_a_death_is_a_problem_and_kill9_is_none(fresh_server):
    server = fresh_server()
    server.kill9()
    assert server.problems() == []
    server.restart()
    server.process.kill()
    server.process.wait()
    assert len(server.problems()) == 1 and server.problems() == []


@pytest.mark.parametrize(
    "line",
    [
        "1:M 01 Jan 2026 # cacheflow: panic in CACHE.SET",
        "=== REDIS BUG REPORT START: Cut & paste starting from here ===",
        "=== ASSERTION FAILED ===",
        "Redis 7.0.15 crashed by signal: 11, si_code: 1",
        "thread '<unnamed>' panicked at src/module/lib.rs:1:1",
    ],
)
def test_what_a_log_says_when_a_server_broke(line):
    assert BROKEN.search(line)


def test_a_panic_in_the_log_is_found_once(fresh_server):
    server = fresh_server()
    with open(server.log_path, "a", encoding="utf-8") as log:
        log.write("# cacheflow: panic in a test of the harness\n")
    assert len(server.problems()) == 1 and server.problems() == []


def test_an_expected_panic_is_no_problem_and_any_other_is(fresh_server):
    server = fresh_server()

    def say(line):
        with open(server.log_path, "a", encoding="utf-8") as log:
            log.write(line + "\n")

    caught = "1:M 01 Jan 2026 # <cacheflow> panic caught at src/module/border.rs:1:1: cache.get"
    with server.expect_panics() as seen:
        say(caught)
        assert seen() == [caught]
    assert server.problems() == []
    with server.expect_panics():
        say(caught)
        say("=== REDIS BUG REPORT START: Cut & paste starting from here ===")
    assert len(server.problems()) == 1, "a crash is expected by nobody"
    say(caught)
    assert server.problems() == [caught]
    with pytest.raises(AssertionError, match="no panic"), server.expect_panics():
        pass
