"""What the module says of its commands, and that docs/commands.md is that."""

import os
import re
import runpy
import subprocess

import pytest

from harness.engines import ROOT
from harness.resp import fields

pytestmark = pytest.mark.topology("single")

SCRIPT = os.path.join(ROOT, "scripts", "gen-docs")
PAGE = os.path.join(ROOT, "docs", "commands.md")
KEYLESS = {
    f"cache.{name}"
    for name in "verify tags keys log hotkeys refresh stats metrics invalidate invalidated applystate".split()
}
KEYLESS |= {"cache.namespace", *(f"cache.namespace|{name}" for name in "set get list del".split())}


def names(server):
    """The module's commands."""
    found = server("COMMAND", "LIST", "FILTERBY", "MODULE", "cacheflow")
    return sorted(name.decode() for name in found)


def page():
    """The committed page."""
    with open(PAGE, encoding="utf-8") as text:
        return text.read()


def arguments(docs):
    """All arguments of a command, those within others too."""
    for argument in docs:
        argument = fields(argument)
        yield argument
        yield from arguments(argument.get("arguments", []))


def test_the_page_is_what_the_module_says(server):
    """On whatever server this runs: the page is the same from each."""
    said = runpy.run_path(SCRIPT)["render"](server.connect())
    assert page() == said, "docs/commands.md is not what the module says: make docs"


def test_every_command_describes_itself(server):
    assert len(names(server)) >= 19
    for name in names(server):
        docs = fields(fields(server("COMMAND", "DOCS", name))[name])
        assert docs["module"] == b"cacheflow", name
        for field in ("summary", "since", "complexity"):
            assert docs[field].decode().isprintable() and docs[field], f"{name}: {field}"
        assert docs["summary"].endswith(b".") and docs["complexity"].startswith(b"O("), name
        assert re.fullmatch(r"\d+\.\d+\.\d+", docs["since"].decode()), name
        first = fields(docs["arguments"][0]) if docs.get("arguments") else {"type": b"none"}
        has_key = first["type"] == b"key" and first["key_spec_index"] == 0
        assert has_key is (name not in KEYLESS), name
        assert bool(server("COMMAND", "INFO", name)[0][8]) is has_key, f"{name}: key specs"
        for argument in arguments(docs.get("arguments", [])):
            assert argument["name"].decode().isprintable(), name
            if argument["type"] == b"pure-token":
                assert argument["token"].isupper(), name


def test_every_tip_is_one_tip(server):
    """As clients and proxies read them: a word, or a word and its value."""
    for name in names(server):
        tips = server("COMMAND", "INFO", name)[0][7]
        for tip in tips:
            assert re.fullmatch(rb"[a-z_]+(:[a-z_]+)?", tip), f"{name}: {tip!r}"


def words_of(argument):
    """(the words that an argument takes at least, whether it may take more)."""
    argument = fields(argument)
    flags, parts = set(argument.get("flags", [])), [words_of(part) for part in argument.get("arguments", [])]
    least, more = 1, bool(flags & {b"optional", b"multiple"})
    if argument["type"] == b"oneof":
        least = min(words for words, _ in parts)
        more = more or any(open_ended or words != least for words, open_ended in parts)
    elif argument["type"] == b"block":
        least = sum(words for words, _ in parts) + ("token" in argument)
        more = more or any(open_ended for _, open_ended in parts)
    elif argument["type"] != b"pure-token":
        least += "token" in argument
    return 0 if b"optional" in flags else least, more


def test_arity_agrees_with_the_arguments(server):
    for name in names(server):
        docs = fields(fields(server("COMMAND", "DOCS", name))[name])
        each = [words_of(argument) for argument in docs.get("arguments", [])]
        least, more = len(name.split("|")) + sum(words for words, _ in each), any(more for _, more in each)
        if "subcommands" in docs:
            least, more = least + 1, True
        assert server("COMMAND", "INFO", name)[0][1] == (-least if more else least), name


def test_every_option_of_the_page_is_taken(server):
    """And with it every word of the syntax lines is one that the command knows."""
    for request in (
        "CACHE.SET k v NX EX 5 GRACE 5 COST 5",
        "CACHE.SET k v XX PX 5000 PGRACE 5",
        "CACHE.SET k v EXAT 4000000000",
        "CACHE.SET k v PXAT 4000000000000",
        "CACHE.SET k v KEEPTTL",
        "CACHE.SET k v PERSIST",
        "CACHE.SET k v EXAUTO 5 60",
        "CACHE.TOUCH k EX 5 GRACE 5",
        "CACHE.TOUCH k PX 5000 PGRACE 5",
        "CACHE.TOUCH k EXAT 4000000000",
        "CACHE.TOUCH k PXAT 4000000000000",
        "CACHE.TOUCH k EXAUTO 5 60",
        "CACHE.GET k STALE",
        "CACHE.VERIFY REPAIR",
        "CACHE.SET k v EX 5 TAGS one two",
        "CACHE.TOUCH k LEASE 5",
        "CACHE.FETCH k LEASE 5 KEEP BLOCK 5 MAXSTALE 5 BETA 1.5 WITHTAGS",
        "CACHE.LOCK l 5 BLOCK 5",
        "CACHE.UNLOCK l 5 RETRY 5",
        "CACHE.EXTEND l 5 5",
        "CACHE.TAG k three",
        "CACHE.UNTAG k three none",
        "CACHE.TAGS 0 MATCH t* COUNT 5",
        "CACHE.KEYS one 0 COUNT 5",
        "CACHE.LOG 5",
        "CACHE.LOG RESET",
        "CACHE.HOTKEYS BY HITS COUNT 5",
        "CACHE.HOTKEYS BY COST",
        "CACHE.HOTKEYS BY BYTES",
        "CACHE.HOTKEYS BY WAITS",
        "CACHE.REFRESH NAMESPACE n COUNT 5 LEASE 5 BLOCK 5",
        "CACHE.STATS NAMESPACE k",
        "CACHE.STATS RESET",
        "CACHE.INVALIDATE SOFT LOCAL TIMEOUT 5 TAGS one two",
        "CACHE.INVALIDATE NAMESPACE one two",
        "CACHE.INVALIDATED 5 HARD TAGS one",
        "CACHE.INVALIDATED 5 SOFT NAMESPACE one",
        "CACHE.NAMESPACE SET n MAXMEMORY 5 TTL 5 GRACE 5 EXAUTO 5 6 MAXFILLS 5 BREAKER 5 6 POLICY LRU",
        "CACHE.NAMESPACE SET n POLICY NONE",
        "CACHE.NAMESPACE SET n POLICY COST",
        "CACHE.NAMESPACE GET n",
        "CACHE.NAMESPACE LIST",
        "CACHE.NAMESPACE DEL n",
    ):
        assert server(*request.split()) is not None, request
    token = server("CACHE.LOCK", "k", 1000)
    assert server("CACHE.SET", "k", "v", "LEASE", token) == b"OK"
    words = set(re.findall(r"\b[A-Z]{2,}\b", " ".join(re.findall(r"```\n(.*)\n```", page()))))
    called = {word for name in names(server) for word in name[6:].upper().split("|")}
    words -= {"CACHE", *called} - {"STALE", "TAGS"}
    known = (
        "NX XX EX PX EXAT PXAT EXAUTO KEEPTTL PERSIST GRACE PGRACE COST STALE REPAIR TAGS MATCH COUNT RESET"
    )
    hot = "BY HITS BYTES WAITS"
    leases = "LEASE KEEP BLOCK MAXSTALE BETA WITHTAGS RETRY"
    settings = "MAXMEMORY TTL MAXFILLS BREAKER POLICY LRU NONE"
    assert words == set(f"{known} {leases} {hot} {settings} SOFT HARD LOCAL TIMEOUT".split())


def test_the_script_checks(tmp_path):
    """As CI runs it: 0 where the pages are right, 1 and the differences where one is not. That of metrics
    comes from the tables that they are written by."""
    right = subprocess.run([SCRIPT, "--check"], capture_output=True, text=True)
    assert right.returncode == 0 and not right.stdout, right.stdout + right.stderr
    for option, name, true, false in (
        ("--page", "commands.md", "since | 0.1.0", "since | 9.9.9"),
        ("--metrics-page", "metrics.md", "`cacheflow_up` | gauge", "`cacheflow_up` | counter"),
    ):
        with open(os.path.join(ROOT, "docs", name), encoding="utf-8") as committed:
            text = committed.read()
        wrong = tmp_path / name
        wrong.write_text(text.replace(true, false, 1), encoding="utf-8")
        checked = subprocess.run([SCRIPT, "--check", option, wrong], capture_output=True, text=True)
        assert checked.returncode == 1 and f"-| {false}" in checked.stdout
        assert false in wrong.read_text(encoding="utf-8"), "a check writes nothing"
    pages = ("--page", tmp_path / "commands.md", "--metrics-page", tmp_path / "metrics.md")
    written = subprocess.run([SCRIPT, *pages], capture_output=True, text=True)
    assert written.returncode == 0 and (tmp_path / "commands.md").read_text(encoding="utf-8") == page()
    assert (tmp_path / "metrics.md").read_text(encoding="utf-8") == text
