#!/usr/bin/env python3
"""A TCP proxy on loopback that breaks on request, so that clients can be seen to survive it.

    fault_proxy.py --target 127.0.0.1:6379 [--port N] [--control N]

It prints one line of JSON, {"port": …, "control": …}, and serves until its standard input closes. On
the control port each line is a command, answered by "ok", "ok {…}" or "error …" once it is in force:

    latency MS      what the server says comes so many milliseconds later (order and pipelining are kept)
    bandwidth N     N bytes a second in each direction of each connection; 0: no limit
    reset           every open connection ends with RST; new ones work
    cut             nothing passes on the open connections any more, without a word; new ones work
    half-open       nothing passes on the open connections; new ones are accepted and never answered
    refuse          new connections are refused; the open ones work
    kill            as when a process is killed: the open ones end with RST, new ones are refused
    heal            everything works again; connections on which something was lost end with RST
    status          ok {"mode": …, "open": …, "accepted": …, "to_server": bytes, "to_client": bytes}

`latency` and `bandwidth` hold beside the rest until `heal` or until they are set anew; cut and reset befall
what is open and change nothing else. Faults of the network on one machine are these; lost or reordered
packets, which TCP hides, are not. Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import sys
from collections.abc import Coroutine
from contextlib import suppress

CHUNK = 64 << 10
# A chunk under a bandwidth limit, as a part of a second: small enough for the limit to be smooth.
SMOOTH = 0.02
RST = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends RST


class Connection:
    """One client's connection and, unless it is never to be answered, the one to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._server: asyncio.StreamWriter | None = None
        self.held = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    def hold(self) -> None:
        """From now on nothing passes. What is under way is lost, so that only its end can follow."""
        self.held = True

    def reset(self) -> None:
        """End it with RST, on both sides."""
        self._ended.set()
        for writer in (self._writer, self._server):
            if writer is not None:
                sock = writer.get_extra_info("socket")
                if sock is not None and sock.fileno() != -1:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                writer.transport.abort()

    async def run(self) -> None:
        """Until either side, or reset(), ends it."""
        try:
            if not self.held:
                reader, self._server = await asyncio.open_connection(*self._proxy.target)
                self._begin(self._pump(reader, self._writer, to_client=True))
                self._begin(self._pump(self._reader, self._server, to_client=False))
            else:
                self._begin(self._swallow())
            await self._ended.wait()
        except OSError:  # the server itself does not listen: the client learns by its connection's end
            self.reset()
        finally:
            for task in self._tasks:
                task.cancel()
            for writer in (self._writer, self._server):
                if writer is not None:
                    writer.close()

    def _begin(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            if error is not None and not isinstance(error, OSError):  # OSError: a side is gone
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a pump of the proxy failed", "exception": error}
                )
        self._ended.set()

    async def _swallow(self) -> None:
        while await self._reader.read(CHUNK):
            pass

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_client: bool
    ) -> None:
        """One direction. Chunks wait in a queue until their time, so that latency delays and does not
        throttle; its bound is what makes a slow reader felt at the other end."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        self._begin(self._deliver(queue, writer, to_client))
        loop = asyncio.get_running_loop()
        while True:
            chunk = await reader.read(CHUNK)
            if self.held and not chunk:
                return  # the other side of a held connection may go, and nothing is told of what was lost
            await queue.put((loop.time() + (self._proxy.latency if to_client else 0.0), chunk))
            if not chunk:
                await asyncio.Event().wait()  # _deliver ends the connection, when all is delivered

    async def _deliver(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, to_client: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await queue.get()
            if (delay := due - loop.time()) > 0:
                await asyncio.sleep(delay)
            if not chunk:
                return
            while chunk:
                part, chunk = chunk, b""
                if rate := self._proxy.bandwidth:
                    size = max(1, int(rate * SMOOTH))
                    part, chunk = part[:size], part[size:]
                    await asyncio.sleep(len(part) / rate)
                if self.held:
                    continue
                writer.write(part)
                self._proxy.count(to_client, len(part))
                await writer.drain()


class Proxy:
    """The listener, its connections, and what is wrong with them."""

    def __init__(self, target: tuple[str, int], port: int = 0) -> None:
        self.target = target
        self.latency = 0.0
        self.bandwidth = 0
        self._mode = "heal"
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._accepted = 0
        self._bytes = {False: 0, True: 0}
        self.port = port

    async def listen(self) -> None:
        """Take connections, always on the same port."""
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port, reuse_address=True
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    def count(self, to_client: bool, size: int) -> None:
        """So many bytes passed."""
        self._bytes[to_client] += size

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        connection = Connection(self, reader, writer)
        connection.held = self._mode == "half-open"
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def command(self, line: str) -> str:
        """Do what a line of the control port says; the answer. ValueError: what is wrong with it."""
        word, *rest = line.split()
        if word == "status" and not rest:
            return json.dumps(self._status())
        if word in ("latency", "bandwidth") and len(rest) == 1:
            number = int(rest[0])
            if number < 0:
                raise ValueError(f"{word} is not negative")
            if word == "latency":
                self.latency = number / 1000
            else:
                self.bandwidth = number
        elif word in FAULTS and not rest:
            await FAULTS[word](self)
        else:
            raise ValueError(f"no command {line.strip()!r}")
        return ""

    def _status(self) -> dict[str, object]:
        return {
            "mode": self._mode,
            "open": len(self._connections),
            "accepted": self._accepted,
            "to_server": self._bytes[False],
            "to_client": self._bytes[True],
        }

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def _hold_all(self) -> None:
        for connection in self._connections:
            connection.hold()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _reset(self) -> None:
        self._reset_all()

    async def _cut(self) -> None:
        self._hold_all()

    async def _half_open(self) -> None:
        self._mode = "half-open"
        self._hold_all()
        await self.listen()

    async def _refuse(self) -> None:
        self._mode = "refuse"
        self._close_listener()

    async def _kill(self) -> None:
        self._mode = "kill"
        self._close_listener()
        self._reset_all()

    async def _heal(self) -> None:
        self._mode, self.latency, self.bandwidth = "heal", 0.0, 0
        for connection in list(self._connections):
            if connection.held:
                connection.reset()
        await self.listen()

    async def close(self) -> None:
        """End everything."""
        await self._kill()


FAULTS = {
    "reset": Proxy._reset,
    "cut": Proxy._cut,
    "half-open": Proxy._half_open,
    "refuse": Proxy._refuse,
    "kill": Proxy._kill,
    "heal": Proxy._heal,
}


async def serve_control(proxy: Proxy, port: int) -> asyncio.Server:
    """The control port: a line in, a line out, from any number of connections."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # who asked is gone
            while line := await reader.readline():
                try:
                    answer = f"ok {await proxy.command(line.decode())}".strip()
                except ValueError as error:
                    answer = f"error {error}"
                writer.write(answer.encode() + b"\n")
                await writer.drain()
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", port)


async def main() -> None:
    """Serve until the standard input closes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--port", type=int, default=0, help="for clients; a free one unless named")
    parser.add_argument("--control", type=int, default=0, help="for commands; a free one unless named")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    proxy = Proxy((host, int(port)), options.port)
    await proxy.listen()
    control = await serve_control(proxy, options.control)
    ports = {"port": proxy.port, "control": control.sockets[0].getsockname()[1]}
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    control.close()
    await proxy.close()


if __name__ == "__main__":
    asyncio.run(main())
