"""cacheflow.* through CONFIG, redis.conf and the module's arguments, and redis.conf.example."""

import os
import re

import pytest

from harness.engines import ROOT
from harness.resp import fields
from harness.sample import meta
from harness.server import wait_for

pytestmark = pytest.mark.topology("single")

EXAMPLE = os.path.join(ROOT, "redis.conf.example")
# In the order of redis.conf.example.
DEFAULTS = {
    "cacheflow.max-value-size": str(512 << 20),
    "cacheflow.compress-min-size": "0",
    "cacheflow.compress-max-size": str(128 << 10),
    "cacheflow.namespace-delimiter": ":",
    "cacheflow.companion-prefix": "~cf",
    "cacheflow.max-tags-per-entry": "256",
    "cacheflow.max-tag-length": "1024",
    "cacheflow.sweep-budget-us": "100",
    "cacheflow.tombstone-ttl": "300000",
    "cacheflow.max-tombstones": "262144",
    "cacheflow.max-clock-skew": "500",
    "cacheflow.log-max-len": "128",
    "cacheflow.lease-max": "600000",
    "cacheflow.max-leases": "100000",
    "cacheflow.max-waiters": "10000",
    "cacheflow.max-waiters-per-key": "10000",
    "cacheflow.xfetch-beta": "1",
    "cacheflow.refresh-keys": "4096",
    "cacheflow.stale-target": "0.01",
    "cacheflow.ttl-jitter": "0",
    "cacheflow.invalidate-timeout": "1000",
    "cacheflow.invalidate-min-replicas": "0",
    "cacheflow.max-memory": "0",
    "cacheflow.evict-at": "0",
    "cacheflow.evict-policy": "cost",
    "cacheflow.evict-weight": "cost-size",
}
# The least and the most of each that is a plain number.
BOUNDS = {
    "cacheflow.max-tags-per-entry": (0, 65535),
    "cacheflow.max-tag-length": (0, 65535),
    "cacheflow.sweep-budget-us": (10, 1000),
    "cacheflow.tombstone-ttl": (1, (2**63 - 1) // 1000),
    "cacheflow.max-tombstones": (0, 2**63 - 1),
    "cacheflow.max-clock-skew": (0, (2**63 - 1) // 1000),
    "cacheflow.log-max-len": (0, 1_000_000),
    "cacheflow.lease-max": (1, (2**63 - 1) // 1000),
    "cacheflow.max-leases": (1, 100_000_000),
    "cacheflow.max-waiters": (0, 2**20 - 256),
    "cacheflow.max-waiters-per-key": (0, 2**20 - 256),
    "cacheflow.refresh-keys": (0, 65536),
    "cacheflow.ttl-jitter": (0, 50),
    "cacheflow.invalidate-timeout": (0, (2**63 - 1) // 1000),
    "cacheflow.invalidate-min-replicas": (0, 1000),
    "cacheflow.evict-at": (0, 100),
}


def but(**changed):
    """The defaults but for these, whose names have _ for -."""
    return DEFAULTS | {f"cacheflow.{name.replace('_', '-')}": value for name, value in changed.items()}


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


@pytest.mark.parametrize("name", BOUNDS)
def test_the_bounds_of_numbers(server, name):
    least, most = BOUNDS[name]
    for value in (least, most, least + 1):
        server.config(name, value)
        assert directives(server) == {**DEFAULTS, name: str(value)}
    for text in (least - 1, most + 1, "", "x", "1.5", "1kb", " 1", "1" * 30):
        assert server.error("CONFIG", "SET", name, text).startswith("ERR CONFIG SET failed"), text
        assert directives(server) == {**DEFAULTS, name: str(least + 1)}


DECIMALS = ("xfetch-beta", "stale-target")


@pytest.mark.parametrize("name", DECIMALS)
@pytest.mark.parametrize(
    ("text", "shown"), [("0", "0"), ("1.5", "1.5"), ("2.0", "2"), ("1e2", "100"), ("-0", "0")]
)
def test_a_directive_with_decimals(server, name, text, shown):
    server.config(f"cacheflow.{name}", text)
    assert directives(server) == DEFAULTS | {f"cacheflow.{name}": shown}


@pytest.mark.parametrize("name", DECIMALS)
@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1e999", "1,5", " 1", "0x1"])
def test_what_is_no_number_with_decimals_is_refused(server, name, text):
    server.config(f"cacheflow.{name}", "2.5")
    error = server.error("CONFIG", "SET", f"cacheflow.{name}", text)
    assert error.startswith("ERR CONFIG SET failed") and "must be a number that is not negative" in error
    assert directives(server) == DEFAULTS | {f"cacheflow.{name}": "2.5"}


# --- what they do ----------------------------------------------------------------------------------
def test_the_limits_on_tags_are_exact_and_are_none_on_what_is_there(server):
    server.config("cacheflow.max-tags-per-entry", 3)
    server.config("cacheflow.max-tag-length", 4)
    assert server("CACHE.SET", "k", "v", "TAGS", "a", "bb", "dddd", "a") == b"OK", "named twice, there once"
    too_many = "TOOMANYTAGS 4 tags exceed cacheflow.max-tags-per-entry (3)"
    assert server.error("CACHE.SET", "k", "w", "TAGS", "a", "b", "c", "d") == too_many
    assert server.error("CACHE.TAG", "k", "a", "c") == too_many
    too_long = "ERR tag of 5 bytes exceeds cacheflow.max-tag-length (4)"
    assert server.error("CACHE.SET", "k", "w", "TAGS", "eeeee") == too_long
    assert server.error("CACHE.TAG", "k", "eeeee") == too_long
    assert server("CACHE.GET", "k") == b"v" and meta(server, "k")["tags"] == [b"a", b"bb", b"dddd"]
    server.config("cacheflow.max-tags-per-entry", 0)
    server.config("cacheflow.max-tag-length", 0)
    assert server("CACHE.TOUCH", "k") == 1 and server("COPY", "k", "copy") == 1
    assert server("RESTORE", "restored", 0, server("DUMP", "k")) == b"OK"
    assert len(meta(server, "restored")["tags"]) == 3
    assert server.error("CACHE.SET", "k", "w", "TAGS", "").startswith("TOOMANYTAGS 1 tags exceed")
    assert server("CACHE.UNTAG", "k", "dddd") == 1
    assert server("CACHE.INVALIDATE", "TAGS", "bb", "dddd") == 5, "it may be longer than what SET takes"
    server.config("cacheflow.max-tags-per-entry", 1)
    assert server("CACHE.SET", "k", "w", "TAGS", "") == b"OK"


def test_many_tags_cost_their_number(server):
    """Not its square: with as many as there can be that was 1.4 s, during which nobody else was served. Eight
    times as many tags take some eight times as long, and not 64 times."""
    server.config("cacheflow.max-tags-per-entry", 65535)

    def cpu():
        """Seconds that the server's main thread has worked: others on the machine do not count."""
        info = server.info("cpu")
        return sum(float(info[f"used_cpu_{what}_main_thread"]) for what in ("user", "sys"))

    def costs(count):
        """The server's CPU for each command, the least of three."""
        least = {}

        def costing(*command):
            before = cpu()
            reply = server(*command)
            took = cpu() - before
            least[command[0]] = min(took, least.get(command[0], took))
            return reply

        for turn in range(3):
            first = 10**6 + turn * 10**5
            costing("CACHE.SET", "many", "v", "TAGS", *range(first, first + count))
            assert costing("RESTORE", "other", 0, server("DUMP", "many")) == b"OK"
            assert costing("CACHE.TOUCH", "other") == 1 and costing("COPY", "many", "copy") == 1
            # Of tags that nobody shares: a membership that goes is looked for in who has the last one.
            own = range(2 * first, 2 * first + count)
            server("CACHE.SET", "lone", "v", "TAGS", *own)
            assert costing("CACHE.UNTAG", "lone", *own) == count
            server("FLUSHALL")
        return least

    few, many = costs(8191), costs(65528)
    for name in few:
        assert many[name] < 30 * max(few[name], 0.001), (name, few[name], many[name])


def test_as_many_and_as_long_as_there_can_be(server):
    server.config("cacheflow.max-tags-per-entry", 65535)
    server.config("cacheflow.max-tag-length", 65535)
    assert server("CACHE.SET", "many", "v", "TAGS", *(b"%d" % n for n in range(65535))) == b"OK"
    assert server.error("CACHE.TAG", "many", "one more").startswith("TOOMANYTAGS 65536 tags exceed")
    assert server("CACHE.SET", "long", "v", "TAGS", b"t" * 65535) == b"OK"
    assert server.error("CACHE.TAG", "long", b"t" * 65536) == (
        "ERR tag of 65536 bytes exceeds cacheflow.max-tag-length (65535)"
    )
    server.reload()
    assert len(meta(server, "many")["tags"]) == 65535 and meta(server, "long")["tags"] == [b"t" * 65535]
    assert server("CACHE.INVALIDATE", "TAGS", b"t" * 65535, "65534") == 2
    assert server.error("CACHE.INVALIDATE", "TAGS", b"t" * 65536).startswith("ERR tag of 65536 bytes exceeds")
    assert server("CACHE.MGET", "many", "long") == [None, None]


def test_clock_skew_is_of_no_concern_to_a_server_that_is_in_no_cluster(server):
    server("CACHE.INVALIDATE", "TAGS", "t")
    server("CACHE.SET", "k", "v", "TAGS", "t")
    server("RESTORE", "copy", 0, server("DUMP", "k"))
    assert server("CACHE.GET", "copy") == b"v", "born a moment after the invalidation, by the same clock"


def tombstones(server):
    """How many invalidations are remembered."""
    return int(server.info()["cacheflow_tombstones"])


def test_invalidations_are_remembered_for_their_time_and_by_their_number(server):
    server("CACHE.SET", "k", "v", "TAGS", "t")
    payload = server("DUMP", "k")
    server("CACHE.INVALIDATE", "TAGS", "t", *range(49))
    server.config("cacheflow.max-tombstones", 10)
    wait_for(lambda: tombstones(server) == 10, "forgetting the oldest")
    server("CACHE.INVALIDATE", "TAGS", "t")
    assert tombstones(server) == 10, "at once, and not when the clock ticks"
    server("RESTORE", "dead", 0, payload)
    assert server("CACHE.GET", "dead", "STALE") is None
    server.config("cacheflow.tombstone-ttl", 1)
    wait_for(lambda: tombstones(server) == 0, "forgetting all")
    server.wait_swept()
    server("RESTORE", "k", 0, payload, "REPLACE")
    assert server("CACHE.GET", "k") == b"v", "older payloads are the caller's affair"


def test_the_log_has_its_length(server):
    def logged(*count):
        return [fields(record)["target"] for record in server("CACHE.LOG", *count)]

    server("CACHE.LOG", "RESET")
    for n in range(200):
        server("CACHE.INVALIDATE", "TAGS", n)
    assert logged(1000) == [b"%d" % n for n in range(199, 71, -1)] and len(logged()) == 10
    server.config("cacheflow.log-max-len", 2)
    assert logged(1000) == [b"199", b"198"]
    server("CACHE.INVALIDATE", "TAGS", "a", "b", "c")
    assert logged() == [b"c", b"b"]
    server.config("cacheflow.log-max-len", 0)
    assert logged() == []
    server("CACHE.INVALIDATE", "NAMESPACE", "n")
    server.config("cacheflow.log-max-len", 128)
    assert logged() == [], "what was not remembered does not come back"
    server("CACHE.INVALIDATE", "NAMESPACE", "n")
    assert logged() == [b"@n"]


@pytest.mark.parametrize("budget", [10, 1000])
def test_the_sweep_keeps_to_its_budget(server, budget):
    server.config("cacheflow.sweep-budget-us", budget)
    server.connect().pipeline([("CACHE.SET", f"k{n}", "v", "TAGS", "t") for n in range(20_000)])
    server("CACHE.STATS", "RESET")
    assert server("CACHE.INVALIDATE", "TAGS", "t") == 20_000
    server.wait_swept()
    info = server.info()
    assert info["cacheflow_sweep_removed"] == "20000" and server("DBSIZE") == 0
    slices = int(info["cacheflow_sweep_slices"])
    assert slices >= (300 if budget == 10 else 5), "one long slice held the server up"


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
    server.config("cacheflow.log-max-len", "7")
    server.config("cacheflow.tombstone-ttl", "8")
    assert server("CONFIG", "REWRITE") == b"OK"
    with open(os.path.join(server.directory, "redis.conf"), encoding="utf-8") as conf:
        text = conf.read()
    assert re.search(r"^cacheflow\.max-value-size (3mb|3145728)$", text, re.MULTILINE), text
    for _ in range(2):
        server.restart()
        assert directives(server) == but(
            max_value_size=str(3 << 20), namespace_delimiter="/", log_max_len="7", tombstone_ttl="8"
        )
        assert limit_in_effect(server) == 3 << 20
        assert server("CONFIG", "REWRITE") == b"OK"


# --- who wins --------------------------------------------------------------------------------------
def test_module_arguments_over_defaults(fresh_server):
    server = fresh_server(module_args=("max-value-size", "1mb", "namespace-delimiter", "|"))
    assert limit_in_effect(server) == 1 << 20
    server("CACHE.SET", "a|b:c", "v")
    assert meta(server, "a|b:c")["namespace"] == b"a"


def test_decimals_among_the_modules_arguments(fresh_server):
    server = fresh_server(module_args=("xfetch-beta", "2.50", "max-leases", "7"))
    assert directives(server) == but(xfetch_beta="2.5", max_leases="7")


def test_the_last_of_a_module_argument_wins(fresh_server):
    server = fresh_server(module_args=("max-value-size", "1mb", "max-value-size", "2mb"))
    assert limit_in_effect(server) == 2 << 20


def test_redis_conf_over_module_arguments_and_config_set_over_both(fresh_server):
    lines = ["cacheflow.max-value-size 2mb", "cacheflow.namespace-delimiter /", "cacheflow.log-max-len 5"]
    arguments = "max-value-size 1mb namespace-delimiter | log-max-len 6 max-tag-length 9".split()
    server = configured(fresh_server, lines, arguments)
    assert directives(server) == but(
        max_value_size=str(2 << 20), namespace_delimiter="/", log_max_len="5", max_tag_length="9"
    )
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
    assert directives(server) == but(max_value_size=str(2 << 20), namespace_delimiter="|")


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
    ("max-tags-per-entry 65536", "module argument 'max-tags-per-entry' has the invalid value '65536'"),
    ("sweep-budget-us 1kb", "module argument 'sweep-budget-us' has the invalid value '1kb'"),
    ("tombstone-ttl 0", "module argument 'tombstone-ttl' has the invalid value '0'"),
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
