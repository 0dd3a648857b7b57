"""Leases, locks and waiters seen through the commands: who waits awaited, the gauges at zero."""

from .leases import waiters
from .server import wait_for
from .tagged import figure

SECTION = "cacheflow_leases"
GAUGES = ("leases", "locks", "waiters")


def lease(connection, key, *options):
    """The token of a FETCH that must be given one."""
    token = connection("CACHE.FETCH", key, *options)[2]
    assert token is not None, f"no lease on {key!r}"
    return token


def counted(server, name):
    """A counter or gauge of the leases' INFO section."""
    return figure(server, name, SECTION)


def refused(server):
    """How many fills were refused, by reason; those that were not are left out."""
    found, prefix = {}, "cacheflow_refused_"
    for name, value in server.info(SECTION).items():
        if name.startswith(prefix) and name != prefix + "fills" and int(value):
            found[name.removeprefix(prefix)] = int(value)
    return found


def wait_in_line(server, *request, db=0, key=None):
    """A connection of its own that has sent a request which blocks, once it does. Requests wait in the
    order in which this is called."""
    looker, connection = server.connect(db=db), server.connect(db=db)
    key = request[1] if key is None else key
    before = waiters(looker, key)
    connection.send(*request)
    wait_for(lambda: waiters(looker, key) > before, "the client to wait")
    looker.close()
    return connection


def assert_nothing_held(server):
    """Every gauge is back at zero, once what is due has been done."""
    wait_for(lambda: not any(counted(server, name) for name in GAUGES), "the leases to end")
