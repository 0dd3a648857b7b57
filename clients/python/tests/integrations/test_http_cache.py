"""The middleware before an ASGI application, on a real server: what is stored, for whom, and for how long."""

from __future__ import annotations

import asyncio

import pytest
from web import HOST, Origin, browser, caching, shop

from cacheflow import AsyncCacheFlow, CacheFlow, ConfigError
from cacheflow.integrations.asgi import CacheMiddleware, HTTPCache, add_tags, surrogate_key, uri_tag


async def until(condition, what):
    """Wait for what must come about."""
    async with asyncio.timeout(20) if hasattr(asyncio, "timeout") else _no_limit():
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


class _no_limit:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


async def test_a_response_is_computed_once_and_told_of(server, namespace):
    async with shop(server, namespace, ttl=60, grace=300) as (origin, ask, _):
        first, second = await ask.get("/a"), await ask.get("/a")
        assert first.text == second.text == "answer 1"
        assert origin.count == 1
        assert first.headers["cache-control"] == "max-age=60, stale-while-revalidate=300, stale-if-error=300"
        assert "age" not in first.headers
        assert int(second.headers["age"]) >= 0
        assert first.headers["etag"] == second.headers["etag"]
        assert first.headers["cache-status"] == "cacheflow; fwd=miss; stored"
        assert second.headers["cache-status"].startswith("cacheflow; hit; ttl=")
        assert second.headers["content-type"] == "text/plain"


async def test_many_who_ask_at_once_are_one_computation(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, http):
        origin.hold = asyncio.Event()
        other = AsyncCacheFlow(f"redis://127.0.0.1:{server.port}", namespace=namespace, timeout=5.0)
        async with other, browser(CacheMiddleware(origin, cache=HTTPCache(other, http.policy))) as another:
            asking = [asyncio.ensure_future(client.get("/a")) for client in (ask, another) * 10]
            await origin.begun.wait()
            origin.hold.set()
            answers = await asyncio.gather(*asking)
        assert {answer.text for answer in answers} == {"answer 1"}
        assert origin.count == 1


async def test_the_same_bytes_are_not_sent_again(server, namespace):
    async with shop(server, namespace, ttl=60, tags=["a"]) as (origin, ask, _):
        etag = (await ask.get("/a")).headers["etag"]
        again = await ask.get("/a", headers={"if-none-match": f'"x", W/{etag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert again.headers["surrogate-key"] == "a"
        assert "content-type" not in again.headers
        assert (await ask.get("/a", headers={"if-none-match": '"other"'})).text == "answer 1"
        first = await ask.get("/b", headers={"if-none-match": "*"})
        assert first.status_code == 304  # computed for this request, and stored whole
        assert (await ask.get("/b")).text == "answer 2"
        assert origin.count == 2


async def test_the_applications_own_validators_are_kept(server, namespace):
    origin = Origin(etag='W/"mine"', last_modified="Thu, 26 Nov 2026 18:00:00 GMT")
    async with shop(server, namespace, origin, ttl=60) as (_, ask, _http):
        assert (await ask.get("/a")).headers["etag"] == 'W/"mine"'
        assert (await ask.get("/a", headers={"if-none-match": '"mine"'})).status_code == 304
        since = {"if-modified-since": "Thu, 26 Nov 2026 18:00:00 GMT"}
        assert (await ask.get("/a", headers=since)).status_code == 304
        since = {"if-modified-since": "Thu, 26 Nov 2026 17:59:59 GMT"}
        assert (await ask.get("/a", headers=since)).status_code == 200
        assert origin.count == 1
        assert not any(name.startswith(b"if-") for name, _ in origin.seen[0]["headers"])


async def test_method_host_path_and_query_are_the_key(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, _):
        assert (await ask.get("/a?x=1&y=2")).text == (await ask.get("/a?y=2&x=1")).text
        others = ["/a", "/b", "/a?x=1", "/a?x=2&y=2", "/a?x=1&x=2", "/a?x=2&x=1", "/a%2Fb", "/a/b", "/a?{x}=1"]
        assert len({(await ask.get(path)).text for path in others}) == len(others)
        assert (await ask.get("/a", headers={"host": "other.example"})).text not in ("answer 1", "answer 2")
        before = origin.count
        assert (await ask.head("/a")).status_code == 200
        assert origin.count == before + 1
        await ask.get("/a", headers={"host": "SHOP.example"})
        assert origin.count == before + 1


async def test_query_parameters_that_are_not_wanted_are_not_seen(server, namespace):
    async with shop(server, namespace, ttl=60, query=["page"]) as (origin, ask, _):
        await ask.get("/a?page=2&utm_source=x")
        await ask.get("/a?utm_source=y&page=2")
        assert origin.count == 1
        assert origin.seen[0]["query_string"] == b"page=2"


async def test_long_paths_have_short_keys(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, http):
        for end in "ab":
            await ask.get("/" + "x" * 5000 + end)
            await ask.get("/" + "x" * 5000 + end)
        assert origin.count == 2
        await http.cache.invalidate(uri_tag("shop.example", "/" + "x" * 5000 + "a"))
        await ask.get("/" + "x" * 5000 + "a")
        assert origin.count == 3


async def test_stale_is_served_while_one_computes_anew(server, namespace):
    async with shop(server, namespace, ttl=60, grace=300) as (origin, ask, http):
        await ask.get("/a")
        await http.cache.invalidate(uri_tag("shop.example", "/a"), soft=True)
        assert (await ask.get("/a")).text == "answer 1"
        await until(lambda: origin.count == 2 and not http.cache.client_stats()["refreshing"], "a refresh")
        assert (await ask.get("/a")).text == "answer 2"
        assert origin.count == 2


async def test_stale_is_served_while_the_application_fails(server, namespace):
    async with shop(server, namespace, ttl=60, grace=300) as (origin, ask, http):
        await ask.get("/a")
        await http.cache.invalidate(uri_tag("shop.example", "/a"), soft=True)
        origin.status = 503
        for _ in range(3):
            assert (await ask.get("/a")).text == "answer 1"
            await until(lambda: not http.cache.client_stats()["refreshing"], "a refresh")
        assert origin.count > 1
        origin.status = 200
        await ask.get("/a")
        await until(lambda: not http.cache.client_stats()["refreshing"], "a refresh")
        assert (await ask.get("/a")).text == f"answer {origin.count}"


async def test_must_revalidate_is_never_stale(server, namespace, recorder):
    origin = Origin(cache_control="max-age=1, must-revalidate")
    async with shop(server, namespace, origin, observers=[recorder], grace=300) as (_, ask, http):
        await ask.get("/a")
        while (await ask.get("/a")).text == "answer 1":
            await asyncio.sleep(0.05)
        assert "stale" not in recorder.names()
        meta = await http.cache.meta(f"http:GET:{HOST}/a")
        assert meta is not None
        assert meta.ttl_ms <= 1000  # no grace


async def test_a_failure_is_not_stored_and_shared_by_who_waited(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, _):
        origin.status, origin.hold = 503, asyncio.Event()
        asking = [asyncio.ensure_future(ask.get("/a")) for _ in range(5)]
        await origin.begun.wait()
        origin.hold.set()
        answers = await asyncio.gather(*asking)
        assert {answer.status_code for answer in answers} == {503}
        before, origin.status = origin.count, 200
        assert (await ask.get("/a")).status_code == 200
        assert origin.count == before + 1


async def test_what_the_application_raises_is_raised(server, namespace):
    async def broken(scope, receive, send):
        raise LookupError("no such thing")

    async with caching(server, namespace, ttl=60) as http, browser(CacheMiddleware(broken, cache=http)) as ask:
        with pytest.raises(LookupError):
            await ask.get("/a")


async def test_an_application_that_says_nothing_is_an_error(server, namespace):
    async def silent(scope, receive, send):
        await receive()

    async with caching(server, namespace, ttl=60) as http, browser(CacheMiddleware(silent, cache=http)) as ask:
        with pytest.raises(RuntimeError, match="without a complete response"):
            await ask.get("/a")


@pytest.mark.parametrize(
    "headers",
    [
        {"set_cookie": "session=mine"},
        {"cache_control": "private"},
        {"cache_control": "no-store"},
        {"vary": "*"},
    ],
    ids=str,
)
async def test_what_is_private_reaches_nobody_else_even_who_waited(server, namespace, headers):
    async with shop(server, namespace, Origin(**headers), ttl=60) as (origin, ask, _):
        origin.hold = asyncio.Event()
        asking = [asyncio.ensure_future(ask.get("/a")) for _ in range(8)]
        await origin.begun.wait()
        origin.hold.set()
        answers = await asyncio.gather(*asking)
        assert len({answer.text for answer in answers}) == 8
        assert origin.count == 8
        if "cache_control" in headers:
            assert answers[0].headers["cache-control"] == headers["cache_control"]
        assert (await ask.get("/a")).text == "answer 9"


async def test_on_what_is_private_nobody_waits_for_anybody(server, namespace):
    async with shop(server, namespace, Origin(cache_control="private"), ttl=60) as (origin, ask, _):
        await ask.get("/a")
        origin.hold = asyncio.Event()
        asking = [asyncio.ensure_future(ask.get("/a")) for _ in range(5)]
        await until(lambda: origin.count == 6, "all run at once")
        origin.hold.set()
        await asyncio.gather(*asking)


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer x"}, {"cookie": "a=b; session=x"}, {"x-api-key": "k"}], ids=str
)
async def test_requests_with_credentials_share_only_what_is_for_everybody(server, namespace, headers):
    async with shop(server, namespace, ttl=60) as (origin, ask, _):
        assert (await ask.get("/a")).text == "answer 1"
        assert (await ask.get("/a", headers=headers)).text == "answer 2"  # nor what was stored for others
        assert (await ask.get("/a", headers=headers)).text == "answer 3"
        assert (await ask.get("/a")).text == "answer 1"
        origin.headers = {"cache_control": "public, max-age=60"}
        assert (await ask.get("/b", headers=headers)).text == "answer 4"
        assert (await ask.get("/b", headers=headers)).text == "answer 4"


async def test_cookies_are_credentials_unless_it_is_said_which(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, http):
        await ask.get("/a")
        theme = {"cookie": "theme=dark"}
        assert (await ask.get("/a", headers=theme)).text == "answer 2"
        async with browser(CacheMiddleware(origin, cache=http, credential_cookies=["login"])) as other:
            assert (await other.get("/a", headers=theme)).text == "answer 1"
            for cookie in ("theme=dark; login=x", "a b; bad=[; login=x", "login=x"):
                before = origin.count
                assert (await other.get("/a", headers={"cookie": cookie})).text == f"answer {before + 1}"


async def test_responses_that_vary_are_stored_apart(server, namespace):
    async with shop(server, namespace, Origin(vary="Accept-Language"), ttl=60) as (origin, ask, http):
        for _ in range(3):
            de = await ask.get("/a", headers={"accept-language": "de"})
            en = await ask.get("/a", headers={"accept-language": "en"})
        assert de.text != en.text
        assert origin.count == 3  # the first has shown that it varies, and was kept by nobody
        await http.cache.invalidate(uri_tag("shop.example", "/a"))
        await ask.get("/a", headers={"accept-language": "de"})
        assert origin.count == 4
        origin.headers = {"vary": "accept-language, x-plan"}
        await http.cache.invalidate(uri_tag("shop.example", "/a"))
        plans = [{"accept-language": "de", "x-plan": plan} for plan in ("free", "paid", "free", "paid")]
        answers = [(await ask.get("/a", headers=plan)).text for plan in [*plans, *plans]]
        assert answers[-4] != answers[-3]
        assert answers[-4:-2] == answers[-2:]


async def test_headers_that_always_count(server, namespace):
    async with shop(server, namespace, Origin(vary="x-plan"), ttl=60, vary=["X-Plan"]) as (origin, ask, _):
        for plan in ("a", "b", "a", "b"):
            await ask.get("/a", headers={"x-plan": plan})
        assert origin.count == 2


async def test_requests_ask_for_what_they_want(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, _):
        assert (await ask.get("/a", headers={"cache-control": "only-if-cached"})).status_code == 504
        assert origin.count == 0
        assert (await ask.get("/a", headers={"cache-control": "no-store"})).text == "answer 1"
        assert (await ask.get("/a")).text == "answer 2"
        assert (await ask.get("/a", headers={"cache-control": "only-if-cached"})).text == "answer 2"
        assert (await ask.get("/a", headers={"cache-control": "no-cache"})).text == "answer 3"
        assert (await ask.get("/a")).text == "answer 3"
        assert (await ask.get("/a", headers={"cache-control": "min-fresh=61"})).text == "answer 4"
        assert (await ask.get("/a", headers={"cache-control": "max-age=50"})).text == "answer 4"
        assert (await ask.get("/a", headers={"range": "bytes=0-1"})).text == "answer 5"
        assert (await ask.get("/a")).text == "answer 4"


async def test_computed_anew_under_the_key_it_varies_by(server, namespace):
    async with shop(server, namespace, Origin(vary="x-plan"), ttl=60) as (origin, ask, _):
        plan = {"x-plan": "a"}
        await ask.get("/a", headers=plan)
        await ask.get("/a", headers=plan)
        assert (await ask.get("/a", headers={**plan, "cache-control": "no-cache"})).text == "answer 3"
        assert (await ask.get("/a", headers=plan)).text == "answer 3"
        assert origin.count == 3


async def test_clients_that_are_not_obeyed(server, namespace):
    async with shop(server, namespace, ttl=60, obey_requests=False) as (origin, ask, _):
        await ask.get("/a")
        await ask.get("/a", headers={"cache-control": "no-cache"})
        assert origin.count == 1


async def test_tags_are_told_to_cdns_and_invalidate(server, namespace):
    async def tagged(scope, receive, send):
        add_tags(scope, "product:7", "shelf 3")
        await origin(scope, receive, send)

    origin = Origin(cache_tag="promo,product:7")
    async with caching(server, namespace, ttl=60, tags=["all"]) as http:
        async with browser(CacheMiddleware(tagged, cache=http)) as ask:
            for _ in range(2):
                answer = await ask.get("/a")
                assert answer.headers["surrogate-key"] == "all product:7 shelf%203 promo"
                assert answer.headers.get_list("cache-tag") == ["all,product:7,shelf%203,promo"]
            assert origin.count == 1
            for tag in ("all", "product:7", "shelf 3", "promo"):
                before = origin.count
                await http.cache.invalidate(tag)
                await ask.get("/a")
                assert origin.count == before + 1


def test_no_tag_breaks_a_header():
    assert surrogate_key("a b,c\r\nx: ü%") == "a%20b%2Cc%0D%0Ax:%20%C3%BC%25"


async def test_an_invalidation_during_the_computation_is_not_undone(server, namespace):
    async with shop(server, namespace, ttl=60, tags=["t"]) as (origin, ask, http):
        origin.hold = asyncio.Event()
        asking = asyncio.ensure_future(ask.get("/a"))
        await origin.begun.wait()
        await http.cache.invalidate("t")
        origin.hold.set()
        assert (await asking).text == "answer 1"
        assert (await ask.get("/a")).text == "answer 2"


async def test_a_change_invalidates_what_is_stored_of_its_path(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, _):
        await ask.get("/a?x=1")
        origin.status = 400
        await ask.post("/a", content=b"x")
        origin.status = 200
        assert (await ask.get("/a?x=1")).text == "answer 1"
        await ask.post("/a", content=b"x")
        assert (await ask.get("/a?x=1")).text == "answer 4"
        await ask.request("OPTIONS", "/a")
        assert (await ask.get("/a?x=1")).text == "answer 4"


async def test_a_change_is_answered_when_redis_is_down(own_server, namespace):
    async with shop(own_server, namespace, ttl=60, client={"timeout": 0.5}) as (_, ask, http):
        await ask.get("/a")
        own_server.kill9()
        assert (await ask.post("/a", content=b"x")).text == "answer 2"
        assert http.cache.queued_invalidations == 1
        assert (await ask.get("/a")).text == "answer 3"


async def test_long_bodies_and_streams_are_passed_by_as_they_come(server, namespace):
    go_on = asyncio.Event()
    ran = 0

    async def streaming(scope, receive, send):
        nonlocal ran
        ran += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two", "more_body": False})

    sent = []

    async def client_send(message):
        sent.append(message)

    async def client_receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/s", "query_string": b"", "headers": [(b"host", b"h")]}
    async with caching(server, namespace, ttl=60) as http:
        for number in (1, 2):
            sent.clear()
            go_on.clear()
            serving = asyncio.ensure_future(http.serve(streaming, dict(scope), client_receive, client_send))
            await until(lambda: len(sent) == 2, "the first part, before there is a second")
            go_on.set()
            await serving
            assert b"".join(message.get("body", b"") for message in sent) == b"onetwo"
            assert ran == number


async def test_bodies_up_to_the_bound_are_stored(server, namespace):
    async with shop(server, namespace, ttl=60, max_body=100) as (origin, ask, _):
        origin.body = bytes(range(100))
        assert (await ask.get("/a")).content == (await ask.get("/a")).content == origin.body
        assert origin.count == 1
        origin.body = bytes(101)
        assert (await ask.get("/b")).content == (await ask.get("/b")).content == origin.body
        assert origin.count == 3


async def test_a_body_in_parts_with_a_length_is_stored(server, namespace):
    ran = 0

    async def parts(scope, receive, send):
        nonlocal ran
        ran += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        for part in (b"ab", b"cd"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async with caching(server, namespace, ttl=60) as http, browser(CacheMiddleware(parts, cache=http)) as ask:
        assert [(await ask.get("/a")).text for _ in range(2)] == ["abcd", "abcd"]
        assert ran == 1


async def test_a_request_that_is_cancelled_ends_its_computation(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, _):
        origin.hold = asyncio.Event()
        asking = asyncio.ensure_future(ask.get("/a"))
        await origin.begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        origin.hold.set()
        assert (await ask.get("/a")).text == "answer 2"


async def test_without_redis_the_application_answers(own_server, namespace):
    async with shop(own_server, namespace, ttl=60, client={"timeout": 0.5}) as (_, ask, _http):
        await ask.get("/a")
        own_server.kill9()
        answers = [await ask.get("/a") for _ in range(4)]
        assert [answer.text for answer in answers] == [f"answer {n}" for n in range(2, 6)]
        private = await asyncio.gather(*(ask.get("/p", headers={"authorization": "x"}) for _ in range(4)))
        assert len({answer.text for answer in private}) == 4


async def test_a_server_without_the_module(server, namespace):
    options = {"ttl": 60, "grace": 300, "tags": ["t"], "client": {"mode": "plain"}}
    async with shop(server, namespace, Origin(vary="x-plan"), **options) as (origin, ask, http):
        for plan in ("a", "b", "a", "b"):
            await ask.get("/a", headers={"x-plan": plan})
        assert origin.count == 3
        await http.cache.invalidate("t", soft=True)
        assert (await ask.get("/a", headers={"x-plan": "b"})).text == "answer 2"
        await until(lambda: origin.count == 4 and not http.cache.client_stats()["refreshing"], "a refresh")
        await http.cache.invalidate("t")
        assert (await ask.get("/a", headers={"x-plan": "b"})).text == "answer 5"


async def test_what_is_not_to_be_cached(server, namespace):
    options = {"ttl": 60, "when": lambda scope: not scope["path"].startswith("/admin")}
    async with shop(server, namespace, **options) as (origin, ask, _):
        for _ in range(2):
            await ask.get("/admin/a")
        assert origin.count == 2
        assert "cache-status" not in (await ask.get("/admin/a")).headers


async def test_browsers_are_told_another_time(server, namespace):
    async with shop(server, namespace, ttl=60, browser_ttl=0, cache_status="", tag_headers=[]) as (_, ask, _http):
        answer = await ask.get("/a")
        assert answer.headers["cache-control"] == "max-age=0, s-maxage=60"
        assert "cache-status" not in answer.headers


async def test_another_versions_value_is_no_response(server, namespace):
    async with shop(server, namespace, ttl=60) as (origin, ask, http):
        await ask.get("/a")
        key = f"http:GET:{HOST}/a"
        assert await http.cache.get(key) is not None
        for value in ({"status": 200}, [], "text", {"vary": None}):
            await http.cache.set(key, value, ttl=60)
            assert (await ask.get("/a")).text == f"answer {origin.count}"


def test_options_are_checked():
    with CacheFlow("redis://127.0.0.1:1") as sync, pytest.raises(ConfigError):
        HTTPCache(sync)
    cache = AsyncCacheFlow("redis://127.0.0.1:1")
    for options in ({"ttl": float("inf")}, {"nonsense": 1}, {"vary": "accept"}, {"max_body": 0}, {"ttl": "soon"}):
        with pytest.raises(ConfigError):
            HTTPCache(cache, **options)
