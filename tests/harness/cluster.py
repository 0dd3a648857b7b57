"""A real cluster on loopback: shards of a primary and its replicas, and what befalls clusters.

`Cluster` forms it by CLUSTER commands of its own (some engines ship no redis-cli), waits until every
node agrees, fails over, kills, pauses, restarts, grows, shrinks, and moves slots, classically key by
key or in one go where the engine can. What it asks the nodes goes over connections of a moment, so
that any thread may use it while others drive load.
"""

import time
from contextlib import closing, suppress
from typing import NamedTuple

from .cluster_client import SLOTS, ClusterConnection, Commands, slot_of
from .resp import Connection, ReplyError, fields
from .server import Server, wait_for

LIMIT = 60.0  # seconds: a bound for whatever a cluster must come to, not a measurement
PAUSE = 0.03  # between two looks, which ask every node
RESEND = 6.0  # seconds after which a manual failover has given up


class Seen(NamedTuple):
    """A node as some node sees it: a line of CLUSTER NODES."""

    id: str
    flags: frozenset
    primary: str | None
    epoch: int
    linked: bool  # by the bus; it says so of itself
    slots: tuple  # of (first, last)

    @property
    def is_primary(self):
        """Its role."""
        return "master" in self.flags

    def owns(self, slot):
        """Whether a slot is among its own."""
        return any(first <= slot <= last for first, last in self.slots)


class Node(Server):
    """A server in a cluster. What it is called with goes to it and no other."""

    _id = None
    elected = 0.0  # when it last became a primary by votes (time.monotonic)

    @property
    def id(self):
        """Its name in the cluster, for life."""
        if self._id is None:
            self._id = self.ask("CLUSTER", "MYID").decode()
        return self._id

    def reader(self):
        connection = self.connect()
        connection("READONLY")
        return connection

    @property
    def alive(self):
        """Whether it runs and would answer."""
        return self.running and not self.paused and self.process.poll() is None

    def view(self):
        """The cluster as it sees it: id to Seen."""
        return {seen.id: seen for seen in map(_parse, self.ask("CLUSTER", "NODES").decode().splitlines())}

    def linked(self):
        """Whether it is a replica whose link is up."""
        text = self.ask("INFO", "replication")
        return b"role:slave" in text and b"master_link_status:up" in text


def _parse(line):
    name, _, flags, primary, _, _, epoch, link, *slots = line.split()
    ranges = [part.split("-") for part in slots if part[0] != "["]
    return Seen(
        name,
        frozenset(flags.split(",")),
        None if primary == "-" else primary,
        int(epoch),
        link == "connected",
        tuple((int(part[0]), int(part[-1])) for part in ranges),
    )


def ranges(slots):
    """Slots as a flat list of first, last, first, last."""
    flat = []
    for slot in sorted(slots):
        if flat and flat[-1] == slot - 1:
            flat[-1] = slot
        else:
            flat += [slot, slot]
    return flat


def shares(count):
    """All slots in so many equal parts."""
    return [range(SLOTS * i // count, SLOTS * (i + 1) // count) for i in range(count)]


class Cluster:
    """Primaries with their replicas, formed and watched. `nodes` holds them all, shard by shard."""

    def __init__(
        self,
        fleet,
        primaries=3,
        replicas=1,
        node_timeout=2000,
        args=(),
        module_args=(),
        slots=None,
        kind=Node,
        **options,
    ):
        """`replicas` is for each primary, `slots` what each primary owns at first, `kind` the first
        node's class; options are Fleet.start's."""
        self.fleet, self.commands, self.node_timeout = fleet, Commands(), node_timeout
        self._args = (
            *("--cluster-enabled", "yes"),
            *("--cluster-node-timeout", node_timeout),
            *("--cluster-replica-validity-factor", 0),
            *("--cluster-allow-replica-migration", "no"),
            *args,
        )
        self._options = {"name": "cluster", "module_args": module_args, **options}
        self.nodes = []
        shards = [
            [self._start(kind if i == j == 0 else Node) for j in range(1 + replicas)]
            for i in range(primaries)
        ]
        self._form(shards, slots or shares(primaries))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Its servers are stopped, and forgotten."""
        for node in self.nodes:
            self.fleet.discard(node)

    def _start(self, kind=Node):
        self.nodes.append(self.fleet.start(self._args, kind=kind, **self._options))
        return self.nodes[-1]

    def _form(self, shards, slots):
        for (primary, *_), own in zip(shards, slots, strict=True):
            primary.ask("CLUSTER", "ADDSLOTSRANGE", *ranges(own))
        for epoch, node in enumerate(self.nodes, 1):  # all different, so that none must be negotiated
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for at, node in enumerate(self.nodes):
            for other in self.nodes[:at]:  # gossip would do it too, in its time
                self._introduce(other, node)
        for primary, *replicas in shards:
            for replica in replicas:
                self._attach(replica, primary)
        self.wait_ok()

    @staticmethod
    def _introduce(one, other):
        one.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)

    @staticmethod
    def _attach(replica, primary):
        def known():
            seen = replica.view().get(primary.id)
            return seen and "handshake" not in seen.flags

        wait_for(known, "the replica to know its primary", LIMIT, PAUSE)
        replica.ask("CLUSTER", "REPLICATE", primary.id)

    # --- who is who ----------------------------------------------------------------------------
    def alive(self):
        """The nodes that run and are not paused."""
        return [node for node in self.nodes if node.alive]

    def _selves(self):
        """What each living node says of itself."""
        return {node: node.view()[node.id] for node in self.alive()}

    def primaries(self):
        """The living nodes that say they are primaries, those without slots included."""
        return [node for node, seen in self._selves().items() if seen.is_primary]

    def replicas(self):
        """The living nodes that say they are replicas."""
        return [node for node, seen in self._selves().items() if not seen.is_primary]

    def replicas_of(self, primary):
        """The living replicas of a primary, which itself may be dead."""
        return [node for node, seen in self._selves().items() if seen.primary == primary.id]

    def empty(self):
        """Has no node hold an entry, and no test's connection be open."""
        for node in self.nodes:
            node.close_connections()
        for node in self.primaries():
            node("FLUSHALL")

    def replica_of(self, primary):
        """A living replica of a primary."""
        return self.replicas_of(primary)[0]

    def primary_of(self, replica):
        """The primary of a replica, dead or alive."""
        return self.by_id(replica.view()[replica.id].primary)

    def by_id(self, name):
        """The node of that name."""
        return next(node for node in self.nodes if node.id == name)

    @staticmethod
    def slot(key):
        """The hash slot of a key."""
        return slot_of(key)

    def node_of_slot(self, slot):
        """The living node that says it owns a slot, the one with the newest claim if two do."""
        claims = [
            (seen.epoch, node.port, node)
            for node, seen in self._selves().items()
            if seen.is_primary and seen.owns(slot)
        ]
        assert claims, f"no living node owns slot {slot}"
        return max(claims)[-1]

    def node_of(self, key):
        """The living node that owns a key."""
        return self.node_of_slot(slot_of(key))

    # --- until all is well ---------------------------------------------------------------------
    def ok(self):
        """Whether all living nodes say that the cluster is, agree on one another, and all living
        replicas are linked to living primaries."""
        living = self.alive()
        names = {node.id for node in living}
        first = None
        for node in living:
            view = {name: seen for name, seen in node.view().items() if name in names}
            told = {name: (seen.is_primary, seen.primary, seen.slots) for name, seen in view.items()}
            first = first or told
            flags = frozenset().union(*(seen.flags for seen in view.values()))
            if (
                told != first
                or told.keys() != names
                or flags & {"fail", "fail?", "handshake", "noaddr"}
                or not all(seen.linked for seen in view.values())
                or b"cluster_state:ok" not in node.ask("CLUSTER", "INFO")
                or not (view[node.id].is_primary or (view[node.id].primary in names and node.linked()))
            ):
                return False
        return True

    def wait_ok(self, seconds=LIMIT):
        """Wait until ok()."""
        wait_for(self._unless_gone(self.ok), "the cluster", seconds, PAUSE)

    @staticmethod
    def _unless_gone(condition):
        """A condition that is not met while a node does not answer."""

        def asked():
            try:
                return condition()
            except (OSError, ReplyError):
                return False

        return asked

    def connect(self, home=None, **options):
        """A client that routes by key (see ClusterConnection), closed with its home node's: keyless
        commands go to home, by default the first living node."""
        home = home or self.alive()[0]
        seeds = [node.port for node in self.nodes]
        return home.keep(ClusterConnection(home.port, seeds=seeds, commands=self.commands, **options))

    # --- what befalls it -----------------------------------------------------------------------
    def kill(self, node):
        """kill -9, once its replicas may be elected; see _settle."""
        self._settle(*self.replicas_of(node))
        node.kill9()

    def pause(self, node):
        """SIGSTOP, once its replicas may be elected; see _settle."""
        self._settle(*self.replicas_of(node))
        node.pause()

    def _settle(self, *replicas):
        """A replica that won an election and became a replica again still counts those votes for 2
        node timeouts: it would promote itself by an old epoch, which the others refuse, for good.
        For 2 more it stands for no other election. (Seen on Redis 7.0 and 8.6.)"""
        won = max((replica.elected for replica in replicas), default=0.0)
        time.sleep(max(0.0, won + 4 * self.node_timeout / 1000 - time.monotonic()))

    def resume(self, node):
        """SIGCONT."""
        node.resume()

    def restart(self, node):
        """The same directory and ports, after a kill or in order; see wait_ok()."""
        return node.restart()

    def failover(self, replica, how="manual", seconds=LIMIT):
        """Make a replica the primary of its shard, to the end. "manual" hands over with the primary's
        help, "force" with the other primaries' votes, "takeover" asks nobody (and need not wait, see
        _settle)."""
        old = self.primary_of(replica)
        if how != "takeover":
            self._settle(replica)
        request = ("CLUSTER", "FAILOVER", *[how.upper()] * (how != "manual"))
        replica.ask(*request)
        sent = time.monotonic()

        def begun():
            nonlocal sent
            if replica.view()[replica.id].is_primary:
                return True
            if time.monotonic() - sent > RESEND:  # it gave up, on a machine so busy
                replica.ask(*request)
                sent = time.monotonic()
            return False

        wait_for(self._unless_gone(begun), f"{how} failover", seconds, PAUSE)
        self.wait_promoted(replica, old, seconds, elected=how != "takeover")

    def wait_promoted(self, replica, old, seconds=LIMIT, elected=True):
        """Wait until every living node sees that one as a primary with slots, and the rest of old's
        living replicas, and old if it lives, are linked to it."""

        def promoted():
            views = {node: node.view() for node in self.alive()}
            seen = [view[replica.id] for view in views.values()]
            if not all(one.is_primary and one.slots for one in seen):
                return False
            primary_of = {node: view[node.id].primary for node, view in views.items()}
            return all(
                primary != old.id
                and (primary == replica.id or node is not old)
                and (primary != replica.id or node.linked())
                for node, primary in primary_of.items()
            )

        wait_for(self._unless_gone(promoted), "the promotion", seconds, PAUSE)
        if elected:
            replica.elected = time.monotonic()

    def add_shard(self, replicas=1):
        """A new primary without slots, and its replicas: all of them, the primary first."""
        new = [self._start() for _ in range(1 + replicas)]
        for node in new:
            for other in self.alive():
                if other is not node:
                    self._introduce(other, node)
        for replica in new[1:]:
            self._attach(replica, new[0])
        self.wait_ok()
        return new

    def remove_shard(self, primary, move=None):
        """Move a shard's slots to the other primaries in equal parts (by `move`, else move_slots), stop
        its nodes, and make the others forget them."""
        targets = [node for node in self.primaries() if node is not primary]
        own = primary.view()[primary.id].slots
        slots = [slot for first, last in own for slot in range(first, last + 1)]
        for at, target in enumerate(targets):
            part = slots[len(slots) * at // len(targets) : len(slots) * (at + 1) // len(targets)]
            if part:
                (move or self.move_slots)(part, primary, target)
        gone = [*self.replicas_of(primary), primary]
        names = [node.id for node in gone]
        for node in gone:
            node.stop()
            self.nodes.remove(node)
            self.fleet.discard(node)
        for node in self.alive():
            for name in names:
                with suppress(ReplyError):  # newer servers tell one another of it
                    node.ask("CLUSTER", "FORGET", name)
        self.wait_ok()

    # --- slots ---------------------------------------------------------------------------------
    def begin_move(self, slot, source, target):
        """From now on source answers ASK for what it has not, and target takes it."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot, source, target, count=1):
        """MIGRATE the keys of a slot, `count` in a command, until source has none: how many."""
        moved = 0
        with closing(Connection(source.port, timeout=LIMIT)) as connection:
            while keys := connection("CLUSTER", "GETKEYSINSLOT", slot, 100):
                for at in range(0, len(keys), count):
                    part = keys[at : at + count]
                    connection("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", *part)
                    moved += len(part)
        return moved

    def end_move(self, slot, source, target):
        """The slot is target's."""
        first = [target, source]
        for node in first + [node for node in self.primaries() if node not in first]:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def move_slots(self, slots, source, target, count=1):
        """Move slots the classic way: IMPORTING, MIGRATING, the keys (`count` in a MIGRATE), NODE."""
        for slot in slots:
            self.begin_move(slot, source, target)
            self.move_keys(slot, source, target, count)
            self.end_move(slot, source, target)
        self.wait_owned(slots, target)

    def wait_owned(self, slots, owner, seconds=LIMIT):
        """Wait until every living node sees these slots as that node's."""

        def agreed():
            return all(
                all(view[owner.id].owns(slot) for slot in slots)
                for view in [node.view() for node in self.alive()]
            )

        wait_for(self._unless_gone(agreed), "the slots' new owner", seconds, PAUSE)

    def _has(self, subcommand):
        return self.alive()[0].ask("COMMAND", "INFO", f"cluster|{subcommand}")[0] is not None

    @property
    def has_atomic_migration(self):
        """Whether the engine moves slots in one go: Redis 8.4 and Valkey 9, each in its own way."""
        return self._has("migration") or self._has("migrateslots")

    def move_slots_atomically(self, slots, source, target, seconds=LIMIT):
        """Move slots in one go, to the end."""
        flat = ranges(slots)
        if self._has("migration"):
            task = target.ask("CLUSTER", "MIGRATION", "IMPORT", *flat)

            def state():
                return fields(target.ask("CLUSTER", "MIGRATION", "STATUS", "ID", task)[0])

        else:
            pairs = [str(slot) for slot in flat]
            source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *pairs, "NODE", target.id)

            def state():
                return fields(source.ask("CLUSTER", "GETSLOTMIGRATIONS")[0])

        def ended():
            found = state()
            assert found["state"] not in (b"failed", b"cancelled", b"canceled"), found
            return found["state"] in (b"completed", b"success")

        wait_for(ended, "the migration", seconds, PAUSE)
        self.wait_owned(slots, target)
