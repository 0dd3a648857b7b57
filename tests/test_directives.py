"""cacheflow.* through CONFIG, redis.conf and the module's arguments, and redis.conf.example."""

import os
import re

import pytest

from harness.engines import ROOT
from harness.sample import meta

pytestmark = pytest.mark.topology("single")

EXAMPLE = os.path.join(ROOT, "redis.conf.example")
DEFAULTS = {"cacheflow.max-value-size": str(512 << 20), "cacheflow.namespace-delimiter": ":"}


def directives(server):
    """CONFIG GET cacheflow.* as a dict."""
    flat = [part.decode() for part in server("CONFIG", "GET", "cacheflow.*")]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def configured(fresh_server, lines, module_args=()):
    """A server started from a redis.conf with these lines at its end."""
    server = fresh_server(module_args=module_args)
    server.stop()
    with open(os.path.join(server.directory, "redis.conf"), "a", encoding="utf-8") as conf:
        conf.write("\n".join(lines) + "\n")
    return server.start()


def limit_in_effect(server):
    """The limit that CACHE.SET obeys, as its error tells it, given that it is small."""
    error = server.error("CACHE.SET", "k", "v" * 5_000_000)
    return int(re.search(r"max-value-size \((\d+)\)", error).group(1))


# --- CONFIG ----------------------------------------------------------------------------------------
def test_the_defaults(server):
    assert directives(server) == DEFAULTS
    server("CACHE.SET", "space:name/x", "v")
    assert meta(server, "space:name/x")["namespace"] == b"space"


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("1000", 1000), ("1k", 1000), ("1kb", 1024), ("512MB", 512 << 20)]
)
def test_set_the_limit(server, text, size):
    server.config("cacheflow.max-value-size", text)
    assert directives(server)["cacheflow.max-value-size"] == str(size)
    if size < 5_000_000:
        assert limit_in_effect(server) == size
        assert server("CACHE.SET", "k", "v" * size) == b"OK"


@pytest.mark.parametrize(
    "text", ["0", "-1", "513mb", "536870913", "", "x", "1tb", "1 mb", "18446744073709551617"]
)
def test_a_limit_that_is_none_is_refused_and_changes_nothing(server, text):
    server.config("cacheflow.max-value-size", "7")
    assert server.error("CONFIG", "SET", "cacheflow.max-value-size", text).startswith("ERR CONFIG SET failed")
    assert directives(server)["cacheflow.max-value-size"] == "7" and limit_in_effect(server) == 7


def test_a_refused_directive_takes_the_others_of_its_command_back(server):
    wrong = ("CONFIG", "SET", "cacheflow.max-value-size", 9, "maxmemory-policy", "nonsense")
    assert server.error(*wrong).startswith("ERR CONFIG SET failed")
    assert directives(server) == DEFAULTS


def test_the_delimiter_is_fixed_at_run_time(server):
    error = server.error("CONFIG", "SET", "cacheflow.namespace-delimiter", "/")
    assert "immutable" in error
    assert directives(server) == DEFAULTS
    server("CACHE.SET", "a:b/c", "v")
    assert meta(server, "a:b/c")["namespace"] == b"a"


def test_there_are_no_others(server):
    assert server.error("CONFIG", "SET", "cacheflow.bogus", 1).startswith("ERR Unknown option")
    assert server("CONFIG", "GET", "cacheflow.bogus") == []


def test_rewrite_and_restart(fresh_server):
    server = fresh_server(module_args=("namespace-delimiter", "/"))
    server.config("cacheflow.max-value-size", "3mb")
    assert server("CONFIG", "REWRITE") == b"OK"
    with open(os.path.join(server.directory, "redis.conf"), encoding="utf-8") as conf:
        text = conf.read()
    assert re.search(r"^cacheflow\.max-value-size (3mb|3145728)$", text, re.MULTILINE), text
    for _ in range(2):
        server.restart()
        assert directives(server) == {
            "cacheflow.max-value-size": str(3 << 20),
            "cacheflow.namespace-delimiter": "/",
        }
        assert limit_in_effect(server) == 3 << 20
        assert server("CONFIG", "REWRITE") == b"OK"


# --- who wins --------------------------------------------------------------------------------------
def test_module_arguments_over_defaults(fresh_server):
    server = fresh_server(module_args=("max-value-size", "1mb", "namespace-delimiter", "|"))
    assert limit_in_effect(server) == 1 << 20
    server("CACHE.SET", "a|b:c", "v")
    assert meta(server, "a|b:c")["namespace"] == b"a"


def test_the_last_of_a_module_argument_wins(fresh_server):
    server = fresh_server(module_args=("max-value-size", "1mb", "max-value-size", "2mb"))
    assert limit_in_effect(server) == 2 << 20


def test_redis_conf_over_module_arguments_and_config_set_over_both(fresh_server):
    lines = ["cacheflow.max-value-size 2mb", "cacheflow.namespace-delimiter /"]
    server = configured(fresh_server, lines, ("max-value-size", "1mb", "namespace-delimiter", "|"))
    assert directives(server) == {
        "cacheflow.max-value-size": str(2 << 20),
        "cacheflow.namespace-delimiter": "/",
    }
    assert limit_in_effect(server) == 2 << 20
    server.config("cacheflow.max-value-size", "3mb")
    assert limit_in_effect(server) == 3 << 20
    server.restart()
    assert limit_in_effect(server) == 2 << 20


def test_loadex_brings_both(fresh_server, fleet):
    server = fresh_server(module=None)
    assert (
        server(
            "MODULE",
            "LOADEX",
            fleet.module,
            "CONFIG",
            "cacheflow.max-value-size",
            "2mb",
            "ARGS",
            "max-value-size",
            "1mb",
            "namespace-delimiter",
            "|",
        )
        == b"OK"
    )
    assert directives(server) == {
        "cacheflow.max-value-size": str(2 << 20),
        "cacheflow.namespace-delimiter": "|",
    }


# --- what is wrong ---------------------------------------------------------------------------------
BAD_ARGUMENTS = [
    ("bogus 1", "unknown module argument 'bogus'"),
    ("max-value-size", "module argument 'max-value-size' has no value"),
    ("max-value-size 1mb debug", "module argument 'debug' has no value"),
    ("max-value-size 0", "module argument 'max-value-size' has the invalid value '0'"),
    ("max-value-size -1", "module argument 'max-value-size' has the invalid value '-1'"),
    ("max-value-size 513mb", "module argument 'max-value-size' has the invalid value '513mb'"),
    (
        "max-value-size 9223372036854775808",
        "module argument 'max-value-size' has the invalid value '9223372036854775808'",
    ),
    ("namespace-delimiter ::", "module argument 'namespace-delimiter' has the invalid value '::'"),
    ("debug maybe", "module argument 'debug' has the invalid value 'maybe'"),
    ("cacheflow.max-value-size 1mb", "unknown module argument 'cacheflow.max-value-size'"),
    ("%s%n 1", "unknown module argument '%s%n'"),
]


def test_bad_arguments_refuse_the_load_and_are_named(fresh_server, fleet):
    server = fresh_server(module=None)
    for line, why in BAD_ARGUMENTS:
        begin = os.path.getsize(server.log_path)
        assert server.error("MODULE", "LOAD", fleet.module, *line.split()).startswith("ERR Error loading")
        assert f"CacheFlow cannot be loaded: {why}" in server.log(begin), line
        assert b"cacheflow" not in [module[1] for module in server("MODULE", "LIST")]
        assert server.error("CACHE.GET", "k").startswith("ERR unknown command")
    assert server("MODULE", "LOAD", fleet.module) == b"OK"
    assert directives(server) == DEFAULTS and server("CACHE.SET", "k", "v") == b"OK"


def test_arguments_of_line_ends_do_not_forge_the_log(fresh_server, fleet):
    server = fresh_server(module=None)
    server.error("MODULE", "LOAD", fleet.module, "x\r\n1:M forged", "1")
    assert not [line for line in server.log().splitlines() if line.startswith("1:M forged")]


@pytest.mark.parametrize(
    "line",
    [
        "cacheflow.max-value-size 0",
        "cacheflow.max-value-size x",
        "cacheflow.namespace-delimiter ::",
        "cacheflow.bogus 1",
    ],
)
def test_a_bad_line_in_redis_conf_stops_the_start_and_is_named(fresh_server, line):
    with pytest.raises(AssertionError, match="did not start") as failure:
        configured(fresh_server, [line])
    # Of a name that nobody registered the server itself says no more than this.
    word = "Module Configuration" if "bogus" in line else line.split()[0]
    assert word in str(failure.value)


# --- redis.conf.example ----------------------------------------------------------------------------
def example():
    """The example's text."""
    with open(EXAMPLE, encoding="utf-8") as text:
        return text.read()


def test_the_example_is_loaded_and_has_every_directive_with_its_default(fresh_server, fleet, tmp_path):
    text, loads = re.subn(
        r"^# (loadmodule) \S+libcacheflow\.so$", rf"\1 {fleet.module}", example(), flags=re.MULTILINE
    )
    assert loads == 1, "one line that loads the module, commented"
    conf = tmp_path / "redis.conf.example"
    conf.write_text(text, encoding="utf-8")
    server = fresh_server(args=["--include", conf], module=None)
    assert directives(server) == DEFAULTS, "with the example loaded"
    said = re.findall(r"^(cacheflow\.\S+) (\S+)$", text, re.MULTILINE)
    assert [name for name, _ in said] == list(DEFAULTS)
    assert all(line.startswith(("#", "cacheflow.")) or not line for line in example().splitlines())


def test_the_example_explains_each_and_mentions_no_other(server):
    text = example()
    names = set(directives(server))
    assert set(re.findall(r"\bcacheflow\.[a-z-]+", text)) == names
    for name in names:
        before = text[: re.search(rf"^{re.escape(name)} ", text, re.MULTILINE).start()]
        comment = before.rstrip("\n").rpartition("\n\n")[2]
        assert len(comment) > 200 and all(line.startswith("#") for line in comment.splitlines()), name
