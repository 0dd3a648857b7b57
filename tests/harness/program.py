"""The `cacheflow` program as a child process: run to its end, or serving until it is stopped."""

import json
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request

from .engines import ROOT
from .server import _end_with_parent, wait_for

PROGRAM = os.path.join(ROOT, "target", "release", "cacheflow")


def url_of(*servers):
    """--url for these."""
    return ",".join(f"redis://127.0.0.1:{server.port}" for server in servers)


def run(*arguments, code=0, env=None, text=True, input=None):
    """Run it to its end; what it printed on stdout, and on stderr."""
    assert os.path.exists(PROGRAM), f"{PROGRAM} is missing: make build"
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=text,
        timeout=120,
        env={**os.environ, **(env or {})},
        input=input,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


class Answer:
    """What was answered to a request."""

    def __init__(self, code, headers, body):
        self.code, self.headers, self.body = code, headers, body

    def json(self):
        """The body."""
        assert self.headers["Content-Type"] == "application/json", self.body
        return json.loads(self.body)


class Served:
    """`cacheflow serve`, on a port of its own."""

    def __init__(self, *arguments, env=None, listen="127.0.0.1:0"):
        assert os.path.exists(PROGRAM), f"{PROGRAM} is missing: make build"
        place = ("--listen", listen) if listen else ()
        self.process = subprocess.Popen(
            [PROGRAM, "serve", *place, "--discover", "200ms", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            preexec_fn=_end_with_parent,
        )
        self.log, self.port = [], None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_for(lambda: self.port or self.process.poll() is not None, "the program to listen")
        assert self.port, self.said()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening.*127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))

    def said(self):
        """Its log."""
        return "".join(self.log)

    def ask(self, path, body=None, method=None, **headers):
        """A request; names of headers have _ for -."""
        data = None if body is None else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read().decode())

    def get(self, path, **headers):
        """The body of what must be there."""
        answer = self.ask(path, **headers)
        assert answer.code == 200, (path, answer.code, answer.body)
        return answer.body if path == "/metrics" else answer.json()

    def wait_ready(self):
        """Until every shard has a primary that answers."""
        wait_for(lambda: self.ask("/readyz").code == 200, "the servers to be found")
        return self

    def stop(self):
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join()
        return code

    def discard(self):
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stderr.close()
