"""What tests of a cluster under load have in common: the run with its judgement, and what they do to
nodes."""

import time
from contextlib import closing

from .history import Read
from .resp import Connection, ReplyError
from .workload import version_in

PERMITTED = 3.0  # seconds after a promotion or a restart in which stale reads may be


def configure(cluster, name, value):
    """CONFIG SET on every node."""
    for node in cluster.alive():
        node.ask("CONFIG", "SET", name, value)


def min_replicas(cluster, count):
    """How many replicas must have an invalidation."""
    configure(cluster, "cacheflow.invalidate-min-replicas", count)


def run(load, seconds, nemesis=None, used=(), **options):
    """Load, judge, and compare what the nodes hold. The report."""
    load.run(seconds, nemesis, **options)
    report = load.settle()
    print(f"\n{report}")
    report.assert_never_stale()
    report.assert_used("hits", "fills", "refused", "acknowledged", *used)
    load.assert_well()
    return report


def others(cluster, node):
    """All nodes but one: whom invalidations are sent to that are to be sent again after its death."""
    return [other for other in cluster.nodes if other is not node]


def kill(cluster, load, victim):
    """kill -9: what it was asked for and could not finish it sends nobody any more."""
    cluster.kill(victim)
    load.history.forgetful.add(victim.port)


def promoted_at(load, heir, victim, watched=0.5):
    """Read the keys of a primary from its replica, all at once, until it has taken its place and for
    some time longer: nobody sees sooner what it lacks. When it began to serve."""
    own = load.keys_of(victim)
    asked = [("CACHE.GET", key) for _, key in own]
    until = begun = time.monotonic() + 60
    with closing(Connection(heir.port, timeout=60)) as ask:
        while time.monotonic() < until:
            start = time.monotonic()
            for (row, key), reply in zip(own, ask.pipeline(asked), strict=True):
                if not isinstance(reply, ReplyError):
                    note_read(load, row, key, start, reply, heir)
                    if begun > start:
                        begun, until = start, start + watched
            time.sleep(0.0005)
    assert begun < until, "waited in vain for the promotion"
    load.history.event(f"{heir.port} began to serve {time.monotonic() - begun:.3f} s ago")
    return begun


def note_read(load, row, key, start, reply, node):
    """Record a read of this very node; whether there was a value."""
    version = version_in(reply) if isinstance(reply, bytes) else reply and str(reply)
    load.history.reads.append(Read(row, key, start, time.monotonic(), version, "GET direct", node.port))
    return isinstance(version, int)
