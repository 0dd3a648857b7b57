"""Which node a command goes to, and what is done when it does not go well. No input and output here: the drivers
exchange bytes with a node (effects.Exchange), and know nothing of clusters or of repeating.

A command whose connection broke is sent once more, over a new one, if that does no harm (`Command.safe`) and no
time was lost: servers close idle connections and restart. In a cluster the slots are asked for anew then, and
where a node says MOVED; ASK is followed once. A reply that says UNBLOCKED or TRYAGAIN was never carried out,
and is asked again like a broken one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from redis import exceptions
from redis.crc import key_slot

from ..effects import Batch, Command, Exchange, Node, Op, Sleep
from ..errors import Unavailable
from .replies import BROKEN, translate

REDIRECTIONS = 8
_AGAIN = ("unblocked", "tryagain")


class Router:
    """One server, or a Sentinel's service."""

    def __init__(self, timeout: float, clock: Callable[[], float]) -> None:
        self._patience = timeout / 2
        self._clock = clock

    def nodes(self) -> Op[list[Node]]:
        """The primaries there are. Unavailable."""
        yield from ()
        return [None]

    def command(self, command: Command) -> Op[Any]:
        """The reply. Unavailable, ServerError."""
        began = self._clock()
        exchange = Exchange(None, [command.args], command.block)
        try:
            (reply,) = yield exchange
        except BROKEN as error:
            if not command.safe or self._clock() - began > self._patience:
                raise translate(error, command.key) from error
            try:
                (reply,) = yield exchange
            except BROKEN as again:
                raise translate(again, command.key) from again
        if isinstance(reply, Exception):
            raise translate(reply, command.key) from reply
        return [reply] if command.everywhere else reply

    def batch(self, batch: Batch) -> Op[list[Any]]:
        """The replies, errors among them. Unavailable."""
        return self._batch(None, batch.commands)

    def _batch(self, node: Node, commands: list[Command]) -> Op[list[Any]]:
        began = self._clock()
        exchange = Exchange(node, [command.args for command in commands])
        try:
            replies = yield exchange
        except BROKEN as error:
            safe = all(command.safe for command in commands)
            if not safe or self._clock() - began > self._patience:
                raise translate(error, commands[0].key) from error
            try:
                replies = yield exchange
            except BROKEN as again:
                raise translate(again, commands[0].key) from again
        return [
            translate(reply, command.key) if isinstance(reply, Exception) else reply
            for reply, command in zip(replies, commands, strict=True)
        ]


class ClusterRouter(Router):
    """A cluster, by CLUSTER SLOTS."""

    def __init__(self, seeds: tuple[tuple[str, int], ...], timeout: float, clock: Callable[[], float]) -> None:
        super().__init__(timeout, clock)
        self._seeds: list[Node] = list(seeds)
        self._owners: list[Node] = []
        self._primaries: list[Node] = []

    def nodes(self) -> Op[list[Node]]:
        """The primaries there are, asked for anew. Unavailable."""
        yield from self._learn()
        return list(self._primaries)

    def _learn(self) -> Op[None]:
        """Ask the nodes known, then the seeds, until one says who has which slot."""
        known = random.sample(self._primaries, len(self._primaries))
        failure: Exception = Unavailable("clusterdown", "no node of the cluster says who has the slots")
        for node in dict.fromkeys([*known, *self._seeds]):
            try:
                (reply,) = yield Exchange(node, [("CLUSTER", "SLOTS")])
            except BROKEN as error:
                failure = translate(error, None)
                continue
            if isinstance(reply, Exception):
                failure = translate(reply, None)
                continue
            owners: list[Node] = [None] * 16384
            for first, last, primary, *_ in reply:
                host = primary[0].decode() if primary[0] else ""
                owner = (host if host not in ("", "?") else node[0] if node else "", int(primary[1]))
                owners[int(first) : int(last) + 1] = [owner] * (int(last) - int(first) + 1)
            found: list[Node] = [owner for owner in dict.fromkeys(owners) if owner is not None]
            if found:
                self._owners, self._primaries = owners, found
                return
        raise failure

    def _owner(self, key: str) -> Node:
        owner = self._owners[key_slot(key.encode("utf-8", "surrogateescape"))]
        if owner is None:
            raise Unavailable("clusterdown", "no node has the key's slot", key)
        return owner

    def command(self, command: Command) -> Op[Any]:
        """The reply of the node that has the key; any node's where there is none."""
        if not self._owners:
            yield from self._learn()
        if command.everywhere:
            replies = []
            for node in list(self._primaries):
                (reply,) = yield from self._batch(node, [command])
                if isinstance(reply, Exception):
                    raise reply
                replies.append(reply)
            return replies
        began, repeated = self._clock(), False
        node = random.choice(self._primaries) if command.key is None else self._owner(command.key)
        requests = [command.args]
        for _ in range(REDIRECTIONS):
            try:
                *_, reply = yield Exchange(node, requests, command.block)
            except BROKEN as error:
                if repeated or not command.safe or self._clock() - began > self._patience:
                    self._owners = []  # the next command asks who is there
                    raise translate(error, command.key) from error
                repeated = True
                yield from self._learn()
                node = random.choice(self._primaries) if command.key is None else self._owner(command.key)
                continue
            requests = [command.args]
            if isinstance(reply, exceptions.MovedError):  # first, for redis-py has it as a kind of AskError
                yield from self._learn()
                node = (reply.host, reply.port)
            elif isinstance(reply, exceptions.AskError):
                node, requests = (reply.host, reply.port), [("ASKING",), command.args]
            elif isinstance(reply, Exception):
                refusal = translate(reply, command.key)
                if refusal.code not in _AGAIN:
                    if isinstance(refusal, Unavailable):
                        self._owners = []
                    raise refusal from reply
                yield Sleep(0.02)
                yield from self._learn()
                node = self._owner(command.key) if command.key is not None else node
            else:
                return reply
        raise Unavailable("clusterdown", f"{REDIRECTIONS} redirections led nowhere", command.key or "")

    def batch(self, batch: Batch) -> Op[list[Any]]:
        """One exchange a node; what has moved meanwhile is sent again, one by one."""
        if not self._owners:
            yield from self._learn()
        shares: dict[Node, list[int]] = {}
        for at, command in enumerate(batch.commands):
            assert command.key is not None
            shares.setdefault(self._owner(command.key), []).append(at)
        replies: list[Any] = [None] * len(batch.commands)
        for node, places in shares.items():
            try:
                answered = yield Exchange(node, [batch.commands[at].args for at in places])
            except BROKEN:
                answered = [None] * len(places)
                moved = places
            else:
                moved = [
                    at
                    for at, reply in zip(places, answered, strict=True)
                    if isinstance(reply, exceptions.MovedError | exceptions.AskError | exceptions.TryAgainError)
                ]
            for at, reply in zip(places, answered, strict=True):
                key = batch.commands[at].key
                replies[at] = translate(reply, key) if isinstance(reply, Exception) else reply
            for at in moved:
                try:
                    replies[at] = yield from self.command(batch.commands[at])
                except Exception as error:
                    if isinstance(error, Unavailable):
                        raise
                    replies[at] = error
        return replies
