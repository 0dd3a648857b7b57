"""The wire by hand: exact replies, malformed input, push messages, and transcripts.

redis-py turns replies into what it thinks a user wants; a test of a protocol needs them as they
came. A reply is: Simple (status), bytes (bulk), int, float, bool, None, list, dict (RESP3 map),
Push (RESP3), or ReplyError: raised by Connection.__call__, returned by Connection.read.
"""

import socket


class ReplyError(Exception):
    """An error reply; str() is its text, starting with the code."""


class Simple(bytes):
    """A status reply such as +OK; equal to the bytes of the same text."""


class Push(list):
    """A RESP3 push message, such as an invalidation of CLIENT TRACKING."""


def as_bytes(arg):
    """An argument as it is sent: str as UTF-8, numbers as their text."""
    return arg if isinstance(arg, bytes) else str(arg).encode()


def encode(*args):
    """One command as RESP."""
    parts = [b"*%d\r\n" % len(args)]
    for data in map(as_bytes, args):
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Connection:
    """One client connection. Calling it sends a command and returns (or raises) its reply."""

    def __init__(self, port, protocol=2, db=0, timeout=60.0):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = self.sock.makefile("rb")
        self.pushed = []
        if protocol != 2:
            self("HELLO", protocol)
        if db:
            self("SELECT", db)

    def __call__(self, *args):
        self.send(*args)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def send(self, *args):
        """Send a command without waiting for the reply."""
        self.raw(encode(*args))

    def raw(self, data):
        """Send bytes as they are, RESP or not."""
        self.sock.sendall(data)

    def pipeline(self, commands):
        """Send many commands in chunks; the replies in order, errors as ReplyError objects."""
        replies, chunk = [], 500
        for at in range(0, len(commands), chunk):
            part = commands[at : at + chunk]
            self.raw(b"".join(encode(*command) for command in part))
            replies += [self.read() for _ in part]
        return replies

    def read(self):
        """The next reply; push messages that come before it are kept in .pushed."""
        while True:
            reply = self._one()
            if not isinstance(reply, Push):
                return reply
            self.pushed.append(reply)

    def push(self, timeout=10.0):
        """The next push message, those kept by read() first."""
        if self.pushed:
            return self.pushed.pop(0)
        before = self.sock.gettimeout()
        self.sock.settimeout(timeout)
        try:
            message = self._one()
        finally:
            self.sock.settimeout(before)
        assert isinstance(message, Push), f"expected a push message, got {message!r}"
        return message

    def close(self):
        """Close the socket."""
        self.buffer.close()
        self.sock.close()

    def _line(self):
        line = self.buffer.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        return line[:1], line[1:-2]

    def _bulk(self, length):
        data = self.buffer.read(length + 2)
        if len(data) != length + 2 or data[-2:] != b"\r\n":
            raise ConnectionError("the server closed the connection within a reply")
        return data[:-2]

    def _one(self):
        kind, rest = self._line()
        if kind == b"+":
            return Simple(rest)
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b"!":
            return ReplyError(self._bulk(int(rest)).decode(errors="replace"))
        if kind in b":(":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._bulk(int(rest))
        if kind == b"=":
            return self._bulk(int(rest))[4:]
        if kind in b"*~":
            return None if rest == b"-1" else [self._one() for _ in range(int(rest))]
        if kind == b">":
            return Push(self._one() for _ in range(int(rest)))
        if kind == b"%":
            return {self._one(): self._one() for _ in range(int(rest))}
        if kind == b"|":  # attributes: nothing of ours, read past them
            for _ in range(2 * int(rest)):
                self._one()
            return self._one()
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        raise AssertionError(f"no RESP: {kind + rest!r}")


def fields(reply):
    """A map reply as a dict with str names, whether it came as RESP3 map or RESP2 flat array."""
    if reply is None:
        return None
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}
