"""Entries that another node of a cluster brings: dead unless born later than an invalidation by more than
clocks may differ (cacheflow.max-clock-skew). The other node's payloads are forged: its clock is any."""

import itertools
import time

import pytest

from harness import payload
from harness.dataset import assert_same, digest, snapshot
from harness.payload import Meta
from harness.resp import fields
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import DEBUG, hold, let_go
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

SKEW = 500
IN_CLUSTER = ("--cluster-enabled", "yes")
LOCKS = itertools.count()
HOW = ("RESTORE", "APPLY")


@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """A cluster of one node, with an AOF."""
    args = (*IN_CLUSTER, "--appendonly", "yes", "--aof-use-rdb-preamble", "no")
    server = fleet.start(args, name="node", module_args=DEBUG)
    server("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_for(lambda: b"cluster_state:ok" in server("CLUSTER", "INFO"), "the cluster")
    yield server
    fleet.discard(server)


@pytest.fixture(name="node")
def fixture_node(shared, no_server_broke):
    """The node, empty."""
    shared.close_connections()
    let_go(shared)
    shared("FLUSHALL")
    shared.config("cacheflow.max-clock-skew", SKEW)
    return shared


def drawn(server):
    """A stamp that the server draws now."""
    return server("CACHE.LOCK", f"lock:{next(LOCKS)}", 1)


def arrives(server, key, since, *tags, how="RESTORE", connection=None):
    """Bring an entry that was born so many ms after now (before, if negative), as the server's stamps
    have it, and answer when."""
    end = int(time.time() * 1000) + 1_000_000
    born = drawn(server) + since * 1000
    encoded = payload.encode(Meta(born=born, end=end, tags=tuple(tag.encode() for tag in tags)))
    run = connection or server
    if how == "APPLY":
        run("CACHE.APPLY", key, end, encoded, "v")
        return born
    version = payload.rdb_version(native(server))
    run("RESTORE", key, end, payload.seal(payload.body(encoded, b"v"), version), "ABSTTL", "REPLACE")
    return born


def native(server):
    """Any payload of the server's."""
    connection = server.connect()
    connection("SET", "native", "x")
    dumped = connection("DUMP", "native")
    connection("DEL", "native")
    connection.close()
    return dumped


def seen(connection, key):
    """The value as GET has it, and as GET STALE does."""
    return [connection("CACHE.GET", key), connection("CACHE.GET", key, "STALE")]


@pytest.mark.parametrize("what", ["TAGS", "NAMESPACE"])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mode", ["HARD", "SOFT"])
def test_an_arrival_must_be_younger_than_an_invalidation_by_more_than_clocks_differ(node, what, how, mode):
    name = f"{what}-{how}-{mode}"
    left = [None, b"v"] if mode == "SOFT" else [None, None]
    node("CACHE.INVALIDATE", *(("SOFT",) if mode == "SOFT" else ()), "LOCAL", what, name)
    arrives(node, f"{name}:before", -200, name, how=how)
    arrives(node, f"{name}:after", 1, name, how=how)  # younger, if clocks could be believed
    arrives(node, f"{name}:well-after", 700, name, how=how)
    assert seen(node, f"{name}:before") == left and seen(node, f"{name}:after") == left
    assert seen(node, f"{name}:well-after") == [b"v", b"v"]
    node.config("cacheflow.max-clock-skew", 0)
    arrives(node, f"{name}:after", 1, name, how=how)
    arrives(node, f"{name}:before", -60_000, name, how=how)
    assert seen(node, f"{name}:after") == [b"v", b"v"], "0: as on a single server"
    assert seen(node, f"{name}:before") == left
    assert meta(node, f"{name}:well-after")["tags"] == [name.encode()]
    node.wait_swept()
    assert_verified(node)


@pytest.mark.parametrize("how", HOW)
def test_who_was_not_invalidated_arrives_whatever_its_age(node, how):
    node("CACHE.INVALIDATE", "LOCAL", "TAGS", "other")
    arrives(node, "k", -3_600_000, "t", "u", how=how)
    assert seen(node, "k") == [b"v", b"v"] and sorted(meta(node, "k")["tags"]) == [b"t", b"u"]
    assert_verified(node)


@pytest.mark.parametrize("how", HOW)
def test_what_arrives_raises_the_clock(node, how):
    """So that whatever is invalidated after the arrival is younger than it, and tokens go on growing."""
    born = arrives(node, "k", 1000, "t", how=how)
    assert node("CACHE.INVALIDATE", "LOCAL", "TAGS", "t") == 1
    assert seen(node, "k") == [None, None]
    assert drawn(node) > born


def test_what_is_written_here_needs_no_margin(node):
    """One clock drew both stamps; a copy and a rename are of here as well."""
    node("CACHE.INVALIDATE", "LOCAL", "TAGS", "t")
    node("CACHE.SET", "k{1}", "v", "TAGS", "t")
    node("COPY", "k{1}", "copy{1}")
    node("RENAME", "k{1}", "moved{1}")
    assert seen(node, "moved{1}") == seen(node, "copy{1}") == [b"v", b"v"]
    node.reload()
    assert seen(node, "moved{1}") == seen(node, "copy{1}") == [b"v", b"v"]
    node("DEBUG", "LOADAOF")
    assert seen(node, "moved{1}") == seen(node, "copy{1}") == [b"v", b"v"]


@pytest.fixture(name="replica")
def fixture_replica(node, fresh_server):
    """A replica of the node, which itself would believe all clocks."""
    replica = fresh_server(IN_CLUSTER, module_args=DEBUG)
    replica("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
    name = node("CLUSTER", "MYID")
    wait_for(lambda: name in replica("CLUSTER", "NODES"), "the nodes to meet")
    wait_for(lambda: b"0-16383" in replica("CLUSTER", "NODES"), "the slots to be known")
    replica("CLUSTER", "REPLICATE", name)
    replica.wait_replica_of(node)
    replica.config("cacheflow.max-clock-skew", 0)
    return replica


def test_replicas_and_the_aof_are_told_what_became_of_an_arrival(node, replica):
    """They decide nothing: theirs may be another directive, and they may have forgotten the invalidation."""
    hold(node)
    reader = replica.connect()
    reader("READONLY")
    keys = [f"{mode}:{how}{{1}}" for mode in ("hard", "soft") for how in ("RESTORE", "APPLY", "MULTI")]
    node("CACHE.INVALIDATE", "LOCAL", "TAGS", "hard")
    node("CACHE.INVALIDATE", "SOFT", "LOCAL", "TAGS", "soft")
    node("CACHE.SET", "soft:APPLY{1}", "old", "TAGS", "soft")
    for key in keys[:2] + keys[3:5]:
        arrives(node, key, 0, key[:4], how=key[5:-3])
    transaction = node.connect()
    transaction("MULTI")
    for key in keys[2::3]:
        arrives(node, key, 0, key[:4], connection=transaction)
    transaction("EXEC")
    replica.wait_replica_of(node, swept=False)
    for key in keys:
        want = [None, b"v" if "soft" in key else None]
        assert [seen(node, key), seen(reader, key)] == [want, want], key
    assert fields(replica("CACHE.VERIFY"))["problems"] == []
    let_go(node)
    replica.wait_replica_of(node)
    before, was = snapshot(node), digest(node)
    assert sorted(name for _, name in before.keys) == sorted(key.encode() for key in keys[3:])
    assert digest(replica) == was
    node.config("cacheflow.max-clock-skew", 100_000)  # no file is judged
    node("DEBUG", "LOADAOF")
    assert_same(before, snapshot(node), "before and after loading the AOF")
    assert digest(node) == was
    node.bgrewriteaof()
    node("DEBUG", "LOADAOF")
    assert digest(node) == was


def test_a_panic_before_replicas_are_told(node):
    """They hear of the end of what is dead by the sweep, and of what is stale when it is next written."""
    node("CACHE.INVALIDATE", "LOCAL", "TAGS", "t")
    with node.expect_panics() as caught:
        node("CACHE.DEBUG", "FAULT", "tell_arrivals")
        arrives(node, "k", 0, "t")
        wait_for(caught, "the panic")
        node("CACHE.DEBUG", "FAULT", "")
    assert seen(node, "k") == [None, None]
    node.wait_swept()
    arrives(node, "k", 0, "t")
    node.wait_swept()
    assert node("EXISTS", "k") == 0
    assert_verified(node)
