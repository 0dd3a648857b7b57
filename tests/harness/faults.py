"""Panics made on purpose, and those at the borders of the sweep and of leases, locks and waiters: a function
each that provokes the panic and says what must come of it."""

from .leases import assert_nothing_held, counted, lease, refused, wait_in_line, waiters
from .server import wait_for

LOST = "ERR internal error while waiting; see the server's log"


def panics(server):
    """The counter."""
    return int(server.info()["cacheflow_panics"])


def arm(server, name):
    """Make a border panic from now on; "" ends it."""
    assert server("CACHE.DEBUG", "FAULT", name) == b"OK"


def _sweep(server):
    """The slice is lost, no more: the cron has another begin."""
    server("CACHE.DEBUG", "SWEEP", 1)
    server("CACHE.SET", "victim", "v", "TAGS", "victims")
    before = panics(server)
    assert server("CACHE.INVALIDATE", "TAGS", "victims") == 1
    wait_for(lambda: panics(server) > before, "a panic in the sweep")
    assert server("CACHE.GET", "victim", "STALE") is None
    arm(server, "")
    wait_for(lambda: server("EXISTS", "victim") == 0, "the sweep that the cron began")


def _turn(server):
    """A short slice between the timer's is lost, no more."""
    server("CACHE.DEBUG", "SWEEP", 1)
    server("CONFIG", "SET", "cacheflow.sweep-budget-us", 10)
    victims = [f"victim:{n}" for n in range(3000)]
    server.connect().pipeline([("CACHE.SET", victim, "v", "TAGS", "victims") for victim in victims])
    before = panics(server)
    assert server("CACHE.INVALIDATE", "TAGS", "victims") == len(victims)
    wait_for(lambda: panics(server) > before, "a panic in a turn of the event loop")
    arm(server, "")
    wait_for(lambda: server("EXISTS", *victims) == 0, "the sweep")


def _cron(server):
    """The sweep does not need it."""
    server("CACHE.DEBUG", "SWEEP", 1)
    before = panics(server)
    wait_for(lambda: panics(server) > before + 2, "ticks")
    server("CACHE.SET", "victim", "v", "TAGS", "victims")
    assert server("CACHE.INVALIDATE", "TAGS", "victims") == 1
    wait_for(lambda: server("EXISTS", "victim") == 0, "the sweep")


def _leases(server):
    """The turn is lost, no more: what was due is due in the next."""
    token = lease(server, "held", "LEASE", 600_000)
    waiter = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0)
    before = panics(server)
    assert server("CACHE.UNLOCK", "held", token) == 1
    wait_for(lambda: panics(server) > before, "a panic in the timer's turn")
    arm(server, "")
    state, _, token, _ = waiter.read()
    assert state == b"MISS" and server("CACHE.UNLOCK", "held", token) == 1
    assert_nothing_held(server)


def _leases_again(server):
    """The turn was done; the next deadline is kept once anybody asks for anything."""
    token = lease(server, "held", "LEASE", 600_000)
    first = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0, "LEASE", 1)
    second = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0, "LEASE", 600_000)
    before = panics(server)
    assert server("CACHE.UNLOCK", "held", token) == 1
    assert first.read()[0] == b"MISS", "the first was promoted"
    wait_for(lambda: panics(server) > before, "a panic where the timer is set anew")
    arm(server, "")
    assert lease(server, "other") and server("CACHE.DEL", "other") == 0
    state, _, token, _ = second.read()
    assert state == b"MISS" and server("CACHE.UNLOCK", "held", token) == 1
    assert_nothing_held(server)


def _wake(server):
    """Who cannot be answered is told so, and the next is."""
    token = lease(server, "held", "LEASE", 600_000)
    unlucky = [wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0) for _ in range(3)]
    assert server("CACHE.SET", "held", "v", "LEASE", token, "EX", 1000) == b"OK"
    assert [str(waiter.read()) for waiter in unlucky] == [LOST] * 3
    assert server("CACHE.FETCH", "held")[:2] == [b"FRESH", b"v"]
    assert server("CACHE.DEL", "held") == 1
    token = server("CACHE.LOCK", "held", 600_000)
    unlucky = wait_in_line(server, "CACHE.LOCK", "held", 5, "BLOCK", 0)
    lucky = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0)
    timer = server.connect()
    timer.send("CACHE.FETCH", "held", "BLOCK", 1)
    assert str(timer.read()) == LOST, "nor is a time that is up lost"
    assert server("CACHE.UNLOCK", "held", token) == 1
    assert str(unlucky.read()) == LOST
    assert str(lucky.read()) == LOST, "and so was the next, whose turn it then was"
    assert_nothing_held(server)


def _client_event(server):
    """The lease of who went away is not given up, and so lasts until its end."""
    holder = server.connect()
    token = lease(holder, "held", "LEASE", 600_000)
    before = panics(server)
    holder.close()
    wait_for(lambda: panics(server) > before, "a panic at the end of a connection")
    assert server("CACHE.FETCH", "held")[0] == b"BUSY"
    assert server("CACHE.EXTEND", "held", token, 1) == 1
    waiter = server.connect()
    assert waiter("CACHE.FETCH", "held", "BLOCK", 0)[0] == b"MISS"
    server("CACHE.DEL", "held")
    assert_nothing_held(server)


def _end_event(server):
    """Why an entry went is not known: a fill is refused that might be stored."""
    server("CACHE.SET", "held", "v", "PX", 20)
    server("CACHE.STALE", "held")
    wait_for(lambda: server("EXISTS", "held") == 0, "the end of the first")
    server("CACHE.SET", "held", "v", "PX", 1, "PGRACE", 50)
    token = server("CACHE.LOCK", "held", 600_000)
    before = panics(server)
    wait_for(lambda: server("EXISTS", "held") == 0 and panics(server) > before, "the end of the second")
    assert server("CACHE.SET", "held", "w", "LEASE", token) is None
    assert "written" in refused(server)
    assert_nothing_held(server)


def _waiter_reply(server):
    """Who waited is told that there was no answer; what became of the lease is as it would be."""
    token = lease(server, "held", "LEASE", 600_000)
    waiter = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0)
    assert server("CACHE.UNLOCK", "held", token) == 1
    assert str(waiter.read()) == LOST
    assert server("CACHE.FETCH", "held")[0] == b"BUSY", "it was granted to who heard nothing of it"
    waiter.close()
    wait_for(lambda: counted(server, "leases") == 0, "the connection's end to give the lease up")
    assert_nothing_held(server)


def _waiter_timeout(server):
    """Unblocked by hand, it is answered by an error; its place in the line goes when its turn comes."""
    token = lease(server, "held", "LEASE", 600_000)
    waiter = server.connect()
    number = waiter("CLIENT", "ID")
    waiter.send("CACHE.FETCH", "held", "BLOCK", 0)
    wait_for(lambda: waiters(server, "held") == 1, "the waiter")
    assert server("CLIENT", "UNBLOCK", number) == 1
    assert str(waiter.read()) == LOST
    assert waiter("PING") == b"PONG"
    assert server("CACHE.SET", "held", "v", "LEASE", token) == b"OK"
    assert waiter("CACHE.FETCH", "held")[:2] == [b"FRESH", b"v"]
    assert server("CACHE.DEL", "held") == 1
    assert_nothing_held(server)


def _waiter_gone(server):
    """Its place in the line goes when its turn comes, and costs a lease at most."""
    token = lease(server, "held", "LEASE", 600_000)
    first = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0, "LEASE", 5)
    second = wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0)
    before = panics(server)
    first.close()
    wait_for(lambda: panics(server) > before, "a panic at the end of who waits")
    assert server("CACHE.UNLOCK", "held", token) == 1
    state, _, token, _ = second.read()
    assert state == b"MISS"
    assert server("CACHE.SET", "held", "v", "LEASE", token) == b"OK" and server("CACHE.DEL", "held") == 1
    assert_nothing_held(server)


def _waiter_free(server):
    """The copy of a value is lost to the process, no more."""
    token = lease(server, "held", "LEASE", 600_000)
    waiting = [wait_in_line(server, "CACHE.FETCH", "held", "BLOCK", 0) for _ in range(3)]
    assert server("CACHE.SET", "held", "v", "LEASE", token) == b"OK"
    assert [waiter.read()[:2] for waiter in waiting] == [[b"FRESH", b"v"]] * 3
    assert server("CACHE.DEL", "held") == 1
    assert_nothing_held(server)


OF_SWEEP = (_sweep, _turn, _cron)
OF_LEASES = (
    _leases,
    _leases_again,
    _wake,
    _client_event,
    _end_event,
    _waiter_reply,
    _waiter_timeout,
    _waiter_gone,
    _waiter_free,
)
