"""An origin over HTTP that can be made to fail, and clients that fetch through a cache from it.

The origin counts what reaches it: how many requests, how many at once. Each client is a thread with a
connection of its own to the server; it asks the origin only where it was given a token, stores what it
gets, reports a failure with RETRY, and waits as long as a hint says.
"""

import http.client
import random
import threading
import time
from collections import Counter
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .leases import LIMIT, Fetched
from .resp import Connection


class Counts:
    """What reached the origin since this was made."""

    def __init__(self):
        self.requests = self.failures = self.at_once = 0
        self.since = time.monotonic()

    @property
    def seconds(self):
        """For how long it has counted."""
        return time.monotonic() - self.since


class _Queue(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


class Origin:
    """Answers GET after `work` seconds: 200, or 503 while it is dead."""

    def __init__(self, work=0.005):
        self.work, self.dead = work, False
        self._lock, self._running, self._counts = threading.Lock(), 0, [Counts()]
        origin = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self):
                status = origin.answer()
                body = self.path.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = _Queue(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self):
        """Compute, counted; the status."""
        with self._lock:
            self._running += 1
            for counts in self._counts:
                counts.requests += 1
                counts.at_once = max(counts.at_once, self._running)
        time.sleep(self.work)
        with self._lock:
            self._running -= 1
            for counts in self._counts:
                counts.failures += self.dead
        return 503 if self.dead else 200

    def count(self):
        """Count anew, beside what is counted already."""
        with self._lock:
            counts = Counts()
            self._counts.append(counts)
        return counts

    @property
    def total(self):
        """What has ever reached it."""
        return self._counts[0]

    def get(self, key):
        """A client's request: the value, or None where it fails."""
        with closing(http.client.HTTPConnection(*self._server.server_address, timeout=LIMIT)) as connection:
            connection.request("GET", key)
            response = connection.getresponse()
            body = response.read()
            return body if response.status == 200 else None


class Client:
    """Reads keys at random until it is told to stop, and writes down what it is answered."""

    def __init__(self, load, number):
        self.load, self.dice = load, random.Random(number)
        # Every other one waits in the server.
        self.block = ("BLOCK", 500) if number % 2 else ()
        # One in twenty-five dies with the token in its hand, and asks nobody.
        self.vanishes = number % 25 == 0
        self.served = 0

    def run(self):
        """Until the load stops."""
        try:
            with closing(Connection(self.load.port)) as connection:
                while not self.load.stopped.wait(self.dice.uniform(0.05, 0.15)):
                    self.read(connection, self.dice.choice(self.load.keys))
        except Exception as failure:  # whatever it is, the test is told
            self.load.failures.append(failure)

    def read(self, connection, key):
        """One value."""
        lease = ("LEASE", 200, "KEEP") if self.vanishes else ("LEASE", 60_000)
        found = Fetched(*connection("CACHE.FETCH", key, *lease, *self.block))
        self.load.note(found)
        if found.state in (b"FRESH", b"STALE"):
            self.served += 1
        if found.token is None:
            if found.state == b"BUSY":
                self.load.stopped.wait(min(found.ms, 1000) / 1000)
            return
        if self.vanishes:
            return
        value = self.load.origin.get(key)
        if value is None:
            connection("CACHE.UNLOCK", key, found.token, "RETRY", 20)
            return
        connection("CACHE.SET", key, value, "LEASE", found.token, "PX", 100, "PGRACE", 60_000)
        self.served += 1


class Load:
    """So many clients at work on these keys. Within it they run; at its end none has failed."""

    def __init__(self, server, origin, keys, clients):
        self.port, self.origin, self.keys = server.port, origin, keys
        self.stopped, self.failures = threading.Event(), []
        self._lock, self._answers = threading.Lock(), [Counter()]
        self.clients = [Client(self, number) for number in range(clients)]
        self._threads = [threading.Thread(target=client.run, daemon=True) for client in self.clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self._threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
        assert not self.failures, self.failures[:3]

    def note(self, found):
        """An answer to a FETCH."""
        what = (found.state.decode(), found.token is not None)
        with self._lock:
            for answers in self._answers:
                answers[what] += 1
                answers["without a hint"] += found.state == b"BUSY" and found.ms <= 0

    def count(self):
        """Answers from now on: a Counter of (state, whether there was a token)."""
        with self._lock:
            answers = Counter()
            self._answers.append(answers)
        return answers
