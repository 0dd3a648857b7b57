"""CACHE.REFRESH: what is hot is offered before its readers miss it, a lease each, to one worker each."""

import threading

import pytest

from harness.leases import LIMIT, fetch, fill, held_for, is_readable, refused
from harness.resp import ReplyError
from harness.sample import state
from harness.server import wait_for
from harness.tagged import DEBUG, figure, turn_clock
from harness.topologies import WITHOUT_CLUSTER, several_databases

single = pytest.mark.topology("single")
HOUR = 3_600_000


def make(connection, key, reads=5, *options):
    """An entry that was read so often, and is far from its end."""
    connection("CACHE.SET", key, "v", *(options or ("EX", 1000, "GRACE", 1000)))
    for _ in range(reads):
        assert connection("CACHE.GET", key, "STALE") == b"v"


def stale(connection, *keys):
    """CACHE.STALE, one by one: in a cluster they are of several slots."""
    assert [connection("CACHE.STALE", key) for key in keys] == [1] * len(keys)


def offered(connection, *options):
    """What REFRESH answers: keys in order; each with a token and a length."""
    offers = connection("CACHE.REFRESH", *options)
    assert all(token > 0 and length > 0 for _, token, length in offers), offers
    return [key for key, _, _ in offers]


def workers(server):
    """How many wait."""
    return figure(server, "refresh_workers", "cacheflow_leases")


class Worker:
    """A client of its own that waits in REFRESH … BLOCK."""

    def __init__(self, server, *options, block=0, db=0):
        self.connection = server.connect(db=db)
        self.id = self.connection("CLIENT", "ID")
        before = workers(server)
        self.connection.send("CACHE.REFRESH", "BLOCK", block, *options)

        def waits():
            # On a busy machine a short wait is over before anybody has looked.
            return workers(server) == before + 1 or (block > 0 and is_readable(self.connection))

        wait_for(waits, "the worker to wait", LIMIT)

    def answer(self):
        """The reply."""
        self.connection.sock.settimeout(LIMIT)
        return self.connection.read()

    def keys(self):
        """The keys of it."""
        return [key for key, _, _ in self.answer()]


# --- what is offered -------------------------------------------------------------------------------
def test_nothing_is_due(server):
    assert offered(server) == []
    make(server, "fresh")
    server("CACHE.SET", "endless", "v")
    server("CACHE.GET", "endless")
    assert offered(server, "COUNT", 10) == []


def test_hot_and_expensive_first(server):
    make(server, "often", 40, "EX", 1000, "GRACE", 1000, "COST", 2)
    make(server, "dear", 3, "EX", 1000, "GRACE", 1000, "COST", 500)
    make(server, "seldom", 2, "EX", 1000, "GRACE", 1000, "COST", 1)
    make(server, "fresh", 100)
    server("CACHE.SET", "unread", "v", "EX", 1000, "GRACE", 1000)
    stale(server, "often", "dear", "seldom", "unread")
    assert offered(server) == [b"dear"], "one where nobody says"
    assert offered(server, "COUNT", 10) == [b"often", b"seldom"], "each once, while its lease lasts"
    assert offered(server, "COUNT", 10) == []


def test_each_comes_with_a_lease_as_of_fetch(server):
    make(server, "k")
    server("CACHE.STALE", "k")
    ((key, token, length),) = server("CACHE.REFRESH", "LEASE", 5000)
    assert (key, length) == (b"k", 5000) and 0 < held_for(server, "k") <= 5000
    found = fetch(server, "k")
    assert (found.state, found.token) == (b"STALE", None), "somebody computes it"
    fill(server, "k", token, "new", "EX", 1000)
    assert server("CACHE.GET", "k") == b"new" and held_for(server, "k") == 0


def test_who_fetches_keeps_it_from_the_workers(server):
    make(server, "k")
    server("CACHE.STALE", "k")
    token = fetch(server, "k").token
    assert token and offered(server) == []
    server("CACHE.UNLOCK", "k", token)
    assert offered(server) == [b"k"], "given up, at once"


def test_the_lengths_of_leases(server):
    server.config("cacheflow.lease-max", 7000)
    make(server, "k")
    server("CACHE.STALE", "k")
    ((_, _, length),) = server("CACHE.REFRESH", "LEASE", HOUR)
    assert length == 7000


@single
def test_what_is_close_to_its_end(fresh_server):
    """A fifth of its life before it, at most; half a second, or three times what computing takes."""
    server = fresh_server(module_args=DEBUG)
    make(server, "plain", 5, "EX", 100, "GRACE", 100)
    make(server, "slow", 5, "EX", 100, "GRACE", 100, "COST", 3000)
    make(server, "slowest", 5, "EX", 100, "GRACE", 100, "COST", 60_000)
    for at, due in ((79_000, []), (80_500, [b"slowest"]), (91_500, [b"slow"]), (99_900, [b"plain"])):
        turn_clock(server, at)
        assert offered(server, "COUNT", 10, "LEASE", HOUR) == due, at
        assert state(server, "plain") == b"fresh"


@pytest.mark.parametrize("how", ["tag", "namespace", "soft", "stale"])
def test_what_was_invalidated_while_hot(server, how):
    make(server, "space:k", 5, "EX", 1000, "GRACE", 1000, "TAGS", "tag")
    assert offered(server) == []
    if how == "stale":
        server("CACHE.STALE", "space:k")
    else:
        mode = ["SOFT"] if how == "soft" else []
        what = ["NAMESPACE", "space"] if how == "namespace" else ["TAGS", "tag"]
        assert server("CACHE.INVALIDATE", *mode, *what) == 1
    keys = wait_for(lambda: offered(server, "LEASE", HOUR), "the sweep to come by")
    assert keys == [b"space:k"] and offered(server) == []
    assert state(server, "space:k") == (b"stale" if how in ("soft", "stale") else b"absent")


@pytest.mark.topology(*WITHOUT_CLUSTER)
@pytest.mark.parametrize("how", ["expired", "evicted"])
def test_what_was_lost_while_hot(server, how):
    make(server, "k", 5, *(("PX", 300) if how == "expired" else ("EX", 1000)))
    offered(server)
    if how == "expired":
        wait_for(lambda: server("EXISTS", "k") == 0, "its end")
    else:
        server.config("maxmemory-policy", "allkeys-random")
        server.config("maxmemory", 1)
        wait_for(lambda: server("DBSIZE") == 0, "eviction")
        server.config("maxmemory", 0)
    keys = wait_for(lambda: offered(server, "LEASE", HOUR), "it to be offered")
    assert keys == [b"k"]


def test_a_fill_makes_it_due_when_its_time_comes_again(server):
    make(server, "k", 20)
    server("CACHE.STALE", "k")
    for _ in range(3):
        offers = wait_for(lambda: server("CACHE.REFRESH", "LEASE", HOUR), "it to be close to its end")
        ((key, token, _),) = offers
        assert key == b"k" and state(server, "k") in (b"fresh", b"stale")
        fill(server, "k", token, "v", "PX", 400, "GRACE", 100)
        assert offered(server) == []


def test_a_fill_that_was_refused_is_due_at_once(server):
    make(server, "k", 5, "EX", 1000, "GRACE", 1000, "TAGS", "tag")
    server("CACHE.STALE", "k")
    ((_, token, _),) = server("CACHE.REFRESH", "LEASE", HOUR)
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "tag")
    before = refused(server)
    assert server("CACHE.SET", "k", "v", "LEASE", token, "EX", 100, "TAGS", "tag") is None
    assert refused(server) != before
    assert wait_for(lambda: offered(server), "it to be offered") == [b"k"]


def test_not_more_often_than_it_is_read(server):
    """What nobody reads any more is given up, though its figure is not gone yet."""
    make(server, "k", 3)
    for _ in range(3):
        server("CACHE.STALE", "k")
        ((_, token, _),) = server("CACHE.REFRESH")
        fill(server, "k", token, "v", "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", "k")
    assert offered(server) == []
    server("CACHE.GET", "k", "STALE")
    assert offered(server) == [b"k"], "read again"


def test_a_failure_that_was_reported_is_waited_for(server):
    make(server, "k")
    server("CACHE.STALE", "k")
    ((_, token, _),) = server("CACHE.REFRESH")
    assert server("CACHE.UNLOCK", "k", token, "RETRY", 400) == 1
    assert offered(server) == []
    assert wait_for(lambda: offered(server), "the end of the back-off") == [b"k"]


def test_who_takes_it_and_dies_leaves_it_to_others(server):
    make(server, "k")
    server("CACHE.STALE", "k")
    worker = server.connect()
    assert offered(worker, "LEASE", HOUR) == [b"k"]
    assert offered(server) == []
    worker.close()
    assert wait_for(lambda: offered(server), "it to be offered to another") == [b"k"]


@pytest.mark.parametrize("how", ["CACHE.DEL", "DEL", "UNLINK", "RENAME"])
def test_what_was_deleted_by_hand_is_not_offered(server, how):
    for key in ("k", "{k}absent"):
        make(server, key)
    offered(server)
    if how == "CACHE.DEL":
        server("CACHE.INVALIDATE", "NAMESPACE", "")
        wait_for(lambda: server("EXISTS", "k") == 0, "the sweep")
        assert server("CACHE.DEL", "k", "{k}absent") == 0, "of what was lost already"
    elif how == "RENAME":
        server("RENAME", "k", "{k}other")
        server("DEL", "{k}absent")
    else:
        assert server(how, "k", "{k}absent") == 2
    assert offered(server, "COUNT", 10) == []
    make(server, "k")
    server("CACHE.STALE", "k")
    assert offered(server) == [b"k"], "it is hot again"


def test_what_is_no_entry_any_more(server):
    make(server, "k")
    make(server, "list")
    offered(server)
    server("SET", "k", "native")
    server("DEL", "list")
    server("RPUSH", "list", "v")
    assert offered(server, "COUNT", 10) == []


def test_by_namespace(server):
    for key in ("a:1", "a:2", "b:1", "none"):
        make(server, key, 5 if key == "a:2" else 9)
    stale(server, "a:1", "a:2", "b:1", "none")
    assert offered(server, "NAMESPACE", "c", "COUNT", 9) == []
    assert offered(server, "NAMESPACE", "", "COUNT", 9) == [b"none"]
    assert offered(server, "count", 9, "namespace", "a") == [b"a:1", b"a:2"]
    assert offered(server, "COUNT", 9) == [b"b:1"]


@several_databases
def test_of_the_selected_database(server):
    other = server.connect(db=1)
    for connection in (server, other):
        make(connection, "k")
        connection("CACHE.STALE", "k")
    assert offered(server, "COUNT", 9) == [b"k"] and offered(server) == []
    server("SWAPDB", 0, 1)
    assert offered(server) == [b"k"], "what was in the other"
    for connection in (server, other):
        make(connection, "j")
        connection("CACHE.STALE", "j")
    server("FLUSHDB")
    assert offered(server) == [] and offered(other) == [b"j"]
    make(other, "i")
    server("FLUSHALL")
    assert offered(other) == []
    assert figure(server, "refresh_candidates", "cacheflow_leases") == 0


# --- many workers, and those that wait -------------------------------------------------------------
def test_each_key_to_one_worker(server):
    keys = {f"k{n}".encode() for n in range(200)}
    connection = server.connect()
    for key in keys:
        make(connection, key, 2)
    stale(server, *keys)
    got, lock = [], threading.Lock()

    def work(worker):
        while offers := worker("CACHE.REFRESH", "COUNT", 3, "LEASE", HOUR):
            with lock:
                got.extend(offers)

    connections = [server.connect() for _ in range(8)]
    threads = [threading.Thread(target=work, args=(worker,)) for worker in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for key, _, _ in got) == sorted(keys), "each once"
    assert len({token for _, token, _ in got}) == len(got)


def test_block_is_answered_when_something_is_due(server):
    make(server, "k")
    worker = Worker(server)
    server("CACHE.STALE", "k")
    ((key, token, _),) = worker.answer()
    assert key == b"k" and server("CACHE.UNLOCK", "k", token) == 1 and workers(server) == 0


def test_block_is_answered_when_a_time_comes(server):
    worker = Worker(server, "LEASE", HOUR)
    make(server, "k", 5, "PX", 600, "PGRACE", HOUR)
    assert worker.keys() == [b"k"]
    worker = Worker(server, "COUNT", 5, "LEASE", HOUR)
    make(server, "gone", 5, "PX", 500)
    assert worker.keys() == [b"gone"]


def test_first_come_first_served_and_one_each(server):
    line = [Worker(server, "LEASE", HOUR) for _ in range(3)]
    for key in ("a", "b"):
        make(server, key)
    stale(server, "a", "b")
    assert sorted(line[0].keys() + line[1].keys()) == [b"a", b"b"]
    assert workers(server) == 1 and offered(server) == []
    make(server, "c")
    server("CACHE.STALE", "c")
    assert line[2].keys() == [b"c"]


def test_workers_of_a_namespace(server):
    line = [Worker(server, "NAMESPACE", name, "LEASE", HOUR) for name in ("a", "b")]
    make(server, "b:1")
    server("CACHE.STALE", "b:1")
    assert line[1].keys() == [b"b:1"] and workers(server) == 1
    make(server, "a:1")
    server("CACHE.STALE", "a:1")
    assert line[0].keys() == [b"a:1"]


def test_the_deadline_answers_nothing(server):
    assert Worker(server, block=50).answer() == []
    patient = Worker(server)
    assert Worker(server, block=1).answer() == [] and workers(server) == 1
    patient.connection.close()
    wait_for(lambda: workers(server) == 0, "it to be forgotten")


@pytest.mark.parametrize("how", [(), ("TIMEOUT",), ("ERROR",)])
def test_client_unblock(server, how):
    worker = Worker(server)
    assert server("CLIENT", "UNBLOCK", worker.id, *how) == 1
    reply = worker.answer()
    if how == ("ERROR",):
        assert isinstance(reply, ReplyError) and str(reply).startswith("UNBLOCKED")
    else:
        assert reply == []
    wait_for(lambda: workers(server) == 0, "it to be forgotten")
    assert worker.connection("PING") == b"PONG"


def test_who_may_not_wait_does_not(server):
    server("MULTI")
    server("CACHE.REFRESH", "BLOCK", 0)
    assert server("EXEC") == [[]]
    assert server("EVAL", "return redis.call('CACHE.REFRESH', 'BLOCK', 0)", 0) == []
    server.config("cacheflow.max-waiters", 1)
    Worker(server)
    assert server("CACHE.REFRESH", "BLOCK", 0) == [], "past the cap"


def test_a_worker_that_waits_has_its_lease_and_loses_it_with_its_connection(server):
    worker = Worker(server, "LEASE", HOUR)
    make(server, "k")
    server("CACHE.STALE", "k")
    assert worker.keys() == [b"k"] and held_for(server, "k") > 0
    worker.connection.close()
    wait_for(lambda: held_for(server, "k") == 0, "the lease to be given up")


# --- bounds ----------------------------------------------------------------------------------------
def test_the_candidates_are_bounded(server):
    server.config("cacheflow.refresh-keys", 10)
    for n in range(50):
        make(server, f"k{n}", 1)
    make(server, "hot", 60)
    assert figure(server, "refresh_candidates", "cacheflow_leases") == 10
    stale(server, "hot", *(f"k{n}" for n in range(50)))
    found = offered(server, "COUNT", 100)
    assert found[0] == b"hot" and len(found) == 10
    server.config("cacheflow.refresh-keys", 0)
    make(server, "k")
    server("CACHE.STALE", "k")
    assert offered(server) == [] and figure(server, "refresh_candidates", "cacheflow_leases") == 0


def test_more_than_one_call_looks_at(server):
    """None is passed over for good, though most of what is due is leased."""
    connection = server.connect()
    make(connection, "light", 2)  # before so many that not each is counted
    names = [f"k{n}" for n in range(600)]
    connection.pipeline([("CACHE.SET", name, "v", "EX", 1000, "COST", 1000) for name in names])
    connection.pipeline([("CACHE.GET", name) for name in names])
    server("CACHE.STALE", "light")
    server("CACHE.DEL", "none")
    assert wait_for(lambda: offered(server), "the last of them") == [b"light"]


# --- files, replicas, clusters ---------------------------------------------------------------------
@single
@pytest.mark.parametrize("kind", ["rdb", "aof", "aof without a preamble", "empty aof"])
def test_a_cold_server_knows_what_was_hot(fresh_server, kind):
    aof = kind != "rdb"
    args = ["--appendonly", "yes"] if aof else []
    if "without" in kind or "empty" in kind:
        args += ["--aof-use-rdb-preamble", "no"]
    server = fresh_server(args=args)
    make(server, "hot", 9, "EX", 1000, "COST", 50)
    make(server, "warm", 3, "EX", 1000, "COST", 50)
    other = server.connect(db=5)
    make(other, "elsewhere")
    if kind != "empty aof":
        server("CACHE.SET", "other", "v")
    offered(server)
    server("CACHE.INVALIDATE", "NAMESPACE", "")
    other("CACHE.INVALIDATE", "NAMESPACE", "")
    if kind != "empty aof":
        server("CACHE.SET", "another", "v")
    server.wait_swept()
    if aof:
        server.bgrewriteaof()
    else:
        server("SAVE")
    server.restart()
    assert server("DBSIZE") == (kind != "empty aof")
    assert offered(server, "COUNT", 9) == [b"hot", b"warm"]
    assert offered(server.connect(db=5)) == [b"elsewhere"]


@single
def test_what_is_still_there_after_a_restart_is_not_due(fresh_server):
    server = fresh_server()
    make(server, "k")
    server("SAVE")
    server.restart()
    assert offered(server) == [] and figure(server, "refresh_candidates", "cacheflow_leases") == 1
    server("CACHE.STALE", "k")
    assert offered(server) == [b"k"]


@pytest.mark.topology("replica")
def test_a_replica_grants_nothing_and_its_workers_are_told(topology, fresh_server):
    error = topology.replica.error("CACHE.REFRESH")
    assert error.startswith("READONLY")
    server = fresh_server()
    worker = Worker(server)
    server("REPLICAOF", "127.0.0.1", topology.primary.port)
    try:
        reply = worker.answer()
    except ConnectionError:
        return
    assert isinstance(reply, ReplyError) and str(reply).startswith("UNBLOCKED")


@single
def test_a_promoted_replica_knows_what_was_hot(fresh_server):
    primary = fresh_server()
    make(primary, "k")
    offered(primary)
    replica = fresh_server()
    replica("REPLICAOF", "127.0.0.1", primary.port)
    replica.wait_replica_of(primary)
    primary("CACHE.INVALIDATE", "NAMESPACE", "")
    replica.wait_replica_of(primary)
    replica("REPLICAOF", "NO", "ONE")
    assert offered(replica) == [b"k"]


@pytest.mark.topology("cluster")
def test_a_node_offers_no_keys_of_others(topology):
    """What was hot here goes with its slot, and is hot there once it is read there."""
    home, other = topology.cluster.primaries()[:2]
    connection, slot = home.connect(), 5
    key = next(f"k{n}" for n in range(10**6) if topology.cluster.slot(f"k{n}") == slot)
    make(connection, key)
    offered(connection)
    topology.cluster.move_slots([slot], home, other)
    try:
        assert home.ask("CACHE.REFRESH") == []
    finally:
        topology.cluster.move_slots([slot], other, home)


def test_what_is_wrong_is_answered(server):
    for words in ("NAMESPACE", "COUNT 0", "COUNT", "LEASE", "BLOCK", "BLOCK 1 BLOCK 1", "x y", "x", "KEEP"):
        assert server.error("CACHE.REFRESH", *words.split()) == "ERR syntax error", words
    for words in ("COUNT -1", "COUNT x", "LEASE 0", "LEASE x", "BLOCK -1", "BLOCK x"):
        error = server.error("CACHE.REFRESH", *words.split())
        assert error == "ERR value is not an integer or out of range", words
