"""What writers, operators and time do to the keys of lease_model.py, and what the model makes of it."""

from dataclasses import dataclass

from .server import wait_for

KEYS = [b"a:1", b"a:2", b"b:1", b"plain"]
TAGS = [b"t1", b"t2", b"t3"]
DATABASES = 2
LONG = 10**6  # s: no entry ends by itself


def namespace(key):
    """The namespace of one of KEYS."""
    return key.partition(b":")[0] if b":" in key else b""


@dataclass
class Entry:
    """What a key holds."""

    value: bytes
    tags: frozenset = frozenset()
    native: bool = False
    soft: bool = False  # stale by hand, whatever the time


class Steps:
    """Steps that ask for no lease: a part of the model, which has the rest."""

    # --- those who write and delete --------------------------------------------------------------
    def set(self, key):
        """A plain SET."""
        tags = frozenset(self.dice.sample(TAGS, self.dice.choice([0, 1, 2])))
        entry = Entry(self.value(), tags)
        words = ["TAGS", *sorted(tags)] if tags else []
        self.ask("CACHE.SET", key, entry.value, "PX", 20_000, "GRACE", LONG, *words)
        self.changed(self.of(key), entry, True)

    def touch(self, key):
        """A plain TOUCH."""
        entry = self.entries.get(self.of(key))
        reply = self.ask("CACHE.TOUCH", key)
        self.check(reply == (entry is not None and not entry.native), f"{reply} for {entry}")
        if reply:
            self.changed(self.of(key), Entry(entry.value, entry.tags), True)

    def delete(self, key):
        """CACHE.DEL, of an absent key too."""
        self.ask("CACHE.DEL", key)
        self.changed(self.of(key), None, False)

    def native_delete(self, key):
        """DEL: of an absent key the server is told nothing."""
        there = self.of(key) in self.entries
        if self.ask(self.dice.choice(["DEL", "UNLINK"]), key):
            self.changed(self.of(key), None, False)
        else:
            self.check(not there, "it is there")

    def native_set(self, key):
        """SET; over a native key the server is told nothing."""
        entry = self.entries.get(self.of(key))
        native = Entry(self.value(), native=True)
        self.ask("SET", key, native.value)
        if entry is not None and not entry.native:
            self.changed(self.of(key), native, True)
            return
        self.entries[self.of(key)] = native
        for grant in self.grants_on(self.of(key)):
            if entry is None:
                grant.fate = "dirty"  # one has appeared
            elif grant.fate == "clean":
                grant.fate = "open"
        self.backoff.pop(self.of(key), None)

    def stale(self, key):
        """CACHE.STALE, of an absent key too."""
        self.ask("CACHE.STALE", key)
        entry = self.entries.get(self.of(key))
        if entry and not entry.native:
            entry.soft = True
        for grant in self.grants_on(self.of(key)):
            grant.spoil()

    def tag(self, key):
        """A tag put on later binds from then on."""
        self._retag("CACHE.TAG", key, frozenset.union)

    def untag(self, key):
        """And taken off, no more."""
        self._retag("CACHE.UNTAG", key, frozenset.difference)

    def _retag(self, command, key, change):
        entry = self.entries.get(self.of(key))
        if entry and entry.native:
            return
        tags = self.dice.sample(TAGS, 2)
        reply = self.ask(command, key, *tags)
        self.check((reply is None) == (entry is None), f"{reply} for {entry}")
        if entry:
            entry.tags = change(entry.tags, tags)

    def rename(self, key):
        """What held one is held by another: both have changed."""
        source, target = self.of(key), self.of(self.dice.choice(KEYS))
        if source == target or source not in self.entries:
            return
        self.ask("RENAME", key, target[1])
        entry = self.entries[source]
        self.changed(source, None, False)
        self.changed(target, entry, True)

    def move(self, key):
        """The same, to another database."""
        source, target = self.of(key), (1 - self.db, key)
        if source not in self.entries or self.entries[source].native:
            return
        if self.ask("MOVE", key, target[0]):
            entry = self.entries[source]
            self.changed(source, None, False)
            self.changed(target, entry, True)

    def copy(self, key):
        """COPY onto another."""
        source, target = self.of(key), self.of(self.dice.choice(KEYS))
        if source == target or source not in self.entries:
            return
        if self.ask("COPY", key, target[1], "REPLACE"):
            entry = self.entries[source]
            self.changed(target, Entry(entry.value, entry.tags, entry.native, entry.soft), True)

    # --- those who invalidate --------------------------------------------------------------------
    def _invalidate(self, soft, tags):
        self.ask("CACHE.INVALIDATE", *(["SOFT"] * soft), "TAGS", *tags)
        for tag in tags:
            self.invalidated[self.db, tag] = self.step
        self.hit(lambda place, entry: place[0] == self.db and entry.tags & set(tags), soft)

    def invalidate(self, _):
        """By tags that are in use."""
        self._invalidate(self.dice.random() < 0.4, self.dice.choices(TAGS, k=2))

    def invalidate_unseen(self, _):
        """By tags that nobody has, and fills may yet name."""
        self._invalidate(self.dice.random() < 0.4, [b"n%d" % self.dice.randrange(6)])

    def invalidate_namespace(self, key):
        """By namespace."""
        soft, space, db = self.dice.random() < 0.4, namespace(key), self.db
        self.ask("CACHE.INVALIDATE", *(["SOFT"] * soft), "NAMESPACE", space)
        for grant in self.grants:
            if grant.place[0] == db and namespace(grant.place[1]) == space:
                grant.spoil()
        for of in KEYS:
            if namespace(of) == space:
                self.outdated.add((db, of))
        self.hit(lambda place, _: place[0] == db and namespace(place[1]) == space, soft)

    def forget(self, _):
        """What was invalidated is forgotten as soon as may be."""
        self.server.wait_swept()
        self.ask("CONFIG", "SET", "cacheflow.max-tombstones", 0)
        wait_for(lambda: b"cacheflow_tombstones:0\r" in self.admin("INFO", "cacheflow_memory"), "forgetting")
        self.ask("CONFIG", "SET", "cacheflow.max-tombstones", 1_000_000)
        for grant in self.grants:
            grant.doubtful = True

    def flush(self, _):
        """FLUSHDB or FLUSHALL: everything is void, locks too."""
        dbs = (
            [self.db]
            if self.ask(self.dice.choice(["FLUSHDB", "FLUSHALL"])) and "DB" in str(self.log[-1])
            else [0, 1]
        )
        for place in [place for place in self.entries if place[0] in dbs]:
            del self.entries[place]
        for grant in self.grants:
            if grant.place[0] in dbs:
                grant.fate, grant.held = "dirty", False
        for place in [place for place in self.backoff if place[0] in dbs]:
            del self.backoff[place]

    def swap(self, _):
        """SWAPDB: leases are void, locks go with the data, who waits stays."""
        self.ask("SWAPDB", 0, 1)
        self.entries = {(1 - db, key): entry for (db, key), entry in self.entries.items()}
        self.backoff = {(1 - db, key): until for (db, key), until in self.backoff.items()}
        self.outdated = {(1 - db, key) for db, key in self.outdated}
        self.invalidated = {(1 - db, tag): step for (db, tag), step in self.invalidated.items()}
        for grant in self.grants:
            if grant.lock:
                grant.place = (1 - grant.place[0], grant.place[1])
                grant.fate = "open" if grant.fate == "clean" else grant.fate
            else:
                grant.fate, grant.held = "dirty", False

    def turn(self, _):
        """The clock goes on: leases and waits end."""
        ahead = self.dice.choice([3_000, 9_000, 25_000])
        self.offset += ahead
        self.ask("CACHE.DEBUG", "CLOCK", self.offset)

    def read(self, key):
        """A look at one more."""
        self.look_at(key)
