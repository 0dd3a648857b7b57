"""Runs one scenario: makes its actors, does its steps, compares; by public methods of the client alone."""

import time
from contextlib import ExitStack

from cacheflow import InvalidationError, LockError
from cacheflow.codecs import DecodeError

from . import LIMIT, values
from .actors import ABSENT
from .loaders import ApplicationError, Gate, Loader

PAUSE = 0.01  # seconds between two looks, where a step says until
SOURCES = {"l1_hit": "l1", "l1_stale": "l1_stale", "hit": "server", "stale": "stale", "load": "load"}
ARGUMENTS = ("ttl", "grace", "negative_ttl", "max_stale", "tags", "soft", "by", "lease")


class Runner:
    """A scenario on servers of one kind, with clients of one kind."""

    def __init__(self, scenario, kind, address, proxy, raw, make):
        """`address`: what server.py said of these servers; `proxy`: a Proxy, or None where no client wants
        one; `raw`: sends commands to the (first) server; `make`: ThreadActor or AsyncActor."""
        self._scenario, self._kind, self._address = scenario, kind, address
        self._proxy, self._raw, self._make = proxy, raw, make
        self._gates = {told["gate"]: Gate() for told in scenario.get("loaders", {}).values() if "gate" in told}
        self._loaders = {
            name: Loader(told, self._gates.get(told.get("gate")))
            for name, told in scenario.get("loaders", {}).items()
        }
        self._actors, self._begun = {}, {}
        self._locks, self._tokens = {}, {}  # by the name that a step gives them; a token outlives its lock

    def run(self):
        """All steps; AssertionError says which failed, and how."""
        with ExitStack() as ending:
            ending.callback(self._end)
            for number, step in enumerate(self._scenario["steps"], 1):
                try:
                    self._do(step)
                except Exception as error:
                    raise AssertionError(f"step {number}, {step}: {error}") from error
        complaints = [complaint for loader in self._loaders.values() for complaint in loader.complaints]
        assert not complaints, complaints

    def _end(self):
        with ExitStack() as all_of_them:
            for actor in self._actors.values():
                all_of_them.callback(actor.close)
            for futures in self._begun.values():
                for future in futures:
                    all_of_them.callback(future.exception, LIMIT)
            if self._proxy:
                all_of_them.callback(self._proxy.tell, "heal")
            for gate in self._gates.values():
                all_of_them.callback(gate.open)

    # --- steps ---------------------------------------------------------------------------------
    def _do(self, step):
        if step.get("until"):
            deadline = time.monotonic() + LIMIT
            while True:
                try:
                    return self._step(step)
                except AssertionError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(PAUSE)
        return self._step(step)

    def _step(self, step):
        match step:
            case {"call": _, "as": name}:
                times = step.get("times", 1)
                self._begun[name] = [self._start(step) for _ in range(times)]
            case {"call": _}:
                self._call(step)
            case {"join": name, "expect": expected}:
                for future in self._begun[name]:
                    self._compare(self._outcome(future), expected)
            case {"await": gate, "loaders": count}:
                self._gates[gate].wait_for(count)
            case {"open": gate}:
                self._gates[gate].open()
            case {"loaded": counts}:
                called = {name: self._loaders[name].calls for name in counts}
                assert called == counts, called
            case {"asked": asked}:
                told = {name: self._loaders[name].asked for name in asked}
                assert told == {name: list(map(sorted, calls)) for name, calls in asked.items()}, told
            case {"redis": command}:
                self._send(command, step)
            case {"proxy": line}:
                self._proxy.tell(line)
            case {"saw": event, "on": on}:
                seen = [f"{e.name}_{e.detail}" for e in self._actor(on).recorder.events if e.name == "breaker"]
                assert event in seen, seen
            case {"greater": [one, other]}:
                assert self._tokens[one] > self._tokens[other]
            case _:
                raise ValueError(f"no step {step}")

    def _send(self, command, step):
        reply = self._raw(*[values.value(word) for word in command])
        match step:
            case {"reply": wanted}:
                assert text(reply) == wanted
            case {"between": [low, high]}:
                assert low <= reply <= high
            case {"starts": head}:
                assert reply.hex().startswith(head), reply
            case {"fields": fields}:
                names = [text(name) for name in reply[::2]]
                found = dict(zip(names, map(text, reply[1::2]), strict=True))
                assert values.has(found, fields), found

    # --- calls ---------------------------------------------------------------------------------
    def _actor(self, name):
        if name not in self._actors:
            told = self._scenario.get("clients", {}).get(name, {})
            proxied = told.get("via") == "proxy"
            url = self._proxy.url if proxied else self._address["url"]
            if self._kind == "cluster":
                url = f"redis+cluster://{','.join(self._address['nodes'])}"
            self._actors[name] = self._make(
                url,
                namespace=told.get("namespace", "t"),
                codec=values.codec(told["codec"]) if "codec" in told else None,
                local=told.get("local", False),
                timeout=0.5 if proxied else 5,
                wait=30,
                breaker_cooldown=0.2,
            )
        return self._actors[name]

    def _start(self, step):
        """The step's method, begun."""
        actor, name = self._actor(step["on"]), step["call"]
        args = step.get("args", {})
        named = {word: args[word] for word in ARGUMENTS if word in args}
        cache = actor.cache
        match name:
            case "get_or_set" | "get_or_set_many":
                loader = actor.loader(self._loaders[step["loader"]])
                return actor.start(getattr(cache, name), step.get("key") or step["keys"], loader, **named)
            case "get":
                return actor.start(cache.get, step["key"], ABSENT)
            case "set":
                if "lock" in step:
                    named["token"] = self._tokens[step["lock"]]
                return actor.start(cache.set, step["key"], args["value"], **named)
            case "set_many":
                return actor.start(cache.set_many, step["values"], **named)
            case "delete":
                return actor.start(cache.delete, *step["keys"])
            case "get_many":
                return actor.start(cache.get_many, step["keys"])
            case "touch" | "incr" | "meta":
                return actor.start(getattr(cache, name), step["key"], **named)
            case "invalidate":
                return actor.start(cache.invalidate, *named.pop("tags"), **named)
            case "clear":
                return actor.start(cache.clear)
            case "capabilities":
                return actor.start(cache.connect)
            case "lock":
                lock = self._locks[step["lock"]] = cache.lock(step["key"], ttl=args["ttl"], wait=args["wait"])
                return actor.start(lock.acquire)
            case "unlock":
                return actor.start(self._locks[step["lock"]].release)
            case "extend":
                return actor.start(self._locks[step["lock"]].extend, args["ttl"])
        raise ValueError(f"no method {name}")

    def _call(self, step):
        events = self._actor(step["on"]).recorder.events
        before = len(events)
        outcome = self._outcome(self._start(step))
        expected = dict(step.get("expect", {}))
        wanted = expected.pop("source", None)
        self._compare(self._verdict(step["call"], outcome), expected)
        if wanted is not None:
            source = self._source(events[before:], f"t:{step['key']}")
            assert source == wanted or (isinstance(wanted, list) and source in wanted), source

    @staticmethod
    def _source(events, full):
        """Where a value came from: told in this order, for a stale value may be followed by its refresh."""
        names = {event.name for event in events if event.key == full}
        return next((source for name, source in SOURCES.items() if name in names), None)

    @staticmethod
    def _outcome(future):
        """("value", it) or ("error", it)."""
        error = future.exception(LIMIT + 20)
        return ("value", future.result()) if error is None else ("error", error)

    @staticmethod
    def _verdict(name, outcome):
        """This client says by False what others may say by an error."""
        if outcome == ("value", False) and name in ("lock", "unlock", "extend"):
            return "error", LockError("locked" if name == "lock" else "lost", "it said False")
        return outcome

    def _compare(self, outcome, expected):
        kind, it = outcome
        if "error" in expected:
            assert kind == "error", f"no error, but {it!r}"
            name, details = describe(it)
            assert {"error": name, **details}.items() >= expected.items(), repr(it)
            return
        assert kind != "error", repr(it)
        self._tokens |= {name: lock.token for name, lock in self._locks.items() if lock.held}
        if "value" in expected:
            assert values.same(it, expected["value"]), it
        if "missing" in expected:
            assert it is ABSENT or it is None, it
        if "fields" in expected:
            assert it is not None
            found = {name: getattr(it, name) for name in expected["fields"]}
            assert values.has(found, expected["fields"]), found


def describe(error):
    """An error in the words of scenarios."""
    if isinstance(error, ApplicationError):
        return "loader", {"message": str(error)}
    if isinstance(error, DecodeError):
        return "decode", {"code": error.code}
    if isinstance(error, InvalidationError):
        return "invalidation", {}
    if isinstance(error, LockError):
        return error.code, {}
    return type(error).__name__, {}


def text(reply):
    """A reply with strings as text, in arrays as well."""
    if isinstance(reply, list):
        return [text(item) for item in reply]
    return reply.decode() if isinstance(reply, bytes) else reply
