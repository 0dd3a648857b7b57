"""The protection of an origin: MAXFILLS, BREAKER with its cool-down and probe, UNLOCK … RETRY; by hand, and
with an origin that fails and comes back under 500 clients."""

import pytest

from harness.leases import (
    Since,
    assert_nothing_held,
    counted,
    fetch,
    fetcher,
    fill,
    grant,
    in_line,
    promoted,
    stats,
)
from harness.origin import Load, Origin
from harness.server import wait_for
from harness.tagged import DEBUG, turn_clock

single = pytest.mark.topology("single")

LONG = 600_000
FEWEST, WINDOW = 5, 32  # fills before a breaker may open, and that it looks at (src/core/origin.rs)
OPENED, CLOSED = "breakers of namespaces opened, for fills failed: ", "breakers of namespaces closed: "


def protect(server, *settings, name="n"):
    """CACHE.NAMESPACE SET."""
    assert server("CACHE.NAMESPACE", "SET", name, *settings) == b"OK"


def fail(server, key, *options, retry=0):
    """A lease whose computation fails."""
    token = grant(server, key, *options)
    assert server("CACHE.UNLOCK", key, token, "RETRY", retry) == 1


def about(server, name="n"):
    """(whether its breaker is open, for how many ms there are no leases, leases that are out)."""
    found = stats(server, "NAMESPACE", name)
    return found["open-breakers"], found["breaker-rest-ms"], found["leases"]


@pytest.fixture
def clocked(fresh_server):
    """A server whose clock goes where it is turned."""
    return fresh_server(module_args=DEBUG)


@pytest.fixture
def broken(clocked):
    """One whose breaker has just opened, for a minute."""
    clocked("CACHE.SET", "n:stale", "v", "EX", 1000, "GRACE", 1000)
    clocked("CACHE.STALE", "n:stale")
    protect(clocked, "BREAKER", 50, 60_000)
    for n in range(FEWEST):
        fail(clocked, f"n:{n}")
    return clocked


# --- MAXFILLS --------------------------------------------------------------------------------------
def test_so_many_at_once_and_no_more(server):
    protect(server, "MAXFILLS", 2)
    tokens = {key: grant(server, key, "LEASE", LONG) for key in ("n:1", "{n:2}")}
    server("CACHE.SET", "n:stale", "v", "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", "n:stale")
    since = Since(server, "NAMESPACE", "n")
    found = fetch(server, "n:3", "LEASE", LONG)
    assert (found.state, found.value, found.token) == (b"BUSY", None, None) and found.ms > 0
    assert fetch(server, "n:stale")[:3] == (b"STALE", b"v", None), "served, and not refreshed"
    assert fetch(server, "n:stale", "MAXSTALE", 0).state == b"BUSY"
    assert since("protected") == 3 and about(server) == (0, 0, 2)
    assert fetch(server, "n:1").state == b"BUSY" and since("protected") == 3, "held, as without MAXFILLS"
    assert fetch(server, "other:1").state == fetch(server, "plain").state == b"MISS"
    locks = [server("CACHE.LOCK", f"n:lock{n}", LONG) for n in range(3)]
    assert None not in locks, "locks do not count"
    fill(server, "n:1", tokens["n:1"], "v", "EX", 60)
    assert fetch(server, "n:stale").token, "there is room again"
    server("CACHE.DEL", "{n:2}")
    assert fetch(server, "n:3").state == b"MISS", "a lease that is void takes no place"
    server("CACHE.NAMESPACE", "DEL", "n")
    grant(server, "n:4"), grant(server, "n:5")


def test_who_waits_is_served_as_leases_of_the_namespace_end(server):
    """Of all its keys the longest first, however they end: filled, given up, failed, void, gone."""
    protect(server, "MAXFILLS", 1)
    token = grant(server, "n:held", "LEASE", LONG)
    ends = [
        lambda key, token: fill(server, key, token),
        lambda key, token: server("CACHE.UNLOCK", key, token),
        lambda key, token: server("CACHE.UNLOCK", key, token, "RETRY", LONG),
        lambda key, token: server("CACHE.DEL", key),
        lambda key, token: server("CACHE.EXTEND", key, token, 1),
    ]
    waiting = [fetcher(server, f"n:{at}", "LEASE", LONG) for at in range(len(ends))]
    key = "n:held"
    for at, end in enumerate(ends):
        assert waiting[at].waits()
        end(key, token)
        key, token = f"n:{at}", promoted(waiting[at])
    next_one = fetcher(server, "n:next", "LEASE", LONG)
    waiting[-1].close()  # its connection, and so its lease
    assert promoted(next_one)
    assert about(server)[2] == 1


def test_raised_lowered_and_lifted(server):
    protect(server, "MAXFILLS", 1)
    first = grant(server, "n:1", "LEASE", LONG)
    waiting = [fetcher(server, f"n:wait{n}", "LEASE", LONG) for n in range(4)]
    protect(server, "MAXFILLS", 2)
    promoted(waiting[0])
    assert waiting[1].waits()
    protect(server, "MAXFILLS", 1)
    assert server("CACHE.UNLOCK", "n:1", first) == 1
    assert waiting[1].waits(), "one is still out"
    protect(server, "MAXFILLS", 0)
    assert [promoted(waiter) > 0 for waiter in waiting[1:]] == [True] * 3


# --- RETRY -----------------------------------------------------------------------------------------
@single
def test_retry_gives_one_key_a_rest(clocked):
    """Without a breaker: no lease on this key, STALE or BUSY meanwhile, and then the longest waiter."""
    since = Since(clocked)
    token = grant(clocked, "n:1", "LEASE", LONG)
    waiter = fetcher(clocked, "n:1", "LEASE", LONG)
    assert clocked("CACHE.UNLOCK", "n:1", token, "RETRY", 60_000) == 1
    assert 59_000 < fetch(clocked, "n:1").ms <= 60_000, "when a lease may be had"
    assert grant(clocked, "n:2", "LEASE", LONG) and waiter.waits()
    lock = clocked("CACHE.LOCK", "n:1", 5000)
    assert lock and clocked("CACHE.UNLOCK", "n:1", lock) == 1, "LOCK is not refused"
    turn_clock(clocked, 60_001)
    assert promoted(waiter) and since("failed-fills") == 1 and since("protected") == 0


# --- BREAKER ---------------------------------------------------------------------------------------
@single
def test_a_breaker_opens_and_nobody_is_given_a_lease(broken):
    assert about(broken)[0] == 1 and 59_000 < about(broken)[1] <= 60_000
    before = counted(broken, "grants")
    for options in ((), ("MAXSTALE", 5)):
        found = fetch(broken, "n:new", *options)
        assert (found.state, found.token) == (b"BUSY", None) and 59_000 < found.ms <= 60_000
    found = fetch(broken, "n:stale")
    assert found[:3] == (b"STALE", b"v", None) and found.ms > 0
    assert fetch(broken, "n:new", "BLOCK", 10)[:3] == (b"BUSY", None, None), "it waits in vain"
    assert counted(broken, "grants") == before
    assert broken("CACHE.SET", "n:new", "v", "EX", 60) == b"OK" and fetch(broken, "n:new").state == b"FRESH"
    lock = broken("CACHE.LOCK", "n:lock", 5000)
    assert broken("CACHE.SET", "n:lock", "v", "LEASE", lock) == b"OK", "locks are no fetches"
    assert fetch(broken, "other:1").state == b"MISS", "another origin"


@single
def test_after_the_rest_one_probe_decides(broken):
    waiter = fetcher(broken, "n:waits", "LEASE", LONG)
    turn_clock(broken, 60_001)
    probe = promoted(waiter)
    assert about(broken) == (1, 0, 1)
    found = fetch(broken, "n:new")
    assert found.state == b"BUSY" and 0 < found.ms < 60_000, "one probe at a time"
    assert fetch(broken, "n:stale").token is None
    assert broken("CACHE.UNLOCK", "n:waits", probe, "RETRY", 10) == 1
    assert 59_000 < about(broken)[1] <= 60_000, "it failed: another rest"
    assert 59_000 < fetch(broken, "n:waits").ms <= 60_000, "not the key's, which is shorter"
    turn_clock(broken, 120_002)
    probe = grant(broken, "n:new", "LEASE", LONG)
    assert broken("CACHE.UNLOCK", "n:new", probe) == 1, "given up without a word"
    found = fetch(broken, "n:stale", "LEASE", LONG)
    assert found.token, "another may probe"
    others = in_line(broken, "n:1", 1, "LEASE", LONG) + in_line(broken, "n:2", 1, "LEASE", LONG)
    assert broken("CACHE.SET", "n:stale", "w", "LEASE", found.token, "EX", 60) == b"OK"
    assert [promoted(other) > 0 for other in others] == [True, True], "closed: all at once"
    assert about(broken) == (0, 0, 2)
    found = stats(broken, "NAMESPACE", "n")
    assert (found["breaker-opened"], found["failed-fills"]) == (1, FEWEST + 1)


@single
def test_a_lease_that_runs_out_is_a_failure(clocked):
    """Of a FETCH; a lock's end says nothing of an origin, nor does a connection that closes."""
    protect(clocked, "BREAKER", 50, 60_000)
    for n in range(2 * FEWEST):
        clocked("CACHE.LOCK", f"n:lock{n}", 10)
        holder = clocked.connect()
        grant(holder, f"n:held{n}", "LEASE", LONG)
        holder.close()
    wait_for(lambda: about(clocked)[2] == 0, "the connections' ends")
    turn_clock(clocked, 1000)
    assert about(clocked)[0] == 0
    for n in range(FEWEST):
        grant(clocked, f"n:{n}", "LEASE", 1000)
    turn_clock(clocked, 2001)
    wait_for(lambda: about(clocked)[0] == 1, "the breaker", 5)
    assert fetch(clocked, "n:new").state == b"BUSY"
    assert stats(clocked, "NAMESPACE", "n")["failed-fills"] == FEWEST


@single
def test_it_is_a_share_of_the_recent_fills(clocked):
    protect(clocked, "BREAKER", 50, 60_000)
    for n in range(WINDOW):
        fill(clocked, f"n:good{n}", grant(clocked, f"n:good{n}"))
    for n in range(WINDOW // 2):
        assert about(clocked)[0] == 0, f"{n} of {WINDOW}"
        fail(clocked, f"n:{n}")
    assert about(clocked)[0] == 1
    protect(clocked, "BREAKER", 100, 60_000, name="whole")
    for n in range(FEWEST - 1):
        fail(clocked, f"whole:{n}")
    assert about(clocked, "whole")[0] == 0, "fewer say nothing"
    protect(clocked, "BREAKER", 0, 0)
    assert about(clocked)[0] == 0 and grant(clocked, "n:1"), "taken away, it is closed"


@single
def test_the_state_of_breakers_is_counted_and_logged(broken):
    """A line a second at most, whatever happens; names of users make no lines of their own."""
    wait_for(lambda: f"{OPENED}'n'" in broken.log(), "the line")
    assert counted(broken, "open_breakers") == stats(broken)["open-breakers"] == 1
    assert counted(broken, "breaker_opened") == 1 and counted(broken, "failed_fills") == FEWEST
    assert fetch(broken, "n:new").state == b"BUSY" and counted(broken, "protected") == 1
    names = [b"two\r\n%s", b"\xff\x00", *(f"many{n}" for n in range(8))]
    for name in names:
        protect(broken, "BREAKER", 50, 60_000, name=name)
        key = (name if isinstance(name, bytes) else name.encode()) + b":1"
        for _ in range(FEWEST):
            fail(broken, key)
    turn_clock(broken, 2000)
    wait_for(lambda: " and 5 more" in broken.log(), "the line of the others")
    lines = [line for line in broken.log().splitlines() if "breakers of namespaces" in line]
    assert len(lines) == 2 and "'two  %s'" in lines[1]
    turn_clock(broken, 100_000)
    fill(broken, "n:probe", grant(broken, "n:probe"))
    wait_for(lambda: f"{CLOSED}'n'" in broken.log(), "the line of its end")
    assert stats(broken)["open-breakers"] == len(names)
    broken("CACHE.STATS", "RESET")
    assert stats(broken, "NAMESPACE", "n")["breaker-opened"] == 0
    assert stats(broken)["open-breakers"] == len(names), "gauges are not reset"


@single
def test_a_flush_leaves_a_breaker_as_it_is(broken):
    broken("FLUSHALL")
    assert about(broken)[0] == 1 and fetch(broken, "n:new").state == b"BUSY"


# --- under load ------------------------------------------------------------------------------------
CLIENTS = 500
KEYS = [f"n:{key}" for key in range(60)]
AT_ONCE = 12
COOLDOWN = 250  # ms


@single
def test_an_origin_that_dies_under_500_clients_sees_the_probes_alone(fresh_server):
    """And nobody is refused what there is, nobody waits in vain when it is back."""
    server = fresh_server()
    protect(server, "MAXFILLS", AT_ONCE, "BREAKER", 50, COOLDOWN)
    with Origin() as origin, Load(server, origin, KEYS, CLIENTS) as load:
        wait_for(lambda: all(server("EXISTS", key) for key in KEYS[::2]), "the cache to be warm")
        server("CACHE.DEL", *KEYS[1::2])  # for these there is nothing stale

        dying = origin.count()
        origin.dead = True
        opened = lambda: about(server)[::2] == (1, 0)  # noqa: E731
        wait_for(opened, "the breaker to open, and the last lease of before to end")
        # Before it opened: the failures that it took, and what was on its way.
        probes = 1 + dying.seconds * 1000 / COOLDOWN
        assert dying.requests <= WINDOW + AT_ONCE + probes, vars(dying)

        resting, answers = origin.count(), load.count()
        protected = Since(server, "NAMESPACE", "n")
        wait_for(lambda: resting.failures >= 4, "probes")
        assert resting.requests <= 1 + resting.seconds * 1000 / COOLDOWN, vars(resting)
        assert resting.at_once == 1, "one probe at a time"
        assert answers["STALE", False] and answers["BUSY", False] and answers["without a hint"] == 0
        tokens = sum(count for what, count in answers.items() if isinstance(what, tuple) and what[1])
        # Of the vanishing ones' tokens the origin hears nothing.
        assert tokens <= 2 + resting.seconds * 1000 / COOLDOWN, answers
        assert protected("protected") > 100 and protected("breaker-opened") == 0, "it stays open"

        origin.dead = False
        before = [client.served for client in load.clients]
        wait_for(lambda: about(server)[0] == 0, "the breaker to close")
        served = lambda: all(c.served > was for c, was in zip(load.clients, before, strict=True))  # noqa: E731
        wait_for(served, "everybody to be served")
        assert origin.total.at_once <= AT_ONCE, "MAXFILLS, as the origin counts"
        assert origin.total.requests > 100
    assert_nothing_held(server)


@single
def test_maxfills_as_the_origin_counts_with_everybody_waiting(fresh_server):
    """Each client on a key of its own, all at once: every one computes, and no more than so many."""
    server = fresh_server()
    protect(server, "MAXFILLS", AT_ONCE)
    with Origin() as origin, Load(server, origin, [f"n:{key}" for key in range(2000)], CLIENTS) as load:
        wait_for(lambda: all(client.served for client in load.clients if not client.vanishes), "all")
        assert 1 < origin.total.at_once <= AT_ONCE
        assert stats(server, "NAMESPACE", "n")["promotions"] > 0
    assert_nothing_held(server)
