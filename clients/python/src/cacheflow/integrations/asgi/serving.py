"""Requests answered from the cache, by RFC 9111 as a shared cache.

    GET, HEAD ─ no-store, Range, a body ───────────────────────────────▶ the application
       └─ get_or_set on the key of method, host, path, query
            ├─ a response ── 304, or as it is, with Age ───────────────▶ client
            ├─ {"vary": …} ── again, under the key with those headers
            ├─ {"pass": …} ────────────────────────────────────────────▶ the application
            └─ miss ── one run of the application (run.py)
                 ├─ may be stored ── stored with its tags ─────────────▶ client
                 ├─ 5xx, or it raised ── nothing stored; what is stale stays, and is served for its grace
                 └─ may not, or a stream ── {"pass": …} for a while ───▶ client, and nobody else

A response that may not be stored is given to the one request that it was computed for, and the rest of those
who waited run the application themselves: what is private never crosses to another, not even within one
process. For `pass_ttl` nobody waits for anybody on such a key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from ...aio import AsyncCacheFlow
from ...codecs import CodecError
from ...context import LoadContext
from ...errors import CacheFlowError, ConfigError, InvalidationError
from ...units import Duration, seconds, size
from . import names, rules
from .policy import TAGS, App, Message, Policy, Receive, Scope, Send
from .run import Run
from .stored import PASS, Stored, cache_control, varied_by, vary_by

log = logging.getLogger("cacheflow")

VARY_TTL: Duration = "1d"
_HOPS = 4  # keys that one request may be sent on to
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_CONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"})


class Failed(Exception):
    """The application answered 5xx: what is stored stays. Seen by the client's observers, not by callers."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"the application answered {run.status}")
        self.run = run
        said = rules.directives(run.headers)
        private = rules.values(run.headers, b"set-cookie") or {"private", "no-store"} & said.keys()
        #: Whether others who waited may have it.
        self.shareable = not private


class HTTPCache:
    """A cache of responses. `options` are those of Policy. ConfigError."""

    def __init__(self, cache: AsyncCacheFlow, policy: Policy | None = None, **options: Any) -> None:
        if not isinstance(cache, AsyncCacheFlow):
            raise ConfigError("bad_option", "an HTTP cache stands on AsyncCacheFlow")
        self.cache = cache
        try:
            self.policy = Policy(**options) if policy is None else replace(policy, **options)
        except TypeError as error:
            raise ConfigError("bad_option", str(error)) from None

    def using(self, **options: Any) -> HTTPCache:
        """The same cache with some options of the policy changed."""
        return HTTPCache(self.cache, self.policy, **options)

    async def serve(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by the application or in its place. Raises what the application raises."""
        policy = self.policy
        if scope["type"] != "http" or (policy.when is not None and not policy.when(scope)):
            await app(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            if policy.invalidate_unsafe and scope["method"] not in _SAFE:
                send = self._invalidating(names.tag_of(scope), send)
            await app(scope, receive, send)
            return
        asked = rules.asked(scope["headers"], policy.obey_requests)
        if asked.bypass:
            await app(scope, receive, send)
            return
        if scope.get(TAGS) is not None:
            await app(scope, receive, self._advising(scope, send))
            return
        await _Exchange(self, app, scope, receive, send, asked).answer()

    def credentials(self, scope: Scope) -> bool:
        """Whether a request is of somebody in particular."""
        return names.bears_credentials(scope, self.policy.credential_headers, self.policy.credential_cookies)

    def judge(self, status: int, headers: rules.Headers, credentials: bool) -> rules.Verdict:
        """Whether a response may be stored, by its headers and the policy."""
        policy = self.policy
        ttl = None if policy.ttl is None else seconds(policy.ttl)
        negative, grace = seconds(policy.negative_ttl), seconds(policy.grace)
        return rules.verdict(status, headers, credentials, ttl, negative, grace)

    def _advising(self, scope: Scope, send: Send) -> Send:
        """Within another cache, whose computation this is, nothing is stored a second time (under the same key
        each would wait for the other): the policy is told to the outer one, in the response's headers."""
        policy = self.policy
        if policy.query is not None:
            scope["query_string"] = names.query_of(scope, policy.query)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
                judged = self.judge(message["status"], headers, self.credentials(scope))
                if judged.store:
                    scope[TAGS].extend(policy.tags_of(scope))
                    if not judged.explicit:
                        said = cache_control(judged.ttl, judged.grace, policy)
                        said += "" if judged.grace else ", stale-while-revalidate=0"
                        headers.append((b"cache-control", said.encode("latin-1")))
                    if policy.vary:
                        headers.append((b"vary", ", ".join(policy.vary).encode("latin-1")))
                message = {**message, "headers": headers}
            await send(message)

        return sending

    def _invalidating(self, tag: str, send: Send) -> Send:
        """Before the client hears that a change has succeeded, what was stored of the path is invalid
        (RFC 9111, 4.4). Where that fails the change has still been made, and is answered as such: the
        invalidation is queued, and told to log and observers."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and 200 <= message["status"] < 400:
                try:
                    await self.cache.invalidate(tag, retry=True)
                except InvalidationError as error:
                    log.warning("after a change, %s is not known to be invalidated: %s", tag, error)
            await send(message)

        return sending


class CacheMiddleware:
    """ASGI middleware: `app.add_middleware(CacheMiddleware, cache=cache, ttl=60)`. `cache` is an AsyncCacheFlow
    or an HTTPCache, `options` are those of Policy."""

    def __init__(self, app: App, cache: AsyncCacheFlow | HTTPCache, **options: Any) -> None:
        self.app = app
        self.http = cache.using(**options) if isinstance(cache, HTTPCache) else HTTPCache(cache, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or a lifespan or websocket, which are none of a cache's business."""
        await self.http.serve(self.app, scope, receive, send)


class _Exchange:
    """One request."""

    def __init__(
        self, http: HTTPCache, app: App, scope: Scope, receive: Receive, send: Send, asked: rules.Asked
    ) -> None:
        self._http, self._cache, self._policy, self._app = http, http.cache, http.policy, app
        self._scope, self._receive, self._send, self._asked = scope, receive, send, asked
        self._query = names.query_of(scope, http.policy.query)
        self._credentials = http.credentials(scope)
        self._task = asyncio.current_task()
        # What the application did for this very request, if it ran for it.
        self._run: Run | None = None
        self._stored: Stored | None = None
        self._found: Stored | None = None  # what the cache had

    async def answer(self) -> None:
        """Send a response."""
        vary = {name.lower() for name in self._policy.vary}
        for _ in range(_HOPS):
            try:
                value = await self._obtain(vary)
            except Failed as failed:
                await self._failed(failed)
                return
            except BaseException:
                if self._run is not None:
                    await self._run.abandon()
                raise
            if self._run is not None:
                await self._own(self._run)
                return
            if value is None:
                await self._gateway_timeout()
                return
            more = varied_by(value)
            if more is not None:
                vary |= more
                continue
            if self._found is None:
                break
            await self._found.send(self._send, self._scope["headers"], self._policy, time.time(), False)
            return
        await self._app(self._scope, self._receive, self._send)

    async def _obtain(self, vary: Collection[str]) -> Any:
        """The cache's value; None where there must be one already, and is not."""
        key = names.key_of(self._scope, self._query, vary, self._credentials)
        asked, known = self._asked, frozenset(vary)

        async def load(context: LoadContext) -> Any:
            return await self._load(context, known)

        if asked.only_if_cached or asked.no_cache:
            value = await self._peek(key)
            if varied_by(value) is not None:
                return value
            if asked.only_if_cached:
                return value if self._acceptable(value) and not asked.no_cache else None
            return await self._cache.refresh(key, load)
        # Tags are known when the response is; this one is a hint that saves servers without the module a look.
        value = await self._cache.get_or_set(key, load, tags=(names.tag_of(self._scope),))
        if self._run is not None or value == PASS or varied_by(value) is not None or self._acceptable(value):
            return value
        return await self._cache.refresh(key, load)

    async def _peek(self, key: str) -> Any:
        try:
            return await self._cache.get(key, stale=True)
        except (CacheFlowError, CodecError):
            return None  # told to observers by the client

    def _acceptable(self, value: Any) -> bool:
        found = self._found = Stored.read(value)
        return found is not None and self._asked.content_with(found.age(time.time()), found.lifetime)

    # --- the application -----------------------------------------------------------------------
    async def _load(self, context: LoadContext, vary: frozenset[str]) -> Any:
        run = Run(self._app, self._inner_scope(), self._receive, size(self._policy.max_body))
        mine = asyncio.current_task() is self._task  # else a refresh behind some request
        if mine:
            self._run = run
        try:
            await run.decide()
            value, stored = self._judge(run, context, vary)
        except Failed:
            if not mine:
                run.leave()
            raise
        except BaseException:
            if not mine:
                await run.abandon()
            raise
        if mine:
            self._stored = stored
        elif run.passing:
            await run.abandon()
        else:
            run.leave()
        return value

    def _inner_scope(self) -> Scope:
        scope = dict(self._scope)
        # What is stored is whole, whoever asked first: conditions are this cache's to answer.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in _CONDITIONS]
        scope["extensions"] = {}  # such as sending a file by its path, which cannot be caught
        scope[TAGS] = []
        if self._policy.query is not None:
            scope["query_string"] = self._query  # it cannot depend on what is not in the key
        if "state" in scope:
            scope["state"] = dict(scope["state"])
        return scope

    def _judge(self, run: Run, context: LoadContext, vary: frozenset[str]) -> tuple[Any, Stored | None]:
        """The value to store, and the response if that is what it is."""
        policy = self._policy
        if run.passing:
            return self._pass(context), None
        if run.status >= 500:
            raise Failed(run)
        judged = self._http.judge(run.status, run.headers, self._credentials)
        if not judged.store:
            return self._pass(context), None
        needed = rules.names(run.headers, b"vary")
        if not needed <= vary:
            context.ttl, context.grace, context.tags = VARY_TTL, 0, []
            return vary_by(needed | vary), None
        tags = [*policy.tags_of(run.scope), *run.scope[TAGS]]
        for name in policy.tag_headers:
            for said in rules.values(run.headers, name.lower().encode("latin-1")):
                tags += [unquote(tag) for tag in said.replace(",", " ").split()]
        context.ttl, context.grace = judged.ttl, judged.grace
        context.tags = [*tags, names.tag_of(self._scope)]
        stored = Stored.of(run.status, run.headers, run.body, judged, tags, time.time(), policy.tag_headers)
        return stored.value(), stored

    def _pass(self, context: LoadContext) -> Any:
        context.ttl, context.grace, context.tags = self._policy.pass_ttl, 0, []
        return PASS

    # --- answers -------------------------------------------------------------------------------
    async def _own(self, run: Run) -> None:
        if self._stored is None:
            await run.forward(self._send)
            return
        await self._stored.send(self._send, self._scope["headers"], self._policy, time.time(), True)
        await run.finish()

    async def _failed(self, failed: Failed) -> None:
        if self._run is not None:
            await self._run.forward(self._send)
        elif failed.shareable:
            run = failed.run
            await self._send({"type": "http.response.start", "status": run.status, "headers": run.headers})
            await self._send({"type": "http.response.body", "body": run.body, "more_body": False})
        else:
            await self._app(self._scope, self._receive, self._send)

    async def _gateway_timeout(self) -> None:
        headers = [(b"content-length", b"0")]
        if self._policy.cache_status:
            headers.append((b"cache-status", f"{self._policy.cache_status}; fwd=miss; fwd-status=504".encode()))
        await self._send({"type": "http.response.start", "status": 504, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
