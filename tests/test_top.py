"""`cacheflow top` in a real terminal, with real servers: what is on the screen is what the servers say."""

import json
import re

import pytest

from harness.cluster import Cluster
from harness.leases import fetcher, grant
from harness.program import PROGRAM, run, url_of
from harness.server import wait_for
from harness.terminal import Terminal

pytestmark = pytest.mark.topology("single")
VERSION = r"\d+\.\d+\.\d+"


@pytest.fixture
def top():
    """Starts it in a terminal."""
    started = []

    def start(url, *arguments, **options):
        command = (PROGRAM, "top", "--url", url, "--interval", "1s", *arguments)
        started.append(Terminal(*command, **options))
        return started[-1]

    yield start
    for terminal in started:
        terminal.discard()


def load(server):
    """Entries, reads, and somebody who computes."""
    for n in range(9):
        server("CACHE.SET", f"shop:{n}", "v", "EX", 100, "COST", 100, "TAGS", "t")
    server("CACHE.SET", "page:/\x1b[2J", "v" * 5000, "EX", 100)
    for n in range(8):
        server("CACHE.GET", f"shop:{n}")
    server("CACHE.GET", "shop:none")
    server("CACHE.GET", "page:/\x1b[2J")
    grant(server, "shop:computed")


def test_what_is_on_the_screen_is_what_the_server_says(fresh_server, top):
    server = fresh_server()
    load(server)
    waiter = fetcher(server, "shop:computed")
    terminal = top(url_of(server))
    terminal.wait("single, 1 of 1 nodes answer")
    assert "leases 1  locks 0  waiters 1" in terminal.wait("leases")
    assert "entries 10" in terminal.wait("entries") and "tags 1" in terminal.text()
    # Rates are there from the second reading on, and are of what happened since the first.
    terminal.wait("reads 0/s")
    for n in range(8):
        server("CACHE.GET", f"shop:{n}")
    terminal.wait_for(r"^shop +[0-9.]+ +100\.0 +0\.0 ")
    terminal.press("2")
    terminal.wait("[Hot keys by hits]")
    terminal.wait_for(r"^page:/\\u\{1b\}\[2J +\d")
    terminal.press("ss")
    terminal.wait("[Hot keys by bytes]")
    terminal.wait_for(r"^page:/\S* +[0-9.]+ KB ")
    terminal.press("\t")
    terminal.wait_for(rf"^127\.0\.0\.1:{server.port} +primary +(redis|valkey) {VERSION}")
    terminal.press("?")
    terminal.wait("Keys")
    terminal.press("\x1b")
    wait_for(lambda: "Keys" not in terminal.text(), "the help to be closed")
    terminal.press("p")
    terminal.wait("paused")
    terminal.resize(70, 12)
    terminal.wait("q quit")
    terminal.press("q")
    assert terminal.end() == (0, "") and terminal.is_restored()
    waiter.connection.close()


@pytest.mark.parametrize("way", ["ctrl-c", "term"])
def test_however_it_ends_the_terminal_is_as_it_was(server, top, way):
    terminal = top(url_of(server))
    terminal.wait("1 of 1 nodes")
    if way == "term":
        terminal.process.terminate()
    else:
        terminal.press("\x03")
    code, said = terminal.end()
    assert (code, said) == (130 if way == "term" else 0, "") and terminal.is_restored()


def test_a_server_that_dies_is_shown_dead_and_one_that_comes_back_alive(fresh_server, top):
    server = fresh_server()
    server("CACHE.SET", "shop:1", "v")
    terminal = top(url_of(server), env={"NO_COLOR": "1"})
    terminal.wait("1 of 1 nodes answer")
    server.stop()
    terminal.wait("0 of 1 nodes answer")
    terminal.press("3")
    terminal.wait_for(rf"^127\.0\.0\.1:{server.port} +primary +down")
    server.start()
    terminal.wait("1 of 1 nodes answer")
    colours = re.findall(rb"\x1b\[(?:3[1-7]|38;5;\d+)m", terminal.written)
    assert not colours, "NO_COLOR"


def test_one_reading(server):
    load(server)
    once = ("--url", url_of(server), "--interval", "1s")
    found = json.loads(run("top", "--json", *once)[0])
    assert found["overview"]["hits"] == 9 and found["overview"]["entries"] == 10
    assert 1 <= found["seconds"] < 20 and found["overview"]["rates"]["reads"] == 0
    assert found["overview"]["rates"]["freshRatio"] is None
    shop = next(row for row in found["namespaces"] if row["namespace"] == "shop")
    assert shop["hits"] == 8 and shop["misses"] == 2 and shop["rates"]["misses"] == 0
    assert found["hotKeys"]["by"] == "hits" and len(found["hotKeys"]["keys"]) >= 9
    assert [node["up"] for node in found["nodes"]] == [True] and found["leases"]["leases"] == 1
    page = run("top", "--once", *once)[0]
    assert "1 of 1 nodes answer" in page and "\x1b" not in page
    assert re.search(r"^shop +0 +\u2013 ", page, re.MULTILINE) and "page:/\\u{1b}[2J" in page


def test_what_cannot_be_shown_is_said_in_a_sentence(server):
    _, error = run("top", "--url", url_of(server), code=1)
    assert "no terminal" in error or "this is none" in error
    _, error = run("top", "--url", url_of(server), "--interval", "10ms", code=1)
    assert "--interval is at least 1 s" in error
    _, error = run("top", "--url", "redis://127.0.0.1:1", "--json", code=1)
    assert error.startswith("cacheflow: cannot connect to 127.0.0.1:1") and error.count("\n") == 1


def test_a_cluster_with_a_dead_node(fleet, no_server_broke):
    with Cluster(fleet, primaries=3, replicas=0) as cluster:
        client = cluster.connect()
        for n in range(30):
            client("CACHE.SET", f"shop:{n}", "v")
            client("CACHE.GET", f"shop:{n}")
        once = ("--url", url_of(*cluster.nodes), "--interval", "1s", "--timeout", "500ms")
        found = json.loads(run("top", "--json", *once)[0])
        assert found["overview"]["kind"] == "cluster" and len(found["nodes"]) == 3
        assert found["overview"]["hits"] == 30 and found["overview"]["entries"] == 30
        cluster.nodes[0].pause()
        try:
            found = json.loads(run("top", "--json", *once)[0])
        finally:
            cluster.nodes[0].resume()
        assert sorted(node["up"] for node in found["nodes"]) == [False, True, True]
        assert 0 < found["overview"]["entries"] < 30
