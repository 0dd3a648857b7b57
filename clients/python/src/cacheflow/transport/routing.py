"""Which node a command goes to, and what is done when it does not go well. No input and output here: the drivers
exchange bytes with a node (effects.Exchange), and know nothing of clusters or of repeating.

A command whose connection broke is sent once more, over a new one, if that does no harm (`Command.safe`) and no
time was lost: servers close idle connections and restart. In a cluster the slots are asked for anew then, and
where a node says MOVED; ASK is followed once. A reply that says UNBLOCKED or TRYAGAIN was never carried out,
and is asked again like a broken one.

Before every node stands its breaker (breaker.py). When one that was open may be tried again, the others are asked
first who has its slots by now: a replica that was promoted is found without asking the dead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from redis import exceptions
from redis.crc import key_slot

from ..breaker import Breakers
from ..effects import Batch, Command, Exchange, Node, Op, Sleep
from ..errors import CacheFlowError, Unavailable
from .replies import BROKEN, translate

REDIRECTIONS = 8
_AGAIN = ("unblocked", "tryagain")
_ELSEWHERE = (exceptions.MovedError, exceptions.AskError, exceptions.TryAgainError)


class Router:
    """One server, or a Sentinel's service."""

    def __init__(self, timeout: float, clock: Callable[[], float], breakers: Breakers) -> None:
        self._timeout, self._patience = timeout, timeout / 2
        self._clock, self._breakers = clock, breakers

    def nodes(self) -> Op[list[Node]]:
        """The primaries there are. Unavailable."""
        yield from ()
        return [None]

    def command(self, command: Command) -> Op[Any]:
        """The reply. Unavailable, ServerError."""
        (reply,) = yield from self._ask(None, [command.args], command.safe, command.key, command.block)
        if isinstance(reply, Exception):
            raise translate(reply, command.key) from reply
        return [reply] if command.everywhere else reply

    def batch(self, batch: Batch) -> Op[list[Any]]:
        """The replies, errors among them. Unavailable."""
        safe = all(command.safe for command in batch.commands)
        requests = [command.args for command in batch.commands]
        replies = yield from self._ask(None, requests, safe, batch.commands[0].key)
        return [
            translate(reply, command.key) if isinstance(reply, Exception) else reply
            for reply, command in zip(replies, batch.commands, strict=True)
        ]

    def _ask(
        self, node: Node, requests: list[tuple[Any, ...]], safe: bool, key: str | None, block: float = 0.0
    ) -> Op[list[Any]]:
        """The replies of a node, asked once more where its connection broke; the node's breaker has its say and
        is told. Errors of the server are among the replies. Unavailable."""
        self._breakers.admit(node, key)
        began, exchange = self._clock(), Exchange(node, requests, block)
        try:
            try:
                replies: list[Any] = yield exchange
            except BROKEN:
                if not safe or self._clock() - began > self._patience:
                    raise
                replies = yield exchange
        except BROKEN as error:
            failure = translate(error, key)
            self._failed(node, failure)
            raise failure from error
        last = replies[-1]
        refusal = translate(last, key) if isinstance(last, Exception) else None
        if isinstance(refusal, Unavailable) and refusal.code not in _AGAIN:
            self._failed(node, refusal)
        else:
            self._breakers.answered(node)
        return replies

    def _failed(self, node: Node, error: CacheFlowError) -> None:
        assert isinstance(error, Unavailable)
        self._breakers.failed(node, error)


class ClusterRouter(Router):
    """A cluster, by CLUSTER SLOTS."""

    def __init__(
        self,
        seeds: tuple[tuple[str, int], ...],
        timeout: float,
        clock: Callable[[], float],
        breakers: Breakers,
    ) -> None:
        super().__init__(timeout, clock, breakers)
        self._seeds: list[Node] = list(seeds)
        self._owners: list[Node] = []
        self._primaries: list[Node] = []
        self._doubtful = True  # whether the slots are to be asked for before the next command

    def nodes(self) -> Op[list[Node]]:
        """The primaries there are, asked for anew. Unavailable."""
        yield from self._learn()
        return list(self._primaries)

    # --- who has which slot --------------------------------------------------------------------
    def _healthy_first(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=lambda node: not self._breakers.untroubled(node))

    def _learn(self) -> Op[None]:
        """Ask the nodes known, then the seeds, those that answer first, until one says who has which slot; no
        longer than one of them might take. Unavailable."""
        self._doubtful = False  # who comes meanwhile, and has an answer of before, need not ask too
        began = self._clock()
        known = random.sample(self._primaries, len(self._primaries))
        failure: Exception = Unavailable("clusterdown", "no node of the cluster says who has the slots")
        for node in self._healthy_first(dict.fromkeys([*known, *self._seeds])):
            if self._clock() - began >= self._timeout:
                break
            try:
                (reply,) = yield from self._ask(node, [("CLUSTER", "SLOTS")], False, None)
            except Unavailable as error:
                failure = error
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
                self._breakers.keep([*found, *self._seeds])
                return
        self._doubtful = True
        raise failure

    def _owner(self, key: str) -> Node:
        owner = self._owners[key_slot(key.encode("utf-8", "surrogateescape"))]
        if owner is None:
            raise Unavailable("clusterdown", "no node has the key's slot", key)
        return owner

    def _place(self, key: str | None) -> Node:
        """The node for a key; for none a primary that answers, if one does."""
        if key is not None:
            return self._owner(key)
        return self._healthy_first(random.sample(self._primaries, len(self._primaries)))[0]

    def _find(self, key: str | None) -> Op[Node]:
        """The same, after asking who has the slots where there is doubt."""
        if self._doubtful or not self._owners:
            yield from self._learn()
        node = self._place(key)
        if self._breakers.due(node):
            yield from self._learn()
            node = self._place(key)
        return node

    def _failed(self, node: Node, error: CacheFlowError) -> None:
        self._doubtful = True  # there may have been a failover
        super()._failed(node, error)

    # --- commands ------------------------------------------------------------------------------
    def command(self, command: Command) -> Op[Any]:
        """The reply of the node that has the key; any node's where there is none."""
        if command.everywhere:
            return (yield from self._everywhere(command))
        began, repeated, key = self._clock(), not command.safe, command.key
        node = yield from self._find(key)
        requests = [command.args]
        for _ in range(REDIRECTIONS):
            try:
                *_, reply = yield from self._ask(node, requests, False, key, command.block)
            except Unavailable as error:
                if repeated or error.code == "breaker_open" or self._clock() - began > self._patience:
                    raise
                repeated = True
                yield from self._learn()
                node = self._place(key)
                continue
            requests = [command.args]
            if isinstance(reply, exceptions.MovedError):  # first, for redis-py has it as a kind of AskError
                yield from self._learn()
                node = (reply.host, reply.port)
            elif isinstance(reply, exceptions.AskError):
                node, requests = (reply.host, reply.port), [("ASKING",), command.args]
            elif isinstance(reply, Exception):
                refusal = translate(reply, key)
                if refusal.code not in _AGAIN:
                    raise refusal from reply
                yield Sleep(0.02)
                yield from self._learn()
                node = self._place(key)
            else:
                return reply
        raise Unavailable("clusterdown", f"{REDIRECTIONS} redirections led nowhere", key or "")

    def _everywhere(self, command: Command) -> Op[list[Any]]:
        if self._doubtful or not self._owners:
            yield from self._learn()
        replies = []
        for node in list(self._primaries):
            (reply,) = yield from self._ask(node, [command.args], command.safe, None)
            if isinstance(reply, Exception):
                raise translate(reply, None) from reply
            replies.append(reply)
        return replies

    def _shares(self, commands: list[Command], replies: list[Any]) -> dict[Node, list[int]]:
        """The places of what each node is sent; what no node has the slot of is answered here."""
        shares: dict[Node, list[int]] = {}
        for at, command in enumerate(commands):
            assert command.key is not None
            try:
                shares.setdefault(self._owner(command.key), []).append(at)
            except Unavailable as error:
                replies[at] = error
        return shares

    def batch(self, batch: Batch) -> Op[list[Any]]:
        """One exchange a node; what has moved, or whose connection broke, is sent again, one by one."""
        commands = batch.commands
        replies: list[Any] = [None] * len(commands)
        if self._doubtful or not self._owners:
            yield from self._learn()
        shares = self._shares(commands, replies)
        if any(self._breakers.due(node) for node in shares):
            yield from self._learn()
            shares = self._shares(commands, replies)
        for node, places in shares.items():
            again = places
            try:
                answered = yield from self._ask(node, [commands[at].args for at in places], False, None)
            except Unavailable as error:
                for at in places:
                    replies[at] = error
                if error.code != "connection" or not all(commands[at].safe for at in places):
                    continue
            else:
                again = []
                for at, reply in zip(places, answered, strict=True):
                    if isinstance(reply, _ELSEWHERE):
                        again.append(at)
                    replies[at] = translate(reply, commands[at].key) if isinstance(reply, Exception) else reply
            for at in again:
                try:
                    replies[at] = yield from self.command(commands[at])
                except CacheFlowError as error:
                    replies[at] = error
        if all(isinstance(reply, Unavailable) for reply in replies):
            raise replies[0]
        return replies
