"""A source whose rows change, each at a pace of its own; read through a cache that a server is, or that is
reckoned here with one TTL for all."""

import random
from bisect import bisect_right
from dataclasses import dataclass


@dataclass
class Seen:
    """What reading came to: answered by the cache, of that with what had changed, read at the source."""

    hits: int = 0
    stale: int = 0
    reads: int = 0
    wrong: int = 0


class Source:
    """Rows that change by Poisson, `means` being the ms between two changes of each. All times are known
    beforehand, so that whoever reads it finds the same: time goes in ticks, and in each a row is read or
    not."""

    def __init__(self, seed, means, tick, ticks):
        dice = random.Random(seed)
        self.tick, self.ticks = tick, ticks
        self.keys = [f"row:{n}" for n in range(len(means))]
        self._changes = []
        for mean in means:
            at, changes = 0.0, []
            while at < tick * ticks:
                at += dice.expovariate(1 / mean)
                changes.append(at)
            self._changes.append(changes)
        self.read_in = [[row for row in range(len(means)) if dice.random() < 0.7] for _ in range(ticks)]

    def version(self, row, now):
        """What a row holds: how often it has changed."""
        return bisect_right(self._changes[row], now)


def read_through(clocked, source, options, skip):
    """CACHE.FETCH, and where that gives a token SET … LEASE. Counted is what comes after `skip` ticks."""
    seen, connection = Seen(), clocked.server.connect()
    for tick, rows in enumerate(source.read_in):
        clocked.wait(source.tick)
        now, counts = tick * source.tick, int(tick >= skip)
        answers = connection.pipeline([("CACHE.FETCH", source.keys[row], "BETA", 0) for row in rows])
        fills = []
        for row, (state, value, token, _) in zip(rows, answers, strict=True):
            version = source.version(row, now)
            if token is None:
                assert state == b"FRESH"
                seen.hits += counts
                seen.stale += counts * (int(value) != version)
                seen.wrong += int(value) > version
            else:
                seen.reads += counts
                fills.append(("CACHE.SET", source.keys[row], version, "LEASE", token, *options))
        assert connection.pipeline(fills) == [b"OK"] * len(fills)
    return seen


def _with_ttl(source, ttl, skip):
    seen, held = Seen(), {}
    for tick, rows in enumerate(source.read_in):
        now, counts = tick * source.tick, int(tick >= skip)
        for row in rows:
            until, value = held.get(row, (0, 0))
            if now < until:
                seen.hits += counts
                seen.stale += counts * (value != source.version(row, now))
            else:
                seen.reads += counts
                held[row] = now + ttl, source.version(row, now)
    return seen


def best_fixed(source, staleness, skip):
    """What the longest single TTL comes to that is no staler than that."""
    best = _with_ttl(source, 0, skip)
    for ticks in range(1, 1000):
        seen = _with_ttl(source, ticks * source.tick, skip)
        if seen.stale > staleness * seen.hits:
            break
        best = seen
    return best
