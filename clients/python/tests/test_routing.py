"""Where commands go and when they are sent again, without servers: the router is driven by a script of what
nodes answer."""

import pytest
from redis import exceptions
from redis.crc import key_slot

from cacheflow import ServerError, Unavailable
from cacheflow.breaker import Breakers
from cacheflow.effects import Batch, Command, Exchange, Sleep
from cacheflow.transport.routing import ClusterRouter, Router

A, B = ("a", 1), ("b", 2)
LOW = next(f"k{n}" for n in range(100) if key_slot(f"k{n}".encode()) < 8192)
HIGH = next(f"k{n}" for n in range(100) if key_slot(f"k{n}".encode()) >= 8192)
SLOTS = [[[0, 8191, [b"a", 1, b"id"]], [8192, 16383, [b"b", 2, b"id"]]]]


def drive(operation, *script):
    """Perform an operation: each exchange is answered by the next line (node or None for any, first word of
    the last request or None, answers or error)."""
    script, sent = list(script), []
    effect = next(operation)
    while True:
        if isinstance(effect, Sleep):
            answer = None
        else:
            assert isinstance(effect, Exchange)
            assert script, f"not expected: {effect.node} {effect.requests}"
            node, word, answer = script.pop(0)
            assert node in (None, effect.node), f"{effect.node} {effect.requests}"
            assert word in (None, effect.requests[-1][0])
            sent.append(effect)
        try:
            effect = operation.throw(answer) if isinstance(answer, BaseException) else operation.send(answer)
        except StopIteration as end:
            assert not script, f"left over: {script}"
            return end.value


def broken():
    return exceptions.ConnectionError("closed")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def breakers(clock, told):
    return Breakers(3, 5.0, clock, lambda node, what, error: told.append((node, what)))


@pytest.fixture
def one(clock, breakers):
    return Router(1.0, clock, breakers)


@pytest.fixture
def cluster(clock, breakers):
    return ClusterRouter((A,), 1.0, clock, breakers)


GET = Command(("GET", LOW), LOW)
INCR = Command(("INCR", LOW), LOW, safe=False)


def test_one_server_is_asked_once_more_where_the_connection_broke(one):
    assert drive(one.command(GET), (None, "GET", broken()), (None, "GET", [b"v"])) == b"v"
    with pytest.raises(Unavailable) as error:
        drive(one.command(GET), (None, "GET", broken()), (None, "GET", broken()))
    assert error.value.code == "connection" and error.value.key == LOW


def test_what_is_not_safe_is_never_sent_twice(one, cluster):
    with pytest.raises(Unavailable):
        drive(one.command(INCR), (None, "INCR", broken()))
    with pytest.raises(Unavailable):
        drive(cluster.command(INCR), (A, "CLUSTER", SLOTS), (A, "INCR", broken()))
    with pytest.raises(Unavailable):
        drive(one.batch(Batch([GET, INCR])), (None, "INCR", broken()))


def test_nor_what_took_long(one, clock):
    operation = one.command(GET)
    next(operation)
    clock.now = 0.6
    with pytest.raises(Unavailable) as error:
        operation.throw(exceptions.TimeoutError("late"))
    assert error.value.code == "timeout"


def test_refusals_are_the_callers(one, cluster):
    refused = exceptions.ResponseError("WRONGTYPE Operation against a key")
    for router, script in ((one, []), (cluster, [(A, "CLUSTER", SLOTS)])):
        with pytest.raises(ServerError) as error:
            drive(router.command(GET), *script, (None, "GET", [refused]))
        assert error.value.code == "wrongtype"


def test_each_key_to_its_node(cluster):
    assert drive(cluster.command(GET), (A, "CLUSTER", SLOTS), (A, "GET", [b"1"])) == b"1"
    assert drive(cluster.command(Command(("GET", HIGH), HIGH)), (B, "GET", [b"2"])) == b"2"
    both = Command(("CACHE.STATS",), None, everywhere=True)
    assert drive(cluster.command(both), (A, None, [b"1"]), (B, None, [b"2"])) == [b"1", b"2"]
    assert drive(cluster.nodes(), (None, "CLUSTER", SLOTS)) == [A, B]


def test_moved_is_followed_and_learned(cluster):
    moved = exceptions.MovedError(f"{key_slot(LOW.encode())} b:2")
    now = [[[0, 16383, [b"b", 2, b"id"]]]]
    assert (
        drive(
            cluster.command(GET),
            (A, "CLUSTER", SLOTS),
            (A, "GET", [moved]),
            (None, "CLUSTER", now),
            (B, "GET", [b"v"]),
        )
        == b"v"
    )
    assert drive(cluster.command(GET), (B, "GET", [b"v"])) == b"v"


def test_ask_is_followed_once(cluster):
    ask = exceptions.AskError(f"{key_slot(LOW.encode())} b:2")
    operation = cluster.command(GET)
    script = [(A, "CLUSTER", SLOTS), (A, "GET", [ask]), (B, "GET", [b"OK", b"v"])]
    assert drive(operation, *script) == b"v"
    assert drive(cluster.command(GET), (A, "GET", [b"v"])) == b"v"


def test_a_node_that_is_gone_has_the_slots_asked_for(cluster):
    now = [[[0, 16383, [b"b", 2, b"id"]]]]
    script = [(A, "CLUSTER", SLOTS), (A, "GET", broken()), (None, "CLUSTER", now), (B, "GET", [b"v"])]
    assert drive(cluster.command(GET), *script) == b"v"


def test_unblocked_and_tryagain_are_asked_again(cluster):
    unblocked = exceptions.ResponseError("UNBLOCKED force unblock from blocking operation")
    script = [(A, "CLUSTER", SLOTS), (A, "GET", [unblocked]), (None, "CLUSTER", SLOTS), (A, "GET", [b"v"])]
    assert drive(cluster.command(GET), *script) == b"v"


def test_redirections_come_to_an_end(cluster):
    moved = exceptions.MovedError(f"{key_slot(LOW.encode())} a:1")
    script = [(A, "CLUSTER", SLOTS)] + 8 * [(A, "GET", [moved]), (None, "CLUSTER", SLOTS)]
    with pytest.raises(Unavailable) as error:
        drive(cluster.command(GET), *script)
    assert error.value.code == "clusterdown"


def test_nobody_says_who_has_the_slots(cluster):
    with pytest.raises(Unavailable):
        drive(cluster.command(GET), (A, "CLUSTER", broken()))
    with pytest.raises(Unavailable):
        drive(cluster.command(GET), (A, "CLUSTER", [[]]))
    hole = [[[0, 10, [b"a", 1, b"id"]]]]
    key = next(f"k{n}" for n in range(100) if key_slot(f"k{n}".encode()) > 10)
    with pytest.raises(Unavailable):
        drive(cluster.command(Command(("GET", key), key)), (A, "CLUSTER", hole))


def test_a_batch_is_one_exchange_a_node(cluster):
    high = Command(("GET", HIGH), HIGH)
    moved = exceptions.MovedError(f"{key_slot(HIGH.encode())} a:1")
    refused = exceptions.ResponseError("ERR no")
    script = [
        (A, "CLUSTER", SLOTS),
        (A, "GET", [b"1", refused]),
        (B, "GET", [moved]),
        (B, "GET", [moved]),
        (None, "CLUSTER", SLOTS),
        (A, "GET", [b"3"]),
    ]
    first, second, third = drive(cluster.batch(Batch([GET, GET, high])), *script)
    assert (first, third) == (b"1", b"3") and second.code == "err"


def test_who_comes_while_the_slots_are_asked_for_the_first_time_asks_too(cluster):
    first = cluster.command(GET)
    next(first)
    assert drive(cluster.command(GET), (A, "CLUSTER", SLOTS), (A, "GET", [b"v"])) == b"v"


# --- breakers ------------------------------------------------------------------------------------
def late():
    return exceptions.TimeoutError("late")


def kill_a(cluster, clock):
    """Three commands find that A does not answer; B goes on saying that A has the slots."""
    clock.now += 1.0
    drive(cluster.command(GET), (A, "CLUSTER", SLOTS), (A, "GET", [b"v"]))
    drive(cluster.command(Command(("GET", HIGH), HIGH)), (B, "GET", [b"v"]))
    for number in range(3):
        learned = [(B, "CLUSTER", SLOTS)] if number else []
        operation = cluster.command(INCR)
        with pytest.raises(Unavailable) as error:
            drive(operation, *learned, (A, "INCR", late()))
        assert error.value.code == "timeout"


def test_a_node_that_does_not_answer_is_not_asked_while_the_others_are(cluster, clock, told):
    kill_a(cluster, clock)
    assert told == [(A, "open")]
    high = Command(("GET", HIGH), HIGH)
    assert drive(cluster.command(high), (B, "CLUSTER", SLOTS), (B, "GET", [b"v"])) == b"v"
    for _ in range(3):
        with pytest.raises(Unavailable) as error:
            drive(cluster.command(GET))
        assert error.value.code == "breaker_open" and "a:1" in error.value.detail
        assert drive(cluster.command(high), (B, "GET", [b"v"])) == b"v"
        assert drive(cluster.command(Command(("PING",), None)), (B, "PING", [b"PONG"])) == b"PONG"


def test_before_it_is_tried_again_the_others_say_who_has_its_slots(cluster, clock, told):
    kill_a(cluster, clock)
    clock.now += 5.0
    now = [[[0, 16383, [b"b", 2, b"id"]]]]
    drive(cluster.command(Command(("PING",), None)), (B, "CLUSTER", SLOTS), (B, "PING", [b"PONG"]))
    assert drive(cluster.command(GET), (B, "CLUSTER", now), (B, "GET", [b"v"])) == b"v"
    assert drive(cluster.command(GET), (B, "GET", [b"v"])) == b"v"


def test_it_is_used_when_it_is_back(cluster, clock, told):
    kill_a(cluster, clock)
    clock.now += 5.0
    drive(cluster.command(Command(("PING",), None)), (B, "CLUSTER", SLOTS), (B, "PING", [b"PONG"]))
    assert drive(cluster.command(GET), (B, "CLUSTER", SLOTS), (A, "GET", [b"v"])) == b"v"
    assert told == [(A, "open"), (A, "closed")]
    assert drive(cluster.command(GET), (A, "GET", [b"v"])) == b"v"


def test_a_batch_has_the_answers_of_those_that_answer(cluster, clock):
    kill_a(cluster, clock)
    high = Command(("GET", HIGH), HIGH)
    low, value = drive(cluster.batch(Batch([GET, high])), (B, "CLUSTER", SLOTS), (B, "GET", [b"v"]))
    assert low.code == "breaker_open" and value == b"v"
    with pytest.raises(Unavailable):
        drive(cluster.batch(Batch([GET, GET])))


def test_what_is_to_be_asked_again_says_nothing_against_the_node(cluster, breakers, told):
    again = [(A, "GET", [exceptions.TryAgainError("TRYAGAIN")]), (None, "CLUSTER", SLOTS)]
    assert drive(cluster.command(GET), (A, "CLUSTER", SLOTS), *4 * again, (A, "GET", [b"v"])) == b"v"
    assert told == [] and breakers.untroubled(A)


def test_one_server_that_says_it_cannot_is_left_alone(one, told):
    loading = exceptions.BusyLoadingError("loading")
    for _ in range(3):
        with pytest.raises(Unavailable):
            drive(one.command(GET), (None, "GET", [loading]))
    assert told == [(None, "open")]
    with pytest.raises(Unavailable) as error:
        drive(one.command(GET))
    assert error.value.code == "breaker_open" and error.value.key == LOW
