"""The programs of clients/conformance as child processes, and raw commands to servers."""

import json
import socket
import subprocess
import sys

import redis

from . import CONFORMANCE, LIMIT

SECONDS = 60.0  # for servers to start and stop, on a machine that is busy


class Program:
    """A program of clients/conformance that says a line of JSON and runs until its input closes."""

    def __init__(self, name, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, CONFORMANCE / name, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        line = self._process.stdout.readline()
        assert line, f"{name} did not start"
        self.said = json.loads(line)

    def close(self):
        """End it; what it has to complain of fails the test."""
        self._process.communicate(timeout=SECONDS)
        assert self._process.returncode == 0, "a server broke; it has said which"


class Proxy(Program):
    """A fault proxy before a server."""

    def __init__(self, node):
        super().__init__("fault_proxy.py", "--target", node)
        self.url = f"redis://127.0.0.1:{self.said['port']}"
        self._control = socket.create_connection(("127.0.0.1", self.said["control"]), timeout=LIMIT)
        self._lines = self._control.makefile("r")

    def tell(self, line):
        """A line to its control port; it is in force when this returns."""
        self._control.sendall(f"{line}\n".encode())
        answer = self._lines.readline().strip()
        assert answer == "ok", answer

    def close(self):
        self._lines.close()
        self._control.close()
        super().close()


class Raw:
    """One connection to a server, on which replies are as they come."""

    def __init__(self, node):
        host, _, port = node.rpartition(":")
        self._connection = redis.Connection(host=host, port=int(port), protocol=2, socket_timeout=LIMIT)

    def __call__(self, *command):
        self._connection.send_command(*command)
        return self._connection.read_response()

    def close(self):
        """Close it."""
        self._connection.disconnect()
