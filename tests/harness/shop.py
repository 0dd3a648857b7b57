"""A shop whose pages, prices and searches are cached: load in which everything that a dashboard shows
happens. Hits, stale ones and misses; crowds that wait for one computation; fills that come too late or fail;
invalidations by tag and by namespace; a namespace over its budget; a breaker that opens.

Each client is a thread with a connection of its own. What the origin would take is told by COST, except
for the crowd's pages, whose computation really takes its time.
"""

import random
import threading
from contextlib import closing

from .resp import ReplyError

PRODUCTS, CATEGORIES = 4000, 24
BUDGET = 256 << 10  # of the namespace `image`, which has more than that to keep
BATCH = 64
# (namespace, its share of the reads, how many keys, seconds fresh, bytes, ms that one costs)
SPACES = [
    ("product", 46, PRODUCTS, 90, 420, 38),
    ("price", 27, PRODUCTS, 6, 60, 12),
    ("user", 12, 3000, 300, 300, 9),
    ("image", 8, 1500, 600, 6000, 55),
    ("search", 7, 600, 20, 900, 140),
]


def tags_of(space, number):
    """What an entry depends on."""
    if space in ("product", "price", "image"):
        return [f"product:{number}", f"category:{number % CATEGORIES}"]
    if space == "user":
        return [f"tenant:{number % 40}"]
    return [f"category:{number % CATEGORIES}", "listing"]


class Shop:
    """The load: begun by `with`, ended with it. `connect()` makes a connection, to whatever it is;
    `primaries` are told what is set for namespaces."""

    def __init__(self, connect, primaries, readers=1, pause=0.01, seed=1):
        self._connect, self._primaries, self._pause, self._seed = connect, primaries, pause, seed
        self._over = threading.Event()
        works = [self._read] * readers + [self._crowd] * 9 + [self._fail, self._invalidate]
        self._threads = [
            threading.Thread(target=self._work, args=(work, random.Random(100 * seed + n)))
            for n, work in enumerate(works)
        ]
        self.failures = []

    def __enter__(self):
        for primary in self._primaries:
            primary("CACHE.NAMESPACE", "SET", "image", "MAXMEMORY", BUDGET)
            primary("CACHE.NAMESPACE", "SET", "product", "MAXMEMORY", 16 << 20, "MAXFILLS", 40)
            primary("CACHE.NAMESPACE", "SET", "search", "BREAKER", 40, 6000, "MAXFILLS", 8)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, work, chance):
        with closing(self._connect()) as connection:
            while not self._over.is_set():
                try:
                    work(connection, chance)
                # A node that is killed while somebody watches.
                except (OSError, ReplyError) as error:
                    self.failures.append(error)
                    self._over.wait(0.3)

    def _read(self, connection, chance):
        """Reads by popularity, and fills of what was missing, some of them too late."""
        wanted = []
        for _ in range(BATCH):
            space, _, keys, *_ = which = chance.choices(SPACES, [share for _, share, *_ in SPACES])[0]
            number = min(int(chance.paretovariate(0.9)) - 1, 10**9) % keys
            wanted.append((which, number, f"{space}:{number}"))
        reads = [
            ("CACHE.GET", key) if n % 3 else ("CACHE.FETCH", key, "LEASE", 2000, "KEEP")
            for n, (_, _, key) in enumerate(wanted)
        ]
        fills = []
        for (which, number, key), command, answer in zip(
            wanted, reads, connection.pipeline(reads), strict=True
        ):
            if isinstance(answer, ReplyError) or command[0] == "CACHE.GET":
                continue
            token = answer[2]
            if token is None:
                continue
            space, _, _, fresh, size, cost = which
            value = chance.randbytes(size // 2).hex()
            life = ("EX", max(1, int(fresh * chance.uniform(0.5, 1.5))), "GRACE", fresh)
            if chance.random() < 0.02:
                fills.append(("CACHE.STALE", key))
            fills.append(
                (
                    "CACHE.SET",
                    key,
                    value,
                    "LEASE",
                    token,
                    *life,
                    *("COST", int(cost * chance.uniform(0.6, 1.8))),
                    *("TAGS", *tags_of(space, number)),
                )
            )
        connection.pipeline(fills)
        self._over.wait(self._pause * chance.uniform(0.5, 1.5))

    def _crowd(self, connection, chance):
        """Pages that many want at once: one computes, the others wait."""
        key = f"page:/c/{int(chance.paretovariate(1.1)) % 6}"
        _, _, token, _ = connection("CACHE.FETCH", key, "BLOCK", 2000, "MAXSTALE", 0)
        if token is not None:
            self._over.wait(chance.uniform(0.03, 0.35))
            connection(
                "CACHE.SET", key, "<html>" * 300, "LEASE", token, "PX", 900, "TAGS", "layout", "listing"
            )
        self._over.wait(chance.uniform(0.0, 0.12))

    def _fail(self, connection, chance):
        """An origin that fails as often as not."""
        key = f"search:broken-{chance.randrange(50)}"
        _, _, token, _ = connection("CACHE.FETCH", key, "LEASE", 500)
        if token is not None:
            self._over.wait(0.05)
            connection("CACHE.UNLOCK", key, token, "RETRY", 200)
        self._over.wait(0.25)

    def _invalidate(self, connection, chance):
        """Who writes the database says so."""
        what = chance.random()
        if what < 0.7:
            connection("CACHE.INVALIDATE", "TAGS", f"product:{chance.randrange(300)}")
        elif what < 0.9:
            connection("CACHE.INVALIDATE", "SOFT", "TAGS", f"category:{chance.randrange(CATEGORIES)}")
        elif what < 0.97:
            connection("CACHE.INVALIDATE", "TAGS", f"tenant:{chance.randrange(40)}")
        else:
            connection("CACHE.INVALIDATE", "NAMESPACE", "search")
        self._over.wait(chance.uniform(0.3, 1.2))
