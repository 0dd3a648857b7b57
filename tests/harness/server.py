"""A real server as a child process: started, watched, restarted, killed, and its log read.

Servers listen on free loopback ports, work in directories of their own, and are ended by their
own process, never by name. Whatever way pytest ends, the kernel ends them with it (PDEATHSIG).
"""

import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing, contextmanager

import redis

from .resp import Connection, ReplyError

# What a server's log says when it, or the module in it, broke. "panic" covers "cacheflow: panic";
# a crash report's INFO has the counter cacheflow_panics:0.
BROKEN = re.compile(r"panic(?!s:0)|BUG REPORT|Assertion|ASSERTION FAILED|crashed by signal", re.IGNORECASE)
CAUGHT = "panic caught at "  # the module's line of a panic that its border kept from the server
START_SECONDS = 60
STOP_SECONDS = 30

_prctl = ctypes.CDLL(None).prctl


def _end_with_parent():
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# Below what the kernel gives to outgoing connections (32768 on): else one might hold the port of a
# server that restarts, or a node that tries a dead one's port again meet itself there.
PORTS = range(10_000, 32_000)
_given = set()


def free_port():
    """A port that is free now and was given to nobody else of this run; start() tries another if
    another process was faster."""
    while True:
        port = random.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def wait_for(condition, what, seconds=30.0, pause=0.005):
    """Wait until condition() is true; its last value is returned. A bound, not a measurement."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(pause)
    return value


class Server:
    """One server process and the connections to it."""

    def __init__(self, binary, directory, module=None, args=(), module_args=()):
        self.binary, self.directory, self.args = binary, directory, [str(arg) for arg in args]
        self.module, self.module_args = module, module_args
        self.process = self.port = None
        self.bus_port = None  # of a node of a cluster
        self.paused = False
        self.restarts = 0  # deliberate stops: the data that was only in memory may be gone
        self.running = False  # what the test wants, whatever the process does
        self._connections, self._main = [], None
        self._log_seen = 0
        self._expected = []  # stretches of the log in which panics are what the test wants
        os.makedirs(directory, exist_ok=True)

    # --- its life ------------------------------------------------------------------------------
    def start(self):
        """Start it and wait until it has loaded its data."""
        for _ in range(5):
            if self.port is None:
                self.port = free_port()
                self.bus_port = free_port() if "--cluster-enabled" in self.args else None
            log_from = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
            self._write_config()
            bus = [] if self.bus_port is None else ["--cluster-port", str(self.bus_port)]
            with open(self.log_path, "ab") as log:
                self.process = subprocess.Popen(
                    [self.binary, "redis.conf", "--port", str(self.port), *bus, *self.args],
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
            if self._wait_ready():
                self.running = True
                return self
            log = self.log(log_from)
            if "Address already in use" not in log:
                raise AssertionError(f"the server did not start:\n{log}")
            self.port = None
        raise AssertionError("no free port in five attempts")

    def _write_config(self):
        path = os.path.join(self.directory, "redis.conf")
        if os.path.exists(path):
            return  # CONFIG REWRITE may have written it
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join(self._config_lines()) + "\n")

    def _config_lines(self):
        lines = [
            "bind 127.0.0.1",
            'save ""',
            "appendonly no",
            "enable-debug-command yes",
            "enable-module-command yes",
            "repl-diskless-sync-delay 0",
            "repl-timeout 20",
        ]
        if self.module:
            lines.append(" ".join(["loadmodule", self.module, *self.module_args]))
        return lines

    def _wait_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            try:
                probe = Connection(self.port, timeout=START_SECONDS)
            except OSError:
                time.sleep(0.005)
                continue
            try:
                probe("PING")
                # Another process may listen there: ours is the one with our pid.
                return b"process_id:%d\r" % self.process.pid in probe("INFO", "server")
            except (ReplyError, OSError):  # LOADING; or it is on its way out, see poll() above
                time.sleep(0.005)
            finally:
                probe.close()
        raise AssertionError(f"not ready after {START_SECONDS} s:\n{self.log()}")

    def stop(self):
        """SIGTERM, and SIGKILL after a bound; a server that needs that fails the test."""
        self.running = False
        self.close_connections()
        if self.process is None or self.process.poll() is not None:
            return
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"SIGTERM did not end the server:\n{self.log()}") from None

    def kill9(self):
        """SIGKILL, on purpose: no crash for the check at the end of the test."""
        self.running = self.paused = False
        self.restarts += 1
        self.close_connections()
        self.process.kill()
        self.process.wait()

    def pause(self):
        """SIGSTOP: it answers nobody, until resume()."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        """SIGCONT, if it is paused."""
        if self.paused:
            self.process.send_signal(signal.SIGCONT)
            self.paused = False

    def restart(self, args=None):
        """Stop it if it runs, start it on the same port and data (with other arguments, if given)."""
        self.stop()
        self.restarts += 1
        if args is not None:
            self.args = [str(arg) for arg in args]
        return self.start()

    def discard(self):
        """Kill it and remove its directory: for the end of everything."""
        if self.process is not None and self.process.poll() is None:
            self.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- talking to it -------------------------------------------------------------------------
    def __call__(self, *args):
        """Send a command on the server's main connection; errors are raised as ReplyError."""
        if self._main is None:
            self._main = self.connect()
        try:
            return self._main(*args)
        except OSError:
            # What comes next over it would be the answer to this.
            self._main = None
            raise

    def ask(self, *args):
        """A command over a connection of its own."""
        with closing(Connection(self.port)) as connection:
            return connection(*args)

    def error(self, *args):
        """The text of the error that a command must answer."""
        try:
            reply = self(*args)
        except ReplyError as error:
            return str(error)
        raise AssertionError(f"expected an error from {args!r}, got {reply!r}")

    def connect(self, protocol=2, db=0, timeout=60.0):
        """A raw connection of its own, closed after the test."""
        return self.keep(Connection(self.port, protocol, db, timeout))

    def reader(self):
        """A connection to this very server that may read all of its keys."""
        return self.connect()

    def keep(self, connection):
        """Close this connection or client too after the test."""
        self._connections.append(connection)
        return connection

    def client(self, protocol=2, db=0, **options):
        """A redis-py client as applications have it, closed after the test."""
        options = {"socket_timeout": 60, **options}
        return self.keep(redis.Redis("127.0.0.1", self.port, db=db, protocol=protocol, **options))

    def close_connections(self):
        """Close whatever connect(), reader() and client() opened."""
        for connection in self._connections:
            connection.close()
        self._connections, self._main = [], None

    # --- looking at it -------------------------------------------------------------------------
    @property
    def pid(self):
        """The process's id."""
        return self.process.pid

    @property
    def log_path(self):
        """Its log: stdout and stderr, through restarts."""
        return os.path.join(self.directory, "log")

    def log(self, since=0):
        """The log from a byte offset on."""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            log.seek(since)
            return log.read()

    def info(self, section="everything"):
        """INFO as a dict of str to str."""
        text = self("INFO", section).decode(errors="replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and line[0] != "#")

    def config(self, name, value=None):
        """CONFIG GET of one directive as str, or CONFIG SET if a value is given."""
        if value is not None:
            return self("CONFIG", "SET", name, value)
        return self("CONFIG", "GET", name)[1].decode()

    def cpu_seconds(self):
        """User and system CPU time that the process used so far."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            after_name = stat.read().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def version(self):
        """(name, major, minor): ("redis", 7, 0), ("valkey", 9, 1)."""
        info = self.info("server")
        name = info.get("server_name", "redis")
        version = info.get("valkey_version" if name == "valkey" else "redis_version")
        major, minor = version.split(".")[:2]
        return name, int(major), int(minor)

    @contextmanager
    def expect_panics(self):
        """Within it the test provokes panics: one that the module caught is no problem, all else
        still is. Yields a function: the lines that the log has of them so far. At the end there
        must be at least one."""
        begin = os.path.getsize(self.log_path)

        def caught():
            return [line for line in self.log(begin).splitlines() if CAUGHT in line]

        try:
            yield caught
            assert caught(), "no panic, though the test expects one"
        finally:
            self._expected.append((begin, os.path.getsize(self.log_path)))

    def problems(self):
        """What went wrong in the process since the last call: a death, a panic in the log."""
        found = []
        if self.running and self.process.poll() is not None:
            found.append(f"the server on port {self.port} died ({self.process.returncode})")
            self.running = False
        with open(self.log_path, "rb") as log:
            log.seek(self._log_seen)
            for raw in log:
                line, at = raw.decode(errors="replace").rstrip(), self._log_seen
                self._log_seen += len(raw)
                expected = CAUGHT in line and any(begin <= at < end for begin, end in self._expected)
                if BROKEN.search(line) and not expected:
                    found.append(line)
        return found

    # --- waiting for it ------------------------------------------------------------------------
    def bgsave(self):
        """BGSAVE, to its end."""
        before = self.info("persistence")["rdb_last_save_time"]
        self("BGSAVE")
        wait_for(lambda: self.info("persistence")["rdb_bgsave_in_progress"] == "0", "BGSAVE")
        info = self.info("persistence")
        assert info["rdb_last_bgsave_status"] == "ok" and info["rdb_last_save_time"] >= before

    def reload(self, *options):
        """DEBUG RELOAD, by a client of its own: Valkey 8 leaves it in the database of whatever key was
        loaded last, where a module listens (valkey#4024)."""
        connection = self.connect()
        assert connection("DEBUG", "RELOAD", *options) == b"OK"
        connection.close()

    def bgrewriteaof(self):
        """BGREWRITEAOF, to its end."""
        wait_for(lambda: self.info("persistence")["aof_rewrite_in_progress"] == "0", "a rewrite")
        self("BGREWRITEAOF")
        state = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        wait_for(lambda: all(self.info("persistence")[name] == "0" for name in state), "BGREWRITEAOF")
        assert self.info("persistence")["aof_last_bgrewrite_status"] == "ok"

    def wait_swept(self):
        """Wait until a primary has removed what was invalidated: until then its keys are there, and
        a replica's go when their primary's do."""

        def swept():
            info = self.info()
            return info["role"] == "slave" or info.get("cacheflow_sweep_queued", "0") == "0"

        wait_for(swept, "the sweep")

    def wait_replica_of(self, primary, swept=True):
        """Wait until this replica's link is up and it has applied all that its primary wrote, the
        removal of what was invalidated included (swept=False: where the test holds the sweep)."""
        if swept:
            primary.wait_swept()

        def caught_up():
            info, other = self.info("replication"), primary.info("replication")
            return (
                info["role"] == "slave"
                and info["master_link_status"] == "up"
                and info["slave_repl_offset"] == other["master_repl_offset"]
                and int(other["connected_slaves"]) >= 1
            )

        wait_for(caught_up, "the replica to catch up")


class Fleet:
    """Every server of a pytest run, so that all are watched and none is left behind."""

    def __init__(self, binary, module, directory):
        self.binary, self.module, self.directory = binary, module, str(directory)
        self.servers, self._made = [], 0

    def start(self, args=(), name="server", module_args=(), module=..., kind=Server):
        """Start a server (of a class of its own, if need be) with these arguments in a directory of
        its own."""
        self._made += 1
        server = kind(
            self.binary,
            os.path.join(self.directory, f"{name}-{self._made}"),
            self.module if module is ... else module,
            args,
            module_args,
        )
        self.servers.append(server)
        return server.start()

    def discard(self, server):
        """End a server and forget it."""
        server.discard()
        self.servers.remove(server)

    def problems(self):
        """What went wrong in any of them since the last call."""
        return [problem for server in self.servers for problem in server.problems()]
