"""The level in the process against a model, and its borders."""

import json
import sys
import threading
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cacheflow.local import OVERHEAD, Entry, LocalCache

KEYS = ["n0:a", "n0:b", "n1:a"]  # few, so that scripts meet the same again
TAGS = ["a", "b", "@n0"]


def namespace_of(key):
    return key.split(":")[0]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def level(max_bytes=1 << 20, clock=None, max_ttl=60.0):
    local = LocalCache(max_bytes, max_ttl, namespace_of, clock or Clock())
    local.connected()
    return local


def put(local, key, value, fresh=10.0, grace=5.0, tags=()):
    return local.put(local.begin(key), Entry(value, b"", lambda _: value), fresh, grace, tags)


steps = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(KEYS)),
    st.tuples(
        st.just("put"), st.sampled_from(KEYS), st.integers(0, 9), st.lists(st.sampled_from(TAGS), unique=True)
    ),
    st.tuples(st.just("fill"), st.sampled_from(KEYS), st.lists(st.sampled_from(TAGS), unique=True)),
    st.tuples(st.just("get"), st.sampled_from(KEYS)),
    st.tuples(st.just("drop"), st.sampled_from(KEYS)),
    st.tuples(st.just("invalidate"), st.sampled_from([*TAGS, "@n1"]), st.booleans()),
    st.tuples(st.just("flush")),
    st.tuples(st.just("lost")),
    st.tuples(st.just("connected")),
    st.tuples(st.just("pass"), st.floats(0, 8)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, min_size=10, max_size=60))
@example([("fill", "n0:a", []), ("lost",), ("connected",), ("get", "n0:a")])
@example([("begin", "n0:a"), ("invalidate", "b", False), ("put", "n0:a", 1, [])])
def test_against_a_model(script):
    """The model keeps what it may show by the rules, in the plainest way: a list of all that was put, and of
    all that was heard."""
    clock = Clock()
    local, tickets = level(clock=clock), {}
    model, valid, live = {}, {}, True  # key -> [value, fresh until, stale until, tags, trusted]
    for step, *args in script:
        if step == "fill":
            kept = put(local, args[0], [7], tags=args[1])
            tickets.pop(args[0], None)
            assert kept is live
            if kept:
                model[args[0]] = [[7], clock.now + 10, clock.now + 15, args[1], True]
        elif step == "begin":
            tickets[args[0]], valid[args[0]] = local.begin(args[0]), True
        elif step == "put":
            key, value, tags = args
            if key not in tickets:
                continue
            kept = local.put(tickets.pop(key), Entry([value], b"", list), 10.0, 5.0, tags)
            assert kept is (valid.pop(key) and live)
            if kept:
                model[key] = [[value], clock.now + 10, clock.now + 15, tags, True]
        elif step == "get":
            found = model.get(args[0])
            fresh = found is not None and live and found[4] and found[1] > clock.now
            stale = found is not None and found[2] > clock.now
            assert local.get(args[0], "none") == (found[0] if fresh else "none")
            assert local.get_stale(args[0], "none") == (found[0] if stale else "none")
        elif step == "drop":
            local.drop(args)
            model.pop(args[0], None)
            valid[args[0]] = False
        elif step == "invalidate":
            target, soft = args
            local.invalidate(target, soft)
            valid = dict.fromkeys(valid, False)
            for key in [k for k, e in model.items() if target in e[3] or target == f"@{namespace_of(k)}"]:
                if soft:
                    model[key][1] = 0.0
                else:
                    del model[key]
        elif step == "flush":
            local.flush()
            model, valid = {}, dict.fromkeys(valid, False)
        elif step == "lost":
            local.lost()
            live, valid = False, dict.fromkeys(valid, False)
            for entry in model.values():
                entry[4] = False
        elif step == "connected":
            local.connected()
            live = True
        else:
            clock.now += args[0]
        assert len(local) == len(model)
        local.validate()


def test_what_is_heard_while_a_reply_is_on_its_way_voids_it():
    for heard in (
        lambda level: level.drop(["n:1"]),
        lambda level: level.invalidate("any tag"),
        lambda level: level.flush(),
        lambda level: (level.lost(), level.connected()),
    ):
        local = level()
        ticket = local.begin("n:1")
        heard(local)
        assert not local.put(ticket, Entry(1, b"1", int), 10, 0, ())
        assert put(local, "n:1", 1)


def test_what_was_there_before_a_loss_is_never_fresh_again():
    local = level()
    put(local, "n:1", 1)
    local.lost()
    assert local.get("n:1", None) is None
    local.connected()
    assert local.get("n:1", None) is None
    assert local.get_stale("n:1", None) == 1


def test_it_is_bounded_by_bytes_and_drops_who_was_used_longest_ago():
    local = level(20 * (OVERHEAD + 200))
    for number in range(100):
        assert put(local, f"n:{number}", "x" * 100)
        local.get("n:0")
        local.validate()
    assert local.get("n:0", None) is not None
    assert local.get("n:1", None) is None
    assert 10 <= len(local) <= 21


def test_what_is_too_large_is_not_kept():
    local = level(80_000)
    assert put(local, "n:1", "x" * 9_000)
    assert not put(local, "n:1", "x" * 11_000)
    local.validate()


def test_no_caller_can_alter_anothers_value():
    local = level()
    put(local, "n:1", {"a": [1]})
    local.get("n:1")["a"].append(2)
    assert local.get("n:1") == {"a": [1]}


def test_what_marshal_cannot_write_is_decoded_each_time():
    class Odd:
        pass

    local, decoded = level(), []
    entry = Entry(Odd(), b"bytes", lambda data: decoded.append(data) or Odd())
    local.put(local.begin("n:1"), entry, 10, 0, ())
    assert isinstance(local.get("n:1"), Odd) and local.get("n:1") is not local.get("n:1")
    assert decoded == [b"bytes"] * 3


def test_freshness_is_bounded_by_what_the_server_said_and_by_max_ttl():
    clock = Clock()
    local = level(clock=clock, max_ttl=5.0)
    put(local, "n:1", 1, fresh=2.0)
    put(local, "n:2", 2, fresh=float("inf"))
    clock.now = 1.9
    assert local.get("n:1") == 1
    clock.now = 2.0
    assert local.get("n:1", "gone") == "gone"
    clock.now = 5.0
    assert local.get("n:2", "gone") == "gone"
    assert local.get_stale("n:2", "gone") == 2


def test_bytes_are_what_it_takes():
    """Within a fifth of what the allocator says, for small entries with a tag each."""
    entries = 4000
    local = level(1 << 30)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(entries):
        put(
            local,
            "".join(["namespace:key:", str(number)]),
            json.loads(json.dumps({"id": number, "name": "x" * 50})),  # its own, names included
            tags=(f"tag:{number}",),
        )
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    local.validate()
    print(f"{took / entries:.0f} bytes an entry, counted {local.bytes / entries:.0f}, {sys.version_info[:2]}")
    assert 0.8 <= local.bytes / took <= 1.25


@pytest.fixture
def restless():
    """Threads that take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_under_threads(restless):
    local, errors = level(200 * OVERHEAD), []

    def work(seed):
        try:
            for number in range(3000):
                key = f"n:{(number * seed) % 300}"
                if local.get(key, None) is None:
                    put(local, key, number, tags=(f"t{number % 7}",))
                if number % 50 == 0:
                    local.invalidate(f"t{seed % 7}")
                if number % 70 == 0:
                    local.invalidate("@n", soft=seed == 7)
                if number % 20 == 0:
                    local.drop([key])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    local.validate()


def test_who_reads_moves_what_another_walks_over(restless):
    """A read takes no lock, and moves its entry to the end while another thread looks for the oldest, or for all
    of a namespace."""
    local, end, errors = level(100 * OVERHEAD), threading.Event(), []

    def read():
        while not end.is_set():
            for number in range(200):
                local.get(f"n:{number}", None)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(30_000):
            put(local, f"n:{number % 200}", number)
            if number % 100 == 0:
                local.invalidate("@n", soft=True)
    except RuntimeError as error:
        errors.append(error)
    end.set()
    for reader in readers:
        reader.join(60)
    assert errors == []
    local.validate()
