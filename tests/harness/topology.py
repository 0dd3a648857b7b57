"""The arrangements of servers that the same tests run on.

A topology keeps its servers for the whole run. `begin` makes them as new before a test, `check`
compares after it what must be the same (the replica with its primary, the data after a restart
from the AOF with the data before). Those of several servers that know of one another are in
topology_cluster.py; topologies.py names them all.
"""

import itertools
import os

from .dataset import assert_same, assert_same_digest, databases, digest, snapshot
from .native import companions_everywhere
from .resp import fields
from .server import wait_for
from .tagged import await_sweep


def verify(server):
    """CACHE.VERIFY as a dict."""
    return fields(server("CACHE.VERIFY"))


def assert_verified(server):
    """The index is what the keyspace is: what is there of the module's type are entries, and companions of
    native keys. Without the module there is none."""
    connection = server.connect()
    if connection("MODULE", "LIST"):

        def agree():
            found = verify(connection)
            assert found["problems"] == [], found
            # A key may end between the two looks, and its companion with it.
            return found["keys"] == found["entries"] + companions_everywhere(server)

        wait_for(agree, "as many keys as entries and companions", 5)


def unset_namespaces(server):
    """What is set for namespaces is none any more: a flush leaves it."""
    if b"role:master" in server("INFO", "replication"):
        for name in server("CACHE.NAMESPACE", "LIST"):
            server("CACHE.NAMESPACE", "DEL", name)


def assert_replicated(primary, replicas, what="primary and replica"):
    """Each replica is what its primary is, by the keys and by the digest, each over a connection of its
    own."""
    primary.close_connections()  # the test may have left them in a transaction
    primary.config("maxmemory", 0)  # else the comparison itself makes it evict
    await_sweep(primary)
    for replica in replicas:
        replica.wait_replica_of(primary)
    primarys = snapshot(primary)
    for replica in replicas:
        assert_same(primarys, snapshot(replica), what)
        replica.wait_replica_of(primary)
        assert_same_digest(primary, replica, what)


# What says of whom a server is a replica, and is nothing of a test's.
ROLE = (b"replicaof", b"slaveof")


class Single:
    """One server, nothing persisted."""

    args = ()
    databases = 16

    def __init__(self, fleet):
        self.fleet, self._config, self._restarts = fleet, {}, {}
        self.primary = None
        self.servers = []

    def start(self):
        """Start the servers; the first is the primary."""
        self.primary = self.fleet.start(self.args, name=type(self).__name__.lower())
        self.servers = [self.primary]

    def begin(self):
        """Empty servers with their first configuration, before each test."""
        if not self.alive():
            for server in self.servers:
                self.fleet.discard(server)
            self.servers = []
        if not self.servers:
            self.start()
            self._config = {server: self._directives(server) for server in self.servers}
            return
        for server in self.servers:
            self._as_new(server)

    def _directives(self, server):
        flat = server("CONFIG", "GET", "*")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _as_new(self, server):
        server.close_connections()
        first, now = self._config[server], self._directives(server)
        for name, value in first.items():
            if now.get(name) != value and name not in ROLE:
                server("CONFIG", "SET", name, value)
        if server is self.primary:
            server("FLUSHALL")
            server("FUNCTION", "FLUSH")
        server("SCRIPT", "FLUSH")
        server("CONFIG", "RESETSTAT")
        server("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        if self.fleet.module:
            server("CACHE.LOG", "RESET")
            server("CACHE.STATS", "RESET")
            unset_namespaces(server)
        for user in server("ACL", "USERS"):
            if user != b"default":
                server("ACL", "DELUSER", user)
        dump = os.path.join(server.directory, "dump.rdb")
        if os.path.exists(dump):
            os.remove(dump)  # else the next test's restart would find it

    def hush(self):
        """Let nobody write to the primary until the next test begins but who is told to."""
        for server in self.servers:
            server.config("repl-ping-replica-period", 3600)

    def alive(self):
        """Whether all servers run; a test may have killed one on purpose, or by a bug."""
        return all(server.running and server.process.poll() is None for server in self.servers)

    def check(self):
        """Assert what must hold after each test. Only called if alive()."""
        for server in self.servers:
            assert_verified(server)

    def end(self):
        """Stop the servers for good."""
        for server in self.servers:
            server.stop()
            self.fleet.discard(server)
        self.servers = []


class Aof(Single):
    """One server with an append-only file, restarted from it after each test.

    The file holds the test's commands as they were replicated; after the restart it is rewritten,
    with and without an RDB preamble in turn, and loaded once more in place.
    """

    args = ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", 0)
    _preamble = itertools.cycle(["no", "yes"])

    def check(self):
        server = self.primary
        server.close_connections()  # the test may have left them in a transaction
        super().check()
        if not databases(server.connect()):
            return
        server.config("maxmemory", 0)
        await_sweep(server)  # a dead key is in the digest as long as it is there
        before, was = snapshot(server), digest(server)
        server.restart()
        after = snapshot(server)
        assert_same(before, after, "before and after a restart from the AOF")
        if before.keys.keys() == after.keys.keys():
            assert digest(server) == was, "DEBUG DIGEST differs after a restart from the AOF"
        preamble = next(self._preamble)
        server.config("aof-use-rdb-preamble", preamble)
        server.bgrewriteaof()
        server("DEBUG", "LOADAOF")
        assert_same(before, snapshot(server), f"before and after a rewrite, preamble {preamble}")
        super().check()


class Replica(Single):
    """A primary and a replica, compared after each test, each over a connection of its own."""

    def start(self):
        super().start()
        self.replica = self.fleet.start(("--replicaof", f"127.0.0.1 {self.primary.port}"), name="replica-of")
        self.servers.append(self.replica)
        self.replica.wait_replica_of(self.primary)

    def begin(self):
        super().begin()
        self.replica.wait_replica_of(self.primary)

    def check(self):
        assert_replicated(self.primary, [self.replica])
        super().check()
