"""Who may do what: key patterns bind every command that takes keys, channel permissions bind
invalidations, and the categories say what a command is."""

import pytest

from harness.dataset import digest
from harness.resp import ReplyError, fields
from harness.sample import BINARY, prepare

pytestmark = pytest.mark.topology("single")

# A call of each command on the key it is given, and what it needs of it.
READ, WRITE, ANY = "R", "W", ""
COMMANDS = {
    "CACHE.GET": ([], READ),
    "CACHE.MGET": ([], READ),
    "CACHE.SET": (["w"], WRITE),
    "CACHE.TOUCH": ([], WRITE),
    "CACHE.DEL": ([], WRITE),
    "CACHE.STALE": ([], WRITE),
    "CACHE.INCRBY": ([1], READ + WRITE),
    "CACHE.TAG": (["one", "three"], WRITE),
    "CACHE.UNTAG": (["one"], WRITE),
    "CACHE.META": ([], ANY),  # as TTL and TYPE: it shows nothing of the value
    "CACHE.APPLY": ([0, b"\x01\x00\x01", "v"], WRITE),
    "CACHE.FETCH": (["LEASE", 1000, "WITHTAGS"], READ),  # that it may grant a lease changes no key
    "CACHE.LOCK": ([1000], WRITE),
    "CACHE.UNLOCK": ([5], WRITE),
    "CACHE.EXTEND": ([5, 1000], WRITE),
    "CACHE.APPLYLOCK": ([5, 0, 0], WRITE),
}
MULTI_KEY = ["CACHE.MGET", "CACHE.DEL", "CACHE.STALE"]
# They take no keys: those that show or change any key are for operators; INVALIDATE is bound by
# channels, below; STATS and what is set for namespaces tell of no key.
OPERATORS = {
    "CACHE.VERIFY": [],
    "CACHE.TAGS": [0],
    "CACHE.KEYS": ["one", 0],
    "CACHE.LOG": [],
    "CACHE.HOTKEYS": [],
    "CACHE.METRICS": [],
    "CACHE.REFRESH": [],
    "CACHE.APPLYSTATE": [b"\x80"],
    "CACHE.NAMESPACE|SET": ["one"],
    "CACHE.NAMESPACE|DEL": ["one"],
}
CHANNELS = {"CACHE.INVALIDATE": ["TAGS", "one"], "CACHE.INVALIDATED": [5, "HARD", "TAGS", "one"]}
FOR_ALL = {"CACHE.STATS": [], "CACHE.NAMESPACE|GET": ["one"], "CACHE.NAMESPACE|LIST": []}
KEYLESS = {**OPERATORS, **CHANNELS, **FOR_ALL}
CONTAINERS = {"cache.namespace"}
READERS = {"cache.get", "cache.mget", "cache.meta", "cache.fetch"}
BLOCKING = {"cache.fetch", "cache.lock", "cache.refresh"}
KEYLESS_READERS = {
    f"cache.{name}" for name in "tags keys log stats metrics hotkeys refresh namespace|list".split()
}
FAST_KEYLESS_READERS = {"cache.namespace|get"}


def user(server, *rules):
    """A connection of a new user with these rules."""
    server("ACL", "SETUSER", "tester", "reset", "on", "nopass", "+@all", *rules)
    connection = server.connect()
    connection("AUTH", "tester", "any")
    return connection


def allowed(connection, *request):
    """Whether the user may: another error than NOPERM is an answer too. COMMAND's names of subcommands
    will do."""
    name, *arguments = request
    connection.send(*name.split("|"), *arguments)
    reply = connection.read()
    return not (isinstance(reply, ReplyError) and str(reply).startswith("NOPERM"))


def module_commands(server):
    """What the module has registered."""
    return {name.decode() for name in server("COMMAND", "LIST", "FILTERBY", "MODULE", "cacheflow")}


def test_every_command_is_tested_here(server):
    assert module_commands(server) == {name.lower() for name in (*COMMANDS, *KEYLESS, *CONTAINERS)}


# --- key patterns ----------------------------------------------------------------------------------
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("pattern", ["%R~n*", "%W~n*", "%RW~n*", "~n*", "%R~other*", ""])
def test_key_patterns_bind_every_command(server, command, pattern):
    prepare(server)
    arguments, needs = COMMANDS[command]
    connection = user(server, *([pattern] if pattern else []))
    has = {"%R": READ, "%W": WRITE}.get(pattern[:2], READ + WRITE if pattern else "")
    if pattern.startswith("%RW"):
        has = READ + WRITE
    matches = pattern.endswith("~n*")
    assert allowed(connection, command, "n", *arguments) is (matches and set(needs) <= set(has))
    assert not allowed(connection, command, "k", *arguments), "a key that no pattern allows"
    assert server("CACHE.GET", "k") == b"v"


@pytest.mark.parametrize("command", MULTI_KEY)
def test_one_forbidden_key_among_many_forbids_all(server, command):
    prepare(server)
    connection = user(server, "~n*")
    assert not allowed(connection, command, "n", "native", "k")
    assert not allowed(connection, command, "k", "n")
    assert server("CACHE.GET", "n") == b"5" and server("EXISTS", "k", "n", "native") == 3
    assert allowed(connection, command, "n", "native")


@pytest.mark.parametrize("command", COMMANDS)
def test_patterns_bind_in_transactions_and_scripts(server, command):
    prepare(server)
    arguments, _ = COMMANDS[command]
    connection = user(server, "~n*")
    connection("MULTI")
    assert not allowed(connection, command, "k", *arguments)
    connection.send("EXEC")
    assert str(connection.read()).startswith("EXECABORT")
    connection.send("EVAL", "return redis.call(unpack(ARGV))", 0, command, "k", *arguments)
    reply = connection.read()
    assert isinstance(reply, ReplyError) and server("CACHE.GET", "k") == b"v"


def test_a_reader_reads_and_changes_nothing(server):
    prepare(server)
    reader = user(server, "%R~*")
    assert reader("CACHE.GET", "k") == b"v" and reader("CACHE.GET", "stale", "STALE") == b"v"
    assert reader("CACHE.MGET", "k", "native") == [b"v", b"x"] and reader("CACHE.META", "k")
    assert reader("CACHE.FETCH", "k")[:2] == [b"FRESH", b"v"]
    state, value, token, _ = reader("CACHE.FETCH", "stale")
    assert (state, value) == (b"STALE", b"v") and token, "he is told to compute what he may not store"
    for command in sorted(name.partition(".")[2] for name, (_, needs) in COMMANDS.items() if WRITE in needs):
        arguments, _ = COMMANDS[f"CACHE.{command}"]
        assert not allowed(reader, f"CACHE.{command}", "n", *arguments), command
    assert server("CACHE.GET", "n") == b"5"


def test_a_writer_learns_no_value(server):
    prepare(server)
    writer = user(server, "%W~*")
    assert writer("CACHE.SET", "k", "w") == b"OK" and writer("CACHE.DEL", "native") == 1
    token = writer("CACHE.LOCK", "k", 1000)
    assert writer("CACHE.EXTEND", "k", token, 1000) == writer("CACHE.UNLOCK", "k", token) == 1
    for request in (("GET", "k"), ("GET", "k", "STALE"), ("MGET", "k"), ("INCRBY", "n", 0), ("FETCH", "k")):
        assert not allowed(writer, f"CACHE.{request[0]}", *request[1:]), request


def test_commands_can_be_given_and_taken_one_by_one(server):
    prepare(server)
    connection = user(server, "~*", "-@all", "+cache.get", "+cache.del")
    for command, (arguments, _) in COMMANDS.items():
        given = command in ("CACHE.GET", "CACHE.DEL")
        assert allowed(connection, command, "k", *arguments) is given, command
    connection = user(server, "~*", "-cache.set", "-cache.apply")
    assert not allowed(connection, "CACHE.SET", "k", "v")
    assert not allowed(connection, "CACHE.APPLY", "k", 0, b"\x01\x00\x01", "v")
    assert server("EXISTS", "k") == 0, "deleted above, and not written since"


def test_what_the_module_calls_gives_a_user_nothing_he_has_not(server):
    """GET, UNLINK, TYPE and MEMORY are called on the key of the command and on no other."""
    prepare(server)
    connection = user(server, "~n*", "-get", "-unlink", "-type", "-memory")
    assert connection("CACHE.GET", "native") == b"x"
    assert connection("CACHE.DEL", "native") == 1
    for request in (
        ("CACHE.GET", "k"),
        ("CACHE.DEL", "k"),
        ("CACHE.META", "k"),
        ("GET", "n"),
        ("UNLINK", "n"),
    ):
        assert not allowed(connection, *request), request


# --- key specs -------------------------------------------------------------------------------------
def info_of(server, command):
    """COMMAND INFO as a dict of what matters here."""
    _, arity, flags, first, last, step, _, tips, specs, _ = server("COMMAND", "INFO", command)[0]
    return {"arity": arity, "flags": set(flags), "range": (first, last, step), "tips": tips, "specs": specs}


@pytest.mark.parametrize("command", COMMANDS)
def test_keys_are_found_in_every_command(server, command):
    arguments, _ = COMMANDS[command]
    keys = [b"k", b"n"] if command in MULTI_KEY else [b"k"]
    assert server("COMMAND", "GETKEYS", command, *keys, *arguments) == keys
    flags = server("COMMAND", "GETKEYSANDFLAGS", command, *keys, *arguments)
    assert [name for name, _ in flags] == keys
    about = info_of(server, command)
    assert len(about["specs"]) == 1
    assert about["range"] == ((1, -1, 1) if command in MULTI_KEY else (1, 1, 1))


@pytest.mark.parametrize("command", COMMANDS)
def test_key_flags_agree_with_the_commands_flags(server, command):
    about = info_of(server, command)
    ((key, found),) = server("COMMAND", "GETKEYSANDFLAGS", command, "k", *COMMANDS[command][0])
    found = {flag.decode() for flag in found}
    assert key == b"k"
    _, needs = COMMANDS[command]
    assert ("access" in found) is (READ in needs)
    assert bool(found & {"insert", "update", "delete"}) is (WRITE in needs)
    reader = command.lower() in READERS
    assert ("RO" in found) is reader
    assert (b"readonly" in about["flags"]) is reader and (b"write" in about["flags"]) is not reader


def test_options_are_no_keys(server):
    request = ("CACHE.SET", "k", "v", "NX", "EX", 5, "GRACE", 6, "COST", 7, "TAGS", "a", "k", "TAGS")
    assert server("COMMAND", "GETKEYS", *request) == [b"k"]
    assert server("COMMAND", "GETKEYS", "CACHE.GET", "k", "STALE") == [b"k"]
    request = ("CACHE.FETCH", "k", "LEASE", 5, "KEEP", "BLOCK", 6, "MAXSTALE", 7, "BETA", 1, "WITHTAGS")
    assert server("COMMAND", "GETKEYS", *request) == [b"k"]
    assert server("COMMAND", "GETKEYS", "CACHE.LOCK", "k", 5, "BLOCK", 6) == [b"k"]
    assert server("COMMAND", "GETKEYS", "CACHE.UNLOCK", "k", 5, "RETRY", 6) == [b"k"]
    assert server("COMMAND", "GETKEYS", "CACHE.TAG", "k", "a", "b") == [b"k"]
    for command, arguments in KEYLESS.items():
        words = [*command.split("|"), *arguments]
        error = server.error("COMMAND", "GETKEYS", *words, *([] if words[1:] else ["k"]))
        assert error == "ERR The command has no key arguments", command


# --- categories ------------------------------------------------------------------------------------
def has_categories(server):
    """Modules can put their commands into categories since Redis 7.2; Valkey always could."""
    name, *number = server.version
    return name == "valkey" or number >= [7, 2]


def category(server, name):
    """The module's commands in an ACL category. (ACL CAT of Redis 7.2 leaves modules' out.)"""
    names = sorted(module_commands(server))
    infos = zip(names, server("COMMAND", "INFO", *names), strict=True)
    return {command for command, info in infos if f"@{name}".encode() in info[6]}


CATEGORIES = ("read", "write", "fast", "slow", "blocking", "dangerous", "admin")


def test_categories(server):
    names = module_commands(server)
    found = {name: category(server, name) for name in CATEGORIES}
    if not has_categories(server):
        assert not any(found.values()), "Redis 7.0 puts no module command into a category"
        return
    names -= CONTAINERS
    operators = {name.lower() for name in OPERATORS}
    readers = READERS | KEYLESS_READERS | FAST_KEYLESS_READERS
    slow_writers = {"cache.namespace|set", "cache.namespace|del"}
    assert found["read"] == readers
    assert found["write"] == names - readers - {"cache.verify"}
    assert found["slow"] == KEYLESS_READERS | BLOCKING | slow_writers
    assert found["blocking"] == BLOCKING
    neither = {"cache.verify", "cache.applystate"}
    assert found["fast"] == names - KEYLESS_READERS - BLOCKING - slow_writers - neither
    assert found["admin"] == operators
    assert found["dangerous"] == operators | {"cache.apply", "cache.applylock", "cache.invalidated"}


def test_a_user_by_categories(server):
    prepare(server)
    reader = user(server, "~*", "-@all", "+@read")
    careful = user(server, "~*", "-@dangerous")
    categories = has_categories(server)
    server("ACL", "SETUSER", "tester", "-@all", "+@read")
    for command, (arguments, _) in COMMANDS.items():
        reads = command.lower() in READERS
        assert allowed(reader, command, "n", *arguments) is (categories and reads), command
    for command, arguments in KEYLESS.items():
        reads = command.lower() in KEYLESS_READERS | FAST_KEYLESS_READERS
        assert allowed(reader, command, *arguments) is (categories and reads), command
    server("ACL", "SETUSER", "tester", "+@all", "-@dangerous")
    assert allowed(careful, "CACHE.SET", "k", "v")
    assert allowed(careful, "CACHE.APPLY", "k", 0, b"\x01\x00\x01", "v") is not categories
    assert allowed(careful, "CACHE.STATS", "NAMESPACE", "k")
    for command, arguments in FOR_ALL.items():
        assert allowed(careful, command, *arguments), command
    for command, arguments in OPERATORS.items():
        assert allowed(careful, command, *arguments) is not categories, command


# --- channels --------------------------------------------------------------------------------------
HOW = ["plain", "MULTI", "script", "script in MULTI", "function"]
FUNCTION = (
    "#!lua name=tests\nredis.register_function('ask', function(_, args) return redis.call(unpack(args)) end)"
)


def ask(connection, how, *request):
    """The reply to a request that is sent plainly, in a transaction, or by a script."""
    if "script" in how:
        request = ("EVAL", "return redis.call(unpack(ARGV))", 0, *request)
    elif how == "function":
        connection("FUNCTION", "LOAD", "REPLACE", FUNCTION)
        request = ("FCALL", "ask", 0, *request)
    if "MULTI" in how:
        assert connection("MULTI") == b"OK" and connection(*request) == b"QUEUED"
        return connection("EXEC")[0]
    connection.send(*request)
    return connection.read()


# What is invalidated, the channels permitted, and the first channel that is not.
FORBIDDEN = [
    (["TAGS", "two"], [], b"cache:two"),
    (["TAGS", "two"], ["&cache:one", "&two", "&cache:two?"], b"cache:two"),
    (["TAGS", "one", "two"], ["&cache:one"], b"cache:two"),
    (["TAGS", "two", "one"], ["&cache:one"], b"cache:two"),
    (["TAGS", "nobody", "one"], ["&cache:one"], b"cache:nobody"),
    (["TAGS", BINARY], ["&cache:o*"], b"cache:" + BINARY),
    (["TAGS", ""], ["&cache:one"], b"cache:"),
    (["TAGS", "@space"], ["&cache:space"], b"cache:@space"),
    (["NAMESPACE", "space"], ["&cache:space", "&cache:@spac"], b"cache:@space"),
    (["NAMESPACE", "", "space"], ["&cache:@"], b"cache:@space"),
]


@pytest.mark.parametrize(("what", "channels", "missing"), FORBIDDEN, ids=range(len(FORBIDDEN)))
@pytest.mark.parametrize("how", HOW)
def test_without_the_channel_nothing_is_invalidated(server, how, what, channels, missing):
    """All or nothing, and ACL LOG says who tried what."""
    prepare(server)
    listener = server.connect()
    listener("PSUBSCRIBE", "*")
    was = digest(server)
    for mode in ("HARD", "SOFT"):
        for request in (
            ("CACHE.INVALIDATE", *(["SOFT"] if mode == "SOFT" else []), *what),
            ("CACHE.INVALIDATED", 2**53 - 1, mode, *what),
        ):
            server("ACL", "LOG", "RESET")
            # Whatever keys and commands he may: they are no channels.
            reply = ask(user(server, "~*", *channels), how, *request)
            assert isinstance(reply, ReplyError) and str(reply).startswith("NOPERM"), reply
            assert missing.decode("latin-1") not in str(reply)
            (logged,) = map(fields, server("ACL", "LOG"))
            assert logged["reason"] == b"channel" and logged["username"] == b"tester"
            assert logged["object"] == missing
    assert digest(server) == was and server("CACHE.LOG") == []
    assert server("CACHE.MGET", "t", "space:t", "k") == [b"v"] * 3
    assert fields(server("CACHE.STATS"))["invalidations"] == 0
    server("PUBLISH", "end", "x")
    assert listener.read() == [b"pmessage", b"*", b"end", b"x"], "published by an error"


PERMITTED = [
    (["TAGS", "two"], ["&cache:two"], 2),
    (["TAGS", "one", "two"], ["&cache:one", "&cache:two"], 3),
    (["TAGS", "one", "two", "two"], ["&cache:*"], 3),
    (["TAGS", "one", "two"], ["allchannels"], 3),
    (["TAGS", BINARY, ""], ["&cache:?*", "&cache:"], 2),
    (["NAMESPACE", "space"], ["&cache:@space"], 1),
    (["NAMESPACE", "space", "none"], ["&cache:@*"], 1),
]


@pytest.mark.parametrize(("what", "channels", "hits"), PERMITTED, ids=range(len(PERMITTED)))
@pytest.mark.parametrize("how", HOW)
def test_the_channel_suffices(server, how, what, channels, hits):
    """No key pattern is needed: tags are no keys, and what an invalidation hits is not named in it."""
    prepare(server)
    server("ACL", "LOG", "RESET")
    tester = user(server, *channels)
    assert ask(tester, how, "CACHE.INVALIDATE", *what) == hits
    assert server("ACL", "LOG") == []
    logged = [fields(record) for record in server("CACHE.LOG")]
    assert {record["user"] for record in logged} == {b"tester"}
    # A script's client has no address, and Valkey 9.1 crashed when asked for it.
    address = "{}:{}".format(*tester.sock.getsockname()).encode()
    assert {record["client"] for record in logged} == {address if how in ("plain", "MULTI") else b""}
    prepare(server)
    assert ask(tester, how, "CACHE.INVALIDATE", "SOFT", *what) == hits
    prepare(server)
    assert ask(tester, how, "CACHE.INVALIDATED", 5, "HARD", *what) == hits, "an internal name for the same"
    assert not allowed(tester, "CACHE.GET", "t") and not allowed(tester, "CACHE.TAG", "t", "two")


def test_who_may_not_publish_at_all_may_still_invalidate(server):
    """And the other way round: the command's permission is another than the channel's."""
    prepare(server)
    assert allowed(user(server, "-publish", "&cache:one"), "CACHE.INVALIDATE", "TAGS", "one")
    assert not allowed(user(server, "-cache.invalidate", "allchannels"), "CACHE.INVALIDATE", "TAGS", "two")
    internal = ("CACHE.INVALIDATED", *CHANNELS["CACHE.INVALIDATED"])
    assert not allowed(user(server, "-cache.invalidated", "allchannels"), *internal)
    assert server("CACHE.GET", "t") is None and server("CACHE.GET", "space:t") == b"v"
