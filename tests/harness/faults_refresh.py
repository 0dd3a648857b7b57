"""Panics at the borders of CACHE.REFRESH's workers, as faults.py has those of leases: a function each that
provokes the panic and says what must come of it."""

from .faults import arm, panics
from .leases import assert_nothing_held, counted
from .server import wait_for

LOST = "ERR internal error while waiting for work; see the server's log"


def _worker(server, *options):
    """A connection that waits for work."""
    connection, before = server.connect(), counted(server, "refresh_workers")
    connection.send("CACHE.REFRESH", "BLOCK", *(options or (0,)))
    wait_for(lambda: counted(server, "refresh_workers") > before, "the worker to wait")
    return connection


def _hot(server):
    """A key that is due."""
    server("CACHE.SET", "hot", "v", "EX", 1000, "GRACE", 1000)
    for _ in range(3):
        assert server("CACHE.GET", "hot") == b"v"
    assert server("CACHE.STALE", "hot") == 1


def _end(server):
    """Nothing is left of it."""
    server("CACHE.DEL", "hot")
    assert_nothing_held(server)
    assert counted(server, "refresh_workers") == 0


def _refresh_turn(server):
    """The turn is lost, no more: the cron has another begin."""
    worker, before = _worker(server), panics(server)
    _hot(server)
    wait_for(lambda: panics(server) > before, "a panic in the timer's turn")
    arm(server, "")
    assert worker.read()[0][0] == b"hot"
    _end(server)


def _refresh_reply(server):
    """Who waited is told that there was no answer; the lease goes with its connection."""
    worker = _worker(server)
    _hot(server)
    assert str(worker.read()) == LOST
    worker.close()
    _end(server)


def _refresh_timeout(server):
    """Unblocked by hand, it is answered by an error; its place goes when its turn comes."""
    worker = server.connect()
    number = worker("CLIENT", "ID")
    worker.send("CACHE.REFRESH", "BLOCK", 600)
    wait_for(lambda: counted(server, "refresh_workers") == 1, "the worker to wait")
    assert server("CLIENT", "UNBLOCK", number) == 1
    assert str(worker.read()) == LOST and worker("PING") == b"PONG"
    wait_for(lambda: counted(server, "refresh_workers") == 0, "its time to be up")
    _end(server)


def _refresh_gone(server):
    """Its place goes when its turn comes, and costs a lease at most."""
    worker, before = _worker(server, 600), panics(server)
    worker.close()
    wait_for(lambda: panics(server) > before, "a panic at the end of who waits")
    wait_for(lambda: counted(server, "refresh_workers") == 0, "its time to be up")
    _end(server)


def _refresh_free(server):
    """The answer is lost to the process, no more."""
    worker = _worker(server)
    _hot(server)
    assert worker.read()[0][0] == b"hot"
    _end(server)


OF_REFRESH = (_refresh_turn, _refresh_reply, _refresh_timeout, _refresh_gone, _refresh_free)
