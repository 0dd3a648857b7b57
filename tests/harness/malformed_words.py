"""What is none: numbers, times, lengths; and what the server says of it."""

SYNTAX = "ERR syntax error"
NUMBER = "ERR value is not an integer or out of range"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
OVERFLOW = "ERR increment or decrement would overflow"
PAYLOAD = "ERR refused payload: "
CURSOR = "ERR invalid cursor"
STATE = "ERR refused state: "
TIME = "ERR invalid expire time in '{}' command"
ARITY = "ERR wrong number of arguments for '{}' command"

I64_MAX = 2**63 - 1
LAST_TIME = 2**48 - 2  # ms: the last that an entry carries (src/core/units.rs)
LIMIT = 1000  # cacheflow.max-value-size in these tests

NO_INTEGERS = [
    b"x",
    b"",
    b" 1",
    b"1 ",
    b"+1",
    b"01",
    b"-0",
    b"1.5",
    b"1e3",
    b"0x10",
    b"NaN",
    b"inf",
    b"1\x00",
]
NO_INTEGERS += [b"9223372036854775808", b"-9223372036854775809", b"9" * 400, b"1\r\n", "\u0661".encode()]
# What is no natural number, where one that takes 64 bits is one.
NO_COUNTS = [text for text in NO_INTEGERS if text != b"9223372036854775808"] + [-1, -5]
RESERVED = "ERR names that begin with cacheflow.companion-prefix are reserved for companions of native keys"
NATIVE = ("native", "list", "hash", "set", "zset", "stream")
NO_TIMES = [0, -1, -(2**63), I64_MAX]


def times(command, words_of, ok=()):
    """Requests with a time that is none, for `command` with `words_of(word, text)` behind it."""
    for word in ("EX", "PX", "EXAT", "PXAT", "ex", "pXaT"):
        yield from ((words_of(word, text), NUMBER) for text in NO_INTEGERS)
        yield from ((words_of(word, n), TIME.format(command)) for n in NO_TIMES)
    # One past the last that can be carried, by itself or added to now.
    yield words_of("PXAT", LAST_TIME + 1), TIME.format(command)
    yield words_of("EXAT", LAST_TIME // 1000 + 1), TIME.format(command)
    yield words_of("PX", LAST_TIME), TIME.format(command)
    yield words_of("EX", LAST_TIME // 1000), TIME.format(command)
    yield from bounds(command, words_of)
    for word in ("GRACE", "PGRACE"):
        yield from (([*words_of(word, text), "EX", 1], NUMBER) for text in NO_INTEGERS)
        yield from (([*words_of(word, n), "EX", 1], TIME.format(command)) for n in (-1, -(2**63), I64_MAX))
        yield ["EX", 1, word, LAST_TIME], TIME.format(command)


def bounds(command, words_of):
    """EXAUTO with bounds that are none."""
    yield [*words_of("EXAUTO", 5)], SYNTAX
    for options in (["EX", 1], ["EXAUTO", 5, 60], ["PXAT", 5]):
        yield [*words_of("EXAUTO", 5), 60, *options], SYNTAX
        yield [*options, *words_of("EXAUTO", 5), 60], SYNTAX
    for text in NO_INTEGERS:
        yield [*words_of("exauto", text), 60], NUMBER
        yield [*words_of("EXAUTO", 5), text], NUMBER
    for least, most in (
        (0, 60),
        (5, 0),
        (-1, 60),
        (5, -1),
        (61, 60),
        (5, 2**32),
        (2**32, 2**32),
        (1, I64_MAX),
    ):
        yield [*words_of("EXAUTO", least), most], TIME.format(command)
    yield [*words_of("EXAUTO", 1), 60, "GRACE", LAST_TIME // 1000], TIME.format(command)
