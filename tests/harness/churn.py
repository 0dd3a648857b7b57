"""Random commands without end, and a naive model of what they must leave behind.

harness/churn_requests.py deals commands; `Model.apply(request, reply)` asserts that a reply is what the
contract says and follows it; `Model.compare(connections)` asks the server about every key. Native keys are
among them, with tags as entries have them: their companions are what the server has more keys for than the
model. The model keeps no index, and of leases only their tokens (what those may do is
harness/lease_model.py's): an invalidation walks all entries, once, when it is given. It knows no time:
nothing that it is told of expires by itself. Where the contract leaves open what native commands see (a dead
key that is not swept yet) it follows the reply.
"""

from dataclasses import dataclass, replace

from .churn_requests import DATABASES, KEYS
from .resp import ReplyError, fields


def namespace(key):
    """The namespace of a key: before the first ':', a leading '{' skipped."""
    name, delimiter, _ = key.removeprefix(b"{").partition(b":")
    return name if delimiter else b""


@dataclass(frozen=True)
class Entry:
    """What lies under a key, dead ones aside. `born`: the number of the command that bore it."""

    value: bytes
    born: int
    tags: frozenset = frozenset()
    stale: bool = False
    kind: str = "cacheflow"  # or what native keys are

    @property
    def native(self):
        """Whether it is the server's own."""
        return self.kind != "cacheflow"


class Database:
    """Entries by key; dead keys that may be there still, with their tags; what was invalidated when."""

    def __init__(self):
        self.entries, self.ghosts = {}, {}
        self.left = []  # the tags of companions whose keys an invalidation removed: they may count still
        self.hard, self.soft = {}, {}

    def marks(self, stamps, key, tags):
        """The last of these stamps that concerns a key with these tags."""
        names = [("NAMESPACE", namespace(key)), *(("TAGS", tag) for tag in tags)]
        return max(stamps.get(name, 0) for name in names)

    def remove(self, key):
        """Whatever lies there."""
        self.ghosts.pop(key, None)
        return self.entries.pop(key, None)

    def swept(self):
        """Nothing dead is there any more."""
        self.ghosts.clear()
        self.left.clear()

    def clear(self):
        """Nothing at all is."""
        self.entries.clear()
        self.swept()

    def put(self, key, entry, tags=frozenset()):
        """An entry, or None for a dead one (that may count for these tags)."""
        self.remove(key)
        if entry is None:
            self.ghosts[key] = tags
        else:
            self.entries[key] = entry

    def settle(self, key, entry):
        """What invalidations since its birth make of an entry that comes as it was."""
        if entry is None:
            return None
        if entry.native:
            return replace(entry, tags=frozenset())  # they are in another payload
        if self.marks(self.hard, key, entry.tags) > entry.born:
            return None
        return replace(entry, stale=entry.stale or self.marks(self.soft, key, entry.tags) > entry.born)

    def welcome(self, key, entry):
        """An entry that comes from another name: what was invalidated here before does not touch it."""
        if entry is None or entry.native:
            return entry
        stamps = [self.marks(of, key, entry.tags) for of in (self.hard, self.soft)]
        return replace(entry, born=max(entry.born, *stamps))


class Model:
    """See the module's text."""

    def __init__(self, lossy=False, databases=DATABASES):
        self.dbs = [Database() for _ in range(databases)]
        self.selected, self.now = 0, 0
        self.payloads = []  # (payload, entry or None for a dead one)
        self.tokens = []  # (token, key), of whatever database
        self.filled = 0  # how many fills were stored
        self.lossy = lossy  # whether keys may be evicted

    @property
    def db(self):
        """The selected database."""
        return self.dbs[self.selected]

    def is_native(self, key):
        """Whether a native key is under that name."""
        there = self.db.entries.get(key)
        return there is not None and there.native

    def request(self, dice, request):
        """The request as it is to be sent; None where it cannot be."""
        if request[0] == "RESTORE":
            if not self.payloads:
                return None
            return ["RESTORE", request[1], 0, dice.choice(self.payloads)[0], "REPLACE"]
        if request[0] in ("CACHE.SET-LEASE", "CACHE.UNLOCK"):
            if not self.tokens:
                return None
            # Most likely the last, with which something can still be done.
            token, key = dice.choice([*self.tokens, *[self.tokens[-1]] * 10])
            if request[0] == "CACHE.UNLOCK":
                return ["CACHE.UNLOCK", key, token, *request[2:]]
            return ["CACHE.SET", key, request[2], "LEASE", token, *request[3:]]
        return request

    def apply(self, request, reply):
        """Follow a command that was answered so."""
        self.now += 1
        name = request[0].removeprefix("CACHE.").lower()
        if self.lossy and isinstance(reply, ReplyError) and str(reply).startswith("OOM"):
            return
        if self.lossy:
            self._notice(name, request, reply)
        getattr(self, f"_{name}")(request, reply)

    def _notice(self, name, request, reply):
        """What the reply says is not there any more was evicted."""
        there = self.db.entries.get(request[1])
        if isinstance(reply, ReplyError) and name != "rename":
            return
        if name == "fetch" and reply[0] in (b"MISS", b"BUSY") and "MAXSTALE" not in request:
            self.db.entries.pop(request[1], None)
            return
        missing = {"touch": 0, "tag": None, "untag": None, "copy": 0, "dump": None, "del": 0, "hdel": 0}
        missing |= {"hset": 1, "set": None if request[0] == "SET" else ...}
        gone = (
            isinstance(reply, ReplyError) if name == "rename" else name in missing and reply == missing[name]
        )
        if name in ("touch", "stale"):
            # They answer 0 for native keys too, and STALE for one that is stale.
            there_for_it = there is not None and not there.native and (name == "touch" or not there.stale)
            gone = reply == 0 and there_for_it
        if gone:
            self.db.entries.pop(request[1], None)

    # --- our commands --------------------------------------------------------------------------
    def _live(self, key):
        """The entry under a key, if there is one and it is no native key."""
        there = self.db.entries.get(key)
        return None if there is None or there.native else there

    def _set(self, request, reply):
        key, value, options = request[1], request[2], request[3:]
        if request[0] == "SET":
            there = self.db.entries.get(key)
            if isinstance(reply, ReplyError):  # what GET asks for is of another type
                assert options == ["GET"] and self._of_another_type(key, "string"), (request, reply, there)
                return
            assert reply == (b"OK" if not options else there and there.value), (request, reply, there)
            self._write(key, "string", value.encode())
            return
        if "LEASE" in options and reply is None:
            return  # refused
        there = key in self.db.entries
        if ("NX" in options and there) or ("XX" in options and not there):
            assert reply is None, (request, reply)
            return
        assert reply == b"OK", (request, reply)
        self.filled += "LEASE" in options
        tags = options[options.index("TAGS") + 1 :] if "TAGS" in options else ()
        self.db.put(key, Entry(value, self.now, frozenset(tags)))
        if "EXAT" in options:
            self.db.remove(key)

    def _write(self, key, kind, value=b""):
        """A native key is written over what is there; tags of a native key stay."""
        there = self.db.entries.get(key)
        tags = there.tags if there and there.native else frozenset()
        self.db.put(key, Entry(value, self.now, tags, kind=kind))

    def _of_another_type(self, key, kind):
        """Whether what is there is of another type, be it dead and not swept."""
        there = self.db.entries.get(key)
        return there.kind != kind if there else self.lossy or key in self.db.ghosts

    def _element(self, request, reply, kind, taken, added):
        """A command on a key of one element: the replies that say it was taken, or a key was made."""
        key, there = request[1], self.db.entries.get(request[1])
        if isinstance(reply, ReplyError):
            assert self._of_another_type(key, kind), (request, reply, there)
        elif added is not None:
            assert reply == (added if there is None else 0), (request, reply, there)
            self._write(key, kind)
        elif there is None:
            assert reply in (None, 0), (request, reply)
        else:
            assert there.kind == kind and reply == taken, (request, reply, there)
            self.db.remove(key)

    def _hset(self, request, reply):
        self._element(request, reply, "hash", None, 1)

    def _hdel(self, request, reply):
        self._element(request, reply, "hash", 1, None)

    def _sadd(self, request, reply):
        self._element(request, reply, "set", None, 1)

    def _spop(self, request, reply):
        self._element(request, reply, "set", b"m", None)

    def _getdel(self, request, reply):
        self._element(request, reply, "string", b"native", None)

    def _touch(self, request, reply):
        there = self._live(request[1])
        assert reply == (there is not None), (request, reply, there)
        if there:
            self.db.entries[request[1]] = replace(there, born=self.now, stale=False)

    def _fetch(self, request, reply):
        there, insists = self.db.entries.get(request[1]), "MAXSTALE" in request
        if isinstance(reply, ReplyError):
            assert there.kind in ("hash", "set"), (request, reply, there)
            return
        state, value, token, _ = reply
        if token is not None:
            self._granted(token, request[1])
        if state in (b"MISS", b"BUSY"):
            assert value is None and (state == b"MISS") == (token is not None), (request, reply)
            known = there is None or self.lossy or (there.stale and insists)
            assert known, (request, reply, there)
        else:
            assert there is not None and value == there.value, (request, reply, there)
            assert state == (b"STALE" if there.stale else b"FRESH"), (request, reply, there)
            assert not (there.stale and insists), (request, reply, there)

    def _lock(self, request, reply):
        if reply is not None:
            self._granted(reply, request[1])

    def _unlock(self, request, reply):
        assert reply in (0, 1), (request, reply)

    def _granted(self, token, key):
        assert all(token > before for before, _ in self.tokens), (token, self.tokens)
        self.tokens = [*self.tokens[-9:], (token, key)]

    def _stale(self, request, reply):
        turned = 0
        for key in request[1:]:
            there = self._live(key)
            if there and not there.stale:
                turned += 1
                self.db.entries[key] = replace(there, stale=True)
        assert reply == turned or self.lossy, (request, reply, turned)

    def _incrby(self, request, reply):
        there = self.db.entries.get(request[1])
        if there and (there.native or not there.value.isdigit()):
            assert isinstance(reply, ReplyError), (request, reply)
            return
        value = int(there.value if there else 0) + request[2]
        assert reply == value, (request, reply, value)
        there = there or Entry(b"", 0)
        self.db.put(request[1], replace(there, value=b"%d" % value, born=self.now))

    def _retag(self, request, reply, change):
        there = self.db.entries.get(request[1])
        if there is None:
            assert reply is None, (request, reply)
        else:
            tags = change(there.tags, frozenset(request[2:]))
            assert reply == abs(len(tags) - len(there.tags)), (request, reply, there)
            if reply:
                self.db.entries[request[1]] = replace(there, tags=tags, born=self.now)

    def _tag(self, request, reply):
        self._retag(request, reply, frozenset.union)

    def _untag(self, request, reply):
        self._retag(request, reply, frozenset.difference)

    def _invalidate(self, request, reply):
        soft = request[1] == "SOFT"
        kind, *names = request[1 + soft :]
        least = most = 0
        hit = set()
        for name in dict.fromkeys(names):
            (self.db.soft if soft else self.db.hard)[kind, name] = self.now

            def concerns(key, tags, native=False, name=name):
                return name in tags if kind == "TAGS" else not native and name == namespace(key)

            found = {k for k, e in self.db.entries.items() if concerns(k, e.tags, e.native)}
            least += len(found)
            dead = [*self.db.ghosts.items(), *((None, tags) for tags in self.db.left)]
            most += len(found) + sum(concerns(key, tags, key is None) for key, tags in dead)
            hit |= found
        assert (0 if self.lossy else least) <= reply <= most, (request, reply, least, most)
        for key in hit:
            entry = self.db.entries[key]
            if entry.native:
                self.db.remove(key)  # before the reply; its companion is left to the sweep
                self.db.left.append(entry.tags)
            elif soft:
                self.db.entries[key] = replace(entry, stale=True)
            else:
                del self.db.entries[key]
                self.db.ghosts[key] = entry.tags

    def _del(self, request, reply):
        live = sum(self.db.entries.pop(key, None) is not None for key in request[1:])
        dead = sum(self.db.ghosts.pop(key, None) is not None for key in request[1:])
        most = live if request[0] == "CACHE.DEL" else live + dead
        assert (0 if self.lossy else live) <= reply <= most, (request, reply, live, dead)

    _unlink = _del

    # --- the server's --------------------------------------------------------------------------
    def _sunionstore(self, request, reply):
        self.db.remove(request[1])

    def _pexpire(self, request, reply):
        if request[2] < 0:
            self.db.remove(request[1])

    def _persist(self, request, reply):
        pass

    def _rename(self, request, reply):
        source, target = request[1], request[2]
        if isinstance(reply, ReplyError) or reply == 0:
            assert source not in self.db.entries or reply == 0 or self.lossy, (request, reply)
        elif source != target:
            entry = self.db.remove(source)
            self.db.put(target, self.db.welcome(target, entry))

    _renamenx = _rename

    def _copy(self, request, reply):
        if reply == 1:
            to = self.dbs[request[4]] if "DB" in request else self.db
            to.put(request[2], to.welcome(request[2], self.db.entries.get(request[1])))

    def _move(self, request, reply):
        if reply == 1:
            to = self.dbs[request[2]]
            to.put(request[1], to.welcome(request[1], self.db.remove(request[1])))

    def _dump(self, request, reply):
        if reply is not None:
            self.payloads.append((reply, self.db.entries.get(request[1])))
            del self.payloads[:-20]

    def _restore(self, request, reply):
        assert reply == b"OK", (request, reply)
        entry = next(entry for payload, entry in self.payloads if payload == request[3])
        settled = self.db.settle(request[1], entry)
        self.db.put(request[1], settled, entry.tags if entry else frozenset())

    def _select(self, request, reply):
        self.selected = request[1]

    def _swapdb(self, request, reply):
        one, other = request[1:]
        self.dbs[one], self.dbs[other] = self.dbs[other], self.dbs[one]

    def _flushdb(self, request, reply):
        self.db.clear()

    def _flushall(self, request, reply):
        for db in self.dbs:
            db.clear()

    # --- looking -------------------------------------------------------------------------------
    def compare(self, server, when):
        """Every key of every database, as CACHE.GET and CACHE.META show it."""
        for number, db in enumerate(self.dbs):
            connection = server.reader()
            connection("SELECT", number)
            looks = [
                (("CACHE.META", key), ("CACHE.GET", key), ("CACHE.GET", key, "STALE"), ("EXISTS", key))
                for key in KEYS
            ]
            replies = connection.pipeline([command for look in looks for command in look])
            connection.close()
            for at, key in enumerate(KEYS):
                *found, exists = replies[4 * at : 4 * at + 4]
                if found[0] and fields(found[0])["state"] == b"absent":  # only a lease or a lock is there
                    found[0] = None
                found[1:] = ["WRONGTYPE" if isinstance(value, ReplyError) else value for value in found[1:]]
                there = db.entries.get(key)
                if self.lossy and found == [None, None, None] and not exists:
                    db.entries.pop(key, None)
                    continue
                seen = found[0] and (*_described(fields(found[0])), *found[1:])
                assert seen == _expected(there), f"{when}: db {number} {key!r}: {seen} for {there}"

    def companions(self, number):
        """How many native keys of a database have tags."""
        return sum(entry.native and bool(entry.tags) for entry in self.dbs[number].entries.values())

    def tags(self, number):
        """How many keys of a database carry each tag."""
        found = {}
        for entry in self.dbs[number].entries.values():
            for tag in entry.tags:
                found[tag] = found.get(tag, 0) + 1
        return found


def _described(meta):
    return meta["type"].decode(), meta["state"], sorted(meta["tags"])


def _expected(there):
    if there is None:
        return None
    values = None if there.stale else there.value, there.value
    if there.kind in ("hash", "set"):
        values = "WRONGTYPE", "WRONGTYPE"
    return there.kind, b"stale" if there.stale else b"fresh", sorted(there.tags), *values
