"""Writers and readers at a cluster while something befalls it: what they did, as a History.

Each row of the database has a key in every third of the slots, so that one invalidation must reach
several primaries. Every client is a thread with a connection of its own that outlives lost
connections, timeouts, redirects and a cluster that is down; whatever fails is recorded as failed, and
the next is tried at another node. The load is low: a machine of two cores runs the servers too.
"""

import random
import threading
import time
from contextlib import closing

from .cluster import SLOTS, slot_of
from .cluster_client import ClusterConnection
from .dataset import assert_same, snapshot
from .history import ERROR, LOST, PARTIAL, Fill, History, Invalidation, Read, Write, check
from .resp import ReplyError
from .server import wait_for
from .topology import assert_verified

ROWS = 24
THIRDS = 3
TTL = 600  # seconds: nothing expires by itself
LIMIT = 60.0
BREATH = 0.2  # seconds that a client waits where nobody answers


class Database:
    """Rows with versions, in this process."""

    def __init__(self, history, rows):
        self._history, self._lock = history, threading.Lock()
        self._versions = dict.fromkeys(range(rows), 0)
        for row in range(rows):
            self.write(row)

    def write(self, row):
        """The row's next version is there."""
        start = time.monotonic()
        with self._lock:
            version = self._versions[row] = self._versions[row] + 1
            self._history.writes.append(Write(row, version, start, time.monotonic()))
        return version

    def read(self, row):
        """The version of a row."""
        return self._versions[row]


def keys_of(row):
    """A key in each third of the slots."""
    found = {}
    at = 0
    while len(found) < THIRDS:
        key = f"r{row}:{at}"
        found.setdefault(slot_of(key) * THIRDS // SLOTS, key)
        at += 1
    return [found[third] for third in range(THIRDS)]


def version_in(value):
    """The version that a cached value holds."""
    return int(value.rpartition(b":")[2])


class Client:
    """A client that does not give up. `homes` are where it sends what has no key, one after another."""

    def __init__(self, load, number, timeout):
        self.load, self.history, self.chance = load, load.history, random.Random(1000 * load.seed + number)
        self.timeout, self._number, self._connection = timeout, number, None

    @property
    def connection(self):
        """A connection, made anew after a failure."""
        if self._connection is None:
            cluster, homes = self.load.cluster, self.load.homes
            home = homes[self._number % len(homes)]
            self._connection = ClusterConnection(
                home.port,
                seeds=[node.port for node in cluster.nodes],
                commands=cluster.commands,
                timeout=self.timeout,
                patience=1.0,
            )
            self._connection.refresh()
        return self._connection

    def ask(self, *args):
        """The reply, an error as its text's exception: (reply, start, end, port that was asked)."""
        key = args[1] if args[0] in ("CACHE.GET", "CACHE.FETCH", "CACHE.SET") else None
        start, connection = time.monotonic(), self._connection
        try:
            connection = self.connection
            reply = connection(*args)
        except ReplyError as error:
            reply = error
        except OSError as error:
            reply = error
            self._leave()
        end = time.monotonic()
        port = connection.owner(key) if connection else 0  # whom it last believed to be the owner
        if isinstance(reply, Exception):
            self.load.stopped.wait(self.chance.random() * BREATH)
        return reply, start, end, port

    def _leave(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._number += 1

    def run(self):
        """Until the load ends."""
        try:
            while not self.load.stopped.is_set():
                self.step()
        except Exception as error:  # the test is to fail with it
            self.load.failures.append(error)
            raise
        finally:
            self._leave()

    def note(self, row, key, how, value, asked):
        """A read: what was asked, and the value in the reply."""
        reply, start, end, port = asked
        found = value if isinstance(reply, Exception) is False else f"{type(reply).__name__} {reply}"
        if isinstance(found, bytes):
            found = version_in(found)
        self.history.reads.append(Read(row, key, start, end, found, how, port))

    def get(self, row, key):
        """CACHE.GET."""
        asked = self.ask("CACHE.GET", key)
        self.note(row, key, "GET", asked[0], asked)


class Writer(Client):
    """Writes a row, then invalidates its tag."""

    def step(self):
        """One row."""
        row = self.chance.randrange(ROWS)
        self.load.database.write(row)
        words = ["LOCAL"] if self.load.local else []
        reply, start, end, port = self.ask("CACHE.INVALIDATE", *words, "TAGS", f"row:{row}")
        if isinstance(reply, ReplyError):
            text = str(reply)
            outcome = PARTIAL if text.startswith(PARTIAL) else f"{ERROR} {text}"
        else:
            outcome = reply if isinstance(reply, int) else LOST
        self.history.invalidations.append(Invalidation(row, start, end, outcome, port))
        if isinstance(outcome, int) and self.chance.random() < 0.5:  # nobody looks sooner
            self.get(row, self.chance.choice(self.load.keys[row]))
        time.sleep(self.chance.random() * 2 * self.load.rest)


class Reader(Client):
    """Gets what is cached, or loads it and stores it."""

    def step(self):
        """One key."""
        row = self.chance.randrange(ROWS)
        key = self.load.keys[row][self.chance.randrange(THIRDS)]
        if self.chance.random() < 0.4:
            self.get(row, key)
        else:
            self.fetch(row, key)
        time.sleep(self.chance.random() * self.load.pause)

    def fetch(self, row, key):
        """CACHE.FETCH, and if it is our turn the rest."""
        waits = ("BLOCK", 50) if self.chance.random() < 0.3 else ()
        asked = self.ask("CACHE.FETCH", key, *waits)
        reply = asked[0]
        state, value, token, _ = (None,) * 4 if isinstance(reply, Exception) else reply
        self.note(row, key, "FETCH", value, asked)
        if token is None and not (state == b"BUSY" and not self.load.leases):
            return
        time.sleep(self.chance.random() * 0.003)
        version = self.load.database.read(row)
        time.sleep(self.chance.random() * 0.01)
        fence = ("LEASE", token) if self.load.leases else ()
        stored, start, end, port = self.ask(
            *("CACHE.SET", key, f"{row}:{version}", *fence, "EX", TTL, "TAGS", "all", f"row:{row}")
        )
        outcome = str(stored) if isinstance(stored, Exception) else stored is not None
        self.history.fills.append(Fill(row, key, start, end, version, outcome, port))


class Workload:
    """Clients at a cluster, for some seconds, and what is to befall it meanwhile."""

    def __init__(self, cluster, writers=2, readers=5, seed=0, homes=None, local=False, leases=True):
        """`homes`: the nodes that invalidations are sent to; `local` and `leases=False` do it wrongly."""
        self.cluster, self.seed, self.homes = cluster, seed, homes or list(cluster.nodes)
        self.local, self.leases = local, leases
        self.pause, self.rest = 0.003, 0.012  # at most between reads, on average between writes
        self.history = History()
        self.database = Database(self.history, ROWS)
        self.keys = [keys_of(row) for row in range(ROWS)]
        self.stopped, self.failures = threading.Event(), []
        # An invalidation may take its own time, 1 s, before it is PARTIAL.
        clients = [Writer(self, number, 3.0) for number in range(writers)]
        clients += [Reader(self, number, 1.0) for number in range(writers, writers + readers)]
        self._threads = [threading.Thread(target=client.run, daemon=True) for client in clients]

    def run(self, seconds, nemesis=None, lead=1.0, tail=1.0):
        """Load for so long, and until `tail` seconds after nemesis(self), which comes after `lead`, has
        ended. The history goes on until all clients have."""
        began = time.monotonic()
        for thread in self._threads:
            thread.start()
        try:
            if nemesis:
                time.sleep(lead)
                nemesis(self)
                time.sleep(tail)
            time.sleep(max(0, began + seconds - time.monotonic()))
        finally:
            self.stopped.set()
            for thread in self._threads:
                thread.join(LIMIT)
        assert not self.failures, self.failures
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def settle(self):
        """Wait until all is well and every invalidation has reached everybody; read every key once more;
        the report. From here on PARTIAL ones are done, too."""
        self.cluster.wait_ok()
        for node in self.cluster.nodes:
            wait_for(lambda node=node: _figure(node, "relay_incomplete") == 0, "the relays", LIMIT, 0.03)
        settled = time.monotonic()
        with closing(Last(self, 99, LIMIT)) as last:
            last.read_all()
        return check(self.history, settled)

    def assert_well(self):
        """Every index is what its keyspace is, and replicas hold what their primaries hold."""
        for node in self.cluster.nodes:
            assert_verified(node)
        for replica in self.cluster.replicas():
            primary = self.cluster.primary_of(replica)
            replica.wait_replica_of(primary)
            assert_same(snapshot(primary), snapshot(replica), f"{primary.port} and {replica.port}")
        for node in self.cluster.nodes:
            node.close_connections()

    def keys_of(self, node):
        """Our keys that lie in a node's slots, dead or alive: (row, key)."""
        slots = self.cluster.alive()[0].view()[node.id]
        every = ((row, key) for row, keys in enumerate(self.keys) for key in keys)
        return [(row, key) for row, key in every if slots.owns(slot_of(key))]

    def slots_of(self, node):
        """The slots of our keys that a node owns, in order."""
        own = node.view()[node.id]
        slots = {slot_of(key) for keys in self.keys for key in keys}
        return sorted(slot for slot in slots if own.owns(slot))


class Last(Reader):
    """Reads every key once, when all is over."""

    def read_all(self):
        """CACHE.GET of all."""
        for row, keys in enumerate(self.load.keys):
            for key in keys:
                self.get(row, key)

    def close(self):
        """Go."""
        self._leave()


def _figure(node, name):
    text = node.ask("INFO", "cacheflow_cluster").decode()
    return int(text.partition(f"cacheflow_{name}:")[2].split("\r")[0])
