"""FLUSHDB and FLUSHALL, which take entries away by the database."""

import pytest

from harness.topologies import several_databases

FLUSHES = [("FLUSHALL",), ("FLUSHALL", "ASYNC"), ("FLUSHDB",), ("FLUSHDB", "ASYNC")]


@pytest.mark.parametrize("how", FLUSHES)
def test_flush(server, how):
    for i in range(200):
        server("CACHE.SET", f"k{i}", "v" * 1000, "EX", 100)
    assert server(*how) == b"OK"
    assert server("DBSIZE") == 0 and server("CACHE.GET", "k1") is None
    assert server("CACHE.SET", "k1", "again") == b"OK" and server("CACHE.GET", "k1") == b"again"


@several_databases
@pytest.mark.parametrize("how", FLUSHES)
def test_flush_of_another_database(server, how):
    server("CACHE.SET", "k", "v")
    server("SELECT", 1)
    server("CACHE.SET", "other", "v")
    server("SELECT", 0)
    assert server(*how) == b"OK"
    assert server("DBSIZE") == 0
    server("SELECT", 1)
    assert server("CACHE.GET", "other") == (b"v" if how[0] == "FLUSHDB" else None)
    server("SELECT", 0)
