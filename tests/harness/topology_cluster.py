"""The topologies of servers that know of one another: a cluster, and what sentinels watch.

In both the primary of the tests is one that others follow: what a test does at it must end up at its
replicas, and in a cluster nothing of it may disturb the other shards.
"""

from . import cluster, sentinel
from .cluster_client import SLOTS, ClusterConnection, Commands
from .dataset import assert_same, snapshot
from .resp import Connection
from .server import wait_for
from .topology import Single, assert_replicated

PATIENT = 15_000  # ms without an answer until a node counts as gone: a test may restart it, or stop it
FEW = 2  # slots of each shard but the first


class Home(cluster.Node):
    """The node that has nearly every slot. Its clients go to other nodes with the other slots' keys."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._commands = Commands()

    def connect(self, protocol=2, db=0, timeout=60.0):
        return self.keep(ClusterConnection(self.port, protocol, db, timeout, commands=self._commands))

    def reader(self):
        connection = self.keep(Connection(self.port))
        connection("READONLY")
        return connection

    def restart(self, args=None):
        super().restart(args)
        # A primary that was away takes no commands until it may believe that it still is one.
        wait_for(lambda: b"cluster_state:ok" in self.ask("CLUSTER", "INFO"), "the cluster", 30, 0.03)
        return self


class Cluster(Single):
    """Three shards of a primary and its replica. The first has all slots but a few, so that a test's keys
    are in one place, as on one server, while every rule of a cluster is in force. All clocks are this
    machine's: what a test dumped and restores is judged by its birth alone."""

    databases = 1

    def start(self):
        few = [range(SLOTS - FEW * n, SLOTS - FEW * (n - 1)) for n in (2, 1)]
        slots = [range(SLOTS - 2 * FEW), *few]
        self.cluster = cluster.Cluster(
            self.fleet,
            node_timeout=PATIENT,
            slots=slots,
            kind=Home,
            module_args=("max-clock-skew", "0"),
        )
        self.servers = self.cluster.nodes
        self.primary = self.servers[0]
        self._shards = [self.servers[at : at + 2] for at in range(0, len(self.servers), 2)]

    def _as_new(self, server):
        if server in self._shards[0]:
            super()._as_new(server)
            return
        server.close_connections()
        if server in (primary for primary, _ in self._shards):
            server("FLUSHALL")
        if self.fleet.module:
            server("CACHE.LOG", "RESET")
            server("CACHE.STATS", "RESET")

    def begin(self):
        super().begin()
        for primary, replica in self._shards:
            replica.wait_replica_of(primary)

    def check(self):
        for at, (primary, replica) in enumerate(self._shards):
            assert_replicated(primary, [replica], f"primary and replica of shard {at}")
        super().check()


class Sentinel(Single):
    """A primary with two replicas that three sentinels watch. Every so often after a test they make a
    replica the primary, which must have the data that the old one had."""

    EVERY = 25  # tests that left data

    def __init__(self, fleet):
        super().__init__(fleet)
        self._left, self.sentinel, self._hushed = 0, None, False

    def start(self):
        self.sentinel = sentinel.Sentinel(self.fleet, down_after=PATIENT)
        self._take_roles()

    def _take_roles(self):
        self.primary = self.sentinel.primary()
        self.servers = [self.primary, *self.sentinel.replicas()]

    def begin(self):
        for watcher in self.sentinel.sentinels if self.sentinel else ():
            watcher.resume()
        self._hushed = False
        if not self.alive() and self.sentinel:
            self.end()
        super().begin()
        for replica in self.servers[1:]:
            replica.wait_replica_of(self.primary)

    def alive(self):
        return bool(self.servers) and self.sentinel.alive()

    def check(self):
        assert_replicated(self.primary, self.servers[1:])
        super().check()
        self._left += self.primary("DBSIZE") > 0
        if self._left >= self.EVERY and not self._hushed:  # they would not answer
            self._left = 0
            before = snapshot(self.primary)
            self.sentinel.failover()
            self._take_roles()
            assert_same(before, snapshot(self.primary), "before and after a failover")
            assert_replicated(self.primary, self.servers[1:])
            super().check()

    def hush(self):
        super().hush()
        self._hushed = True
        for watcher in self.sentinel.sentinels:  # they publish, which replicas are told
            watcher.pause()

    def end(self):
        if self.sentinel:
            self.sentinel.end()
        self.servers, self.sentinel = [], None
