"""Hash slots that move between two primaries of a cluster, by each way there is."""

import itertools

from .server import wait_for

_TAGGED = itertools.count()


def classic(cluster, slots, source, target):
    """Key by key."""
    cluster.move_slots(slots, source, target)


def atomic(cluster, slots, source, target):
    """In one go, until the source has nothing of them: Redis trims it afterwards, Valkey deletes it."""
    cluster.move_slots_atomically(slots, source, target)
    wait_for(lambda: not any(source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots), "the trim")


def gossip(cluster, slots, source, target):
    """Claimed by the target with a newer epoch; the source hears of it, and deletes its keys."""
    for slot in slots:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        target.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    cluster.wait_owned(slots, target)


WAYS = {"classic": classic, "atomic": atomic, "gossip": gossip}


class Moved:
    """A hash tag's slot, and the nodes that it moves between."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.tag = f"{{m{next(_TAGGED)}}}"
        self.a, self.b = f"a{self.tag}", f"b{self.tag}"  # tags that nobody has invalidated
        self.slot = cluster.slot(self.tag)
        self.source = cluster.node_of(self.tag)
        self.target = next(node for node in cluster.primaries() if node is not self.source)

    def key(self, name):
        """A key in the slot."""
        return f"{self.tag}{name}"

    def go(self, move):
        """Move it."""
        move(self.cluster, [self.slot], self.source, self.target)
        return self.target

    def elsewhere(self):
        """A key of the source's in another slot."""
        names = (f"elsewhere:{n}" for n in itertools.count())
        return next(key for key in names if self.cluster.node_of(key) is self.source)
