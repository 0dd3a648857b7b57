"""The examples of the pages on integrations, levels, resilience, and of the quickstart run as they stand."""

from __future__ import annotations

from contextlib import closing

import pytest
from harness.server import wait_for
from prometheus_client import REGISTRY
from scenarios.processes import Proxy
from test_docs_examples import run


@pytest.fixture
def address(own_server):
    return f"redis://127.0.0.1:{own_server.port}"


def test_quickstart(address):
    run("README.md", url=address)


def test_levels(address):
    run("levels.md", url=address)


def test_resilience(own_server, fleet):
    plain = fleet.start(name="plain", module=None)
    with closing(Proxy(f"127.0.0.1:{own_server.port}")) as proxy:
        run(
            "resilience.md",
            proxied=proxy.url,
            without_module=f"redis://127.0.0.1:{plain.port}",
            take_away=lambda: proxy.tell("kill"),
            bring_back=lambda: proxy.tell("heal"),
            until=lambda condition: wait_for(condition, "what the page waits for", 20),
        )
    fleet.discard(plain)


def test_fastapi(address):
    names = run("fastapi.md", url=address)
    from starlette.testclient import TestClient

    with TestClient(names["starlette"]) as client:
        for _ in range(2):
            answer = client.get("/about")
            assert (answer.text, answer.headers["cache-tag"]) == ("About us", "about")
            assert client.get("/").headers["surrogate-key"] == "home"
        assert "age" in answer.headers
        client.portal.call(names["pages"].aclose)


def test_sqlalchemy(address, tmp_path):
    path = tmp_path / "rows.db"
    names = run(
        "sqlalchemy.md", url=address, database=f"sqlite:///{path}", async_database=f"sqlite+aiosqlite:///{path}"
    )
    names["engine"].dispose()


def test_observability(address):
    run("observability.md", url=address)
    assert REGISTRY.get_sample_value("cacheflow_client_requests_total", {"cache": "shop", "result": "miss"}) == 1
