"""A client of a cluster with the interface of resp.Connection.

A command goes to the node that owns its first key (the server's own COMMAND INFO and COMMAND GETKEYS
say where a command has its keys, and the server says CROSSSLOT), one without keys to a home node that
the caller chooses. MOVED and ASK are followed; TRYAGAIN, CLUSTERDOWN, LOADING and refused connections
are tried again, for a bounded time, after which the error is the reply.

A connection that breaks after a command was sent raises ConnectionError: whether it was executed,
nobody knows. From WATCH or MULTI to EXEC all goes to one node, that of the watched key, else home;
`transaction` finds the node by its first key. Raw bytes and whatever arrives unasked are of the home
node. One thread at a time, like a Connection.
"""

import binascii
import itertools
import select
import socket
import time
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass, field

from .resp import Connection, ReplyError, as_bytes, encode

SLOTS = 16384
PATIENCE = 10.0  # seconds in which a redirected command must succeed
AGAIN = ("TRYAGAIN", "CLUSTERDOWN", "LOADING")
TURNS = ("MOVED", "ASK", *AGAIN)
PAUSE = 0.02


def slot_of(key):
    """The hash slot of a key: of what stands between the first { and the next }, if anything does."""
    key = as_bytes(key)
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS  # XMODEM's CRC16, as Redis has it


def beside(key, name):
    """A key that begins with a name and is in the slot of another key, whatever that is."""
    slot, name = slot_of(key), as_bytes(name)
    return next(found for n in itertools.count() if slot_of(found := b"%s%d" % (name, n)) == slot)


class Commands:
    """Where the commands of an engine have their first key. Asked once a command, over connections of
    its own, which disturb nothing."""

    def __init__(self):
        self._known = {}

    def first_key(self, port, args):
        """The first key of a command, None without one."""
        args = [as_bytes(arg) for arg in args]
        position = self._position(port, args)
        if position is not None:
            return args[position] if 0 < position < len(args) else None
        with closing(Connection(port)) as connection:
            try:
                keys = connection("COMMAND", "GETKEYS", *args)
            except ReplyError:  # no keys, or no valid command: the node says it better
                return None
            return keys[0] if keys else None

    def _position(self, port, args):
        """0 for no keys, None for ask."""
        name = args[0].lower()
        if name not in self._known:
            self._known[name] = self._ask(port, name)
        known = self._known[name]
        if isinstance(known, dict):
            return known.get(args[1].lower() if len(args) > 1 else b"", 0)
        return known

    def _ask(self, port, name):
        with closing(Connection(port)) as connection:
            entry = connection("COMMAND", "INFO", name)[0]
        if entry is None:
            return 0
        if len(entry) > 9 and entry[9]:
            return {sub[0].split(b"|")[1]: self._first(sub) for sub in entry[9]}
        return self._first(entry)

    @staticmethod
    def _first(entry):
        return None if b"movablekeys" in entry[2] else entry[3]


@dataclass
class _Sent:
    """A command whose reply is to come."""

    port: int
    connection: Connection
    args: tuple
    follow: bool  # its redirects
    early: list = field(default_factory=list)  # the reply, if it had to be read before its turn


class ClusterConnection:
    """One client of a cluster. Calling it sends a command and returns (or raises) its reply."""

    def __init__(self, home, protocol=2, db=0, timeout=60.0, seeds=(), commands=None, patience=PATIENCE):
        """Home and seeds are ports: where keyless commands go, and who else may know the slots."""
        self.home, self.seeds, self.patience = home, seeds, patience
        self._protocol, self._timeout = protocol, timeout
        self._commands = commands or Commands()
        self._owners = {}  # slot: port, as far as a redirect made us ask
        self._connections, self._pending = {}, deque()
        self._bound = None  # the port that has our WATCH or MULTI
        with suppress(OSError):  # a home that is down matters to those who talk to it
            self._at(home)
            if db:
                self("SELECT", db)

    # --- as a Connection has it ----------------------------------------------------------------
    def __call__(self, *args):
        self.send(*args)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def send(self, *args):
        """Send a command without waiting for the reply."""
        sent = self._routed(args)
        self._guarded(sent.port, sent.connection.send, *args)

    def pipeline(self, commands):
        """Send many commands in chunks; the replies in order, errors as ReplyError objects."""
        replies, chunk = [], 500
        for at in range(0, len(commands), chunk):
            part = commands[at : at + chunk]
            data = {}
            for command in part:
                data.setdefault(self._routed(command).port, []).append(encode(*command))
            for port, pieces in data.items():
                self._guarded(port, self._at(port).raw, b"".join(pieces))
            replies += [self.read() for _ in part]
        return replies

    def read(self):
        """The next reply, redirects followed; with none to come, what the home node sends."""
        if not self._pending:
            return self._at(self.home).read()
        sent = self._pending[0]
        reply = sent.early[0] if sent.early else self._guarded(sent.port, sent.connection.read)
        self._pending.popleft()
        if sent.follow and _is_turn(reply):
            return self._follow(reply, self._commands.first_key(self.home, sent.args), [sent.args])
        return reply

    def raw(self, data):
        """Send bytes to the home node as they are."""
        self._at(self.home).raw(data)

    def push(self, timeout=10.0):
        """The next push message of the home node."""
        return self._at(self.home).push(timeout)

    @property
    def pushed(self):
        """The push messages of the home node that read() kept."""
        return self._at(self.home).pushed

    @property
    def sock(self):
        """The socket from which the next reply comes."""
        return (self._pending[0].connection if self._pending else self._at(self.home)).sock

    def close(self):
        """Close the sockets and forget what was to come; the next command connects anew."""
        for port in list(self._connections):
            self._drop(port)

    # --- more than a Connection ----------------------------------------------------------------
    def transaction(self, *commands):
        """MULTI, the commands, EXEC at the node of the first key: EXEC's reply, redirects followed."""
        keys = (self._commands.first_key(self.home, command) for command in commands)
        key = next((key for key in keys if key is not None), None)
        reply = self._follow(None, key, [("MULTI",), *commands, ("EXEC",)])
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def owner(self, key):
        """The port of the node that owns a key, as this client believes; home for no key."""
        return self.home if key is None else self._owners.get(slot_of(key), self.home)

    def refresh(self):
        """Ask for the slots anew, whatever node answers."""
        for port in dict.fromkeys([*self._owners.values(), self.home, *self.seeds]):
            try:
                with closing(Connection(port, timeout=1.0)) as connection:
                    parts = connection("CLUSTER", "SLOTS")
            except (OSError, ReplyError):
                continue
            for begin, end, primary, *_ in parts:
                self._owners.update(dict.fromkeys(range(begin, end + 1), primary[1]))
            return

    # --- within --------------------------------------------------------------------------------
    def _at(self, port):
        """The connection to a port."""
        if port not in self._connections:
            self._connections[port] = Connection(port, self._protocol, timeout=self._timeout)
        return self._connections[port]

    def _reach(self, key, deadline):
        """The connection to a key's owner, once it accepts one."""
        while True:
            port = self.owner(key)
            self._drop_if_closed(port)
            try:
                return port, self._at(port)
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)
            self.refresh()

    def _routed(self, args):
        """Note a command that is about to be sent, and where to."""
        name = as_bytes(args[0]).upper()
        bound = self._bound
        if bound is None:
            key = self._commands.first_key(self.home, args)
            port, connection = self._reach(key, time.monotonic() + self.patience)
            if name in (b"WATCH", b"MULTI"):
                self._bound = port
        else:
            port, connection = bound, self._at(bound)
            if name in (b"EXEC", b"DISCARD", b"UNWATCH"):
                self._bound = None
        self._pending.append(_Sent(port, connection, args, follow=bound is None))
        return self._pending[-1]

    def _follow(self, turn, key, requests):
        """Send requests (a command, or a transaction) where a redirect says, or to the key's owner,
        until no reply is a redirect; the last reply."""
        deadline = time.monotonic() + self.patience
        while True:
            asked = turn and self._turned(turn)
            if asked:
                port, connection = asked, self._at(asked)
                requests_now = [("ASKING",), *requests]
            else:
                port, connection = self._reach(key, deadline)
                requests_now = requests
            for sent in self._pending:  # their replies come before ours
                if sent.connection is connection and not sent.early:
                    sent.early.append(self._guarded(port, connection.read))
            replies = self._guarded(port, connection.pipeline, requests_now)
            turn = next(filter(_is_turn, replies), None)
            if turn is None or time.monotonic() > deadline:
                return replies[-1]

    def _turned(self, turn):
        """Learn from a redirect. The port that is to be asked, None for whoever owns the key now."""
        code, *where = str(turn).split()
        if code in AGAIN:
            time.sleep(PAUSE)
            self.refresh()
            return None
        slot, port = int(where[0]), int(where[1].rpartition(":")[2])
        if code == "ASK":
            return port
        if self._owners.get(slot) != port:
            self.refresh()
            self._owners[slot] = port  # whoever answered may know less
        return None

    def _guarded(self, port, action, *args):
        """Do something with a port's connection; one that breaks is not used again."""
        try:
            return action(*args)
        except TimeoutError:
            raise  # the reply may still come
        except OSError:
            self._drop(port)
            raise

    def _drop_if_closed(self, port):
        """A node that ended since the last reply is none that may have executed what comes next."""
        connection = self._connections.get(port)
        if connection is None or any(sent.connection is connection for sent in self._pending):
            return
        poll = select.poll()  # select() takes no descriptor over 1023
        poll.register(connection.sock, select.POLLIN)
        if poll.poll(0) and not connection.sock.recv(1, socket.MSG_PEEK):
            self._drop(port)

    def _drop(self, port):
        connection = self._connections.pop(port, None)
        if connection is not None:
            connection.close()
        self._pending = deque(sent for sent in self._pending if sent.connection is not connection)
        if self._bound == port:
            self._bound = None


def _is_turn(reply):
    return isinstance(reply, ReplyError) and str(reply).partition(" ")[0] in TURNS
