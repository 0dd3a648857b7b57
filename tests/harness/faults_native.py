"""Panics at the borders of native keys with tags: a function each, as in faults.py."""

from .native import companions
from .server import wait_for


def tagged(server, key, *expire):
    """A tagged native key."""
    assert server("SET", key, "v", *expire) == b"OK" and server("CACHE.TAG", key, "natives") == 1


def _command(server):
    """What COPY copies is not known: the copy has no tags."""
    tagged(server, "native")
    assert server("COPY", "native", "another") == 1
    assert server("CACHE.KEYS", "natives", 0)[1] == [b"native"]
    assert server("DEL", "native", "another") == 2
    assert server("CACHE.KEYS", "natives", 0)[1] == []


def _native_end_event(server):
    """That a key went is found out when somebody next walks by its companion."""
    tagged(server, "native", "PX", 20)
    wait_for(lambda: server("EXISTS", "native") == 0, "the key's end")
    wait_for(lambda: companions(server) == [], "the companion to go")


def _natives(server):
    """What was noted is done once it can be."""
    tagged(server, "native", "PX", 20)
    wait_for(lambda: server("EXISTS", "native") == 0, "the key's end")
    tagged(server, "native")
    assert server("DEL", "native") == 1
    wait_for(lambda: companions(server) == [], "both companions to go")


OF_NATIVES = (_command, _native_end_event, _natives)
