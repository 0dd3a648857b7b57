"""Tags seen through the commands: iterations to their end, the sweep awaited, the clock's servers."""

from .sample import meta
from .server import wait_for

DEBUG = ("debug", "yes")  # the module's arguments with which CACHE.DEBUG is there


def tags_of(server, key):
    """The tags that META names, sorted; None for no entry."""
    found = meta(server, key)
    return found and sorted(found["tags"])


def all_tags(connection, *options):
    """CACHE.TAGS from 0 to 0: tag to number of entries. A tag that is told twice must agree."""
    found, cursor = {}, b"0"
    while True:
        cursor, flat = connection("CACHE.TAGS", cursor, *options)
        for tag, entries in zip(flat[::2], flat[1::2], strict=True):
            assert found.setdefault(tag, entries) == entries
        if cursor == b"0":
            return found


def keys_of(connection, tag, *options):
    """CACHE.KEYS from 0 to 0, sorted."""
    found, cursor = set(), b"0"
    while True:
        cursor, keys = connection("CACHE.KEYS", tag, cursor, *options)
        found.update(keys)
        if cursor == b"0":
            return sorted(found)


def hold(server):
    """Hold the sweep: what is dead stays where it is. Needs module_args=DEBUG."""
    assert server("CACHE.DEBUG", "SWEEP", 0) == b"OK"


def let_go(server):
    """Let the sweep go on, to its end."""
    assert server("CACHE.DEBUG", "SWEEP", 1) == b"OK"
    await_sweep(server)


def await_sweep(server):
    """Wait until nothing is left to sweep; without the module there is nothing."""
    queued = "cacheflow_sweep_queued"
    wait_for(lambda: server.info("cacheflow_sweep").get(queued, "0") == "0", "the sweep", 60)


def turn_clock(server, ms):
    """The module's clock is so far from the system's from now on. Needs module_args=DEBUG."""
    assert server("CACHE.DEBUG", "CLOCK", ms) == b"OK"


def figure(server, name, section="cacheflow_memory"):
    """A number of the module's INFO."""
    return int(server.info(section)[f"cacheflow_{name}"])
