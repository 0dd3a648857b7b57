"""Leases seen through the commands: what a FETCH answers, and clients that wait."""

import select
from typing import NamedTuple

from .resp import ReplyError, fields
from .sample import meta
from .server import wait_for
from .tagged import figure

LIMIT = 20.0  # seconds: a bound for whatever must come, not a measurement
SILENCE = 0.1  # seconds in which somebody who is wrongly answered would be
SECTION = "cacheflow_leases"
GAUGES = ("leases", "locks", "waiters")


class Fetched(NamedTuple):
    """What a FETCH answers."""

    state: bytes
    value: bytes | None
    token: int | None
    ms: int
    tags: list | None = None


def fetch(connection, key, *options):
    """CACHE.FETCH, its answer by names."""
    return Fetched(*connection("CACHE.FETCH", key, *options))


def grant(connection, key, *options):
    """A token for a key that is missing."""
    found = fetch(connection, key, *options)
    assert (found.state, found.value) == (b"MISS", None) and found.token > 0, found
    return found.token


def held_for(server, key):
    """META's lease-ms: 0 where nothing is held."""
    return (meta(server, key) or {"lease-ms": 0})["lease-ms"]


def waiters(server, key):
    """META's waiters."""
    return (meta(server, key) or {"waiters": 0})["waiters"]


def stats(server, *options):
    """CACHE.STATS."""
    return fields(server("CACHE.STATS", *options))


class Since:
    """What CACHE.STATS counted since this was made: since("grants")."""

    def __init__(self, server, *options):
        self.server, self.options = server, options
        self.before = stats(server, *options)

    def __call__(self, name):
        return stats(self.server, *self.options)[name] - self.before[name]


def gauges(server):
    """Leases, locks and waiters that there are."""
    found = stats(server)
    return found["leases"], found["locks"], found["waiters"]


def is_readable(connection, seconds=0.0):
    """Whether a reply has begun to come."""
    return bool(select.select([connection.sock], [], [], seconds)[0])


class Waiter:
    """A client of its own that a command holds back; made when the server says that it waits.

    One whose wait `ends` by itself may have been answered already: on a busy machine a short one
    is over before anybody has looked.
    """

    def __init__(self, server, *command, db=0, protocol=2, ends=False):
        self.connection = server.connect(protocol=protocol, db=db)
        self.id = self.connection("CLIENT", "ID")
        look = server if db == 0 else server.connect(db=db)
        key = command[1]
        before = waiters(look, key)
        self.connection.send(*command)

        def waits():
            return waiters(look, key) == before + 1 or (ends and is_readable(self.connection))

        wait_for(waits, f"{command} to wait", LIMIT)

    def answer(self):
        """The answer, a FETCH's by names; errors as ReplyError objects."""
        self.connection.sock.settimeout(LIMIT)
        reply = self.connection.read()
        return Fetched(*reply) if isinstance(reply, list) else reply

    def waits(self):
        """Whether no answer comes for a moment."""
        return not is_readable(self.connection, SILENCE)

    def close(self):
        """Go."""
        self.connection.close()


def end_of(waiter):
    """How the server ended a wait that it could not go on with: the error, or CLOSED."""
    try:
        reply = waiter.answer()
    except ConnectionError:
        return "CLOSED"
    assert isinstance(reply, ReplyError), reply
    return str(reply)


def fetcher(server, key, *options, block=0, db=0):
    """A FETCH that waits."""
    return Waiter(server, "CACHE.FETCH", key, "BLOCK", block, *options, db=db, ends=block > 0)


def locker(server, key, ms=60_000, *, block=0, db=0):
    """A LOCK that waits."""
    return Waiter(server, "CACHE.LOCK", key, ms, "BLOCK", block, db=db, ends=block > 0)


def expires(server, key):
    """Wait until nothing is held on a key."""
    wait_for(lambda: held_for(server, key) == 0, f"the end of what is held on {key}", LIMIT)


def promoted(waiter):
    """A waiter's new token: it is the one that computes now."""
    found = waiter.answer()
    assert found[:2] == (b"MISS", None) and found.token > 0, found
    return found.token


def in_line(server, key, count, *options):
    """So many FETCHes, by arrival."""
    return [fetcher(server, key, *options) for _ in range(count)]


def fill(server, key, token, value="v", *options):
    """A fill that is stored."""
    assert server("CACHE.SET", key, value, "LEASE", token, *options) == b"OK"


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
