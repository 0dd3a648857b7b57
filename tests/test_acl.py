"""Who may do what: key patterns bind every command, and the categories say what a command is."""

import pytest

from harness.resp import ReplyError
from harness.sample import prepare

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
    "CACHE.META": ([], ANY),  # as TTL and TYPE: it shows nothing of the value
    "CACHE.APPLY": ([0, b"\x01\x00\x01", "v"], WRITE),
}
MULTI_KEY = ["CACHE.MGET", "CACHE.DEL", "CACHE.STALE"]
KEYLESS = {"cache.verify"}  # operators' commands
READERS = {"cache.get", "cache.mget", "cache.meta"}


def user(server, *rules):
    """A connection of a new user with these rules."""
    server("ACL", "SETUSER", "tester", "reset", "on", "nopass", "+@all", *rules)
    connection = server.connect()
    connection("AUTH", "tester", "any")
    return connection


def allowed(connection, *request):
    """Whether the user may: another error than NOPERM is an answer too."""
    connection.send(*request)
    reply = connection.read()
    return not (isinstance(reply, ReplyError) and str(reply).startswith("NOPERM"))


def module_commands(server):
    """What the module has registered."""
    return {name.decode() for name in server("COMMAND", "LIST", "FILTERBY", "MODULE", "cacheflow")}


def test_every_command_is_tested_here(server):
    assert module_commands(server) == {name.lower() for name in COMMANDS} | KEYLESS


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
    for command in ("SET", "TOUCH", "DEL", "STALE", "INCRBY", "APPLY"):
        arguments, _ = COMMANDS[f"CACHE.{command}"]
        assert not allowed(reader, f"CACHE.{command}", "n", *arguments), command
    assert server("CACHE.GET", "n") == b"5"


def test_a_writer_learns_no_value(server):
    prepare(server)
    writer = user(server, "%W~*")
    assert writer("CACHE.SET", "k", "w") == b"OK" and writer("CACHE.DEL", "native") == 1
    for request in (("GET", "k"), ("GET", "k", "STALE"), ("MGET", "k"), ("INCRBY", "n", 0)):
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
    request = ("CACHE.SET", "k", "v", "NX", "EX", 5, "GRACE", 6, "COST", 7)
    assert server("COMMAND", "GETKEYS", *request) == [b"k"]
    assert server("COMMAND", "GETKEYS", "CACHE.GET", "k", "STALE") == [b"k"]


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


def test_categories(server):
    names = module_commands(server)
    found = {name: category(server, name) for name in ("read", "write", "fast", "slow", "dangerous", "admin")}
    if not has_categories(server):
        assert not any(found.values()), "Redis 7.0 puts no module command into a category"
        return
    assert found["read"] == READERS
    assert found["write"] == names - READERS
    assert found["fast"] == names
    assert found["dangerous"] == {"cache.apply"} | KEYLESS
    assert found["admin"] == found["slow"] == set()


def test_a_user_by_categories(server):
    prepare(server)
    reader = user(server, "~*", "-@all", "+@read")
    careful = user(server, "~*", "-@dangerous")
    categories = has_categories(server)
    server("ACL", "SETUSER", "tester", "-@all", "+@read")
    for command, (arguments, _) in COMMANDS.items():
        reads = command.lower() in READERS
        assert allowed(reader, command, "n", *arguments) is (categories and reads), command
    server("ACL", "SETUSER", "tester", "+@all", "-@dangerous")
    assert allowed(careful, "CACHE.SET", "k", "v")
    assert allowed(careful, "CACHE.APPLY", "k", 0, b"\x01\x00\x01", "v") is not categories
