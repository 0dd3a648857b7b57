"""Random readers, writers and operators at a few keys, and a naive model of what leases must come to.

The model knows no time but the clock that it turns itself, no index and no queue. It keeps what each
key holds, what each token may still do, and who waits, and asserts of every reply what the contract
says of it whatever came before; where the contract, or the order of two events of one step, leaves it
open, it follows the reply.

Invariants: a value is only served while it is what the key holds, so nothing from before an acknowledged
invalidation is; a fill is stored if nothing that concerns it happened since its grant and refused if
something did; of two unexpired grants on a key never both are held; tokens only grow; whoever waits is
answered, and not by BUSY before the time is up.
"""

import select
import time
from dataclasses import dataclass, field

from .lease_model_steps import DATABASES, KEYS, LONG, TAGS, Entry, Steps
from .leases import counted
from .resp import ReplyError
from .server import wait_for

SLACK = 1000  # ms: nearer to an end than that, either may be so


@dataclass
class Grant:
    """A token and what may come of it. `fate`: whether a fill is stored: "clean", yes; "dirty", no;
    "open", either. `held`: whether the key is held by it; None: either."""

    token: int
    place: tuple  # database and key
    lock: bool
    step: int
    ends: float
    keeper: object  # the connection that holds it; None: whatever becomes of that
    fate: str = "clean"
    held: object = True
    doubtful: bool = False  # tags can have been forgotten since
    late: bool = False  # granted in the step or the one before, in whatever order with what was done

    def spoil(self):
        """Something happened that voids it."""
        self.fate = "dirty"
        if not self.lock:
            self.held = False


@dataclass
class Waiter:
    """A connection that waits."""

    place: tuple
    lock: bool
    deadline: float
    ask: dict


@dataclass
class Model(Steps):
    """See the module's text."""

    server: object
    dice: object
    entries: dict = field(default_factory=dict)
    grants: list = field(default_factory=list)
    waiting: dict = field(default_factory=dict)  # connection: Waiter
    invalidated: dict = field(default_factory=dict)  # (db, tag): step
    backoff: dict = field(default_factory=dict)  # place: until
    outdated: set = field(default_factory=set)  # keys whose namespace was invalidated, and nobody asked since
    step: int = 0
    offset: int = 0
    serial: int = 0
    log: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)

    def __post_init__(self):
        self.admin = self.server.connect()
        self.db = 0
        self.idle = []
        self.before = {}

    # --- running -------------------------------------------------------------------------------
    def now(self):
        """The time that leases are measured by, in ms."""
        return time.monotonic() * 1000 + self.offset

    def count(self, what):
        """Count what the test must have seen."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def note(self, *what):
        """For whoever reads a failure."""
        self.log = [*self.log[-60:], (self.step, *what)]

    def fail(self, what):
        """With what led to it."""
        raise AssertionError(f"{what}, after\n" + "\n".join(map(str, self.log)))

    def check(self, holds, what):
        """Assert with the log."""
        if not holds:
            self.fail(what)

    def ask(self, *request):
        """A command on the operator's connection, in its database."""
        reply = self.admin(*request)
        self.note(*request, "=>", reply)
        return reply

    def select(self, db):
        """The operator's database."""
        if db != self.db:
            self.admin("SELECT", db)
            self.db = db

    def run(self, steps):
        """So many random steps, each looked at."""
        for _ in range(steps):
            self.step += 1
            self.before = {place: entry.value for place, entry in self.entries.items()}
            self.one()
            self.drain()
            self.liveness()
            self.look()

    def one(self):
        """A step."""
        actions = [self.fetch] * 8 + [self.fill] * 9 + [self.lock, self.lock, self.unlock, self.unlock]
        actions += [self.extend, self.set, self.touch, self.delete, self.stale, self.tag, self.untag]
        actions += [self.invalidate] * 3 + [self.invalidate_namespace, self.invalidate_unseen, self.rename]
        actions += [self.copy, self.native_delete, self.native_set, self.turn, self.hang_up, self.read]
        if self.dice.random() < 0.15:
            actions = [self.flush, self.swap, self.forget, self.move]
        action = self.dice.choice(actions)
        self.select(self.dice.randrange(DATABASES) if self.dice.random() < 0.3 else 0)
        action(self.dice.choice(KEYS))

    # --- what holds of a key ---------------------------------------------------------------------
    def of(self, key):
        """The place of a key in the selected database."""
        return self.db, key

    def grants_on(self, place):
        """Tokens of a key, the latest last."""
        return [grant for grant in self.grants if grant.place == place]

    def changed(self, place, entry, written):
        """It was written or deleted, by no fill."""
        self.entries.pop(place, None)
        if entry is not None:
            self.entries[place] = entry
        if written:
            self.backoff.pop(place, None)
        for grant in self.grants_on(place):
            grant.spoil()

    def hit(self, hits, soft):
        """An invalidation has hit the entries for which `hits(place, entry)`."""
        for place, entry in list(self.entries.items()):
            if not entry.native and hits(place, entry):
                for grant in self.grants_on(place):
                    grant.spoil()
                if soft:
                    entry.soft = True
                else:
                    del self.entries[place]

    def value(self):
        """Another value each time."""
        self.serial += 1
        return b"v%d" % self.serial

    def granted(self, token, place, lock, length, keeper, late=False):
        """A token was received."""
        for grant in self.grants:
            self.check(grant.token != token, f"{token} was given twice")
        others = self.grants_on(place)
        for grant in others:
            # Two that were received in one step may have been received in another order.
            both = late and grant.late and grant.step == self.step
            self.check(both or token > grant.token, f"{token} on {place} is no later than {grant}")
            held = grant.held is True and not both and grant.ends > self.now() + SLACK
            self.check(not held, f"{token} was given on {place}, where {grant} is held")
            grant.fate, grant.held = "dirty", False
        grant = Grant(token, place, lock, self.step, self.now() + length, keeper, late=late)
        if late:
            # Whether what was done in this step came before it is not known.
            grant.fate, grant.held = "open", None
        if any(other.late and other.step == self.step for other in others):
            grant.fate, grant.held = "open", None
        self.outdated.discard(place)
        self.grants = [*self.grants[-200:], grant]
        self.count("grants")

    # --- those who ask ---------------------------------------------------------------------------
    def someone(self):
        """A connection that does not wait, in the selected database; None if all do."""
        if not self.idle and len(self.waiting) < 8:
            self.idle.append(self.server.connect())
        if not self.idle:
            return None
        connection = self.dice.choice(self.idle)
        connection("SELECT", self.db)
        return connection

    def send(self, connection, place, lock, ask, *request):
        """A request that may wait: its reply, or that it does."""
        self.note(self.name(connection), *request)
        connection.send(*request)
        block = ask["block"]
        if block is None:
            self.answer(connection, Waiter(place, lock, 0, ask), connection.read(), late=False)
            return
        deadline = float("inf") if block == 0 else self.now() + block
        waiter = Waiter(place, lock, deadline, ask)
        self.idle.remove(connection)
        # It has been read once the server has answered another that came later.
        if self.admin("PING") and readable([connection], 0.002):
            self.idle.append(connection)
            self.answer(connection, waiter, connection.read(), late=False)
        else:
            self.waiting[connection] = waiter
            self.count("waits")

    def name(self, connection):
        """Of a connection, in the log."""
        return f"c{connection.sock.getsockname()[1]}"

    def fetch(self, key):
        """FETCH with some of its options."""
        connection = self.someone()
        if connection is None:
            return
        dice, place = self.dice, self.of(key)
        ask = {
            "block": dice.choice([None, 0, 0, 5_000, 30_000]),
            "length": dice.choice([10_000, 60_000]),
            "keep": dice.random() < 0.3,
            "maxstale": dice.choice([None, None, 0]),
        }
        words = ["LEASE", ask["length"], "BETA", 0, *(["KEEP"] * ask["keep"])]
        words += [] if ask["block"] is None else ["BLOCK", ask["block"]]
        words += [] if ask["maxstale"] is None else ["MAXSTALE", 0]
        self.outdated.discard(place)
        self.send(connection, place, False, ask, "CACHE.FETCH", key, *words)

    def lock(self, key):
        """LOCK, with BLOCK or without."""
        connection = self.someone()
        if connection is None:
            return
        ask = {
            "block": self.dice.choice([None, None, 0, 20_000]),
            "length": self.dice.choice([8_000, 50_000]),
        }
        words = [] if ask["block"] is None else ["BLOCK", ask["block"]]
        self.outdated.discard(self.of(key))
        self.send(connection, self.of(key), True, ask, "CACHE.LOCK", key, ask["length"], *words)

    def answer(self, connection, waiter, reply, late):
        """What was answered, at once or (`late`) to one that waited."""
        self.note(self.name(connection), "<=", reply, "late" if late else "at once")
        self.check(not isinstance(reply, ReplyError), f"{reply} for {waiter}")
        place, ask = waiter.place, waiter.ask
        early = waiter.deadline > self.now() + SLACK
        if waiter.lock:
            if reply is None:
                self.check(not (late and early), f"{waiter} is answered by nil")
                self.check(late or self.taken(place), f"{place} is free, and no lock was given")
            else:
                self.granted(reply, place, True, ask["length"], None, late)
            return
        state, value, token, _ = reply
        entry = self.entries.get(place)
        here = {None if entry is None else entry.value, *([self.before.get(place)] if late else [])}
        if state in (b"FRESH", b"STALE"):
            self.check(value in here, f"{value} was served, {place} holds {entry}")
            self.check(not (state == b"FRESH" and token), "nobody was to be elected")
            self.check(late or state == b"STALE" or not entry.soft, f"{entry} is not fresh")
            self.count("served late" if late else "served")
        else:
            self.check(late or entry is None or ask["maxstale"] == 0, f"{state} of {entry}")
        if state == b"MISS":
            self.check(token is not None, "a miss without a token")
        if state == b"BUSY":
            self.check(not (late and early), f"{waiter} is answered by {state}")
            self.check(late or self.taken(place, fetch=True), f"{place} is free, and no lease was given")
        if token is not None:
            keeper = None if ask["keep"] else connection
            self.granted(token, place, False, ask["length"], keeper, late)

    def taken(self, place, fetch=False):
        """Whether something may be held on a key, or somebody be there first."""
        if fetch and place in self.backoff:
            return True
        queue = any(waiter.place == place for waiter in self.waiting.values())
        held = any(
            grant.held is not False and grant.ends > self.now() - SLACK for grant in self.grants_on(place)
        )
        return queue or held

    # --- those who hold --------------------------------------------------------------------------
    def some_grant(self):
        """A token, most likely one that may still do something; its database is selected."""
        recent = self.grants[-12:] if self.dice.random() < 0.9 else self.grants
        if not recent:
            return None
        grant = self.dice.choice(recent)
        self.select(grant.place[0])
        return grant

    def fill(self, _):
        """SET or TOUCH with a token, by whatever connection."""
        grant = self.some_grant()
        if grant is None:
            return
        place, key, dice = grant.place, grant.place[1], self.dice
        touch = dice.random() < 0.2
        tags = frozenset(dice.sample(TAGS, dice.choice([0, 1, 1, 2])))
        if dice.random() < 0.2:
            tags |= {b"n%d" % dice.randrange(6)}
        entry = self.entries.get(place)
        if touch:
            entry = entry and Entry(entry.value, entry.tags, entry.native)
            tags = entry.tags if entry else frozenset()
            reply = self.ask("CACHE.TOUCH", key, "LEASE", grant.token, "PX", 20_000, "GRACE", LONG) == 1
        else:
            entry = Entry(self.value(), tags)
            request = ["CACHE.SET", key, entry.value, "LEASE", grant.token, "PX", 20_000, "GRACE", LONG]
            reply = self.ask(*request, *(["TAGS", *sorted(tags)] if tags else [])) == b"OK"
        tagged = max([self.invalidated.get((place[0], tag), -1) for tag in tags], default=-1)
        refused = grant.fate == "dirty" or tagged > grant.step or (touch and (not entry or entry.native))
        stored = grant.fate == "clean" and tagged < grant.step and not (grant.doubtful and tags)
        self.check(not (reply and refused), f"stored what {grant} may not, {tags} at {tagged}")
        self.check(reply or refused or not stored, f"refused what {grant} may store")
        self.count("stored" if reply else "refused")
        # It is over, stored or refused, if it was the current one.
        grant.fate, grant.held = "dirty", False
        if reply:
            self.entries[place] = entry
            self.backoff.pop(place, None)

    def unlock(self, _):
        """Given up, or reported as failed."""
        grant = self.some_grant()
        if grant is None:
            return
        retry = self.dice.choice([None, None, 0, 5_000])
        words = [] if retry is None else ["RETRY", retry]
        reply = self.ask("CACHE.UNLOCK", grant.place[1], grant.token, *words)
        self.current(grant, reply)
        if reply:
            grant.fate, grant.held = "dirty", False
            if retry:
                until = max(self.now() + retry, self.backoff.get(grant.place, 0))
                self.backoff[grant.place] = until

    def extend(self, _):
        """More time, or less."""
        grant = self.some_grant()
        if grant is None:
            return
        length = self.dice.choice([1, 5_000, 100_000])
        reply = self.ask("CACHE.EXTEND", grant.place[1], grant.token, length)
        self.current(grant, reply)
        if reply:
            grant.ends = self.now() + length

    def current(self, grant, reply):
        """Whether a token is the current one."""
        if reply:
            self.check(grant.held is not False, f"{grant} is current")
            self.check(grant.ends > self.now() - SLACK, f"{grant} is current")
        else:
            held = grant.held is True and grant.ends > self.now() + SLACK
            self.check(not held, f"{grant} is not current")
            grant.held = False

    def hang_up(self, _):
        """A connection closes: its leases are given up, and it waits no more."""
        connections = [*self.idle, *self.waiting]
        if not connections:
            return
        connection = self.dice.choice(connections)
        self.note(self.name(connection), "hangs up")
        if connection in self.idle:
            self.idle.remove(connection)
        else:
            # It may have been promoted just now: then its token is nobody's.
            place = self.waiting.pop(connection).place
            for grant in self.grants_on(place):
                if grant.held is not True:
                    grant.held = grant.held and None
                    grant.fate = "dirty" if grant.fate == "dirty" else "open"
            for grant in self.grants_on(place):
                if grant.fate == "clean" and grant.ends < self.now() + SLACK:
                    grant.fate = "open"
            self.ghosts.add(place)
        number = self.clients()
        connection.close()
        wait_for(lambda: self.clients() < number, "the connection to be gone")
        for grant in self.grants:
            if grant.keeper is connection and not grant.lock:
                grant.held = False

    def clients(self):
        """How many connections the server has."""
        return int(self.server.info("clients")["connected_clients"])

    # --- looking ---------------------------------------------------------------------------------
    def look(self):
        """What a key holds, as plain reads see it."""
        self.look_at(self.dice.choice(KEYS))

    def look_at(self, key):
        """GET … STALE and GET agree with the model."""
        entry = self.entries.get(self.of(key))
        found = self.admin("CACHE.GET", key, "STALE")
        self.check(found == (entry and entry.value), f"{key} holds {found}, not {entry}")
        fresh = self.admin("CACHE.GET", key)
        self.check(fresh is None or (fresh == entry.value and not entry.soft), f"{fresh} is fresh, {entry}")

    def drain(self, seconds=0.0):
        """Answers to those who wait."""
        self.admin("PING")
        for connection in readable(self.waiting, seconds):
            waiter = self.waiting.pop(connection)
            self.idle.append(connection)
            self.answer(connection, waiter, connection.read(), late=True)

    def free(self, place):
        """Whether nothing can be held on a key, nor its computation be put off."""
        if place in self.outdated:
            return False  # nobody has been told yet
        if self.backoff.get(place, 0) > self.now() - SLACK:
            return False
        self.backoff.pop(place, None)
        return not any(
            grant.held is not False and grant.ends > self.now() - SLACK for grant in self.grants_on(place)
        )

    def liveness(self):
        """Nobody waits on the dead: where nothing is held, somebody is answered."""
        for place in {waiter.place for waiter in self.waiting.values()}:
            if place in self.ghosts:
                continue
            deadline = time.monotonic() + 10
            while self.free(place) and any(waiter.place == place for waiter in self.waiting.values()):
                self.check(time.monotonic() < deadline, f"{place} is free, and nobody is answered")
                self.drain(0.01)
        for connection, waiter in list(self.waiting.items()):
            if waiter.deadline < self.now() - SLACK:
                wait_for(
                    lambda of=connection: self.drain() or of not in self.waiting, "a deadline to be kept"
                )

    def end(self):
        """Everybody lets go, and everybody is answered: then nothing is left."""
        deadline = time.monotonic() + 60
        while self.waiting:
            self.check(time.monotonic() < deadline, f"{self.waiting} wait in vain")
            self.step += 1
            self.before = {place: entry.value for place, entry in self.entries.items()}
            self.offset += 700_000
            self.admin("CACHE.DEBUG", "CLOCK", self.offset)
            self.drain(0.02)
            for grant in self.grants:
                if grant.held is not False:
                    self.select(grant.place[0])
                    self.ask("CACHE.UNLOCK", grant.place[1], grant.token)
                    grant.held = False
        for grant in self.grants:
            if grant.lock:
                for db in range(DATABASES):
                    self.select(db)
                    self.admin("CACHE.UNLOCK", grant.place[1], grant.token)
        self.offset += 2_000_000
        self.admin("CACHE.DEBUG", "CLOCK", self.offset)
        wait_for(lambda: not counted(self.server, "lease_keys"), "everything to be forgotten")

    @property
    def ghosts(self):
        """Keys on which a lease may be held by a connection that has gone while it waited."""
        return self.__dict__.setdefault("_ghosts", set())


def readable(connections, seconds):
    """Those that have something to be read."""
    if not connections:
        return []
    sockets = {connection.sock: connection for connection in connections}
    return [sockets[sock] for sock in select.select(list(sockets), [], [], seconds)[0]]
