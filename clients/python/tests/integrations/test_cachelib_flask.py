"""The cachelib backend, beyond cachelib's own tests (scripts/cachelib-suite), and under Flask-Caching."""

import datetime
import pickle

import pytest
from cachelib import BaseCache
from conftest import url_of
from flask import Flask, Response, jsonify, render_template_string
from flask_caching import Cache
from markupsafe import Markup

from cacheflow import InvalidationError, Unavailable
from cacheflow.integrations.cachelib import CacheFlowCache


@pytest.fixture
def cache(server, namespace):
    cache = CacheFlowCache(url_of(server), namespace=namespace, timeout=5)
    yield cache
    cache.client.close()


def test_tags_invalidate(cache):
    assert cache.set("a", 1, tags="lib:t")
    assert cache.set_many({"b": 2, "c": 3}, tags=["lib:u"]) == ["b", "c"]
    assert cache.add("d", 4, tags=["lib:t"])
    assert cache.get_or_set("e", lambda: 5, tags=["lib:u"]) == 5
    assert cache.invalidate("lib:t") == 2
    assert cache.get_many("a", "b", "c", "d", "e") == [None, 2, 3, None, 5]
    assert cache.invalidate("lib:u") == 3


def test_times(cache):
    cache.set("k", 1, timeout=0)
    assert cache.client.meta("k").fresh_ms == -1
    cache.set("k", 1, timeout=datetime.timedelta(minutes=1))
    assert 0 < cache.client.meta("k").fresh_ms <= 60_000
    cache.set("k", 1, grace=60)
    meta = cache.client.meta("k")
    assert 0 < meta.fresh_ms <= 300_000 < meta.ttl_ms
    assert cache.set("k", 1, timeout=-1) and cache.get("k") is None
    assert cache.add("k", 1, timeout=-1) and cache.get("k") is None


def test_a_value_is_loaded_once_and_none_is_a_value(cache):
    loads = []
    assert [cache.get_or_set("k", lambda: loads.append(1)) for _ in range(2)] == [None, None]
    assert len(loads) == 1 and cache.has("k") and cache.get("k") is None


def test_what_cannot_be_read_is_none(server, namespace, cache):
    other = CacheFlowCache(url_of(server), namespace=namespace, codec="pickle", timeout=5)
    other.set_many({"k": 1j, "n": 5})
    assert cache.get("k") is None and not cache.has("k")
    assert cache.get_many("k", "n") == [None, 5]
    assert other.get_many("k", "n") == [1j, 5]
    other.client.close()


def test_what_cannot_be_stored_is_said(cache):
    for store in (cache.set, cache.add):
        with pytest.raises(pickle.PickleError):
            store("k", 1j)


def test_counting(cache):
    cache.set("n", 5, timeout=60, tags="t")
    assert (cache.inc("n", 2), cache.dec("n"), cache.get("n")) == (7, 6, 6)
    assert cache.client.meta("n").tags == ("t",)


def test_clear_is_of_the_namespace(server, namespace, cache):
    other = CacheFlowCache(url_of(server), namespace=f"{namespace}x", timeout=5)
    other.set("k", 1)
    cache.set("k", 2)
    assert cache.clear() is True
    assert (cache.get("k"), other.get("k")) == (None, 1)
    other.client.close()


def test_without_redis(namespace):
    cache = CacheFlowCache("redis://127.0.0.1:1", namespace=namespace, timeout=0.2)
    assert cache.get("k") is None and cache.get_many("k") == [None] and not cache.has("k")
    assert cache.set("k", 1) is False and cache.set_many({"k": 1}) == [] and cache.add("k", 1) is False
    assert cache.get_or_set("k", lambda: "loaded") == "loaded"
    assert cache.inc("k") is None
    assert cache.delete_many("k") == []
    with pytest.raises(Unavailable):
        cache.delete("k")
    with pytest.raises(InvalidationError):
        cache.clear()
    cache.ignore_delete_many_errors = False
    with pytest.raises(RuntimeError):
        cache.delete_many("k")
    cache.client.close()


@pytest.fixture
def app(server, namespace):
    app = Flask(__name__)
    app.config.update(
        CACHE_TYPE="cacheflow.integrations.cachelib.CacheFlowCache",
        CACHE_DEFAULT_TIMEOUT=60,
        CACHE_OPTIONS={"url": url_of(server), "namespace": namespace, "timeout": 5, "codec": "json"},
    )
    cache = Cache(app)
    app.extensions["calls"] = calls = []

    @app.get("/page")
    @cache.cached(query_string=True)
    def page():
        calls.append("page")
        return f"page {len(calls)}"

    @cache.memoize(60)
    def double(number):
        calls.append(number)
        return number * 2

    app.extensions["double"], app.extensions["flask_cache"] = double, cache
    yield app
    cache.cache.client.close()


def test_flask_caching_has_the_backend_itself(app):
    cache = app.extensions["flask_cache"]
    assert isinstance(cache.cache, CacheFlowCache) and isinstance(cache.cache, BaseCache)
    assert cache.cache.default_timeout == 60


def test_flask_views(app):
    client = app.test_client()
    assert [client.get("/page").text for _ in range(2)] == ["page 1", "page 1"]
    assert client.get("/page?a=1").text == "page 2"
    with app.app_context():
        assert app.extensions["flask_cache"].clear()
    assert client.get("/page").text == "page 3"


def test_flask_memoize(app):
    double, cache = app.extensions["double"], app.extensions["flask_cache"]
    with app.app_context():
        assert [double(2), double(2), double(3)] == [4, 4, 6]
        assert app.extensions["calls"] == [2, 3]
        cache.delete_memoized(double, 2)
        assert [double(2), double(3)] == [4, 6]
        assert app.extensions["calls"] == [2, 3, 2]
        cache.delete_memoized(double)
        assert [double(2), double(3)] == [4, 6]
        assert app.extensions["calls"] == [2, 3, 2, 2, 3]


def test_flask_fragments_and_tags(app):
    text = '{% cache 60, "side" %}{{ shown }}{% endcache %}'
    with app.test_request_context():
        assert render_template_string(text, shown="1") == "1"
        assert render_template_string(text, shown="2") == "1"
        cache = app.extensions["flask_cache"].cache
        cache.set("k", 1, tags="flask")
        assert cache.invalidate("flask") == 1 and cache.get("k") is None


def test_flask_responses(app):
    cache, calls = app.extensions["flask_cache"], []

    @app.get("/json")
    @cache.cached()
    def as_json():
        calls.append(1)
        response = jsonify({"calls": len(calls)})
        response.set_cookie("seen", "yes")
        return response, 201, {"X-One": "1"}

    client = app.test_client()
    for _ in range(2):
        response = client.get("/json")
        assert (response.status_code, response.json, response.headers["X-One"]) == (201, {"calls": 1}, "1")
        assert "seen=yes" in response.headers["Set-Cookie"]
    with pytest.raises(pickle.PickleError):
        cache.cache.set("k", Response(iter(["a"])))


def test_values_come_back_as_they_were(cache):
    value = [Markup("<b>"), (1, 2), {"a": b"\x00"}, datetime.date(2026, 1, 2)]
    cache.set("k", value)
    found = cache.get("k")
    assert found == value and [type(item) for item in found] == [Markup, tuple, dict, datetime.date]
