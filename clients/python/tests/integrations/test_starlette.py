"""Starlette: the decorator on endpoints, and the middleware before an application."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from web import browser, caching

from cacheflow.integrations.starlette import CacheMiddleware, add_tags, cached


async def test_endpoints_of_all_kinds(server, namespace):
    runs = []
    async with caching(server, namespace, ttl=60, grace=300) as http:

        @cached(http, ttl="5m", tags=["product:{product_id}"])
        async def product(request):
            """A product."""
            runs.append("product")
            add_tags(request, "shelf:3")
            if request.path_params["product_id"] == 404:
                raise HTTPException(404)
            return JSONResponse({"id": request.path_params["product_id"], "run": len(runs)})

        @cached(http)
        def plain(request):
            runs.append("plain")
            return PlainTextResponse(f"run {len(runs)}")

        class Page(HTTPEndpoint):
            @cached(http)
            async def get(self, request):
                runs.append("page")
                return PlainTextResponse("page")

            async def post(self, request):
                return PlainTextResponse("posted")

        routes = [Route("/products/{product_id:int}", product), Route("/plain", plain), Route("/page", Page)]
        app = Starlette(routes=[*routes, Mount("/shop", routes=routes)])
        assert product.__doc__ == "A product."
        async with browser(app) as ask:
            for path in ("/products/7", "/shop/products/7", "/plain", "/page"):
                first, second = await ask.get(path), await ask.get(path)
                assert first.content == second.content
                assert "age" in second.headers
            assert runs == ["product", "product", "plain", "page"]
            answer = await ask.get("/products/7")
            assert answer.headers["surrogate-key"] == "product:7 shelf:3"
            assert answer.headers["cache-control"].startswith("max-age=300, ")
            have = {"if-none-match": answer.headers["etag"]}
            assert (await ask.get("/products/7", headers=have)).status_code == 304
            await http.cache.invalidate("product:7")
            assert (await ask.get("/products/7")).json()["run"] == 5
            for _ in range(2):
                missing = await ask.get("/products/404")
                assert missing.status_code == 404
                assert missing.headers["cache-control"] == "max-age=10"
            assert len(runs) == 6
            assert (await ask.post("/page")).text == "posted"
            assert (await ask.post("/plain")).status_code == 405


async def test_a_cache_within_a_cache_advises_the_outer_one(server, namespace):
    """Both have one key: storing twice, each would wait for the other."""
    runs = []
    async with caching(server, namespace, ttl=60, grace=300, client={"wait": 60}, tags=["site"]) as http:

        @cached(http, ttl="1h", grace=0, tags=["page:{name}"], vary=["x-plan"])
        async def page(request):
            runs.append(request.path_params["name"])
            return PlainTextResponse(f"run {len(runs)}", status_code=int(request.query_params.get("status", 200)))

        app = Starlette(routes=[Route("/{name}", page)], middleware=[Middleware(CacheMiddleware, cache=http)])
        async with browser(app) as ask:
            await ask.get("/a")  # shows that it varies
            for _ in range(2):
                answer = await ask.get("/a")
                assert answer.text == "run 2"
                assert answer.headers["cache-control"] == "max-age=3600, stale-while-revalidate=0"
                assert answer.headers["surrogate-key"] == "site page:a"
            assert (await ask.get("/a", headers={"x-plan": "b"})).text == "run 3"
            await http.cache.invalidate("page:a")
            assert (await ask.get("/a")).text == "run 4"
            for _ in range(2):
                assert (await ask.get("/b?status=503")).status_code == 503
            assert len(runs) == 6


async def test_what_is_no_endpoint_is_an_error(server, namespace):
    async with caching(server, namespace, ttl=60) as http:

        @cached(http)
        async def other(number):
            return number

        with pytest.raises(TypeError, match="no endpoint"):
            await other(5)


async def test_a_whole_application(server, namespace, tmp_path):
    """Its own middleware, sessions, files, streams and background tasks work as they did."""
    runs, behind = [], []
    (tmp_path / "file.txt").write_text("a file")

    async def page(request):
        runs.append("page")
        return PlainTextResponse("page " * 500, background=BackgroundTask(behind.append, "page"))

    async def mine(request):
        runs.append("mine")
        request.session["count"] = request.session.get("count", 0) + 1
        return PlainTextResponse(str(request.session["count"]))

    async def stream(request):
        runs.append("stream")

        async def parts():
            for number in range(3):
                yield f"{number} "

        return StreamingResponse(parts(), media_type="text/plain")

    async def file(request):
        runs.append("file")
        return FileResponse(tmp_path / "file.txt")

    async def broken(request):
        runs.append("broken")
        raise ZeroDivisionError

    async with caching(server, namespace, ttl=60) as http:
        app = Starlette(
            routes=[Route(f"/{view.__name__}", view) for view in (page, mine, stream, file, broken)],
            middleware=[
                Middleware(GZipMiddleware),
                Middleware(CacheMiddleware, cache=http),
                Middleware(SessionMiddleware, secret_key="not a secret"),
            ],
        )
        async with browser(app) as ask:
            for _ in range(2):
                assert (await ask.get("/page")).text == "page " * 500
                assert (await ask.get("/stream")).text == "0 1 2 "
                assert (await ask.get("/file")).text == "a file"
                with pytest.raises(ZeroDivisionError):
                    await ask.get("/broken")
            assert behind == ["page"]
            assert [(await ask.get("/mine")).text for _ in range(3)] == ["1", "2", "3"]
        async with browser(app) as other:
            assert (await other.get("/mine")).text == "1"
        counts = {name: runs.count(name) for name in set(runs)}
        assert counts == {"page": 1, "stream": 2, "file": 1, "broken": 2, "mine": 4}
