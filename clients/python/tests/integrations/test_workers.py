"""Workers on CACHE.REFRESH, by threads and by asyncio: what is computed, how much at a time, how it ends."""

import asyncio
import threading

import pytest
from conftest import Bridge, url_of, wait_for
from harness.cluster import Cluster

from cacheflow import AsyncCacheFlow, CacheFlow, CacheFlowError, ConfigError, LoadContext, ServerError
from cacheflow.integrations import workers
from cacheflow.integrations.refreshers import Refreshers, compiled, fill
from cacheflow.integrations.workers import AsyncWorker, Worker


class Bench:
    """A client with what is hot in it, and workers on it."""

    def __init__(self, server, namespace, loop, kind):
        self.url, self.namespace, self.loop, self.kind = url_of(server), namespace, loop, kind
        self.reader = CacheFlow(self.url, namespace=namespace, timeout=5)
        self.refresh = Refreshers()
        self.workers = []

    def due(self, *keys, ttl=60):
        """Make keys hot, and stale: the server offers them."""
        for key in keys:
            self.reader.set(key, "old", ttl=ttl, grace=600, cost="50ms")
            for _ in range(5):
                self.reader.get(key)
        self.reader.delete(*keys, soft=True)

    def start(self, **options):
        """A worker that runs, and what is to be asked of it."""
        if self.kind == "threads":
            client = CacheFlow(self.url, namespace=self.namespace, timeout=5)
            worker = Worker(client, self.refresh, **options)
            worker.start()
            ended = worker.join
        else:
            client = Bridge(self.loop, self.url, namespace=self.namespace, timeout=5)
            worker = AsyncWorker(client._cache, self.refresh, **options)
            future = self.loop.start(worker.run)

            def ended(seconds):
                return future.exception(seconds) is None

        self.workers.append((worker, ended, client))
        return worker

    def stop(self):
        """Stop and wait, of all of them."""
        for worker, ended, client in self.workers:
            worker.stop()
            assert ended(30)
            client.close()
        self.workers.clear()

    def is_fresh(self, key, value):
        """Whether the reader sees it."""
        return self.reader.get(key) == value


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """A worker that waits in the server notices sooner that it is stopped."""
    monkeypatch.setattr(workers, "SLICE", 0.2)


@pytest.fixture(params=["threads", "async"])
def bench(server, namespace, loop, request):
    bench = Bench(server, namespace, loop, request.param)
    yield bench
    bench.stop()
    bench.reader.close()


def test_what_is_due_is_computed(bench):
    @bench.refresh("user:{user_id}", ttl=60, grace=600, tags=["user:{user_id}", "worker:users"])
    def load(user_id):
        return {"id": user_id}

    bench.due("user:1", "user:2")
    worker = bench.start()
    for number in ("1", "2"):
        wait_for(lambda number=number: bench.is_fresh(f"user:{number}", {"id": number}), "a new value", 20)
    meta = bench.reader.meta("user:1")
    assert set(meta.tags) == {"user:1", "worker:users"} and meta.lease_ms == 0
    assert meta.ttl_ms > 600_000
    wait_for(lambda: worker.counts.get("stored") == 2, "both counted", 20)


def test_functions_may_be_coroutines_and_take_a_context(bench):
    seen = []

    def load(key, context: LoadContext):
        seen.append((context.key, context.token > 0))
        context.ttl, context.tags = 30, [*context.tags, "late"]
        return key

    async def load_async(key, context: LoadContext):
        await asyncio.sleep(0)
        return load(key, context)

    bench.refresh("{key*}", ttl=600, tags=lambda key: [f"of:{key}"])(
        load if bench.kind == "threads" else load_async
    )
    bench.due("a:b:c")
    bench.start()
    wait_for(lambda: bench.is_fresh("a:b:c", "a:b:c"), "a new value", 20)
    assert seen == [(f"{bench.namespace}:a:b:c", True)]
    meta = bench.reader.meta("a:b:c")
    assert set(meta.tags) == {"of:a:b:c", "late"} and meta.fresh_ms <= 30_000


class Gate:
    """A function that counts who is in it, and can be held."""

    def __init__(self, asynchronous):
        self.inside = self.most = self.calls = 0
        self.open = threading.Event()
        self._lock = threading.Lock()
        self.function = self._async if asynchronous else self._sync

    def _enter(self):
        with self._lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)

    def _leave(self):
        with self._lock:
            self.inside -= 1

    def _sync(self, key):
        self._enter()
        try:
            assert self.open.wait(30)
        finally:
            self._leave()
        return "new"

    async def _async(self, key):
        self._enter()
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.01)
        finally:
            self._leave()
        return "new"


def test_no_more_at_a_time_than_asked_for(bench):
    gate = Gate(bench.kind == "async")
    bench.refresh("{key}", ttl=60)(gate.function)
    keys = [f"k{number}" for number in range(7)]
    bench.due(*keys)
    bench.start(concurrency=3)
    wait_for(lambda: gate.inside == 3, "as many as there are places", 20)
    gate.open.set()
    wait_for(lambda: all(bench.is_fresh(key, "new") for key in keys), "all of them", 20)
    assert gate.most == 3


def test_two_workers_share_the_keys(bench):
    gate = Gate(bench.kind == "async")
    bench.refresh("{key}", ttl=60)(gate.function)
    keys = [f"k{number}" for number in range(4)]
    bench.due(*keys)
    first, second = bench.start(concurrency=2), bench.start(concurrency=2)
    wait_for(lambda: gate.inside == 4, "each key once", 20)
    gate.open.set()
    wait_for(lambda: first.counts.get("stored", 0) + second.counts.get("stored", 0) == 4, "all stored", 20)
    assert gate.calls == 4


def test_it_stops_when_what_has_begun_is_done(bench):
    gate = Gate(bench.kind == "async")
    bench.refresh("{key}", ttl=60)(gate.function)
    bench.due("a", "b")
    worker = bench.start(concurrency=1)
    wait_for(lambda: gate.inside == 1, "one begun", 20)
    worker.stop()
    gate.open.set()
    bench.stop()
    assert gate.calls == 1 and worker.counts["stored"] == 1
    for key in ("a", "b"):
        assert bench.reader.meta(key).lease_ms == 0
    assert sorted(bench.reader.get_many(["a", "b"]).values()) == ["new"]


def test_a_failure_is_reported_and_the_others_go_on(bench):
    failed = threading.Event()

    @bench.refresh("bad", ttl=60)
    def fail():
        failed.set()
        raise RuntimeError("for the test")

    @bench.refresh("{key}", ttl=60)
    def load(key):
        return "new"

    bench.due("bad", "good")
    worker = bench.start(retry="60s")
    wait_for(lambda: bench.is_fresh("good", "new"), "the other key", 20)
    assert failed.wait(20)
    wait_for(lambda: worker.counts.get("failed") == 1, "the failure counted", 20)
    assert bench.reader.get("bad", stale=True) == "old"
    assert bench.reader.get_or_set("bad", lambda: "mine", grace=600) == "old"  # no new lease for a minute
    assert worker.counts["failed"] == 1


def test_what_cannot_be_stored_is_a_failure(bench):
    @bench.refresh("{key}", ttl=60)
    def load(key):
        return object()

    bench.due("k")
    worker = bench.start(retry="60s")
    wait_for(lambda: worker.counts.get("failed") == 1, "the failure", 20)
    assert bench.reader.meta("k").lease_ms == 0


def test_an_invalidation_meanwhile_is_not_overwritten(bench):
    @bench.refresh("{key}", ttl=60, tags=["worker:row"])
    def load(key):
        bench.reader.invalidate("worker:row")
        return "old row"

    bench.due("k")
    worker = bench.start()
    wait_for(lambda: worker.counts.get("refused", 0) >= 1, "the fill refused", 20)
    assert bench.reader.get("k") is None


def test_skipped_values_and_none(bench):
    @bench.refresh("skip", ttl=60)
    def skip(context: LoadContext):
        context.skip()

    @bench.refresh("none", ttl=600, grace=60, negative_ttl=30)
    def none():
        return None

    bench.due("skip", "none")
    worker = bench.start()
    wait_for(lambda: worker.counts.get("skipped", 0) >= 1, "one skipped", 20)
    wait_for(lambda: bench.reader.get("none", "default") is None, "None stored", 20)
    assert bench.reader.meta("none").ttl_ms <= 30_000
    assert bench.reader.get("skip", stale=True) == "old"


def test_keys_that_nobody_knows_are_given_back(bench):
    @bench.refresh("known:{key}", ttl=60)
    def load(key):
        return "new"

    bench.due("unknown", "known:1")
    worker = bench.start()
    wait_for(lambda: bench.is_fresh("known:1", "new"), "the known key", 20)
    wait_for(lambda: worker.counts.get("unknown", 0) >= 1, "the other one offered", 20)
    bench.stop()
    assert bench.reader.meta("unknown").lease_ms == 0


def test_hot_keys_that_nobody_knows_do_not_starve_the_others(bench):
    @bench.refresh("known:{key}", ttl=60)
    def load(key):
        return "new"

    hot = [f"unknown:{number}" for number in range(6)]
    bench.due(*hot, "known:1")
    for key in hot:
        for _ in range(200):
            bench.reader.get(key, stale=True)
    bench.start(concurrency=1)
    wait_for(lambda: bench.is_fresh("known:1", "new"), "the known key", 20)


def test_it_goes_on_after_a_restart(own_server, namespace, loop):
    bench = Bench(own_server, namespace, loop, "threads")

    @bench.refresh("{key}", ttl=60, grace=60)
    def load(key):
        return "new"

    bench.due("a")
    bench.start()
    wait_for(lambda: bench.is_fresh("a", "new"), "a new value", 20)
    own_server.kill9()
    own_server.restart()
    wait_for(lambda: bench.reader.set("b", "old", ttl=60, grace=600), "the server back", 20)
    bench.due("b")
    wait_for(lambda: bench.is_fresh("b", "new"), "a new value after the restart", 30)
    bench.stop()
    bench.reader.close()


def test_it_asks_every_shard_of_a_cluster(fleet, namespace):
    refresh = Refreshers()
    keys = [f"k{number}" for number in range(12)]

    @refresh("{key}", ttl=60)
    def load(key):
        return "new"

    with Cluster(fleet, primaries=3, replicas=0) as cluster:
        url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
        with CacheFlow(url, namespace=namespace, timeout=5) as cache:
            for key in keys:
                cache.set(key, "old", ttl=60, grace=600, cost="50ms")
                for _ in range(5):
                    cache.get(key)
            cache.delete(*keys, soft=True)
            worker = Worker(cache, refresh, concurrency=2)
            worker.start()
            wait_for(lambda: len(cache.get_many(keys)) == len(keys), "the keys of all shards", 30)
            assert len(worker._askers) == 3
            worker.stop()
            assert worker.join(30)


def test_it_needs_the_module(fleet):
    server = fleet.start(name="plain", module=None)
    with CacheFlow(url_of(server), timeout=5) as cache:
        with pytest.raises(CacheFlowError) as caught:
            Worker(cache, Refreshers()).run()
        assert caught.value.code == "no_module"
    fleet.discard(server)


def test_what_the_server_refuses_is_raised(server, namespace):
    server("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-cache.refresh")
    with CacheFlow(url_of(server), namespace=namespace, username="reader", password="secret", timeout=5) as cache:
        with pytest.raises(ServerError) as caught:
            Worker(cache, Refreshers()).run()
        assert caught.value.code == "noperm"
    server("ACL", "DELUSER", "reader")


def test_a_cancelled_worker_ends_in_order(server, namespace):
    async def main():
        async with AsyncCacheFlow(url_of(server), namespace=namespace, timeout=5) as cache:
            worker = AsyncWorker(cache, Refreshers())
            task = asyncio.create_task(worker.run())
            while not worker._askers:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert all(ended.happened for ended in worker._askers.values())

    asyncio.run(main())


@pytest.mark.parametrize(
    "pattern, key, parts",
    [
        ("user:{id}", "user:1", {"id": "1"}),
        ("user:{id}", "user:1:2", None),
        ("user:{id}", "user:", None),
        ("{a}:{b*}", "x:y:z", {"a": "x", "b": "y:z"}),
        ("page.{name}", "pagexname", None),
        ("plain", "plain", {}),
        ("{a*}", "line\nline", {"a": "line\nline"}),
    ],
)
def test_patterns(pattern, key, parts):
    match = compiled(pattern).fullmatch(key)
    assert (None if match is None else match.groupdict()) == parts


def test_arguments_that_make_no_sense(server):
    with pytest.raises(ConfigError):
        compiled("{a}:{a}")
    with pytest.raises(ConfigError):
        Refreshers()("user:{id}", tags="user:{name}")(lambda id: 1)  # noqa: A006 - the part's name
    with CacheFlow(url_of(server)) as cache:
        for options in ({"concurrency": 0}, {"retry": "soon"}):
            with pytest.raises(ConfigError):
                Worker(cache, Refreshers(), **options)


def test_fill_of_a_key_that_is_not_ours(server, namespace):
    with CacheFlow(url_of(server), namespace=namespace, timeout=5) as cache:
        token = cache.lock("k", ttl=60)
        assert token.acquire()
        assert cache._run(fill(cache.core, Refreshers(), f"{namespace}:k", token.token, "1s")) == "unknown"
        assert cache.meta("k") is None
