"""One run of the application, in a task of its own, until it is known what becomes of its response.

    start ─ Content-Length within the bound, or the first message is all ──▶ caught, once the last byte is there
      └──── a stream (no length and more to come), too long, or an extension's message ──▶ passed by

What is passed by goes to the client as it comes; until then, the application waits in `send`. The client's own
`receive` is given to the application only then: of a response that many wait for, nobody's leaving ends the
computation. A task of its own is what lets the lease be given back while a stream goes on, and a response be
answered while its background tasks run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from . import rules
from .policy import App, Message, Receive, Scope, Send

log = logging.getLogger("cacheflow")
_KNOWN = ("http.response.start", "http.response.body")


class Run:
    """Runs the application at once. Ends by `forward`, `finish` or `abandon`."""

    def __init__(self, app: App, scope: Scope, receive: Receive, most: int) -> None:
        self.scope = scope
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.passing = False
        self._most, self._length, self._sizes = most, None, 0
        self._chunks: list[bytes] = []
        self._messages: list[Message] = []
        self._receive_real, self._asked = receive, False
        self._decided = asyncio.Event()
        self._open = asyncio.Event()
        self._client: Send | None = None
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))
        self._task.add_done_callback(lambda _: self._decided.set())

    _length: int | None

    async def decide(self) -> None:
        """Wait until the response is complete, or is to be passed by. What the application raises."""
        await self._decided.wait()
        if self._task.done() and not (self.passing or self._complete):
            self._task.result()
            raise RuntimeError("the application ended without a complete response")

    @property
    def _complete(self) -> bool:
        return self.status != 0 and self._messages[-1].get("more_body") is False

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._open.wait()
        return await self._receive_real()

    async def _send(self, message: Message) -> None:
        if not self.passing:
            self._catch(message)
            if not self.passing:
                return
            self._decided.set()
            return
        await self._open.wait()
        assert self._client is not None
        await self._client(message)

    def _catch(self, message: Message) -> None:
        message = dict(message)
        self._messages.append(message)
        if message["type"] not in _KNOWN:
            self.passing = True
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
            length = rules.first(self.headers, b"content-length")
            self._length = int(length) if length is not None and length.isdigit() else None
            kind = (rules.first(self.headers, b"content-type") or "").partition(";")[0].strip().lower()
            # The last two: of HEAD the length is another's, and a stream of events has no end.
            too_long = self._length is not None and self._length > self._most and self.scope["method"] != "HEAD"
            self.passing = too_long or kind == "text/event-stream"
        else:
            message["more_body"] = bool(message.get("more_body", False))
            chunk = message.get("body", b"")
            self._chunks.append(chunk)
            self._sizes += len(chunk)
            if self._sizes > self._most or (message["more_body"] and self._length is None):
                self.passing = True
            elif not message["more_body"]:
                self.body = b"".join(self._chunks)
                self._decided.set()

    async def forward(self, send: Send) -> None:
        """Give the client what came, and what is still to come."""
        self._client = send
        for message in self._messages:
            await send(message)
        self._open.set()
        await self.finish()

    async def finish(self) -> None:
        """Wait for the application's end: it may have background tasks. What it raises."""
        self._open.set()
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await self.abandon()
            raise

    def leave(self) -> None:
        """Let it end by itself; what it raises is logged."""
        self._task.add_done_callback(_log)
        _left.add(self._task)
        self._task.add_done_callback(_left.discard)

    async def abandon(self) -> None:
        """End it: nobody wants the rest."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._task


_left: set[asyncio.Future[Any]] = set()  # asyncio itself keeps no strong reference to a task


def _log(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the application failed after its response", exc_info=error)
