"""The random commands that harness/churn.py's model follows, over few keys and tags, so that they meet."""

from .cluster_client import beside

SPACES = ("a", "bb", "")
# All in one slot, so that any two may be named in a command.
KEYS = [f"{space}:{n}{{t}}".encode() for space in SPACES for n in range(5)]
KEYS += [b"plain{t}", b"{%s}y" % beside("t", "a:"), beside("t", "{bb:"), b"long:" + b"x" * 300 + b"{t}"]
TAGS = [b"t%d" % n for n in range(6)] + [b"", b"\x00\xff", b"tag:" + b"y" * 200]
DATABASES = 3


def requests(dice, lone=False, databases=DATABASES):
    """Commands that the model knows; `lone`: those whose reply tells of one key, for eviction."""
    while True:
        one, other = dice.choice(KEYS), dice.choice(KEYS)
        tags = dice.sample(TAGS, dice.choice([0, 0, 1, 1, 2, 3, 5]))
        tagged = ["TAGS", *tags] if tags else []
        some = dice.choices(TAGS, k=dice.choice([1, 1, 2]))
        names = dice.choices([b"a", b"bb", b"", b"long", b"none"], k=dice.choice([1, 1, 2]))
        value = b"%d" % dice.randrange(1000) + b" v" * (dice.randrange(2) * dice.randrange(2000))
        plain = b"%d" % dice.randrange(100)
        choices = [
            ["CACHE.SET", one, value, *tagged],
            ["CACHE.SET", one, value, "EX", 1000, *tagged],
            ["CACHE.SET", one, value, "EX", 1000, "GRACE", 1000, *tagged],
            ["CACHE.SET", one, plain, "PX", 900_000, *tagged],
            ["CACHE.TOUCH", one],
            ["CACHE.TOUCH", one, "EX", 1000],
            ["CACHE.STALE", one],
            ["CACHE.FETCH", one],
            ["CACHE.FETCH", one, "MAXSTALE", 0, "LEASE", dice.choice([1, 1000, 100_000])],
            ["CACHE.LOCK", one, dice.choice([1, 100, 100_000])],
            ["CACHE.UNLOCK", one, *dice.choice([[], ["RETRY", 5]])],
            ["CACHE.SET-LEASE", one, value, "EX", 1000, "GRACE", 1000, *tagged],
            *[["CACHE.SET-LEASE", one, plain, *tagged]] * 3,
            ["CACHE.TAG", one, *some],
            ["CACHE.TAG", one, *some],
            ["CACHE.UNTAG", one, *some],
            ["CACHE.INVALIDATE", "TAGS", *some],
            ["CACHE.INVALIDATE", "SOFT", "TAGS", *some],
            ["CACHE.INVALIDATE", *dice.choice([[], ["SOFT"]]), "NAMESPACE", *names],
            ["RENAME", one, other],
            ["COPY", one, other, "REPLACE"],
            ["DUMP", one],
            ["RESTORE", other],
            ["DEL", one],
            ["HSET", one, "f", "v"],
            ["HDEL", one, "f"],
        ]
        # Without the old value's reply nobody would know whether tags were kept or had been evicted.
        choices += [["SET", one, "native", "GET"]] if lone else [["SET", one, "native"]] * 2
        if not lone:
            choices += [
                ["SADD", one, "m"],
                ["SPOP", one],
                ["GETDEL", one],
                ["CACHE.SET", one, value, "NX", *tagged],
                ["CACHE.SET", one, value, "XX", "KEEPTTL", *tagged],
                ["CACHE.SET", one, value, "EXAT", 1, *tagged],
                ["CACHE.STALE", one, other],
                ["CACHE.INCRBY", one, 1],
                ["CACHE.DEL", one, other],
                ["SUNIONSTORE", one, "none{t}"],
                ["UNLINK", one, other],
                ["PEXPIRE", one, dice.choice([-1, 900_000])],
                ["PERSIST", one],
                ["RENAMENX", one, other],
                ["COPY", one, other],
            ]
            if databases > 1:
                choices += [
                    ["COPY", one, other, "DB", dice.randrange(databases)],
                    ["MOVE", one, dice.randrange(databases)],
                    ["SELECT", dice.randrange(databases)],
                    ["SWAPDB", dice.randrange(databases), dice.randrange(databases)],
                ]
            if dice.random() < 0.1:
                choices += [["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["FLUSHALL", "ASYNC"]]
        yield dice.choice(choices)


def changes_database(request):
    """Whether it puts a key into another database."""
    return request[0] == "MOVE" or "DB" in request


def may_be_scripted(request):
    """Whether it means the same within a script."""
    return request[0] not in ("SELECT", "SWAPDB") and not changes_database(request)
