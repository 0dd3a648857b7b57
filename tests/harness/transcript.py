r"""Tests as transcripts: a line each, the request, `=>`, the reply.

    play(server, '''
        CACHE.SET k v EX 60     => OK
        CACHE.GET k             => "v"
        CACHE.MGET k "a\x00b"   => ["v", nil]
        PTTL k                  => 1..60000
        CACHE.INCRBY k one      => !ERR value is not an integer
    ''')

Requests are quoted as in redis-cli ("\x00", "\n", "\"" within double quotes). Replies: a bare word
or +text is a status, "text" a bulk string, a number an integer, a..b an integer within (ends
included), nil, [..] an array, !text an error that begins so, _ anything. Lines that are empty or
begin with # are skipped. The types are compared too: "OK" is not OK.
"""

import re

from .resp import ReplyError, Simple

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<bulk>"(?:[^"\\]|\\.)*")|(?P<range>-?\d+\.\.-?\d+)|(?P<int>-?\d+)(?![\w.])
      |(?P<error>!.*$)|(?P<punct>[\[\],])|(?P<word>\+?[A-Za-z_][\w-]*)
    )""",
    re.VERBOSE,
)
_ARG = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|(\S+))')
_ANY = object()


def _unquote(text):
    def escape(found):
        code = found.group(1)
        if code[0] == "x":
            return chr(int(code[1:], 16))
        return {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b"}.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|.)", escape, text[1:-1]).encode("latin-1")


def split(request):
    """A request line as its arguments."""
    return [_unquote(quoted) if quoted else bare.encode() for quoted, bare in _ARG.findall(request)]


class _Reply:
    """Parses the expected side once, by recursive descent."""

    def __init__(self, text):
        self.tokens, at = [], 0
        text = text.strip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            assert found, f"cannot read the expected reply {text!r} at {text[at:]!r}"
            self.tokens.append((found.lastgroup, found.group(found.lastgroup)))
            at = found.end()

    def parse(self):
        value = self._value()
        assert not self.tokens, f"left over in the expected reply: {self.tokens}"
        return value

    def _value(self):
        kind, text = self.tokens.pop(0)
        if kind == "bulk":
            return _unquote(text)
        if kind == "int":
            return int(text)
        if kind == "range":
            low, high = text.split("..")
            return range(int(low), int(high) + 1)
        if kind == "error":
            return ReplyError(text[1:].strip())
        if kind == "word":
            return {"nil": None, "_": _ANY}.get(text, Simple(text.lstrip("+").encode()))
        assert text == "[", f"unexpected {text!r}"
        items = []
        while self.tokens[0][1] != "]":
            items.append(self._value())
            if self.tokens[0][1] == ",":
                self.tokens.pop(0)
        self.tokens.pop(0)
        return items


def matches(expected, reply):
    """Whether a reply is the expected one, types included."""
    if expected is _ANY:
        return True
    if isinstance(expected, range):
        return isinstance(reply, int) and reply in expected
    if isinstance(expected, ReplyError):
        return isinstance(reply, ReplyError) and str(reply).startswith(str(expected))
    if isinstance(expected, list):
        return isinstance(reply, list) and len(expected) == len(reply) and all(map(matches, expected, reply))
    return type(expected) is type(reply) and expected == reply


def play(server, script, protocol=2):
    """Play a transcript on one connection of its own and compare every reply."""
    connection = server.connect(protocol=protocol)
    for line in script.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        request, arrow, text = line.partition(" => ")
        assert arrow, f"no ' => ' in {line!r}"
        expected = _Reply(text).parse()
        connection.send(*split(request))
        reply = connection.read()
        assert matches(expected, reply), f"{request.strip()}\n  expected {text.strip()}\n  got      {reply!r}"
