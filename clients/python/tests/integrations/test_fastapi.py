"""FastAPI: routes that are cached as they answer, with their models and dependencies."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from web import browser, caching

from cacheflow.integrations.fastapi import CachedRoute, CacheMiddleware, add_tags, cached, uncached


class Product(BaseModel):
    id: int
    name: str


async def test_a_route_is_cached_with_its_model(server, namespace):
    runs, checks = [], []

    def check():
        checks.append(1)
        yield
        checks.append(-1)

    async with caching(server, namespace, ttl=60, grace=300) as http:
        router = APIRouter(prefix="/shop", route_class=CachedRoute)

        @router.get("/products/{product_id}", response_model=Product)
        @cached(http, tags=["product:{product_id}"])
        async def product(product_id: int, request: Request, response: Response, _: None = Depends(check)):
            runs.append(product_id)
            if product_id == 404:
                raise HTTPException(404)
            add_tags(request, "shelf:3")
            response.headers["x-run"] = str(len(runs))
            return {"id": product_id, "name": "Chair", "password": "secret"}

        @router.get("/plain")
        @cached(http, ttl="1h")
        def plain(page: int = 1):
            runs.append(page)
            return {"page": page}

        @router.get("/now")
        async def now():
            runs.append("now")
            return {}

        @router.put("/products/{product_id}")
        async def change(product_id: int):
            await http.cache.invalidate(f"product:{product_id}")
            return {}

        app = FastAPI()
        app.include_router(router, prefix="/v1")
        async with browser(app) as ask:
            for _ in range(2):
                answer = await ask.get("/v1/shop/products/7")
                assert answer.json() == {"id": 7, "name": "Chair"}
                assert answer.headers["x-run"] == "1"
                assert answer.headers["cache-tag"] == "product:7,shelf:3"
            assert (runs, checks) == ([7], [1, -1])
            for path in ("/v1/shop/plain?page=2", "/v1/shop/plain", "/v1/shop/plain?page=2"):
                await ask.get(path)
            assert runs == [7, 2, 1]
            for _ in range(2):
                assert (await ask.get("/v1/shop/now")).status_code == 200
                assert (await ask.get("/v1/shop/products/404")).status_code == 404
                assert (await ask.get("/v1/shop/products/x")).status_code == 422
            assert runs == [7, 2, 1, "now", 404, "now"]
            await ask.put("/v1/shop/products/7")
            assert (await ask.get("/v1/shop/products/7")).headers["x-run"] == "7"
            assert (await ask.post("/v1/shop/plain")).status_code == 405
            paths = (await ask.get("/openapi.json")).json()["paths"]
            assert "/v1/shop/products/{product_id}" in paths


async def test_dependencies_of_who_asks_are_asked_for_each(server, namespace):
    """Credentials keep a response from being shared, so that its dependencies run every time."""
    seen = []

    async def user(request: Request):
        seen.append(request.headers.get("authorization"))
        if seen[-1] is None:
            raise HTTPException(401)
        return seen[-1]

    async with caching(server, namespace, ttl=60) as http:
        app = FastAPI()
        app.router.route_class = CachedRoute

        @app.get("/me")
        @cached(http)
        async def me(who: str = Depends(user)):
            return {"who": who}

        async with browser(app) as ask:
            for who in ("Ada", "Bob", "Ada"):
                assert (await ask.get("/me", headers={"authorization": who})).json() == {"who": who}
            assert (await ask.get("/me")).status_code == 401
        assert seen == ["Ada", "Bob", "Ada", None]


async def test_a_whole_application(server, namespace):
    runs = []
    async with caching(server, namespace, ttl=60) as http:
        app = FastAPI()
        app.add_middleware(CacheMiddleware, cache=http, tags=lambda scope: [f"path:{scope['path']}"])

        @app.get("/items/{item}")
        async def item(item: int):
            runs.append(item)
            return {"item": item}

        async with browser(app) as ask:
            for _ in range(2):
                answer = await ask.get("/items/3")
                assert answer.json() == {"item": 3}
                assert answer.headers["surrogate-key"] == "path:/items/3"
            assert runs == [3]


async def test_decorated_functions_that_no_route_caches_are_named(server, namespace):
    async with caching(server, namespace, ttl=60) as http:
        app = FastAPI()

        @app.get("/forgotten")
        @cached(http)
        async def forgotten():
            return {}

        assert [name.rpartition(".")[2] for name in uncached()] == ["forgotten"]
        assert await forgotten() == {}
    CachedRoute("/forgotten", forgotten)  # for tests after this one
    assert uncached() == []
