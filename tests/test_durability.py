"""kill -9 of a server under load, and what is there after it has started again: with appendfsync always
everything that was acknowledged, with everysec all but the last moments; never half of an operation,
never a later one without an earlier, never what was invalidated and is known to be."""

import random
import threading
import time

import pytest

from harness.history import Step, one_prefix, survived
from harness.resp import Connection, ReplyError
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

CLIENTS, KEYS = 4, 5
LOAD = 1.2  # seconds before each kill
EVERY_SECOND = 2.0  # what appendfsync everysec may lose: a second, and one that it may be late
TOLERANCE = {"always": 0, "everysec": EVERY_SECOND}


class Client:
    """Alone writes some keys that share a tag, and knows what they hold after each of its steps."""

    def __init__(self, server, number, chance):
        self.server, self.number, self.chance = server, number, chance
        self.keys = [f"c{number}:k{at}" for at in range(KEYS)]
        self.tag = f"of-{number}"
        self.steps, self.counter, self.token = [], 0, 0

    def run(self):
        """Until the server is gone."""
        connection = Connection(self.server.port)
        try:
            while True:
                self.step(connection)
        except (OSError, ReplyError):
            connection.close()

    def step(self, connection):
        """One operation. It is noted before it is sent: it may be done and not acknowledged."""
        held = dict(self.steps[-1].after) if self.steps else {}
        what, after = self.choose(held)
        if what[0] == "FILL":
            token = connection("CACHE.FETCH", what[1], "BETA", 0)[2]
            assert token > self.token, "tokens grow"
            self.token = token
            what = ("CACHE.SET", what[1], what[2], "LEASE", token, *what[3:])
        start = time.monotonic()
        self.steps.append(Step(start, None, " ".join(map(str, what)), after))
        connection(*what)
        self.steps[-1] = self.steps[-1]._replace(end=time.monotonic())

    def choose(self, held):
        """A command, and what is there after it."""
        chance, key = self.chance.random(), self.chance.choice(self.keys)
        self.counter += 1
        if chance < 0.2:
            return ("CACHE.INVALIDATE", "TAGS", self.tag), {}
        if chance < 0.3 and held:
            gone = self.chance.choice(sorted(held))
            return ("CACHE.DEL", gone), {name: held[name] for name in held if name != gone}
        if chance < 0.4 and held:
            more = self.chance.choice(sorted(held))
            return ("CACHE.INCRBY", more, 1000), {**held, more: held[more] + 1000}
        after = {**held, key: self.counter}
        if chance < 0.7 and key not in held:
            return ("FILL", key, self.counter, "EX", 600, "TAGS", "all", self.tag), after
        return ("CACHE.SET", key, self.counter, "EX", 600, "GRACE", 600, "TAGS", self.tag, "all"), after

    def data(self):
        """What is there of its keys."""
        values = self.server("CACHE.MGET", *self.keys)
        return {key: int(value) for key, value in zip(self.keys, values, strict=True) if value is not None}

    def go_on(self, data):
        """What is there now is where it begins anew."""
        self.steps = [Step(0, 0, "what was there", data)]


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_kill9_under_load(fresh_server, fsync):
    server = fresh_server(["--appendonly", "yes", "--appendfsync", fsync])
    chance = random.Random(fsync)
    clients = [Client(server, number, random.Random(chance.random())) for number in range(CLIENTS)]
    longest = lost_steps = steps = 0
    for round_ in range(3):
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(LOAD)
        if round_ == 1:
            server.bgrewriteaof()  # what comes after it is in another file
            time.sleep(LOAD / 4)
        killed = time.monotonic()
        server.kill9()
        for thread in threads:
            thread.join(60)
        server.start()
        found = [(client, client.data()) for client in clients]
        outcomes = [
            (client.steps, survived(client.steps, data, killed, TOLERANCE[fsync])) for client, data in found
        ]
        errors = [outcome.error for _, outcome in outcomes if outcome.error]
        assert not errors, errors
        assert one_prefix(outcomes) is None, one_prefix(outcomes)
        lost = [step for _, outcome in outcomes for step in outcome.lost]
        lost_steps += len(lost)
        longest = max([longest, *(killed - step.end for step in lost)])
        acknowledged = sum(step.end is not None for client in clients for step in client.steps)
        steps += acknowledged
        assert acknowledged > 200, "vacuous"
        assert_verified(server)
        for client, data in found:
            client.go_on(data)
            token = server("CACHE.FETCH", f"{client.keys[0]}:other")[2]
            assert token > client.token, "a token came again"
            client.token = token
    print(f"\n{fsync}: of {steps} acknowledged steps {lost_steps} were lost, the oldest {longest:.3f} s")


def test_what_this_would_not_forgive(fresh_server):
    """Without a file on disk, it is seen."""
    server = fresh_server(["--appendonly", "no"])
    client = Client(server, 0, random.Random(1))
    connection = server.connect()
    while not (client.steps and client.steps[-1].after):
        client.step(connection)
    killed = time.monotonic()
    server.kill9()
    server.start()
    assert survived(client.steps, client.data(), killed, 0).error
