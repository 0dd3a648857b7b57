"""Panics made on purpose at the borders of invalidations on their way: a function each, as in faults.py. A
server that wants more replicas than it has holds who invalidates, cluster or not."""

from .cluster import Cluster
from .faults import arm, panics
from .server import wait_for
from .tagged import DEBUG

LOST = "ERR internal error while waiting for the cluster; see the server's log"
MIN_REPLICAS = "cacheflow.invalidate-min-replicas"


def waiting(server):
    """How many wait for an invalidation."""
    return int(server.info()["cacheflow_relay_waiting"])


def hold(server, timeout):
    """A connection held by an invalidation, and its number."""
    server.config(MIN_REPLICAS, 1000)
    connection = server.connect()
    number = connection("CLIENT", "ID")
    connection.send("CACHE.INVALIDATE", "TIMEOUT", timeout, "TAGS", "nothing has it")
    wait_for(lambda: waiting(server) == 1, "who invalidates")
    return connection, number


def let_go(server):
    """Nothing waits for replicas any more."""
    server.config(MIN_REPLICAS, 0)
    wait_for(lambda: int(server.info()["cacheflow_relay_incomplete"]) == 0, "no replicas are waited for")
    assert waiting(server) == 0


def _relay_reply(server):
    """It is told that nothing is known."""
    connection, _ = hold(server, 100)
    assert str(connection.read()) == LOST
    assert connection("PING") == b"PONG"
    let_go(server)


def _relay_timeout(server):
    """As above; its place goes when the invalidation is complete."""
    connection, number = hold(server, 0)
    assert server("CLIENT", "UNBLOCK", number) == 1
    assert str(connection.read()) == LOST
    assert connection("PING") == b"PONG"
    let_go(server)


def _relay_gone(server):
    """Its place goes when the invalidation is complete."""
    connection, _ = hold(server, 0)
    before = panics(server)
    connection.close()
    wait_for(lambda: panics(server) > before, "a panic at its end")
    let_go(server)


def _relay_free(server):
    """A few bytes are lost, no more."""
    connection, _ = hold(server, 100)
    assert str(connection.read()).startswith("PARTIAL 0 of 1")
    let_go(server)


def _relay_tick(server):
    """A look is lost, no more."""
    before = panics(server)
    connection, _ = hold(server, 100)
    wait_for(lambda: panics(server) > before + 1, "panics in the timer")
    arm(server, "")
    assert str(connection.read()).startswith("PARTIAL 0 of 1")
    let_go(server)


def _relay_round(server):
    """As above."""
    before = panics(server)
    connection, _ = hold(server, 0)
    wait_for(lambda: panics(server) > before + 1, "panics in the rounds")
    arm(server, "")
    server.config(MIN_REPLICAS, 0)
    assert connection.read() == 0
    let_go(server)


def in_a_cluster(fleet, name, provoke):
    """One of OF_BUS, at a node of a cluster made for it: a primary, or a replica if it is to be promoted."""
    replicas = int(provoke is _relay_promoted)
    with Cluster(fleet, primaries=2, replicas=replicas, module_args=DEBUG) as cluster:
        one, other = cluster.nodes[0], cluster.nodes[-1]
        with other.expect_panics():
            arm(other, name)
            provoke(one, other)
            assert panics(other) > 0
            arm(other, "")
        one("CACHE.INVALIDATE", "TIMEOUT", 20_000, "TAGS", "t")


def _bus(one, other):
    """A message is lost, which is sent again."""
    connection = one.connect()
    connection.send("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "t")
    wait_for(lambda: panics(other) > 1, "panics on the bus")
    arm(other, "")
    assert connection.read() == 0


def _relay_watch(_, other):
    """A look is lost, no more."""
    wait_for(lambda: panics(other) > 1, "panics in the watch")


def _relay_promoted(_, other):
    """It is tried again."""
    assert other("CACHE.INVALIDATE", "TAGS", "t") == 0
    assert other("CLUSTER", "FAILOVER", "TAKEOVER") == b"OK"
    wait_for(lambda: panics(other) > 1, "panics of the promoted")
    assert int(other.info()["cacheflow_relay_incomplete"]) == 1
    arm(other, "")
    wait_for(lambda: int(other.info()["cacheflow_relay_incomplete"]) == 0, "it does what it was asked for")


OF_RELAY = (_relay_reply, _relay_timeout, _relay_gone, _relay_free, _relay_tick, _relay_round)
OF_BUS = {"bus": _bus, "relay_watch": _relay_watch, "relay_promoted": _relay_promoted}
