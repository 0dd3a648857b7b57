"""The module's commands, one method each. What they answer and promise is in the project's docs/commands.md."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..effects import Batch, Command, Op
from ..errors import CacheFlowError, Unavailable
from ..options import Lifetime
from .base import Capabilities, Fetched, Fill, Meta, Send, text


def _lifetime(life: Lifetime) -> list[Any]:
    words: list[Any] = []
    if life.forever:
        words.append("PERSIST")
    elif life.ttl is not None:
        words += ("PX", life.ttl)
    elif life.auto is not None:
        words += ("EXAUTO", *(max(1, ms // 1000) for ms in life.auto))
    if life.grace is not None and not life.forever:
        words += ("PGRACE", life.grace)
    return words


def _settings(
    life: Lifetime,
    tags: Collection[str],
    token: int | None = None,
    cost: int | None = None,
    condition: str = "",
) -> list[Any]:
    """The words of CACHE.SET after key and value."""
    words = _lifetime(life)
    if token is not None:
        words = ["LEASE", token, *words]
    elif condition:
        words.insert(0, condition)
    if cost is not None:
        words += ("COST", cost)
    if tags:
        words += ("TAGS", *tags)
    return words


def _fetch(
    key: str, lease: int | None, max_stale: int | None, beta: float | None, want_tags: bool
) -> tuple[Any, ...]:
    if lease is None and max_stale is None and beta is None:  # nearly always
        return ("CACHE.FETCH", key, "WITHTAGS") if want_tags else ("CACHE.FETCH", key)
    words: list[Any] = ["CACHE.FETCH", key]
    if lease is not None:
        words += ("LEASE", lease)
    if max_stale is not None:
        words += ("MAXSTALE", max_stale)
    if beta is not None:
        words += ("BETA", beta)
    if want_tags:
        words.append("WITHTAGS")
    return tuple(words)


def _fetched(reply: list[Any]) -> Fetched:
    if len(reply) == 4:
        return Fetched(*reply)
    return Fetched(reply[0], reply[1], reply[2], reply[3], [text(tag) for tag in reply[4]])


def _map(flat: Any) -> dict[str, Any]:
    """A map as RESP2 has it."""
    return dict(zip(map(text, flat[::2]), flat[1::2], strict=True))


class ModuleBackend:
    """A server with the module."""

    def __init__(self, send: Send, cluster: bool, timeout: float) -> None:
        """`timeout`: seconds for which an answer is waited for."""
        self._send, self._cluster = send, cluster
        # The node that is asked waits for the others, and must say PARTIAL while it is still listened to.
        self._patience = ("TIMEOUT", max(1, int(timeout * 800))) if cluster else ()
        self.capabilities = Capabilities(True, cluster, True, True, True, True, True)

    def fetch(
        self,
        key: str,
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
    ) -> Op[Fetched]:
        """One round trip, which never waits in the server."""
        reply = yield from self._send(Command(_fetch(key, lease, max_stale, beta, want_tags), key))
        return _fetched(reply)

    def fetch_many(
        self,
        keys: Sequence[str],
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
    ) -> Op[list[Fetched | CacheFlowError]]:
        """One round trip, in a cluster one a node."""
        replies = yield from self._send(
            Batch([Command(_fetch(key, lease, max_stale, beta, want_tags), key) for key in keys])
        )
        return [reply if isinstance(reply, CacheFlowError) else _fetched(reply) for reply in replies]

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
        """BLOCK: the server answers when the value is there, or when it is our turn to compute."""
        words = (*_fetch(key, lease, max_stale, beta, want_tags), "BLOCK", max(1, int(seconds * 1000)))
        reply = yield from self._send(Command(words, key, block=seconds))
        return _fetched(reply)

    def get(self, key: str, stale: bool) -> Op[bytes | None]:
        """CACHE.GET."""
        words = ("CACHE.GET", key, "STALE") if stale else ("CACHE.GET", key)
        reply: bytes | None = yield from self._send(Command(words, key))
        return reply

    def get_many(self, keys: Sequence[str]) -> Op[list[bytes | Unavailable | None]]:
        """CACHE.MGET; in a cluster one CACHE.GET a key, in one round trip a node."""
        if not self._cluster:
            reply: list[bytes | Unavailable | None] = yield from self._send(Command(("CACHE.MGET", *keys), keys[0]))
            return reply
        replies = yield from self._send(Batch([Command(("CACHE.GET", key), key) for key in keys]))
        return _raised(replies, wrongtype=True, unavailable=True)

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        life: Lifetime,
        tags: Collection[str],
        token: int | None = None,
        cost: int | None = None,
        condition: str = "",
    ) -> Op[list[Any]]:
        """CACHE.SET of each."""
        words = _settings(life, tags, token, cost, condition)
        # NX and XX sent twice would answer what the first did.
        return self._store([Command(("CACHE.SET", key, value, *words), key, not condition) for key, value in items])

    def store_each(self, fills: Sequence[Fill]) -> Op[list[Any]]:
        """CACHE.SET of each."""
        return self._store(
            [
                Command(("CACHE.SET", key, value, *_settings(life, tags, token)), key)
                for key, value, life, tags, token in fills
            ]
        )

    def _store(self, commands: list[Command]) -> Op[list[Any]]:
        if len(commands) == 1:
            replies = [(yield from self._send(commands[0]))]
        else:
            replies = yield from self._send(Batch(commands))
        return [reply if isinstance(reply, Exception) else reply is not None for reply in replies]

    def touch(self, key: str, life: Lifetime, token: int | None = None, tags: Collection[str] = ()) -> Op[bool]:
        """CACHE.TOUCH, which has no PERSIST: an entry that is to have no end is written. CACHE.TAG before it."""
        words: list[Any] = ["CACHE.TOUCH", key]
        if token is not None:
            words += ("LEASE", token)
        if not life.forever:
            words += _lifetime(life)
        touch = Command(tuple(words), key)
        if not tags:
            return bool((yield from self._send(touch)) == 1)
        replies = yield from self._send(Batch([Command(("CACHE.TAG", key, *tags), key), touch]))
        return bool(_raised(replies)[1] == 1)

    def _counted(self, name: str, keys: Sequence[str]) -> Op[int]:
        if not self._cluster or len(keys) == 1:
            reply: int = yield from self._send(Command((name, *keys), keys[0]))
            return reply
        replies = yield from self._send(Batch([Command((name, key), key) for key in keys]))
        return sum(_raised(replies))

    def delete(self, keys: Sequence[str]) -> Op[int]:
        """CACHE.DEL."""
        return self._counted("CACHE.DEL", keys)

    def expire(self, keys: Sequence[str]) -> Op[int]:
        """CACHE.STALE."""
        return self._counted("CACHE.STALE", keys)

    def incr(self, key: str, by: int) -> Op[int]:
        """CACHE.INCRBY; never sent twice."""
        reply: int = yield from self._send(Command(("CACHE.INCRBY", key, by), key, safe=False))
        return reply

    def lock(self, key: str, ms: int, wait: float) -> Op[int | None]:
        """CACHE.LOCK; never sent twice, for the first may have taken it."""
        words: tuple[Any, ...] = ("CACHE.LOCK", key, ms)
        if wait > 0:
            words += ("BLOCK", max(1, int(wait * 1000)))
        reply: int | None = yield from self._send(Command(words, key, safe=False, block=wait))
        return reply

    def unlock(self, key: str, token: int, retry: int = 0) -> Op[bool]:
        """CACHE.UNLOCK."""
        words = ("CACHE.UNLOCK", key, token, *(("RETRY", retry) if retry else ()))
        reply = yield from self._send(Command(words, key))
        return bool(reply == 1)

    def unlock_each(self, tokens: Mapping[str, int], retry: int = 0) -> Op[None]:
        """CACHE.UNLOCK of each."""
        words = ("RETRY", retry) if retry else ()
        commands = [Command(("CACHE.UNLOCK", key, token, *words), key) for key, token in tokens.items()]
        _raised((yield from self._send(Batch(commands))))

    def extend(self, key: str, token: int, ms: int) -> Op[bool]:
        """CACHE.EXTEND."""
        reply = yield from self._send(Command(("CACHE.EXTEND", key, token, ms), key))
        return bool(reply == 1)

    def invalidate(self, targets: Sequence[str], namespaces: bool, soft: bool) -> Op[int | None]:
        """CACHE.INVALIDATE, which in a cluster reaches every primary from whichever node."""
        options = (*(("SOFT",) if soft else ()), *self._patience)
        words = ("CACHE.INVALIDATE", *options, "NAMESPACE" if namespaces else "TAGS")
        reply: int = yield from self._send(Command((*words, *targets), None))
        return reply

    def meta(self, key: str) -> Op[Meta | None]:
        """CACHE.META."""
        reply = yield from self._send(Command(("CACHE.META", key), key))
        if reply is None:
            return None
        fields = _map(reply)
        return Meta(
            state=text(fields["state"]),
            type=text(fields.get("type") or b""),
            bytes=fields.get("bytes") or 0,
            fresh_ms=fields.get("fresh-ms") or 0,
            ttl_ms=fields.get("ttl-ms") or 0,
            age_ms=fields.get("age-ms"),
            cost_ms=fields.get("cost-ms"),
            hits=fields.get("hits"),
            namespace=text(fields.get("namespace") or b""),
            tags=tuple(text(tag) for tag in fields.get("tags") or ()),
            lease_ms=fields.get("lease-ms") or 0,
            waiters=fields.get("waiters"),
        )

    def stats(self, namespace: str | None) -> Op[dict[str, int]]:
        """CACHE.STATS of every primary, summed."""
        words = ("CACHE.STATS", *(("NAMESPACE", namespace) if namespace is not None else ()))
        replies = yield from self._send(Command(words, None, everywhere=True))
        total: dict[str, int] = {}
        for reply in replies:
            for name, value in _map(reply).items():
                if isinstance(value, int):
                    total[name] = total.get(name, 0) + value
        return total


def _raised(replies: list[Any], wrongtype: bool = False, unavailable: bool = False) -> list[Any]:
    """The replies; the first error among them is raised. Those that may be: wrongtype becomes None, the
    Unavailable of some nodes stays where it is."""
    found: list[Any] = []
    for reply in replies:
        if wrongtype and isinstance(reply, CacheFlowError) and reply.code == "wrongtype":
            found.append(None)
        elif isinstance(reply, Exception) and not (unavailable and isinstance(reply, Unavailable)):
            raise reply
        else:
            found.append(reply)
    return found
