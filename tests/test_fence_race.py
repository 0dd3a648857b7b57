"""The race that the fence is for: a reader loads the old value, a writer changes the database and
invalidates, the reader stores what it has loaded. Run in every order of its steps."""

import pytest

from harness.leases import assert_nothing_held

LONG = 600_000


def orders(left):
    """Every order of the steps of parties that have so many left each."""
    if not any(left):
        yield ()
    for party, count in enumerate(left):
        if count:
            rest = [n - (at == party) for at, n in enumerate(left)]
            yield from ((party, *order) for order in orders(rest))


class Race:
    """Two readers and a writer at one key, a step at a time, and the database behind it."""

    def __init__(self, connection, key, tag, invalidation, soft):
        self.connection, self.key, self.tag = connection, key, tag
        self.invalidation, self.soft = invalidation, soft
        self.database, self.told = b"old", False
        self.loaded = {}
        self.banned = {b"old", b"older"}  # once it is told
        self.log = []

    def step(self, party, number):
        """Do it, and look at what a reader would get now."""
        if party == 2:
            self.write() if number == 0 else self.invalidate()
        else:
            (self.fetch, self.load, self.fill)[number](party)
        if self.told:
            fresh = self.connection("CACHE.GET", self.key)
            assert fresh not in self.banned, f"served after the invalidation: {self.log}"
            if not self.soft:
                assert self.connection("CACHE.GET", self.key, "STALE") not in self.banned, self.log

    def fetch(self, party):
        state_, value_, token, _ = self.connection("CACHE.FETCH", self.key, "LEASE", LONG, "KEEP", "BETA", 0)
        self.log.append((party, state_, value_, token))
        if self.told:
            assert value_ not in self.banned or (self.soft and state_ == b"STALE"), self.log
        self.loaded[party] = token, None

    def load(self, party):
        self.log.append((party, "load", self.database))
        self.loaded[party] = self.loaded[party][0], self.database

    def fill(self, party):
        token, value_ = self.loaded[party]
        if token is not None:
            tags = ["TAGS", "other", self.tag] if self.tag else []
            request = ("CACHE.SET", self.key, value_, "LEASE", token, "EX", 1000, "GRACE", 1000, *tags)
            self.log.append((party, "fill", value_, self.connection(*request)))

    def write(self):
        self.database = b"new"
        self.log.append("write")

    def invalidate(self):
        self.log.append(self.invalidation)
        self.connection(*self.invalidation)
        self.told = True


RACES = {
    "CACHE.DEL": (["CACHE.DEL", "{key}"], False),
    "CACHE.STALE": (["CACHE.STALE", "{key}"], True),
    "SET": (["CACHE.SET", "{key}", "new", "EX", "1000"], False),
    "DEL": (["DEL", "{key}"], False),
    "tag": (["CACHE.INVALIDATE", "TAGS", "{tag}"], False),
    "tag, soft": (["CACHE.INVALIDATE", "SOFT", "TAGS", "x", "{tag}"], True),
    "namespace": (["CACHE.INVALIDATE", "NAMESPACE", "{space}"], False),
    "namespace, soft": (["CACHE.INVALIDATE", "SOFT", "NAMESPACE", "{space}"], True),
}


@pytest.mark.parametrize("there", ["nothing", "stale", "stale, with the tag"])
@pytest.mark.parametrize("what", RACES)
def test_the_old_value_is_never_served_after_its_invalidation(server, what, there):
    """A reader loads the old, the writer writes the database and invalidates, the reader fills: in every
    order of two readers' steps and the writer's. (Native DEL of an absent key tells the server nothing.)"""
    if what == "DEL" and there == "nothing":
        return
    invalidation, soft = RACES[what]
    connection, raced = server.connect(), 0
    for number, order in enumerate(orders([3, 3, 2])):
        names = {"key": f"s{number}:k", "tag": f"t{number}", "space": f"s{number}"}
        race = Race(
            connection, names["key"], names["tag"], [part.format(**names) for part in invalidation], soft
        )
        if there != "nothing":
            tags = ["TAGS", names["tag"]] if "tag" in there else []
            connection("CACHE.SET", race.key, "older", "EX", 1000, "GRACE", 1000, *tags)
            if what == "tag" and not tags:
                race.banned.remove(b"older")  # it has not that tag
            connection("CACHE.STALE", race.key)
        done = [0, 0, 0]
        for party in order:
            race.step(party, done[party])
            done[party] += 1
        fills = [entry for entry in race.log if entry[1] == "fill"]
        raced += any(entry[2:] == (b"old", None) for entry in fills)
        # Whoever comes now gets the new value, or computes it and may store it.
        state_, value_, token, _ = connection("CACHE.FETCH", race.key, "LEASE", LONG, "KEEP", "BETA", 0)
        if state_ == b"FRESH":
            assert value_ == b"new", race.log
        else:
            assert token is not None, (race.log, state_)
            assert connection("CACHE.SET", race.key, "new", "LEASE", token, "EX", 100) == b"OK", race.log
        assert connection("CACHE.GET", race.key) == b"new"
    assert raced > 50, "the race was run, and the old value refused"
    assert_nothing_held(server)
