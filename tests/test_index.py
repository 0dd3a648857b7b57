"""The index is what the keyspace is, whatever was done: every test ends by CACHE.VERIFY on every
server (harness/topology.py); here is what is hard for it."""

import os
import random
import time

import pytest

from harness.churn import Model
from harness.churn_requests import DATABASES, changes_database, may_be_scripted, requests
from harness.churn_requests import KEYS as CHURNED
from harness.cluster_client import beside
from harness.native import TAKE, companions, kinds, make
from harness.resp import ReplyError, fields
from harness.sample import fill
from harness.server import wait_for
from harness.tagged import DEBUG, all_tags, await_sweep, keys_of
from harness.topologies import several_databases
from harness.topology import assert_verified, verify

SEEDS = int(os.environ.get("CACHEFLOW_SEEDS", "3"))
POLICIES = [f"{which}-{how}" for which in ("allkeys", "volatile") for how in ("lru", "lfu", "random")] + [
    "volatile-ttl"
]
TAGS = ["t1", "t2", "t3", "", "tag:" + "y" * 100]
KEYS = [f"{space}:{n}{{t}}" for space in ("a", "bb", "") for n in range(6)] + ["long:" + "x" * 300 + "{t}"]


def steps(dice, databases, types):
    """Commands without end, of every kind that puts an entry or a native key somewhere or takes it away."""
    while True:
        one, other = dice.choice(KEYS), dice.choice(KEYS)
        tag, tags = f"t{dice.randrange(6)}", [f"t{dice.randrange(6)}" for _ in range(dice.randrange(1, 5))]
        soft = ["SOFT"] * dice.randrange(2)
        yield dice.choice(
            [
                ["CACHE.SET", one, "v" * dice.randrange(100)],
                ["CACHE.SET", one, "v", "EX", 1000, "GRACE", 1000],
                ["CACHE.SET", one, "v", "PX", dice.randrange(1, 5)],
                ["CACHE.SET", one, "v", "EXAT", 1],
                ["CACHE.SET", one, "v" * dice.randrange(100), "TAGS", *dice.sample(TAGS, 2)],
                ["CACHE.SET", one, "v", "PX", dice.randrange(1, 5), "TAGS", *dice.sample(TAGS, 3)],
                ["CACHE.SET", one, "v", "EX", 1000, "TAGS", dice.choice(TAGS), f"one-off {dice.random()}"],
                ["CACHE.TAG", one, *dice.sample(TAGS, 2)],
                ["CACHE.UNTAG", one, *dice.sample(TAGS, 2)],
                ["CACHE.INVALIDATE", "TAGS", dice.choice(TAGS)],
                ["CACHE.INVALIDATE", "SOFT", "TAGS", *dice.sample(TAGS, 2)],
                ["CACHE.INVALIDATE", "NAMESPACE", dice.choice(["a", "bb", "", "long"])],
                ["CACHE.INVALIDATE", "SOFT", "NAMESPACE", dice.choice(["a", "bb", "", "long"])],
                ["CACHE.TOUCH", one, "EX", 100],
                ["CACHE.STALE", one, other],
                ["CACHE.INCRBY", one, 1],
                ["CACHE.DEL", one, other],
                ["CACHE.SET", one, "v", "EX", 1000, "GRACE", 1000, "TAGS", *tags],
                ["CACHE.SET", other, "v", "KEEPTTL", "TAGS", *tags],
                ["CACHE.TAG", one, *tags],
                ["CACHE.UNTAG", one, *tags],
                ["CACHE.INVALIDATE", *soft, "TAGS", tag, dice.choice(tags)],
                ["CACHE.INVALIDATE", *soft, "NAMESPACE", dice.choice(["a", "bb", "long"])],
                ["SET", one, "native"],
                ["MAKE", one, dice.choice(types), *dice.sample(TAGS, 2)],
                ["MAKE", one, dice.choice(types), tag],
                ["TAKE", one],
                ["SUNIONSTORE", one, "none{t}"],
                ["DEL", one],
                ["UNLINK", one, other],
                ["PEXPIRE", one, dice.choice([-1, 1, 100_000])],
                ["PERSIST", one],
                ["RENAME", one, other],
                ["RENAMENX", one, other],
                ["COPY", one, other],
                ["COPY", one, other, "REPLACE"],
                ["EVAL", "redis.call('CACHE.SET', KEYS[1], 'v') redis.call('DEL', KEYS[2])", 2, one, other],
                ["RESTORE-OF", one, other],
                ["COMPANION", *dice.choice([["DEL", "{}"], ["PEXPIRE", "{}", dice.choice([1, 100_000])]])],
                ["COMPANION", "SET", "{}", "native"],
                ["CACHE.FETCH", one, "LEASE", dice.choice([1, 5, 100_000])],
                ["CACHE.LOCK", one, dice.choice([1, 5, 100_000])],
                ["FILL-OF", one, *dice.sample(TAGS, 2)],
                ["UNLOCK-OF", one],
            ]
            + [["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["FLUSHALL", "ASYNC"], ["DEBUG", "RELOAD"]]
            * (dice.random() < 0.1)
            + [
                ["COPY", one, other, "DB", dice.randrange(databases)],
                ["MOVE", one, dice.randrange(databases)],
                ["SELECT", dice.randrange(databases)],
                ["SWAPDB", dice.randrange(databases), dice.randrange(databases)],
            ]
            * (databases > 1)
        )


def expire(server, databases):
    """Expire what lives for milliseconds: a reload drops it, and tells no replica."""
    time.sleep(0.01)
    for db in range(databases):
        connection = server.connect(db=db)
        connection("EXISTS", *KEYS, *companions(server, connection))


def run(server, request, databases):
    """One step; a refusal is as good as any answer."""
    try:
        if request[0] == "MAKE":
            make(server, request[2], request[1])
            server("CACHE.TAG", request[1], *request[3:])
        elif request[0] == "TAKE":
            name = server("TYPE", request[1]).decode()
            server(*[request[1] if word == "{}" else word for word in TAKE.get(name, ("PING",))])
        elif request[0] == "COMPANION":
            names = companions(server)
            if names:
                server(*[names[0] if word == "{}" else word for word in request[1:]])
        elif request[0] == "RESTORE-OF":
            payload = server("DUMP", request[1])
            if payload is not None:
                server("RESTORE", request[2], random.choice([0, 1, 100_000]), payload, "REPLACE")
        elif request[0] == "FILL-OF":
            token = server("CACHE.FETCH", request[1], "BETA", 0)[2]
            if token is not None:
                server("CACHE.SET", request[1], "v", "LEASE", token, "EX", 1000, "TAGS", *request[2:])
        elif request[0] == "UNLOCK-OF":
            token = server("CACHE.LOCK", request[1], 5)
            if token is not None:
                server("CACHE.UNLOCK", request[1], token)
        else:
            if request == ["DEBUG", "RELOAD"]:
                expire(server, databases)
            server(*request)
    except ReplyError:
        pass


def freshen(server, keys, databases):
    """Make the stale fresh. Since when an entry is stale is not kept where it was made so twice, see
    test_invalidate.py, and a digest shows it."""
    for db in range(databases):
        connection = server.connect(db=db)
        connection.pipeline([("CACHE.TOUCH", key) for key in keys])


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_leaves_it_whole(topology, seed):
    server, databases, dice = topology.primary, min(3, topology.databases), random.Random(seed)
    for number, request in zip(range(1500), steps(dice, databases, kinds(server)), strict=False):
        run(server, request, databases)
        if number % 25 == 0:
            found = verify(server)
            assert found["problems"] == [], (number, request, found)
    freshen(server, KEYS, databases)


@pytest.mark.parametrize("policy", POLICIES)
def test_eviction(server, policy):
    server.config("maxmemory-policy", policy)
    # A replica's backlog is to add little to what it has before.
    server.config("repl-backlog-size", 1 << 20)
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + (4 << 20))
    # What tests before this have left in buffers is given back by and by, and makes room for more.
    for n in range(60_000):
        server("CACHE.SET", f"k:{n}", b"v" * 1000, "EX", 1000 + n, "TAGS", n % 10, "all")
        if n % 1000 == 999:
            server("CACHE.INVALIDATE", *(["SOFT"] if n % 2000 == 999 else []), "TAGS", n % 10)
            if n >= 5999 and int(server.info("stats")["evicted_keys"]) > 1000:
                break
    assert int(server.info("stats")["evicted_keys"]) > 1000
    assert_verified(server)


def test_nothing_is_left_behind(topology):
    server = topology.primary
    before = server.info("cacheflow")
    fill(server, elsewhere=3 if topology.databases > 1 else None)
    for n in range(20_000):
        server("CACHE.SET", f"space{n % 7}:{n}", "v", "EX", 1000, "TAGS", f"tag{n}", f"some{n % 9}")
    assert verify(server)["entries"] > 20_000
    # Invalidations are remembered over a flush; of a thousand, fill's included, none is but for this.
    for n in range(1000):
        server("CACHE.INVALIDATE", "TAGS", f"tag{n}")
    server("FLUSHALL", "SYNC")  # Valkey's default is to free in the background
    assert int(server.info("cacheflow")["cacheflow_tombstones"]) > 1000
    server.config("cacheflow.max-tombstones", 0)
    # Redis 8 frees in the background here too, and then tags are let go of bit by bit.
    names = ("tombstones", "entries", "bytes", "tags", "memberships", "sweep_queued")
    wait_for(
        lambda: all(server.info("cacheflow")[f"cacheflow_{name}"] == "0" for name in names), "forgetting"
    )
    after = server.info("cacheflow")
    assert int(after["cacheflow_index_bytes"]) < int(before["cacheflow_index_bytes"]) + 4096


def test_names_follow_renames(server):
    """An entry bears its key's name, of whatever length: VERIFY compares them."""
    server("CACHE.SET", beside("", "a:short"), "v", "EX", 100, "GRACE", 100)
    for name in (*(beside("", name) for name in ("b:longer than before", "c:x", "d" * 400)), ""):
        server("RENAME", server("KEYS", "*")[0], name)
        assert_verified(server)
        assert server("CACHE.GET", name) == b"v"
    idle = server("OBJECT", "IDLETIME", "")
    assert idle is not None


@pytest.mark.topology("single")
def test_after_a_crash_and_from_files(fresh_server):
    server = fresh_server(args=["--appendonly", "yes", "--appendfsync", "always"])
    fill(server)
    server.kill9()
    server.restart()
    assert_verified(server)
    assert verify(server)["entries"] > 10
    server.bgrewriteaof()
    server.restart()
    assert_verified(server)


def test_verify_takes_repair_alone(server):
    assert server.error("CACHE.VERIFY", "REPAIRS") == "ERR syntax error"
    assert server.error("CACHE.VERIFY", "REPAIR", "x").startswith("ERR")
    assert fields(server("CACHE.VERIFY", "repair"))["problems"] == []


# --- against a model -------------------------------------------------------------------------------
class Churn:
    """A topology churned by random commands, with the model that follows."""

    def __init__(self, topology, seed, **options):
        self.topology, self.dice = topology, random.Random(seed)
        databases = min(DATABASES, topology.databases)
        self.server, self.model = topology.primary, Model(databases=databases, **options)
        self.connection = self.server.connect()
        self.deal = requests(self.dice, self.model.lossy, databases)
        self.log = []

    def some(self):
        """A command, or a few in a transaction, or one in a script."""
        count = self.dice.choice([1, 1, 1, 1, 3])
        dealt = (self.model.request(self.dice, next(self.deal)) for _ in range(count))
        batch = [request for request in dealt if request is not None and not self.strays(request)]
        if count > 1:
            # Not within a transaction: Valkey 9 names the wrong database then, see the xfail below.
            batch = [request for request in batch if not changes_database(request)]
        self.log = [*self.log[-40:], *batch]
        if count > 1:
            commands = [("MULTI",), *batch, ("EXEC",)]
            *queued, replies = self.connection.pipeline(commands)
            if isinstance(replies, ReplyError):  # refused when it was queued, so not run
                assert self.model.lossy, queued
                return
        elif batch and may_be_scripted(batch[0]) and self.dice.random() < 0.2:
            script = "return redis.call(unpack(ARGV))"
            replies = self.connection.pipeline([("EVAL", script, 0, *batch[0])])
        else:
            replies = self.connection.pipeline(batch)
            if batch and "DB" in batch[0]:
                self.connection("SELECT", self.model.selected)  # Valkey 8: valkey#4024
        for request, reply in zip(batch, replies, strict=True):
            self.model.apply(request, reply)

    def strays(self, request):
        """Whether a replica would be left in another database than its primary believes: by Valkey 8, where
        a native key is copied into another database (valkey#4024)."""
        native = request[0] == "COPY" and "DB" in request and self.model.is_native(request[1])
        valkey = "valkey_version" in self.server.info("server")
        return native and valkey and len(self.topology.servers) > 1

    def again(self):
        """A new connection, after a restart."""
        self.connection = self.server.connect(db=self.model.selected)

    def upset(self):
        """Something that takes the data out of memory and back, here or on the replica."""
        server, kind = self.server, type(self.topology).__name__
        choices = [lambda: server.reload(), server.bgsave]
        if kind == "Single":
            choices += [lambda: (server("SAVE"), server.restart())]
        elif kind == "Aof":
            choices += [server.restart, self.rewrite, lambda: (self.rewrite(), server.restart())]
        else:
            choices += [self.cut, self.resync, lambda: (self.cut(), self.resync())]
        self.dice.choice(choices)()
        self.again()

    def rewrite(self):
        """Rewrite the AOF, with or without preamble. Without one what was invalidated is written beside
        an entry: where there is none it is lost, and payloads from before would not be hit."""
        preamble = self.dice.choice(["yes", "no"])
        entries = [entry for db in self.model.dbs for entry in db.entries.values()]
        empty = all(entry.native and not entry.tags for entry in entries)
        self.server.config("aof-use-rdb-preamble", "yes" if empty else preamble)
        self.server.bgrewriteaof()

    def cut(self):
        """Close the replica's link; it comes back."""
        self.server("CLIENT", "KILL", "TYPE", "replica")

    def resync(self):
        """Have the replica load everything anew."""
        full = int(self.server.info("stats")["sync_full"])
        self.server("DEBUG", "CHANGE-REPL-ID")
        self.cut()
        wait_for(lambda: int(self.server.info("stats")["sync_full"]) > full, "a full resync")

    def look(self, when):
        """Compare all keys with the model, on the replica too."""
        when = f"{when}, after {self.log}"
        self.model.compare(self.server, when)
        if len(self.topology.servers) > 1:
            replica = self.topology.servers[1]
            replica.wait_replica_of(self.server)
            self.model.compare(replica, f"on the replica, {when}")

    def look_closely(self, when):
        """After the sweep: nothing dead is left, every tag has its entries, the index is whole."""
        await_sweep(self.server)
        self.look(when)
        for number, db in enumerate(self.model.dbs):
            connection = self.server.connect(db=number)
            if not self.model.lossy:
                keys = len(db.entries) + self.model.companions(number)
                assert connection("DBSIZE") == keys, when
                assert all_tags(connection, "COUNT", 5) == self.model.tags(number), when
                for tag in self.model.tags(number):
                    keys = sorted(key for key, entry in db.entries.items() if tag in entry.tags)
                    assert keys_of(connection, tag, "COUNT", 3) == keys, when
            connection.close()
            db.swept()
        for server in self.topology.servers:
            assert_verified(server)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_dead_stale_and_fresh_is_as_the_model_says(topology, seed):
    churn = Churn(topology, seed)
    for number in range(1200):
        churn.some()
        if number % 10 == 0:
            churn.look(f"seed {seed} step {number}")
        if number % 150 == 149:
            churn.upset()
            churn.look(f"seed {seed} step {number}, upset")
        if number % 100 == 99:
            churn.look_closely(f"seed {seed} step {number}, swept")
    assert churn.model.filled > 10, "fills by lease were among it"
    freshen(churn.server, CHURNED, len(churn.model.dbs))


@pytest.mark.parametrize("policy", POLICIES)
def test_eviction_shows_nothing_that_the_model_does_not_know(topology, policy):
    """Keys may be gone; what is there is what it must be."""
    server = topology.primary
    churn = Churn(topology, policy, lossy=True)
    for _ in range(200):
        churn.some()
    server.config("maxmemory-policy", policy)
    server.config("maxmemory-samples", 10)
    for number in range(800):
        if number % 20 == 0:
            # A little less than it has: something must go, by whatever command comes next.
            memory = server.info("memory")
            counted = int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])
            server.config("maxmemory", counted - 2000)
        churn.some()
        if number % 10 == 9:
            server.config("maxmemory", 0)
            churn.look(f"{policy} step {number}")
    assert int(server.info("stats")["evicted_keys"]) > 20
    churn.look_closely(policy)
    freshen(server, CHURNED, len(churn.model.dbs))


@several_databases
@pytest.mark.parametrize("how", [("MOVE", "k", 1), ("COPY", "k", "other", "DB", 1)])
def test_to_another_database_within_a_transaction(server, how):
    """Valkey 9 names the transaction's database in the event of the key; the key knows its own."""
    server("CACHE.SET", "k", "v", "TAGS", "a")
    server("MULTI")
    server(*how)
    server("EXEC")
    found = verify(server)
    server("CACHE.VERIFY", "REPAIR")
    assert found["problems"] == []
    assert all_tags(server.connect(db=1)) == {b"a": 1}


@pytest.mark.topology("single")
@pytest.mark.parametrize("border", ["unlink", "key_event"])
@pytest.mark.parametrize("repair", [False, True])
def test_tags_bind_whatever_the_index_missed(fresh_server, border, repair):
    """A panic where it is told something: it forgets its entries, not what their tags are."""
    server = fresh_server(module_args=DEBUG)
    for key in ("hard", "soft", "namespace:k", "gone", "moved"):
        server("CACHE.SET", key, "v", "EX", 1000, "TAGS", key, "all")
    with server.expect_panics():
        server("CACHE.DEBUG", "FAULT", border)
        server("DEL", "gone")
        server("RENAME", "moved", "x:moved")
        server("CACHE.DEBUG", "FAULT", "")
    if repair:
        server("CACHE.VERIFY", "REPAIR")
        assert_verified(server)
        # What moved unseen is told of once more.
        assert all_tags(server)[b"all"] == 4
    assert server("CACHE.INVALIDATE", "TAGS", "hard", "moved") == 2 or not repair
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "soft")
    server("CACHE.INVALIDATE", "NAMESPACE", "namespace")
    assert server("CACHE.MGET", "hard", "soft", "namespace:k", "x:moved") == [None] * 4
    assert server("CACHE.GET", "soft", "STALE") == b"v"
    server("CACHE.INVALIDATE", "TAGS", "all")
    assert server("CACHE.GET", "soft", "STALE") is None
    server("CACHE.VERIFY", "REPAIR")
    wait_for(lambda: server("DBSIZE") == 0, "the dead to be swept")
    assert_verified(server)
