"""`cacheflow warm`: what is hot is recomputed by a real command and a real HTTP source."""

import http.server
import json
import os
import signal
import subprocess
import threading
from urllib.parse import unquote_to_bytes

import pytest

from harness.engines import ROOT
from harness.leases import held_for
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import figure

PROGRAM = os.path.join(ROOT, "target", "release", "cacheflow")
HARD_BYTES = b"a b/$(id)?\xff%"
single = pytest.mark.topology("single")


@pytest.fixture
def source():
    """An HTTP server that answers a key in capitals, and 500 to what has "broken" in it."""

    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            """A value."""
            key = unquote_to_bytes(self.path.removeprefix("/of/"))
            asked.append(key)
            self.send_response(500 if b"broken" in key else 200)
            value = key.upper()
            self.send_header("Content-Length", str(len(value)))
            self.end_headers()
            self.wfile.write(value)

        def log_message(self, *_):
            """Nothing."""

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    listener.url = f"http://127.0.0.1:{listener.server_port}/of/{{key}}"
    listener.asked = asked
    yield listener
    listener.shutdown()
    thread.join()
    listener.server_close()


def make(server, key, *options, reads=3):
    """A hot entry that is due."""
    assert server("CACHE.SET", key, "old", *(options or ("EX", 1000, "GRACE", 1000))) == b"OK"
    for _ in range(reads):
        assert server("CACHE.GET", key) == b"old"


def stale(server, *keys):
    """CACHE.STALE, one by one: in a cluster they are of several slots."""
    assert [server("CACHE.STALE", key) for key in keys] == [1] * len(keys)


def values(server, *keys):
    """CACHE.GET of each."""
    return [server("CACHE.GET", key) for key in keys]


def command(server, *arguments):
    """The command line."""
    assert os.path.exists(PROGRAM), f"{PROGRAM} is missing: make build"
    return [PROGRAM, "warm", "--url", f"redis://127.0.0.1:{server.port}", *arguments]


def warm(server, *arguments, code=0):
    """Run it to its end; what it printed."""
    done = subprocess.run(command(server, *arguments), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_command(server):
    for key in ("a", "b", HARD_BYTES):
        make(server, key)
    make(server, "fresh")
    stale(server, "a", "b", HARD_BYTES)
    said = warm(server, "--exec", "printf %s <{key}>", "--ttl", "5m", "--grace", "1h", "--tags", "x,y")
    assert said.startswith("3 keys recomputed"), said
    assert values(server, "a", "b", HARD_BYTES, "fresh") == [
        b"<a>",
        b"<b>",
        b"<%s>" % HARD_BYTES,
        b"old",
    ]
    found = meta(server, "a")
    assert 290_000 < found["fresh-ms"] <= 300_000 and found["ttl-ms"] - found["fresh-ms"] == 3_600_000
    assert sorted(found["tags"]) == [b"x", b"y"] and found["cost-ms"] > 0
    assert warm(server, "--exec", "false").startswith("0 keys"), "nothing is due, and nothing fails"
    told = json.loads(warm(server, "--exec", "false", "--json"))
    assert told | {"seconds": 0} == {"stored": 0, "overtaken": 0, "failed": 0, "seconds": 0}


def test_an_http_source(server, source):
    for key in ("space:a", HARD_BYTES):
        make(server, key, "EX", 1000, "TAGS", "t")
    server("CACHE.INVALIDATE", "TAGS", "t")
    server.wait_swept()
    assert server("CACHE.REFRESH", "NAMESPACE", "none") == []
    said = warm(server, "--http", source.url, "--ttl", "30s", "--namespace", "space")
    assert said.startswith("1 keys recomputed"), said
    warm(server, "--http", source.url, "--ttl", "30s", "--quiet")
    assert values(server, "space:a", HARD_BYTES) == [b"SPACE:A", HARD_BYTES.upper()]
    assert sorted(source.asked) == sorted([b"space:a", HARD_BYTES])


def test_a_shell_sees_the_key_as_an_argument(server):
    make(server, HARD_BYTES)
    server("CACHE.STALE", HARD_BYTES)
    warm(server, "--shell", "--exec", "printf %s {key} | tr a-z A-Z", "--ttl", "1m")
    assert server("CACHE.GET", HARD_BYTES) == HARD_BYTES.upper()


def test_what_fails_is_told_and_left_to_others(server, source):
    for key in ("broken", "whole"):
        make(server, key)
    stale(server, "broken", "whole")
    said = warm(server, "--http", source.url, "--ttl", "1m", "--retry", "1h", code=1)
    assert "broken:" in said and "500" in said and "1 failed" in said, said
    assert values(server, "broken", "whole") == [None, b"WHOLE"]
    found = server("CACHE.FETCH", "broken")
    assert found[0] == b"STALE" and found[2] is None, "backed off"
    assert held_for(server, "broken") == 0
    server("CACHE.SET", "broken", "old", "EX", 1000, "GRACE", 1000)
    server("CACHE.GET", "broken")
    server("CACHE.STALE", "broken")
    said = warm(server, "--exec", "sleep 60", "--timeout", "100ms", "--retry", "1ms", "--once", code=1)
    assert "longer than" in said, said


def test_without_times_and_tags_a_stale_entry_keeps_its_tags(server):
    """Its times nobody knows any more; those of a fresh one are kept, see src/cli/warm/worker.rs."""
    make(server, "k", "EX", 1000, "GRACE", 7, "TAGS", "kept")
    server("CACHE.STALE", "k")
    warm(server, "--exec", "echo {key}")
    found = meta(server, "k")
    assert server("CACHE.GET", "k") == b"k\n" and found["tags"] == [b"kept"]
    assert found["fresh-ms"] == -1, "no end: its namespace has none"


@single
def test_it_goes_on_until_it_is_stopped(fresh_server, source):
    server = fresh_server()
    arguments = command(server, "--follow", "--http", source.url, "--ttl", "1m", "--workers", "3")
    program = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: figure(server, "refresh_workers", "cacheflow_leases") > 0, "its workers", 60)
        for key in ("a", "b"):
            make(server, key)
            server("CACHE.STALE", key)
            wait_for(lambda key=key: server("CACHE.GET", key) == key.upper().encode(), "it to be recomputed")
        server.restart()
        make(server, "c")
        server("CACHE.STALE", "c")
        wait_for(lambda: server("CACHE.GET", "c") == b"C", "it to come back", 60)
        program.send_signal(signal.SIGINT)
        said, _ = program.communicate(timeout=60)
    finally:
        program.kill()
        program.wait()
    assert program.returncode == 130 and said.startswith("3 keys recomputed"), said


@pytest.mark.topology("cluster")
def test_every_shard_of_a_cluster(topology):
    """Asked of any node, it finds the others."""
    cluster, keys = topology.cluster, {}
    for n in range(100_000):
        keys.setdefault(cluster.node_of(f"k{n}"), f"k{n}")
        if len(keys) == 3:
            break
    connection = cluster.connect()
    for key in keys.values():
        make(connection, key)
        connection("CACHE.STALE", key)
    warm(cluster.replicas()[0], "--exec", "printf %s {key}", "--ttl", "1m")
    for key in keys.values():
        assert connection("CACHE.GET", key) == key.encode()


@single
def test_what_it_cannot_do_is_one_sentence(fresh_server, tmp_path):
    bare = fresh_server(module=None)
    assert "has no CACHE.REFRESH" in warm(bare, "--exec", "true", code=1)
    server = fresh_server()
    server("ACL", "SETUSER", "default", "-cache.refresh")
    assert "CACHE.REFRESH" in warm(server, "--exec", "true", code=1)
    server.stop()
    assert "cannot connect" in warm(server, "--exec", "true", code=1)
    for wrong in ([], ["--http", "http://127.0.0.1/same-for-all"], ["--exec", "x", "--ttl", "5"]):
        done = subprocess.run(command(server, *wrong), capture_output=True, text=True, timeout=60)
        assert done.returncode in (1, 2) and done.stderr, wrong
