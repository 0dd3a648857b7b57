"""The fence: a fill is stored only where nothing happened, since its token was granted, that its value
cannot know of. A test for each clause, for SET and for TOUCH, under a lease and under a lock.
"""

import pytest

from harness.happenings import ABSENT, DATABASES, ENTRY, KEY, LONG, STORED
from harness.leases import assert_nothing_held, counted, lease, refused, wait_in_line
from harness.sample import meta, state
from harness.server import wait_for
from harness.tagged import DEBUG, hold, let_go, turn_clock
from harness.topologies import several_databases


def cases(of):
    """What happens, by name."""
    return [pytest.param(what, marks=several_databases) if what in DATABASES else what for what in of]


def grant(server, how):
    """A token for KEY."""
    return lease(server, KEY, "LEASE", LONG, "KEEP") if how == "FETCH" else server("CACHE.LOCK", KEY, LONG)


def happen(server, what):
    """What happens meanwhile: commands, or a function."""
    if callable(what):
        what(server)
    for line in [] if callable(what) else what:
        server(*line.split(" "))


def fill(server, by, token):
    """Whether a fill was stored."""
    if by == "TOUCH":
        return server("CACHE.TOUCH", KEY, "LEASE", token, "EX", 200, "GRACE", 200) == 1
    request = ("CACHE.SET", KEY, "filled", "LEASE", token, "EX", 200, "GRACE", 200, "TAGS", "a", "new")
    return server(*request) == b"OK"


def value(server):
    """What is under the key, whatever it is."""
    kind = server("TYPE", KEY)
    return server("CACHE.GET", KEY, "STALE") if kind in (b"cacheflow", b"string", b"none") else kind


def assert_judged(server, by, token, reasons):
    """The fill is stored, or refused for one of these reasons and counted so; its grant has ended."""
    before, refusals, fills = value(server), refused(server), counted(server, "fills")
    stored = fill(server, by, token)
    if "stored" in reasons:  # or else for one of the others
        reasons = STORED if stored else reasons
    assert stored is (not reasons), f"stored: {stored}"
    now = refused(server)
    new = {why: count for why, count in now.items() if count != refusals.get(why, 0)}
    if reasons:
        assert value(server) == before
        assert len(new) == 1 and new.popitem()[0] in reasons, (refusals, now)
        assert counted(server, "refused_fills") == sum(now.values())
    else:
        assert not new and state(server, KEY) == b"fresh"
        assert value(server) == (b"filled" if by == "SET" else before)
        assert meta(server, KEY)["ttl-ms"] > 200_000
    assert counted(server, "fills") == fills + stored
    # Whatever it was, it is over: by its token nothing is stored any more, nor held.
    assert not fill(server, by, token) and server("CACHE.EXTEND", KEY, token, LONG) == 0
    later = server("CACHE.LOCK", KEY, LONG)
    assert later > token and server("CACHE.UNLOCK", KEY, later) == 1
    assert_nothing_held(server)


@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
@pytest.mark.parametrize("by", ["SET", "TOUCH"])
@pytest.mark.parametrize("what", cases(ENTRY))
def test_what_happens_to_a_stale_entry(server, what, by, how):
    happening, *reasons = ENTRY[what]
    reasons = reasons[by == "TOUCH"]
    if reasons is None:  # what it says of an entry's own tags is for the test below
        return
    server("CACHE.SET", KEY, "5", "EX", 1000, "GRACE", 1000, "TAGS", "a", "b")
    assert server("CACHE.STALE", KEY) == 1
    token = grant(server, how)
    happen(server, happening)
    assert_judged(server, by, token, reasons)


@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
@pytest.mark.parametrize("what", cases(ABSENT))
def test_what_happens_to_an_absent_key(server, what, how):
    happening, reasons = ABSENT[what]
    token = grant(server, how)
    happen(server, happening)
    assert_judged(server, "SET", token, reasons)


def test_a_touch_needs_an_entry(server):
    token = grant(server, "FETCH")
    assert_judged(server, "TOUCH", token, ("absent",))
    server("SET", KEY, "native")
    token = grant(server, "LOCK")
    assert_judged(server, "TOUCH", token, ("absent",))


@pytest.mark.parametrize("there", [["SET space:k w"], ["RPUSH space:k w"], ["HSET space:k f w"]])
def test_a_native_key_that_was_there_is_replaced(server, there):
    """A writer locks it, whatever its type, and makes an entry of it."""
    happen(server, there)
    token = grant(server, "LOCK")
    assert_judged(server, "SET", token, STORED)
    happen(server, ["DEL space:k", *there])
    token = grant(server, "LOCK")
    happen(server, ["DEL space:k", *there])
    assert_judged(server, "SET", token, ("deleted", "native"))


@pytest.mark.parametrize("soft", [[], ["SOFT"]])
@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
def test_an_entry_that_is_dead_and_not_yet_swept(fresh_server, soft, how):
    """At the grant, and since: the sweep that comes later voids what it must and no more."""
    server = fresh_server(module_args=DEBUG)
    hold(server)
    for when in ("before", "since"):
        server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000, "TAGS", "b")
        if when == "since":
            server("CACHE.STALE", KEY)
            token = grant(server, how)
        assert server("CACHE.INVALIDATE", *soft, "TAGS", "b") == 1
        if when == "before":
            token = grant(server, how)
            let_go(server)
            hold(server)
        assert_judged(server, "SET", token, ("invalidated",) if when == "since" else STORED)
    let_go(server)


# --- tokens ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("by", ["SET", "TOUCH"])
@pytest.mark.parametrize("first", ["FETCH", "LOCK"])
@pytest.mark.parametrize("then", ["FETCH", "LOCK"])
def test_a_later_grant_supersedes(server, first, then, by):
    """The earlier token stores nothing, and does not end the later grant."""
    server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", KEY)
    token = grant(server, first)
    assert server("CACHE.EXTEND", KEY, token, 1) == 1
    wait_for(lambda: meta(server, KEY)["lease-ms"] == 0, "the grant to run out")
    later = grant(server, then)
    assert later > token
    assert not fill(server, by, token) and refused(server) == {"superseded": 1}
    assert server("CACHE.UNLOCK", KEY, token) == server("CACHE.EXTEND", KEY, token, LONG) == 0
    assert 0 < meta(server, KEY)["lease-ms"] <= LONG
    assert_judged(server, by, later, STORED)


@pytest.mark.parametrize("by", ["SET", "TOUCH"])
@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
def test_one_that_merely_ran_out_still_fills(server, how, by):
    server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", KEY)
    token = grant(server, how)
    assert server("CACHE.EXTEND", KEY, token, 1) == 1
    wait_for(lambda: server("CACHE.EXTEND", KEY, token, 1) == 0, "the grant to run out")
    assert_judged(server, by, token, STORED)


@pytest.mark.parametrize("by", ["SET", "TOUCH"])
@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
@pytest.mark.parametrize("retry", [[], ["RETRY", 0], ["RETRY", 1]])
def test_one_that_was_given_up_does_not(server, how, by, retry):
    server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", KEY)
    token = grant(server, how)
    assert server("CACHE.UNLOCK", KEY, token, *retry) == 1
    assert_judged(server, by, token, ("given_up", "unknown"))


@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
def test_one_whose_connection_closed_still_fills(server, how):
    """By another connection of a process that lives, as long as nobody else holds the lease."""
    holder = server.connect()
    token = lease(holder, KEY) if how == "FETCH" else holder("CACHE.LOCK", KEY, LONG)
    holder.close()
    if how == "FETCH":
        wait_for(lambda: counted(server, "leases") == 0, "the lease to be given up")
    assert_judged(server, "SET", token, STORED)
    holder = server.connect()
    server("CACHE.DEL", KEY)
    token = lease(holder, KEY)
    holder.close()
    wait_for(lambda: counted(server, "leases") == 0, "the lease to be given up")
    later = lease(server, KEY)
    assert not fill(server, "SET", token) and fill(server, "SET", later)


@pytest.mark.parametrize("by", ["SET", "TOUCH"])
def test_the_token_of_another_key_or_database(topology, by):
    """It fills nothing but its own, and ends nothing but its own."""
    server = topology.primary
    for key in (KEY, "other"):
        server("CACHE.SET", key, "old", "EX", 1000, "GRACE", 1000)
        server("CACHE.STALE", key)
    third = KEY if topology.databases > 1 else "third"
    elsewhere = server.connect(db=min(1, topology.databases - 1))
    others = lease(server, "other", "KEEP"), lease(elsewhere, third, "KEEP")
    token = grant(server, "FETCH")
    for foreign in (*others, token + 1, token - 1, 0, 1, -5, 2**53 - 1, 2**53, 2**63 - 1, -(2**63)):
        assert not fill(server, by, foreign)
        assert value(server) == b"old"
    assert server("CACHE.SET", "other", "w", "LEASE", others[0]) == b"OK"
    assert elsewhere("CACHE.SET", third, "w", "LEASE", others[1]) == b"OK"
    assert refused(server).keys() <= {"unknown", "superseded"}
    assert_judged(server, by, token, STORED)


@pytest.mark.topology("single")
@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
def test_it_is_remembered_for_lease_max(fresh_server, how):
    """For at least so long after it ran out; what is no longer remembered is refused, never guessed."""
    server = fresh_server(module_args=DEBUG)
    server.config("cacheflow.lease-max", 100_000)
    token = grant(server, how)
    assert server("CACHE.EXTEND", KEY, token, 1000) == 1
    turn_clock(server, 99_000)
    assert_judged(server, "SET", token, STORED)
    server("CACHE.DEL", KEY)
    token = grant(server, how)
    assert server("CACHE.EXTEND", KEY, token, 1000) == 1
    turn_clock(server, 1_000_000)
    wait_for(lambda: counted(server, "lease_keys") == 0, "it to be forgotten")
    assert_judged(server, "SET", token, ("unknown",))


def test_a_token_does_not_survive_a_restart_unless_it_is_a_locks(server):
    """After it nobody can tell what happened: the fill is refused, and the token is never given again."""
    token = grant(server, "FETCH")
    lock = server("CACHE.LOCK", "lock", LONG)
    server("SAVE")
    server.restart()
    assert not fill(server, "SET", token) and refused(server) == {"unknown": 1}
    assert server("CACHE.SET", "lock", "v", "LEASE", lock, "EX", 100) == b"OK"
    assert grant(server, "FETCH") > lock


def test_a_lock_whose_fence_is_broken_is_still_a_lock(server):
    """A write by another refuses its fill; UNLOCK and EXTEND still answer 1, and nobody else has it."""
    for happening in ("CACHE.SET space:k w", "CACHE.DEL space:k", "CACHE.STALE space:k", "SET space:k w",
                      "CACHE.INVALIDATE NAMESPACE space"):  # fmt: skip
        server("DEL", KEY)
        token = grant(server, "LOCK")
        happen(server, [happening])
        assert server("CACHE.LOCK", KEY, 1000) is None, happening
        assert server("CACHE.EXTEND", KEY, token, LONG) == 1, happening
        if "SET" not in happening:
            assert server("CACHE.FETCH", KEY)[0] == b"BUSY", happening
        assert server("CACHE.UNLOCK", KEY, token) == 1, happening
        server("DEL", KEY)
        token = grant(server, "LOCK")
        happen(server, [happening])
        assert server("CACHE.SET", KEY, "mine", "LEASE", token) is None, happening
        assert server("CACHE.UNLOCK", KEY, token) == 0, "the fill ended it, refused or not"


@pytest.mark.parametrize("soft", [[], ["SOFT"]])
@pytest.mark.parametrize("what", [["TAGS", "a"], ["NAMESPACE", "space"]])
def test_after_an_invalidation_the_next_computes_at_once(server, what, soft):
    """Whoever held a lease: it is void, and he is told so when he comes."""
    server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000, "TAGS", "a")
    server("CACHE.STALE", KEY)
    token = grant(server, "FETCH")
    assert server("CACHE.FETCH", KEY)[:3] == [b"STALE", b"old", None]
    server("CACHE.INVALIDATE", *soft, *what)
    state_, value_, later, _ = server("CACHE.FETCH", KEY)
    assert (state_, value_) == ((b"STALE", b"old") if soft else (b"MISS", None)) and later > token
    assert server("CACHE.UNLOCK", KEY, token) == 0
    assert not fill(server, "SET", token) and fill(server, "SET", later)


@pytest.mark.parametrize("command", ["CACHE.DEL", "CACHE.STALE"])
def test_so_does_the_next_after_a_deletion(server, command):
    for there in (False, True):
        if there:
            server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000)
            server("CACHE.STALE", KEY)
        token = grant(server, "FETCH")
        server(command, KEY)
        later = grant(server, "FETCH")
        assert later > token
        assert not fill(server, "SET", token) and fill(server, "SET", later)
        server("CACHE.DEL", KEY)


# --- who waits -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
@pytest.mark.parametrize("by", ["SET", "TOUCH"])
def test_after_a_refusal_the_longest_waiter_is_promoted(server, how, by):
    """Nobody is given the value that was refused."""
    token = grant(server, how)
    waiting = [wait_in_line(server, "CACHE.FETCH", KEY, "BLOCK", 0) for _ in range(3)]
    server("CACHE.INVALIDATE", "TAGS", "new")
    assert not fill(server, by, token)
    state_, value_, later, _ = waiting[0].read()
    assert (state_, value_) == (b"MISS", None) and later > token
    assert meta(server, KEY)["waiters"] == 2
    assert fill(server, "SET", later)
    for waiter in waiting[1:]:
        assert waiter.read()[:3] == [b"FRESH", b"filled", None]
    assert_nothing_held(server)


@pytest.mark.parametrize("what", ["CACHE.DEL", "TAGS", "NAMESPACE"])
def test_who_waits_on_a_void_lease_is_promoted(server, what):
    """A lease is void once the key is deleted, or what lay there invalidated: then there is nobody to
    wait for. (An absent key's is void once its namespace was; of its tags only the fill will tell.)"""
    server("CACHE.SET", KEY, "old", "EX", 1000, "GRACE", 1000, "TAGS", "a")
    server("CACHE.STALE", KEY)
    token = grant(server, "FETCH")
    waiter = wait_in_line(server, "CACHE.FETCH", KEY, "MAXSTALE", 0, "BLOCK", 0)
    server(*(["CACHE.DEL", KEY] if what == "CACHE.DEL" else ["CACHE.INVALIDATE", what, "a", "space"]))
    state_, value_, later, _ = waiter.read()
    assert (state_, value_) == (b"MISS", None) and later > token
    assert not fill(server, "SET", token) and fill(server, "SET", later)


def test_a_plain_set_needs_no_token_and_wakes(server):
    """It stores, wakes the waiters with its value, and voids the lease."""
    token = grant(server, "FETCH")
    waiting = [wait_in_line(server, "CACHE.FETCH", KEY, "BLOCK", 0) for _ in range(3)]
    assert server("CACHE.SET", KEY, "plain", "EX", 100) == b"OK"
    assert [waiter.read()[:3] for waiter in waiting] == [[b"FRESH", b"plain", None]] * 3
    assert not fill(server, "SET", token) and value(server) == b"plain"
    assert_nothing_held(server)


@several_databases
def test_swapdb(server):
    """What a lease was to fill is another's now."""
    one = server.connect(db=1)
    one("CACHE.SET", KEY, "one", "EX", 100)
    token, elsewhere = grant(server, "FETCH"), lease(one, "other", "KEEP")
    assert server("SWAPDB", 0, 1) == b"OK"
    assert not fill(server, "SET", token) and value(server) == b"one"
    for connection in (one, server):
        assert connection("CACHE.SET", "other", "w", "LEASE", elsewhere) is None
        assert connection("CACHE.SET", KEY, "w", "LEASE", token) is None
    assert one("EXISTS", KEY, "other") == 0
    assert lease(one, KEY) > elsewhere
    one("CACHE.DEL", KEY)


@several_databases
@pytest.mark.parametrize("how", [("MOVE", KEY, 1), ("COPY", KEY, KEY, "DB", 1)])
def test_what_a_transaction_brings_to_another_database(server, how):
    """Valkey 9 names the transaction's database where it tells of the key."""
    there = server.connect(db=1)
    token = lease(there, KEY, "LEASE", LONG, "KEEP")
    server("CACHE.SET", KEY, "brought", "EX", 100)
    server("MULTI")
    server(*how)
    assert server("EXEC") == [1]
    assert there("CACHE.SET", KEY, "filled", "LEASE", token) is None
    assert there("CACHE.GET", KEY) == b"brought"


@pytest.mark.parametrize("how", ["MULTI", "script"])
def test_the_fence_holds_within_transactions_and_scripts(server, how):
    token = grant(server, "FETCH")
    requests = [("CACHE.INVALIDATE", "TAGS", "new"),
                ("CACHE.SET", KEY, "filled", "LEASE", token, "TAGS", "new"),
                ("CACHE.FETCH", KEY, "BLOCK", 0, "LEASE", LONG)]  # fmt: skip
    if how == "MULTI":
        server("MULTI")
        for request in requests:
            server(*request)
        replies = server("EXEC")
    else:
        replies = [server("EVAL", "return redis.call(unpack(ARGV))", 0, *request) for request in requests]
    assert replies[1] is None
    state_, value_, later, _ = replies[2]
    assert (state_, value_) == (b"MISS", None) and later > token
    assert fill(server, "SET", later)
