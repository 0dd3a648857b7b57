"""What `cacheflow bench eviction` says of Redis's policies, against a real server under maxmemory.

One trace by Zipf's law is read through a server by native GET and SET, and replayed by the harness to a cache
of as many entries as the server held, at as many requests a second as it served: the server's clocks tick in
seconds. Their miss ratios agree within TOLERANCE; those of the two policies lie further apart than that.
"""

import json
import os
import random
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.engines import ROOT

pytestmark = pytest.mark.topology("single")

PROGRAM = os.path.join(ROOT, "target", "release", "cacheflow")
KEYS, REQUESTS = 5000, 20_000
ENTRIES = 500
VALUE = "v" * 1000
# Requests spread over so many seconds, and so over ticks of the server's clock, if it can serve them as fast.
SECONDS = 5
# In fifteen runs, on Redis 7.0 to 8.6, Valkey 8 and 9, at 1,400 to 4,000 requests a second: 0.009 at most.
TOLERANCE = 0.02
POLICIES = ("lru", "lfu")


def trace(seed=1):
    """The keys asked for."""
    weights = [1 / rank**0.9 for rank in range(1, KEYS + 1)]
    return random.Random(seed).choices(range(KEYS), weights, k=REQUESTS)


def serve(server, policy, keys):
    """Read the trace through a server; (its miss ratio, entries held, requests a second)."""
    name = "key:{:05}".format
    # Room for ENTRIES: what so many take, with the server's own tables and this connection's buffers.
    for key in range(ENTRIES):
        server("SET", name(key), VALUE)
    server.config("maxmemory-policy", f"allkeys-{policy}")
    server.config("maxmemory", int(server.info("memory")["used_memory"]))
    # Counters fall when the wall clock's minute changes, be it in the middle of the run: not in this one.
    server.config("lfu-decay-time", 60)
    server("FLUSHALL", "SYNC")
    misses, held, start = 0, [], time.monotonic()
    for at, key in enumerate(keys):
        if at % 100 == 0:
            time.sleep(max(0, start + at * SECONDS / REQUESTS - time.monotonic()))
            held.append(server("DBSIZE"))
        if server("GET", name(key)) is None:
            misses += 1
            assert server("SET", name(key), VALUE) == b"OK"
    rate = REQUESTS / (time.monotonic() - start)
    full = held[len(held) // 2 :]
    assert int(server.info("stats")["evicted_keys"]) > ENTRIES
    # Some tens fewer than were there at first: while it serves, buffers count as well. What counts is that
    # it is full of the same number all the time.
    assert max(full) - min(full) < 0.05 * ENTRIES, (min(full), max(full))
    return misses / REQUESTS, sum(full) / len(full), rate


def replay(file, keys, policy, entries, rate):
    """The miss ratio that the harness has for it."""
    percent = 100 * entries / len(set(keys))
    rows = f"{file}.{policy}.json"
    command = ["--trace", file, "--policies", policy, "--capacities", percent, "--rate", round(rate)]
    done = subprocess.run(
        [PROGRAM, "bench", "eviction", *map(str, command), "--json", rows],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with open(rows, encoding="utf-8") as text:
        (row,) = (row for row in json.load(text)["rows"] if row["policy"] == policy)
    assert abs(row["entries"] - entries) <= 1
    return row["objects"]["missed"]


def test_the_harness_misses_what_a_server_misses(fresh_server, tmp_path):
    keys = trace()
    file = tmp_path / "zipf.cft"
    file.write_bytes(b"CFT1" + struct.pack(f"<III{REQUESTS}I", REQUESTS, KEYS, 0, *keys))
    servers = [fresh_server(module=None) for _ in POLICIES]
    with ThreadPoolExecutor() as threads:
        served = list(threads.map(serve, servers, POLICIES, [keys] * len(POLICIES)))
    said = {}
    for policy, (missed, entries, rate) in zip(POLICIES, served, strict=True):
        told = f"{policy}: {missed:.4f} missed with {entries:.0f} entries at {rate:.0f} a second"
        said[policy] = replay(file, keys, f"redis-{policy}", entries, rate)
        print(f"{told}, {said[policy]:.4f} in the replay")
        assert missed == pytest.approx(said[policy], abs=TOLERANCE), told
    assert said["lru"] - said["lfu"] > 2 * TOLERANCE, "else the one could pass for the other"
