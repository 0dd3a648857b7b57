"""The level in the process (L1): values by key, bounded by bytes, dropped as soon as Redis says so.

What goes in is only what FETCH answered, never what this process has just stored: the answer says how long
the value is fresh, which tags it has, and its `Ticket`, taken before the command was sent, is void when
anything was heard of the key, of any tag, or of the connection meanwhile. So a reply that crosses an
invalidation on its way is used by who asked and kept by nobody.

An entry is served while it is fresh and the tracking connection (tracking.py) is up. When that is lost, the
entries are of an epoch that is over: they are no longer served as fresh, but stay as what a caller gets when
Redis does not answer at all, until their grace ends.

Values are kept so that no caller can alter another's (packing.py). Bytes are what is counted: keys, tags and
values, and 500 for what an entry takes besides (measured by tests/test_local.py).

LRU by an OrderedDict: cachetools' LRUCache does the same in 1.1 µs a hit, of which a third is all there is to
spend, and it would have to be told of its evictions for the tags' sake.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Any

from .packing import pack

OVERHEAD = 500  # bytes an entry
_MISSING: Any = object()

Clock = Callable[[], float]


class Entry:
    """A value in the level."""

    __slots__ = ("_unpack", "_value", "epoch", "fresh_until", "size", "stale_until", "tags")

    def __init__(self, value: Any, data: bytes, decode: Callable[[bytes], object]) -> None:
        self._value, self._unpack, self.size = pack(value, data, decode)
        self.fresh_until = self.stale_until = 0.0
        self.epoch = 0
        self.tags: Collection[str] = ()

    def value(self) -> Any:
        """The value, the caller's own."""
        unpack = self._unpack
        return self._value if unpack is None else unpack(self._value)


class Ticket:
    """The right to put what a command answers, as long as nothing is heard meanwhile."""

    __slots__ = ("key", "sequence")

    def __init__(self, key: str, sequence: int) -> None:
        self.key = key
        self.sequence = sequence


class LocalCache:
    """The level. Reads take no lock: one dict look-up and one move within an OrderedDict, both atomic. So they move
    entries while another thread has the lock, which takes all keys or the oldest entry by one call, never by an
    iterator that it holds."""

    def __init__(
        self,
        max_bytes: int,
        max_ttl: float,
        namespace_of: Callable[[str], str],
        clock: Clock = time.monotonic,
    ) -> None:
        self._max_bytes, self._max_ttl, self._clock = max_bytes, max_ttl, clock
        self._namespace_of = namespace_of
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._tags: dict[str, set[str]] = {}
        self._pending: dict[str, Ticket] = {}
        self._lock = threading.Lock()
        self._sequence = 0
        self._epoch = 0
        self._live = False
        self.bytes = 0

    # --- reading -------------------------------------------------------------------------------
    def get(self, key: str, missing: Any = _MISSING) -> Any:
        """The fresh value, or `missing`."""
        entry = self._entries.get(key)
        if entry is None or entry.epoch != self._epoch or not self._live or entry.fresh_until <= self._clock():
            return missing
        try:
            self._entries.move_to_end(key)
        except KeyError:
            return missing  # dropped by another thread just now
        unpack = entry._unpack
        return entry._value if unpack is None else unpack(entry._value)

    def get_stale(self, key: str, missing: Any = _MISSING) -> Any:
        """The value for when Redis does not answer: whatever epoch, until its grace is over."""
        entry = self._entries.get(key)
        if entry is None or entry.stale_until <= self._clock():
            return missing
        return entry.value()

    # --- filling -------------------------------------------------------------------------------
    def begin(self, key: str) -> Ticket:
        """Before the command is sent whose answer may be put."""
        with self._lock:
            ticket = self._pending[key] = Ticket(key, self._sequence)
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """There is nothing to put."""
        with self._lock:
            if self._pending.get(ticket.key) is ticket:
                del self._pending[ticket.key]

    def put(self, ticket: Ticket, entry: Entry, fresh: float, grace: float, tags: Collection[str]) -> bool:
        """Put what was answered: fresh for so many seconds, and usable in need for `grace` more. Returns
        whether it was: not if the ticket is void, nor if it is larger than an eighth of the level."""
        key = ticket.key
        size = OVERHEAD + 2 * len(key) + entry.size + sum(2 * len(tag) + 100 for tag in tags)
        with self._lock:
            if self._pending.pop(key, None) is not ticket or ticket.sequence != self._sequence:
                return False
            if not self._live or fresh <= 0 or size > self._max_bytes // 8:
                return False
            self._remove(key)
            entry.size, entry.tags, entry.epoch = size, tags, self._epoch
            now = self._clock()
            entry.fresh_until = now + min(fresh, self._max_ttl)
            entry.stale_until = now + fresh + grace
            for tag in tags:
                self._tags.setdefault(tag, set()).add(key)
            self._entries[key] = entry
            self.bytes += size
            while self.bytes > self._max_bytes:
                self._forget(*self._entries.popitem(last=False))
        return True

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._forget(key, entry)

    def _forget(self, key: str, entry: Entry) -> None:
        self.bytes -= entry.size
        for tag in entry.tags:
            keys = self._tags[tag]
            keys.discard(key)
            if not keys:
                del self._tags[tag]

    # --- hearing -------------------------------------------------------------------------------
    def drop(self, keys: Iterable[str]) -> None:
        """Keys have changed."""
        with self._lock:
            for key in keys:
                self._pending.pop(key, None)
                self._remove(key)

    def invalidate(self, target: str, soft: bool = False) -> None:
        """What was said on the channel of a tag, or of a namespace: `@name`. (A tag may be called that too:
        both are meant then.) Soft: no longer fresh, yet usable in need."""
        with self._lock:
            self._sequence += 1
            keys = set(self._tags.get(target, ()))
            if target.startswith("@"):
                name = target[1:]
                keys.update(key for key in list(self._entries) if self._namespace_of(key) == name)
            for key in keys:
                if soft:
                    self._entries[key].fresh_until = 0.0
                else:
                    self._remove(key)

    def flush(self) -> None:
        """Nothing is to be served any more, not in need either: the database was flushed, or by hand."""
        with self._lock:
            self._sequence += 1
            self._entries.clear()
            self._tags.clear()
            self._pending.clear()
            self.bytes = 0

    @property
    def live(self) -> bool:
        """Whether everything that changes is heard of."""
        return self._live

    def connected(self) -> None:
        """From now on everything is heard."""
        with self._lock:
            self._live = True

    def lost(self) -> None:
        """From now on nothing is heard: what there is may be old."""
        with self._lock:
            self._live = False
            self._sequence += 1
            self._epoch += 1

    # --- looking -------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._entries)

    def validate(self) -> None:
        """Recompute what is counted; AssertionError where it differs. For tests."""
        with self._lock:
            assert self.bytes == sum(entry.size for entry in self._entries.values())
            assert self.bytes <= self._max_bytes
            indexed = {(tag, key) for tag, keys in self._tags.items() for key in keys}
            assert indexed == {(tag, key) for key, entry in self._entries.items() for tag in entry.tags}
            assert all(self._tags.values())
