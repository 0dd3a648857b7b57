"""What runners stand on: servers that are there when they are told of, and gone when their input closes."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "server.py"


def ask(address, command):
    """One command in the inline form, and what came first of the answer."""
    host, _, port = address.rpartition(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(1 << 16)


def until_dead(pid):
    """Wait until a process is dead, and its threads too: only then can its parent know."""
    of, deadline = Path(f"/proc/{pid}"), time.monotonic() + 30
    while True:
        state = (of / "stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z" and len(list((of / "task").iterdir())) <= 1:
            return
        assert time.monotonic() < deadline, f"it is in state {state}"
        time.sleep(0.005)


@pytest.fixture
def servers(tmp_path):
    """Starts the program with these kinds: the process, and what it said."""
    started = []

    def start(*kinds):
        process = subprocess.Popen(
            [sys.executable, PROGRAM, *kinds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        started.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.communicate(timeout=60)


def test_each_kind_is_what_it_says_and_ends_with_the_input(servers, tmp_path):
    process, told = servers("module", "plain", "cluster")
    assert {kind: len(one["nodes"]) for kind, one in told.items()} == {"module": 1, "plain": 1, "cluster": 3}
    assert all(one["url"] == f"redis://{one['nodes'][0]}" for one in told.values())
    answers = {kind: ask(one["nodes"][0], "CACHE.GET k") for kind, one in told.items()}
    assert answers["module"] == b"$-1\r\n"
    assert answers["plain"].startswith(b"-ERR unknown command")
    assert answers["cluster"] == b"$-1\r\n" or answers["cluster"].startswith(b"-MOVED")
    assert all(b"cluster_state:ok" in ask(node, "CLUSTER INFO") for node in told["cluster"]["nodes"])
    assert process.communicate(timeout=60) == (b"", b"") and process.returncode == 0
    for one in told.values():
        for node in one["nodes"]:
            with pytest.raises(ConnectionRefusedError):
                ask(node, "PING")
    assert not list(tmp_path.iterdir()), "directories were left behind"


def test_a_server_that_died_is_told(servers):
    process, told = servers("plain")
    node = told["plain"]["nodes"][0]
    pid = int(re.search(rb"process_id:(\d+)", ask(node, "INFO server"))[1])
    ask(node, "SHUTDOWN NOSAVE")
    until_dead(pid)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and b"died" in said


@pytest.mark.parametrize(
    "arguments", [["mystery"], ["plain", "--binary", "no-such-server"], ["module", "--module", "/nowhere.so"]]
)
def test_what_cannot_be_started_is_refused(arguments):
    run = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, timeout=60, check=False)
    assert run.returncode == 2 and not run.stdout
