"""The same commands on a server without the module, by scripts (scripts.py) and polling.

What is weaker is listed in LIMITS, which `capabilities` shows. The main idea: an entry bears the versions that
its tags and its namespace had when it was stored; who reads it reads those versions too, in the same round trip
where the caller named the tags, and an entry with another version is dead. So an invalidation is one small
write a tag, whatever the number of entries, and works across a cluster's slots.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..effects import Batch, Command, Op, Sleep
from ..errors import CacheFlowError, ServerError, Unavailable
from ..options import Lifetime
from . import scripts
from .base import BUSY, FRESH, STALE, Capabilities, Fetched, Fill, Meta, Send, text
from .scripts import Script

LIMITS = (
    "who waits polls, every 25 to 250 ms, and is not served in order",
    "a killed process costs its waiters the rest of its lease (10 s unless the caller names one)",
    "an invalidation does not say how many entries it hit, and their memory comes back when they expire",
    "values are not refreshed before they end, and TTLs are not learned (EXAUTO takes its minimum)",
    "tokens grow by the server's clock: a failover to a server whose clock is behind may repeat one",
    "in a cluster fills are fenced by the clocks of two nodes, and no better than these agree",
    "in a cluster an entry cannot be read while the node is down that has the version of one of its tags",
    "an eviction of a tag's version invalidates the tag, one of an entry takes its lock along",
    "namespaces have no settings (budgets, fill limits, breakers), native keys no tags, nobody statistics",
)

LEASE = 10_000  # ms, where the caller names none
LONGEST_POLL = 0.25  # seconds
VERSION_PREFIX = "~cf"


def _ms(value: int | None) -> int:
    return -1 if value is None else value


class PlainBackend:
    """A server without the module."""

    def __init__(self, send: Send, cluster: bool, namespace_of: Callable[[str], str]) -> None:
        self._send, self._namespace_of = send, namespace_of
        self.capabilities = Capabilities(False, cluster, False, False, False, False, False, LIMITS)

    # --- sending -------------------------------------------------------------------------------
    @staticmethod
    def _command(script: Script, key: str, *args: Any, safe: bool = True, whole: bool = False) -> Command:
        head = ("EVAL", script.source) if whole else ("EVALSHA", script.digest)
        return Command((*head, 1, key, *args), key, safe)

    def _run(self, script: Script, key: str, *args: Any, safe: bool = True) -> Op[Any]:
        try:
            return (yield from self._send(self._command(script, key, *args, safe=safe)))
        except ServerError as error:
            if error.code != "noscript":
                raise
        return (yield from self._send(self._command(script, key, *args, safe=safe, whole=True)))

    def _run_all(self, calls: Sequence[tuple[Script, str, tuple[Any, ...]]]) -> Op[list[Any]]:
        """Scripts in one batch; what the server does not know is sent again as a whole."""
        replies: list[Any] = yield from self._send(
            Batch([self._command(script, key, *args) for script, key, args in calls])
        )
        unknown = [
            at for at, reply in enumerate(replies) if isinstance(reply, ServerError) and reply.code == "noscript"
        ]
        if unknown:
            again = [
                self._command(script, key, *args, whole=True) for script, key, args in (calls[at] for at in unknown)
            ]
            for at, reply in zip(unknown, (yield from self._send(Batch(again))), strict=True):
                replies[at] = reply
        return replies

    # --- versions ------------------------------------------------------------------------------
    def _targets(self, key: str, tags: Collection[str]) -> list[str]:
        """What an entry's life hangs on, as the names in its versions: tags, and the namespace as "@name"
        with a mark that no tag has before it."""
        return [*(f"t:{tag}" for tag in dict.fromkeys(tags)), f"n:{self._namespace_of(key)}"]

    @staticmethod
    def _version_key(target: str) -> str:
        return f"{VERSION_PREFIX}:{target}"

    def _claim(self, key: str, tags: Collection[str], token: int | None, life: Lifetime) -> Op[str | None]:
        """The versions of what an entry is about to bear; None if one was invalidated since the token."""
        forever = life.forever or (life.ttl is None and life.auto is None)
        lasts = -1 if forever else _ms(self._fresh(life)) + (life.grace or 0)
        stamp = "" if token is None else str(token)
        targets = self._targets(key, tags)
        replies = yield from self._run_all(
            [(scripts.CLAIM, self._version_key(target), (stamp, lasts)) for target in targets]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
            if token is not None and int(reply.split(b":")[1]) > token:
                return None
        return json.dumps({target: text(reply) for target, reply in zip(targets, replies, strict=True)})

    @staticmethod
    def _fresh(life: Lifetime) -> int | None:
        return life.auto[0] if life.auto is not None else life.ttl

    # --- reading -------------------------------------------------------------------------------
    def fetch(
        self,
        key: str,
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
    ) -> Op[Fetched]:
        """One round trip if the entry's tags are among those named."""
        return self._fetch(key, tags, LEASE if lease is None else lease, _ms(max_stale))

    def fetch_many(
        self,
        keys: Sequence[str],
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
    ) -> Op[list[Fetched | CacheFlowError]]:
        """One after the other: each must be judged by its own tags."""
        found: list[Fetched | CacheFlowError] = []
        for key in keys:
            try:
                found.append((yield from self.fetch(key, tags, lease, max_stale, beta, want_tags)))
            except CacheFlowError as error:
                found.append(error)
        return found

    def _fetch(self, key: str, tags: Collection[str], lease: int, max_stale: int) -> Op[Fetched]:
        bury: tuple[str, str] = ("", "")
        expected = self._targets(key, tags)
        while True:
            calls = [self._command(scripts.FETCH, key, lease, max_stale, *bury)]
            calls += [Command(("GET", self._version_key(target)), self._version_key(target)) for target in expected]
            reply, *found = yield from self._send(Batch(calls))
            if isinstance(reply, ServerError) and reply.code == "noscript":
                calls[0] = self._command(scripts.FETCH, key, lease, max_stale, *bury, whole=True)
                reply, *found = yield from self._send(Batch(calls))
            if isinstance(reply, Exception):
                raise reply
            state, value, token, ms, borne, written = reply
            fetched = Fetched(state, value, None if token is None else int(token), ms)
            if value is None or not borne:
                return fetched
            versions: dict[str, str] = json.loads(borne)
            now = dict(zip(expected, _readable(found), strict=True))
            missing = [target for target in versions if target not in now]
            if missing:
                keys = [self._version_key(target) for target in missing]
                more = yield from self._send(Batch([Command(("GET", name), name) for name in keys]))
                now.update(zip(missing, _readable(more), strict=True))
            verdict = _judge(versions, now)
            if verdict == "alive" or (verdict == "soft" and state == STALE):
                names = [target[2:] for target in versions if target.startswith("t:")]
                return fetched._replace(tags=names)
            # Someone else may have stored meanwhile: w tells, and then nothing is buried.
            bury = (text(written), verdict)
            if fetched.token is not None:
                yield from self._run(scripts.UNLOCK, key, fetched.token, 0)

    def wait(
        self,
        key: str,
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
        seconds: float,
        hint: int,
    ) -> Op[Fetched]:
        """Asks again and again, at growing distances."""
        pause, left = min(max(hint, 1) / 1000, LONGEST_POLL), seconds
        while True:
            yield Sleep(min(pause, left))
            left -= pause
            fetched = yield from self.fetch(key, tags, lease, max_stale, beta, want_tags)
            if fetched.state != BUSY or left <= 0:
                return fetched
            pause = min(pause * 1.5, LONGEST_POLL)

    def get(self, key: str, stale: bool) -> Op[bytes | None]:
        """The value."""
        fetched = yield from self._fetch(key, (), 0, -1)
        return fetched.value if fetched.state == FRESH or stale else None

    def get_many(self, keys: Sequence[str]) -> Op[list[bytes | Unavailable | None]]:
        """One after the other: each must be judged by its own tags."""
        found: list[bytes | Unavailable | None] = []
        for key in keys:
            try:
                found.append((yield from self.get(key, False)))
            except ServerError as error:
                if error.code != "wrongtype":
                    raise
                found.append(None)
            except Unavailable as error:
                if not self.capabilities.cluster:
                    raise
                found.append(error)
        return found

    # --- writing -------------------------------------------------------------------------------
    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        life: Lifetime,
        tags: Collection[str],
        token: int | None = None,
        cost: int | None = None,
        condition: str = "",
    ) -> Op[list[Any]]:
        """The versions first, then the entry: an invalidation between the two finds other versions there."""
        stamp = "" if token is None else str(token)
        calls = []
        claimed: dict[str, str] = {}  # by namespace: many keys have one
        for key, value in items:
            if condition:
                yield from self._fetch(key, (), 0, -1)  # what was invalidated is buried: it is not there
            versions = claimed.get(self._namespace_of(key))
            if versions is None:
                versions = yield from self._claim(key, tags, token, life)
            if versions is None:
                yield from self._run(scripts.UNLOCK, key, stamp, 0)
                return [False]
            claimed[self._namespace_of(key)] = versions
            args = (value, _ms(self._fresh(life)), _ms(life.grace), stamp, versions, condition)
            calls.append((scripts.STORE, key, args))
        replies = yield from self._run_all(calls)
        return [reply if isinstance(reply, Exception) else reply == 1 for reply in replies]

    def store_each(self, fills: Sequence[Fill]) -> Op[list[Any]]:
        """One after the other: each has versions of its own."""
        replies: list[Any] = []
        for key, value, life, tags, token in fills:
            replies += yield from self.store([(key, value)], life, tags, token)
        return replies

    def touch(self, key: str, life: Lifetime, token: int | None = None, tags: Collection[str] = ()) -> Op[bool]:
        """The entry is buried first if it is dead, and bears the versions of now if it lives."""
        stamp = "" if token is None else str(token)
        fetched = yield from self._fetch(key, (), 0, -1)
        versions = yield from self._claim(key, [*fetched.tags, *tags], token, life)
        if versions is None:
            yield from self._run(scripts.UNLOCK, key, stamp, 0)
            return False
        reply = yield from self._run(scripts.TOUCH, key, _ms(self._fresh(life)), _ms(life.grace), stamp, versions)
        return bool(reply == 1)

    def delete(self, keys: Sequence[str]) -> Op[int]:
        """How many values there were, dead ones included."""
        return sum(_raised((yield from self._run_all([(scripts.DELETE, key, ()) for key in keys]))))

    def expire(self, keys: Sequence[str]) -> Op[int]:
        """Fresh ones become stale."""
        return sum(_raised((yield from self._run_all([(scripts.EXPIRE, key, ()) for key in keys]))))

    def incr(self, key: str, by: int) -> Op[int]:
        """A dead entry counts from 0: it is buried first."""
        yield from self._fetch(key, (), 0, -1)
        versions = yield from self._claim(key, (), None, Lifetime(None, None))
        reply: int = yield from self._run(scripts.INCR, key, by, versions, safe=False)
        return reply

    # --- locks ---------------------------------------------------------------------------------
    def lock(self, key: str, ms: int, wait: float) -> Op[int | None]:
        """Asks again and again while it is held."""
        pause, left = 0.01, wait
        while True:
            reply = yield from self._run(scripts.LOCK, key, ms, safe=False)
            if reply is not None or left <= 0:
                return None if reply is None else int(reply)
            yield Sleep(min(pause, left))
            left -= pause
            pause = min(pause * 1.5, LONGEST_POLL)

    def unlock(self, key: str, token: int, retry: int = 0) -> Op[bool]:
        """1 while the token is the current one."""
        return bool((yield from self._run(scripts.UNLOCK, key, token, retry)))

    def unlock_each(self, tokens: Mapping[str, int], retry: int = 0) -> Op[None]:
        """In one batch."""
        calls = [(scripts.UNLOCK, key, (token, retry)) for key, token in tokens.items()]
        _raised((yield from self._run_all(calls)))

    def extend(self, key: str, token: int, ms: int) -> Op[bool]:
        """From now, ms more."""
        return bool((yield from self._run(scripts.EXTEND, key, token, ms)))

    # --- invalidating and looking --------------------------------------------------------------
    def invalidate(self, targets: Sequence[str], namespaces: bool, soft: bool) -> Op[int | None]:
        """New versions; how many entries bore the old ones nobody knows."""
        kind, word = ("n", "@") if namespaces else ("t", "")
        calls = [
            (
                scripts.INVALIDATE,
                self._version_key(f"{kind}:{target}"),
                ("soft" if soft else "hard", f"cache:{word}{target}"),
            )
            for target in targets
        ]
        _raised((yield from self._run_all(calls)))
        return None

    def meta(self, key: str) -> Op[Meta | None]:
        """What the hash says."""
        yield from self._fetch(key, (), 0, -1)  # buries what is dead
        reply = yield from self._run(scripts.META, key)
        if reply is None:
            return None
        state, size, fresh, ttl, borne, lease, _ = reply
        versions = json.loads(borne) if borne else {}
        return Meta(
            state=text(state),
            type="hash",
            bytes=size,
            fresh_ms=fresh,
            ttl_ms=ttl,
            namespace=self._namespace_of(key),
            tags=tuple(target[2:] for target in versions if target.startswith("t:")),
            lease_ms=lease,
        )

    def stats(self, namespace: str | None) -> Op[dict[str, int]]:
        """None are kept."""
        yield from ()
        return {}


def _readable(replies: list[Any]) -> list[Any]:
    """Versions; Unavailable where the node of one does not answer: that says nothing against the entry."""
    for reply in replies:
        if isinstance(reply, Unavailable):
            raise reply
    return replies


def _judge(versions: dict[str, str], now: dict[str, Any]) -> str:
    """alive, soft or hard: whether what an entry bears is what there is now."""
    verdict = "alive"
    for target, borne in versions.items():
        current = now[target]
        if not isinstance(current, bytes):
            return "hard"  # gone, or it could not be read
        if text(current) != borne:
            if text(current).split(":")[0] != borne.split(":")[0]:
                return "hard"
            verdict = "soft"
    return verdict


def _raised(replies: list[Any]) -> list[Any]:
    """The replies, if none of them is an error."""
    for reply in replies:
        if isinstance(reply, CacheFlowError):
            raise reply
    return replies
