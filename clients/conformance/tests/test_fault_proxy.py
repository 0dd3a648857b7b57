"""The proxy does what it says, and nothing else: seen from a client, against a server that echoes."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "fault_proxy.py"
LONG = 30  # seconds: a bound for what must happen
SHORT = 0.2  # seconds in which what must not happen would long have


def echo(listener):
    """Answer every connection with what it says, until it says no more."""

    def answer(connection):
        with closing(connection), suppress(ConnectionResetError):  # some tests, and the proxy's end, are
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


class Fault:
    """The proxy as a process, its control connection, and clients of it."""

    def __init__(self, target):
        command = [sys.executable, PROGRAM, "--target", f"127.0.0.1:{target}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ports = json.loads(self.process.stdout.readline())
        self.port, self._control = ports["port"], socket.create_connection(("127.0.0.1", ports["control"]))
        self._lines = self._control.makefile("r")

    def __call__(self, line):
        self._control.sendall(line.encode() + b"\n")
        return self._lines.readline().strip()

    def status(self):
        return json.loads(self("status").removeprefix("ok "))

    @contextmanager
    def client(self):
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=LONG)) as client:
            yield client

    def close(self):
        self._lines.close()
        self._control.close()
        self.process.stdin.close()
        assert self.process.wait(LONG) == 0
        self.process.stdout.close()


@pytest.fixture
def server():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


@pytest.fixture
def proxy(server):
    with closing(Fault(server)) as proxy:
        yield proxy


def works(client, said=b"hello"):
    client.sendall(said)
    read = b""
    while len(read) < len(said):
        piece = client.recv(1 << 16)
        assert piece, "the connection ended"
        read += piece
    assert read == said
    return True


def is_silent(client):
    client.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(LONG)
    return True


def is_reset(client):
    with pytest.raises(ConnectionResetError):
        while client.recv(1 << 16):
            pass
    return True


def is_refused(proxy):
    with pytest.raises(ConnectionRefusedError), proxy.client():
        pass
    return True


def test_it_passes_everything_both_ways(proxy):
    with proxy.client() as client:
        said = bytes(range(256)) * 4000
        threading.Thread(target=client.sendall, args=(said,)).start()
        read = b""
        while len(read) < len(said):
            read += client.recv(1 << 16)
        assert read == said
        status = proxy.status()
    assert status == {
        "mode": "heal", "open": 1, "accepted": 1, "to_server": len(said), "to_client": len(said)
    }  # fmt: skip


def test_an_end_passes_too(proxy):
    with proxy.client() as client:
        works(client)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    until(lambda: proxy.status()["open"] == 0)


def test_a_server_that_does_not_listen_ends_the_connection():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with closing(Fault(port)) as proxy, proxy.client() as client:
        assert is_reset(client)


def test_latency_delays_and_keeps_order(proxy):
    assert proxy("latency 300") == "ok"
    with proxy.client() as client:
        began = time.monotonic()
        for part in range(20):  # pipelined: one delay, not twenty
            client.sendall(b"%02d" % part)
        read = b""
        while len(read) < 40:
            read += client.recv(100)
        assert read == b"".join(b"%02d" % part for part in range(20))
        assert time.monotonic() - began >= 0.3  # a delay at least; how much more is the machine's affair
        assert proxy("latency 0") == "ok" and works(client)


def test_bandwidth_takes_the_time_it_must(proxy):
    assert proxy("bandwidth 100000") == "ok"
    with proxy.client() as client:
        began = time.monotonic()
        works(client, bytes(20_000))
        assert time.monotonic() - began >= 0.2
        assert proxy("bandwidth 0") == "ok" and works(client)


def test_reset(proxy):
    with proxy.client() as client:
        works(client)
        assert proxy("reset") == "ok" and is_reset(client)
    with proxy.client() as client:
        assert works(client)


def test_cut_silences_what_is_open_and_nothing_else(proxy):
    with proxy.client() as client:
        works(client)
        assert proxy("cut") == "ok"
        client.sendall(b"lost")
        assert is_silent(client)
        with proxy.client() as other:
            assert works(other)
            assert proxy("heal") == "ok"
            assert is_reset(client) and works(other)


def test_half_open_accepts_and_never_answers(proxy):
    with proxy.client() as client:
        works(client)
        assert proxy("half-open") == "ok"
        client.sendall(b"lost")
        with proxy.client() as other:
            other.sendall(b"lost")
            assert is_silent(client) and is_silent(other)
            assert proxy.status()["to_server"] == 5
            assert proxy("heal") == "ok"
            assert is_reset(client) and is_reset(other)
    with proxy.client() as client:
        assert works(client)


def test_refuse_takes_no_more(proxy):
    with proxy.client() as client:
        works(client)
        assert proxy("refuse") == "ok"
        assert is_refused(proxy) and works(client)
        assert proxy("heal") == "ok"
        with proxy.client() as other:
            assert works(other) and works(client)


def test_kill_is_as_when_a_process_is_killed(proxy):
    with proxy.client() as client:
        works(client)
        assert proxy("kill") == "ok"
        assert is_reset(client) and is_refused(proxy)
    assert proxy("half-open") == "ok"
    with proxy.client() as client:
        assert is_silent(client)
    assert proxy("heal") == "ok"
    with proxy.client() as client:
        assert works(client)


@pytest.mark.parametrize(
    "line", ["", "explode", "latency", "latency soon", "latency -1", "kill now", "bandwidth 1 2"]
)
def test_what_it_does_not_know_it_says(proxy, line):
    assert proxy(line).startswith("error ")
    with proxy.client() as client:
        assert works(client)


def until(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
