"""A network of one's own, in which nodes can be cut off from one another while clients reach them all.

`Network` gives the calling thread, its threads and its child processes a network namespace with
nothing but a loopback. In there each node of a `Scattered` cluster has an address of its own, from which
it talks and at which the others find it; clients come from 127.0.0.1. What goes from one node's address
to another's can be thrown away: a routing rule that the kernel looks at for each packet.

It needs the right to make namespaces (CAP_SYS_ADMIN) and `ip`; Forbidden says what was missing.
"""

import ctypes
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from .cluster import Cluster

CLONE_NEWNET = 0x40000000
NODES = "127.0.1.0/24"
_libc = ctypes.CDLL(None, use_errno=True)


class Forbidden(Exception):
    """This user, or this machine, cannot have a network namespace."""


def _ip(*args):
    found = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if found.returncode:
        raise Forbidden(f"ip {' '.join(args)}: {found.stderr.strip()}")


class Network:
    """Within it this thread, and what it starts, is in a network of its own."""

    def __enter__(self):
        self._old = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._cut = []
        try:
            self._make()
        except Forbidden:
            self.__exit__()
            raise
        return self

    def _make(self):
        if _libc.unshare(CLONE_NEWNET):
            raise Forbidden(f"unshare(CLONE_NEWNET): {os.strerror(ctypes.get_errno())}")
        try:
            _ip("link", "set", "lo", "up")
            # The table of local addresses comes first, before any rule could: behind ours with it. A
            # server that cannot connect from its own address tries another: not to a node's.
            _ip("rule", "add", "pref", "20", "from", NODES, "to", NODES, "table", "local")
            _ip("rule", "add", "pref", "30", "to", NODES, "blackhole")
            _ip("rule", "add", "pref", "100", "table", "local")
            _ip("rule", "del", "pref", "0")
        except FileNotFoundError as error:
            raise Forbidden("there is no ip") from error

    def __exit__(self, *_):
        _libc.setns(self._old, CLONE_NEWNET)
        os.close(self._old)

    def cut(self, some, others):
        """Nothing goes between these nodes and those, in either direction."""
        for one in some:
            for other in others:
                for source, target in ((one, other), (other, one)):
                    rule = ("pref", "10", "from", source.address, "to", target.address, "blackhole")
                    _ip("rule", "add", *rule)
                    self._cut.append(rule)

    def heal(self):
        """Everything goes everywhere again."""
        for rule in self._cut:
            _ip("rule", "del", *rule)
        self._cut = []


def is_allowed():
    """Whether this user can have a network of his own; tried, in a thread, which takes it along."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(_try).result()


def _try():
    try:
        with Network():
            return True
    except Forbidden:
        return False


class Scattered(Cluster):
    """A cluster whose nodes have addresses of their own."""

    def _start(self, kind=None):
        address, first = f"127.0.1.{len(self.nodes) + 1}", self._args
        self._args = (
            *first,
            *("--bind", "127.0.0.1", address),
            *("--protected-mode", "no"),  # there is nobody else in this network
            *("--bind-source-addr", address),
            *("--cluster-announce-ip", address),
        )
        try:
            node = super()._start(*[kind] * (kind is not None))
        finally:
            self._args = first
        node.address = address
        return node

    @staticmethod
    def _introduce(one, other):
        one.ask("CLUSTER", "MEET", other.address, other.port, other.bus_port)
