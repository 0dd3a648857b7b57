"""The loops that hand what is due to Celery and to arq: real workers, in this process."""

import asyncio
import threading

import pytest
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker as ArqWorker
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import worker_ready, worker_shutting_down
from conftest import url_of, wait_for

from cacheflow import AsyncCacheFlow, CacheFlow, ConfigError
from cacheflow.integrations import workers
from cacheflow.integrations.arq import JOB, ArqRefresh
from cacheflow.integrations.celery import TASK, CeleryRefresh
from cacheflow.integrations.refreshers import Refreshers


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(workers, "SLICE", 0.2)


@pytest.fixture
def cache(server, namespace):
    with CacheFlow(url_of(server), namespace=namespace, timeout=5) as cache:
        yield cache


def make_due(cache, *keys):
    for key in keys:
        cache.set(key, "old", ttl=60, grace=600, cost="50ms")
        for _ in range(5):
            cache.get(key)
    cache.delete(*keys, soft=True)


@pytest.fixture
def app(namespace):
    """Celery, with its queue in this process."""
    app = Celery(namespace, broker=f"memory://{namespace}", set_as_current=False)
    app.conf.update(task_default_queue=namespace, worker_hijack_root_logger=False, broker_pool_limit=None)
    yield app
    app.close()


@pytest.fixture
def celery_worker(app):
    """Starts a worker of Celery's, in a thread."""
    started = []

    def start():
        context = start_worker(app, pool="threads", concurrency=4, perform_ping_check=False, shutdown_timeout=20)
        started.append(context)
        context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


def test_celery_computes_what_is_due_and_reports_what_fails(app, celery_worker, cache):
    refresh, threads = Refreshers(), []

    @refresh("user:{user_id}", ttl=60, grace=600, tags="celery:users")
    def load(user_id):
        threads.append(threading.current_thread())
        return f"user {user_id}"

    @refresh("bad", ttl=60)
    def fail():
        raise RuntimeError("for the test")

    loop = CeleryRefresh(app, cache, refresh, concurrency=2, retry="60s", lease="60s")
    assert app.tasks[TASK] is not None
    celery_worker()
    make_due(cache, "user:1", "user:2", "user:3", "bad")
    loop.start()
    for number in "123":
        wait_for(lambda number=number: cache.get(f"user:{number}") == f"user {number}", "a new value", 30)
    wait_for(lambda: loop.counts.get("dispatched") == 4, "the places are free again", 20)
    loop.stop()
    assert loop.join(20)
    assert cache.get("bad", stale=True) == "old" and cache.meta("bad").lease_ms == 0  # given up, not run out
    assert len(threads) == 3 and threading.current_thread() not in threads
    assert cache.meta("user:1").tags == ("celery:users",)


def test_no_more_tasks_at_a_time_than_asked_for(app, celery_worker, cache):
    refresh, begun, go_on = Refreshers(), [], threading.Event()

    @refresh("{key}", ttl=60)
    def load(key):
        begun.append(key)
        assert go_on.wait(30)
        return "new"

    loop = CeleryRefresh(app, cache, refresh, concurrency=2, lease="60s")
    celery_worker()
    make_due(cache, "a", "b", "c", "d")
    loop.start()
    wait_for(lambda: len(begun) == 2, "as many as there are places", 30)
    assert cache.stats(cache.namespace).server["leases"] == 2  # nobody holds what is not being computed
    go_on.set()
    wait_for(lambda: len(cache.get_many(["a", "b", "c", "d"])) == 4, "all of them", 30)
    loop.stop()
    assert loop.join(20) and len(begun) == 4


def test_a_queue_that_takes_no_task(app, cache, monkeypatch):
    refresh = Refreshers()
    refresh("{key}", ttl=60)(lambda key: "new")
    loop = CeleryRefresh(app, cache, refresh, retry="60s", lease="60s")

    def refuse(*_, **__):
        raise ConnectionError("no broker, for the test")

    monkeypatch.setattr(loop.task, "apply_async", refuse)
    make_due(cache, "k")
    loop.start()
    wait_for(lambda: loop.counts.get("failed") == 1, "the failure", 20)
    assert cache.meta("k").lease_ms == 0
    loop.stop()
    assert loop.join(20)


def test_a_loop_beside_a_worker_of_celery(app, cache):
    loop = CeleryRefresh(app, cache, Refreshers())
    with pytest.raises(ConfigError):
        CeleryRefresh(app, cache, Refreshers())
    assert CeleryRefresh(app, cache, Refreshers(), name="another").task.name == "another"
    loop.run_with_workers()
    try:
        worker_ready.send(sender=None)
        wait_for(lambda: loop._askers, "the loop to ask", 20)
        worker_shutting_down.send(sender=None)
        assert loop.join(20)
    finally:
        worker_ready.disconnect(loop._begin_beside)
        worker_shutting_down.disconnect(loop._end_beside)


def test_arq_computes_what_is_due(server, namespace, cache):
    refresh, loads = Refreshers(), []

    @refresh("user:{user_id}", ttl=60, grace=600, tags="arq:users")
    async def load(user_id):
        loads.append(user_id)
        await asyncio.sleep(0)
        return f"user {user_id}"

    make_due(cache, "user:1", "user:2", "user:3")
    settings = RedisSettings(host="127.0.0.1", port=server.port)

    async def main():
        async with AsyncCacheFlow(url_of(server), namespace=namespace, timeout=5) as client:
            refreshes = ArqRefresh(client, refresh, concurrency=2, queue=f"arq:{namespace}")
            worker = ArqWorker(
                [refreshes.job],
                redis_pool=await create_pool(settings),
                queue_name=f"arq:{namespace}",
                on_startup=refreshes.startup,
                on_shutdown=refreshes.shutdown,
                poll_delay=0.02,
                handle_signals=False,
            )
            running = asyncio.create_task(worker.async_run())
            keys = [f"user:{number}" for number in "123"]

            async def all_done():
                while await client.get_many(keys) != {key: key.replace(":", " ") for key in keys}:
                    await asyncio.sleep(0.02)
                while refreshes.counts.get("dispatched") != 3:
                    await asyncio.sleep(0.02)

            await asyncio.wait_for(all_done(), 30)
            assert worker.functions.keys() == {JOB}
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await worker.close()
            assert refreshes._task.done() and refreshes._task.exception() is None

    asyncio.run(main())
    assert sorted(loads) == ["1", "2", "3"]
    assert cache.meta("user:1").tags == ("arq:users",)


def test_a_job_that_fails_gives_the_lease_up(server, namespace, cache):
    refresh = Refreshers()

    @refresh("{key}", ttl=60)
    async def load(key):
        raise RuntimeError("for the test")

    async def main():
        async with AsyncCacheFlow(url_of(server), namespace=namespace, timeout=5) as client:
            refreshes = ArqRefresh(client, refresh, retry="60s")
            lock = client.lock("k", ttl=60)
            assert await lock.acquire()
            with pytest.raises(RuntimeError):
                await refreshes.job.coroutine({}, f"{namespace}:k", lock.token)
            assert (await client.meta("k")) is None

    asyncio.run(main())
