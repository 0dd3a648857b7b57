"""CACHE.INVALIDATE in a cluster: any node, every primary, acknowledged, summed, sent again until it is."""

import struct
from contextlib import ExitStack

import pytest

from harness.cluster import Cluster
from harness.msgpack import encode
from harness.resp import ReplyError, fields
from harness.server import wait_for
from harness.tagged import DEBUG

pytestmark = pytest.mark.topology("single")

KEYS = [f"n:{i}" for i in range(60)]
PARTIAL = "PARTIAL {} of 3 primaries acknowledged"


@pytest.fixture(scope="module")
def shared(fleet):
    with Cluster(fleet, module_args=DEBUG) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """Three primaries and their replicas, KEYS over all of them with the tag `t`."""
    shared.wait_ok()
    for node in shared.primaries():
        node.ask("FLUSHALL")
        node.ask("CACHE.LOG", "RESET")
    fill(shared)
    yield shared
    for node in shared.nodes:
        node.close_connections()


@pytest.fixture
def own_cluster(fleet):
    """For what changes roles, or dies."""
    with ExitStack() as stack:

        def start(**options):
            cluster = stack.enter_context(Cluster(fleet, module_args=DEBUG, **options))
            fill(cluster)
            return cluster

        yield start


def fill(cluster):
    client = cluster.connect()
    for key in KEYS:
        assert client("CACHE.SET", key, "v", "EX", 1000, "GRACE", 1000, "TAGS", "t", f"own:{key}") == b"OK"


def alive(cluster, option=()):
    """How many of KEYS are read."""
    client = cluster.connect()
    return sum(client("CACHE.GET", key, *option) is not None for key in KEYS)


def figure(node, name):
    return int(fields_of_info(node)[f"cacheflow_{name}"])


def fields_of_info(node):
    text = node.ask("INFO", "cacheflow_cluster").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def others(cluster, node):
    return [primary for primary in cluster.primaries() if primary is not node]


def dead_on(node, keys):
    """Whether a node, a replica maybe, shows none of the keys that it has."""
    reader = node.reader()
    found = []
    for key in keys:
        try:
            found.append(reader("CACHE.GET", key))
        except ReplyError as other:
            if not str(other).startswith("MOVED"):  # it cannot tell yet
                return False
    return not any(found)


# --- every primary, whichever node is asked --------------------------------------------------------
def test_any_node_reaches_every_primary(cluster):
    for node in cluster.nodes:
        fill(cluster)
        assert node.ask("CACHE.INVALIDATE", "TAGS", "t") == len(KEYS)
        assert alive(cluster, ["STALE"]) == 0
        for each in cluster.nodes:
            wait_for(lambda each=each: dead_on(each, KEYS), "the replicas")


def test_the_sum_counts_memberships_and_entries(cluster):
    node = cluster.nodes[0]
    ask = node.ask
    assert (
        ask("CACHE.INVALIDATE", "SOFT", "TAGS", "t", *[f"own:{key}" for key in KEYS[:7]], "t", "none") == 67
    )
    assert alive(cluster) == 0 and alive(cluster, ["STALE"]) == len(KEYS)
    fill(cluster)
    assert ask("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "n", "n", "other") == len(KEYS)
    assert alive(cluster) == 0 and alive(cluster, ["STALE"]) == len(KEYS)
    assert ask("CACHE.INVALIDATE", "NAMESPACE", "n") == len(KEYS)
    assert alive(cluster, ["STALE"]) == 0


def test_it_fences_fills_on_every_shard(cluster):
    client = cluster.connect()
    assert cluster.nodes[0].ask("CACHE.INVALIDATE", "TAGS", "t") == len(KEYS)
    tokens = {key: client("CACHE.FETCH", key, "LEASE", 60_000)[2] for key in KEYS}
    cluster.nodes[1].ask("CACHE.INVALIDATE", "TAGS", "never seen")
    for key, token in tokens.items():
        assert client("CACHE.SET", key, "old", "LEASE", token, "TAGS", "never seen") is None


def test_local_is_this_shard_alone(cluster):
    primary = cluster.primaries()[0]
    here = sum(cluster.node_of(key) is primary for key in KEYS)
    assert 0 < here < len(KEYS)
    assert primary.ask("CACHE.INVALIDATE", "LOCAL", "TAGS", "t") == here
    assert alive(cluster) == len(KEYS) - here
    with pytest.raises(ReplyError, match="READONLY"):
        cluster.replica_of(primary).ask("CACHE.INVALIDATE", "LOCAL", "TAGS", "t")


@pytest.mark.parametrize("how", ["MULTI", "EVAL"])
def test_from_within_it_is_relayed_without_waiting(cluster, how):
    primary = cluster.primaries()[0]
    here = sum(cluster.node_of(key) is primary for key in KEYS)
    connection = primary.connect()
    if how == "MULTI":
        connection("MULTI")
        connection("CACHE.INVALIDATE", "TAGS", "t")
        assert connection("EXEC") == [here]
    else:
        script = "return redis.call('CACHE.INVALIDATE', 'TAGS', 't')"
        assert connection("EVAL", script, 0) == here
    wait_for(lambda: alive(cluster, ["STALE"]) == 0, "the other primaries")
    # A replica has nothing of its own to do.
    fill(cluster)
    replica = cluster.replica_of(primary).connect()
    replica("MULTI")
    replica("CACHE.INVALIDATE", "TAGS", "t")
    assert replica("EXEC") == [0]
    wait_for(lambda: alive(cluster, ["STALE"]) == 0, "the primaries")


def test_it_is_published_once_for_the_whole_cluster_and_before_the_reply(cluster):
    for asked in (cluster.primaries()[0], cluster.replicas()[0]):
        ears = []
        for node in cluster.nodes:
            ear = node.connect()
            ear("SUBSCRIBE", "cache:t")
            ear("SUBSCRIBE", "end")
            ears.append(ear)
        asker = asked.connect()
        asker("CACHE.INVALIDATE", "SOFT", "TAGS", "t")
        asker("PUBLISH", "end", "")
        for ear in ears:
            assert ear.read() == [b"message", b"cache:t", b"soft"]
            assert ear.read()[1] == b"end"


def test_the_log_of_every_shard_says_who_did_it(cluster):
    cluster.nodes[0].ask("CACHE.INVALIDATE", "TAGS", "t")
    clients = set()
    for node in cluster.primaries():
        (record,) = [fields(record) for record in node.ask("CACHE.LOG")]
        assert (record["target"], record["user"]) == (b"t", b"default")
        assert record["hits"] == sum(cluster.node_of(key) is node for key in KEYS)
        clients.add(record["client"])
    assert len(clients) == 1 and b"127.0.0.1:" in clients.pop()


def test_the_channels_permission_is_asked_for_at_the_node_that_is_asked(cluster):
    for node in (cluster.primaries()[0], cluster.replicas()[0]):
        admin = node.connect()
        admin("ACL", "SETUSER", "some", "on", "nopass", "+@all", "~*", "resetchannels", "&cache:mine")
        user = node.connect()
        user("AUTH", "some", "x")
        with pytest.raises(ReplyError, match="NOPERM"):
            user("CACHE.INVALIDATE", "TAGS", "t")
        assert user("CACHE.INVALIDATE", "TAGS", "mine") == 0
        admin("ACL", "DELUSER", "some")
    assert alive(cluster) == len(KEYS)


# --- not everybody has it --------------------------------------------------------------------------
def test_partial_says_how_many_and_is_completed_later(cluster):
    asked, slow = cluster.primaries()[:2]
    theirs = [key for key in KEYS if cluster.node_of(key) is slow]
    cluster.pause(slow)
    with pytest.raises(ReplyError, match=PARTIAL.format(2)):
        asked.ask("CACHE.INVALIDATE", "TIMEOUT", 200, "TAGS", "t")
    assert figure(asked, "relay_incomplete") == 1 and figure(asked, "relay_waiting") == 0
    cluster.resume(slow)
    wait_for(lambda: figure(asked, "relay_incomplete") == 0, "the last acknowledgement")
    assert dead_on(slow, theirs) and alive(cluster, ["STALE"]) == 0
    cluster.wait_ok()


def test_the_directive_is_the_timeout_where_none_is_named(cluster):
    asked, slow = cluster.primaries()[:2]
    asked.ask("CONFIG", "SET", "cacheflow.invalidate-timeout", 50)
    cluster.pause(slow)
    with pytest.raises(ReplyError, match=PARTIAL.format(2)):
        asked.ask("CACHE.INVALIDATE", "TAGS", "t")
    waiting = asked.connect()
    waiting.send("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "t")
    wait_for(lambda: figure(asked, "relay_waiting") == 1, "one that waits without an end")
    asked.ask("CONFIG", "SET", "cacheflow.invalidate-timeout", 1000)
    cluster.resume(slow)
    assert isinstance(waiting.read(), int)
    cluster.wait_ok()


def test_what_is_sent_again_is_done_once(cluster):
    asked = cluster.primaries()[0]
    asked.ask("CACHE.DEBUG", "DEAF", 1)
    with pytest.raises(ReplyError, match=PARTIAL.format(1)):
        asked.ask("CACHE.INVALIDATE", "TIMEOUT", 400, "TAGS", "t")
    assert alive(cluster) == 0, "done, and not acknowledged"
    fill(cluster)
    sent = figure(asked, "bus_sent")
    wait_for(lambda: figure(asked, "bus_sent") > sent, "it is sent once more")
    asked.ask("CACHE.DEBUG", "DEAF", 0)
    wait_for(lambda: figure(asked, "relay_incomplete") == 0, "the acknowledgements")
    assert alive(cluster) == len(KEYS), "what came after it is untouched"
    for node in others(cluster, asked):
        assert len(node.ask("CACHE.LOG")) == 1


def test_a_paused_primary_writes_nothing(cluster):
    """CLIENT PAUSE, a failover by hand: what came over the bus then is done when it is over."""
    asked, paused = cluster.primaries()[:2]
    paused.ask("CLIENT", "PAUSE", 600_000, "WRITE")
    with pytest.raises(ReplyError, match=PARTIAL.format(2)):
        asked.ask("CACHE.INVALIDATE", "TIMEOUT", 200, "TAGS", "t")
    theirs = [key for key in KEYS if cluster.node_of(key) is paused]
    assert not dead_on(paused, theirs)
    paused.ask("CLIENT", "UNPAUSE")
    wait_for(lambda: figure(asked, "relay_incomplete") == 0, "the last acknowledgement")
    assert dead_on(paused, theirs)
    # Its own clients wait, as for every write.
    paused.ask("CLIENT", "PAUSE", 600_000, "WRITE")
    held = paused.connect()
    held.send("CACHE.INVALIDATE", "TAGS", "t")
    assert len(asked.ask("CACHE.LOG")) == 1
    paused.ask("CLIENT", "UNPAUSE")
    assert held.read() == 0


def test_who_waits_may_be_let_go_and_may_go(cluster):
    asked, slow = cluster.primaries()[:2]
    cluster.pause(slow)
    ear = asked.connect()
    ear("SUBSCRIBE", "cache:t")
    waiting = [asked.connect() for _ in range(4)]
    numbers = [connection("CLIENT", "ID") for connection in waiting]
    for connection in waiting:
        connection.send("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "t")
    wait_for(lambda: figure(asked, "relay_waiting") == 4, "who waits")
    assert asked.ask("CLIENT", "UNBLOCK", numbers[0]) == 1
    assert str(waiting[0].read()).startswith(PARTIAL.format(2))
    assert ear.read() == [b"message", b"cache:t", b"hard"]
    assert asked.ask("CLIENT", "UNBLOCK", numbers[1], "ERROR") == 1
    assert str(waiting[1].read()).startswith("UNBLOCKED")
    waiting[2].close()
    wait_for(lambda: figure(asked, "relay_waiting") == 1, "those that went")
    cluster.resume(slow)
    assert isinstance(waiting[3].read(), int)
    wait_for(lambda: figure(asked, "relay_incomplete") == 0, "all of them")
    assert alive(cluster, ["STALE"]) == 0
    cluster.wait_ok()


def test_past_max_waiters_nobody_is_held(cluster):
    asked = cluster.primaries()[0]
    asked.ask("CONFIG", "SET", "cacheflow.max-waiters", 0)
    try:
        with pytest.raises(ReplyError, match="PARTIAL . of 3"):
            asked.ask("CACHE.INVALIDATE", "TAGS", "t")
        wait_for(lambda: alive(cluster, ["STALE"]) == 0, "the others")
    finally:
        asked.ask("CONFIG", "SET", "cacheflow.max-waiters", 10_000)


# --- replicas --------------------------------------------------------------------------------------
def test_replicas_first_where_they_are_asked_for(cluster):
    asked, other = cluster.primaries()[:2]
    replica = cluster.replica_of(other)
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cacheflow.invalidate-min-replicas", 1)
    try:
        assert asked.ask("CACHE.INVALIDATE", "TAGS", "t") == len(KEYS)
        fill(cluster)
        cluster.pause(replica)
        with pytest.raises(ReplyError, match=PARTIAL.format(2)):
            asked.ask("CACHE.INVALIDATE", "TIMEOUT", 1500, "TAGS", "t")
        assert alive(cluster, ["STALE"]) == 0, "done all the same"
        with pytest.raises(ReplyError, match=PARTIAL.format(2)):
            other.ask("CACHE.INVALIDATE", "TIMEOUT", 1500, "TAGS", "t")
        cluster.resume(replica)
        wait_for(lambda: figure(asked, "relay_incomplete") == 0, "the replica's")
        wait_for(lambda: figure(other, "relay_incomplete") == 0, "the replica's")
    finally:
        cluster.resume(replica)
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cacheflow.invalidate-min-replicas", 0)
    cluster.wait_ok()


def test_replicas_of_a_server_without_a_cluster(fresh_server):
    primary = fresh_server()
    primary("CACHE.SET", "k", "v", "TAGS", "t")
    primary.config("cacheflow.invalidate-min-replicas", 1)
    error = primary.error("CACHE.INVALIDATE", "TIMEOUT", 50, "TAGS", "t")
    assert error.startswith("PARTIAL 0 of 1 primaries") and primary("CACHE.GET", "k") is None
    replica = fresh_server(args=["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary)
    primary("CACHE.SET", "k", "v", "TAGS", "t")
    ear = primary.connect()
    ear("SUBSCRIBE", "cache:t")
    assert primary("CACHE.INVALIDATE", "TAGS", "t") == 1
    assert replica.reader()("CACHE.GET", "k") is None, "it has it by the reply"
    assert ear.read() == [b"message", b"cache:t", b"hard"]
    primary("MULTI")
    primary("CACHE.INVALIDATE", "TAGS", "t")
    assert primary("EXEC") == [0]


# --- other roles, other processes ------------------------------------------------------------------
def test_who_takes_the_place_of_a_dead_primary_has_to_acknowledge(own_cluster):
    cluster = own_cluster(args=["--cluster-require-full-coverage", "no"])
    asked, doomed = cluster.primaries()[:2]
    replica = cluster.replica_of(doomed)
    cluster.kill(doomed)
    assert asked.ask("CACHE.INVALIDATE", "TIMEOUT", 30_000, "TAGS", "t") == len(KEYS)
    assert replica.view()[replica.id].is_primary and alive(cluster, ["STALE"]) == 0


def test_where_the_cluster_goes_down_it_goes_on(own_cluster):
    """cluster-require-full-coverage: Redis lets go of whoever is held anywhere, Valkey 9 does not."""
    cluster = own_cluster()
    asked, doomed = cluster.primaries()[:2]
    cluster.kill(doomed)
    waiting = asked.connect()
    waiting.send("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "t")
    answer = waiting.read()
    assert answer == len(KEYS) or str(answer).startswith("CLUSTERDOWN")
    cluster.wait_ok()
    wait_for(lambda: alive(cluster, ["STALE"]) == 0, "the new primary")
    wait_for(lambda: figure(asked, "relay_incomplete") == 0, "the new primary's acknowledgement")
    assert figure(asked, "relay_waiting") == 0


def test_a_promoted_replica_is_sent_what_it_may_not_have(own_cluster):
    cluster = own_cluster()
    asked, doomed = cluster.primaries()[:2]
    replica = cluster.replica_of(doomed)
    theirs = [key for key in KEYS if cluster.node_of(key) is doomed]
    replica.wait_replica_of(doomed)
    cluster.pause(replica)
    assert asked.ask("CACHE.INVALIDATE", "TAGS", "t") == len(KEYS)
    cluster.kill(doomed)
    cluster.resume(replica)
    wait_for(lambda: replica.view()[replica.id].is_primary, "the promotion")
    wait_for(lambda: dead_on(replica, theirs), "what the primary took with it")


def test_a_replica_that_was_asked_does_it_itself_once_it_is_promoted(own_cluster):
    """Nobody else would bring it: who relays sends to the others."""
    cluster = own_cluster(args=["--cluster-require-full-coverage", "no"])
    doomed = cluster.primaries()[0]
    asked = cluster.replica_of(doomed)
    theirs = [key for key in KEYS if cluster.node_of(key) is doomed]
    asked.wait_replica_of(doomed)
    doomed.ask("CACHE.DEBUG", "DEAF", 1)
    with pytest.raises(ReplyError, match=PARTIAL.format(2)):
        asked.ask("CACHE.INVALIDATE", "TIMEOUT", 100, "TAGS", "t")
    waiting = asked.connect()
    waiting.send("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "t")
    wait_for(lambda: figure(asked, "relay_waiting") == 1, "who waits")
    cluster.kill(doomed)
    assert waiting.read() >= 0 and dead_on(asked, theirs), "acknowledged, so it is done here too"
    assert figure(asked, "relay_incomplete") == 0


def test_a_primary_that_started_from_an_old_file_is_sent_it(own_cluster):
    cluster = own_cluster(node_timeout=60_000)
    asked, old = cluster.primaries()[:2]
    theirs = [key for key in KEYS if cluster.node_of(key) is old]
    # Valkey 8.1 does not start from a nodes.conf written before a shard's nodes agree on its number.
    wait_for(lambda: len(old.ask("CLUSTER", "SHARDS")) == 3, "the shards' numbers")
    old.ask("CLUSTER", "SAVECONFIG")
    old.ask("SAVE")
    assert asked.ask("CACHE.INVALIDATE", "TAGS", "t") == len(KEYS)
    cluster.kill(old)
    cluster.restart(old)
    wait_for(lambda: dead_on(old, theirs), "what its file did not have")


def test_a_node_that_is_demoted_goes_on_with_it(own_cluster):
    """Redis lets go of whoever is held there, Valkey 9 does not."""
    cluster = own_cluster(node_timeout=60_000)
    asked, slow = cluster.primaries()[:2]
    replica = cluster.replica_of(asked)
    cluster.pause(slow)
    waiting = asked.connect()
    waiting.send("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "t")
    wait_for(lambda: figure(asked, "relay_waiting") == 1, "who waits")
    replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
    wait_for(lambda: not asked.view()[asked.id].is_primary, "the demotion")
    cluster.resume(slow)
    answer = waiting.read()
    # The promoted one may have it twice, and count it twice: from its primary, and from here.
    assert isinstance(answer, int) or str(answer).startswith("UNBLOCKED")
    cluster.wait_ok()
    wait_for(lambda: figure(asked, "relay_incomplete") == 0, "all acknowledgements")
    assert figure(asked, "relay_waiting") == 0 and alive(cluster, ["STALE"]) == 0


# --- messages --------------------------------------------------------------------------------------
def message(kind=1, version=1, body=b"", number=1):
    return struct.pack(">BBQQB", 0xCF, version, 99, number, kind) + body


SOUND = [0, False, False, 1, [b"t"], b"", b""]
UNSOUND = {
    "nothing": b"",
    "short": message()[:-1],
    "not ours": b"\x00" * 40,
    "no such kind": message(kind=77),
    "no body": message(kind=1),
    "no array": message(body=encode(7)),
    "too few": message(body=encode(SOUND[:4])),
    "a word for a number": message(body=encode([b"x", *SOUND[1:]])),
    "a name too long": message(body=encode([*SOUND[:4], [b"x" * 70_000], b"", b""])),
    "a stamp too late": message(body=encode([*SOUND[:3], 1 << 60, *SOUND[4:]])),
    "no such database": message(body=encode([1 << 31, *SOUND[1:]])),
    "truncated": message(body=encode(SOUND)[:-3]),
    "acknowledgement": message(kind=2, body=b"\xc1"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_message_that_is_none_is_refused_and_logged(fresh_server, name):
    """One node is enough: it takes them as if they had come over the bus."""
    node = fresh_server(args=["--cluster-enabled", "yes"], module_args=DEBUG)
    node("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_for(lambda: b"cluster_state:ok" in node("CLUSTER", "INFO"), "the cluster")
    node("CACHE.SET", "k", "v", "TAGS", "t")
    node("CACHE.DEBUG", "BUS", UNSOUND[name])
    assert figure_of(node, "bus_refused") == 1 and "was refused" in node.log()
    assert node("CACHE.GET", "k") == b"v"


def figure_of(node, name):
    return int(node.info("cacheflow_cluster")[f"cacheflow_{name}"])


def test_another_versions_message_is_named(fresh_server):
    node = fresh_server(args=["--cluster-enabled", "yes"], module_args=DEBUG)
    node("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_for(lambda: b"cluster_state:ok" in node("CLUSTER", "INFO"), "the cluster")
    node("CACHE.SET", "k", "v", "TAGS", "t")
    for version in (2, 9, 255):
        node("CACHE.DEBUG", "BUS", message(version=version, body=encode(SOUND)))
    assert figure_of(node, "bus_refused") == 3
    assert node.log().count("it speaks version 2 of the bus, this one 1") == 1, "once a minute"
    assert node("CACHE.GET", "k") == b"v"
    # One that is sound is done, and once.
    for _ in range(2):
        node("CACHE.DEBUG", "BUS", message(body=encode(SOUND)))
    assert node("CACHE.GET", "k") is None and len(node("CACHE.LOG")) == 1
