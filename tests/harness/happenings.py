"""What may happen to a key between the grant of a lease and its fill, and why the fill is refused then."""

from .server import wait_for
from .tagged import figure

KEY, LONG = "space:k", 600_000
STORED = ()  # no reason against it
GONE = ("absent", "deleted")
DATABASES = ("another database's", "MOVE to it", "MOVE away")  # those of several


# --- what happens between grant and fill -----------------------------------------------------------------
def expires(server):
    """The entry's grace ends by itself."""
    assert server("PEXPIRE", KEY, 1) == 1
    wait_for(lambda: server("EXISTS", KEY) == 0, "the entry to expire")


def is_written_and_expires(server):
    """What was written is gone by itself before the fill comes."""
    server("CACHE.SET", KEY, "w")
    expires(server)


def is_evicted(server):
    """Memory is short, and the entry is not what must stay."""
    server.config("maxmemory-policy", "allkeys-random")
    server.config("maxmemory", 1)
    wait_for(lambda: server("EXISTS", KEY) == 0, "the entry to be evicted")
    server.config("maxmemory", 0)


def is_restored(server):
    """A payload of another key's is put over it."""
    server("CACHE.SET", "other{space:k}", "restored", "EX", 100, "GRACE", 100)
    payload = server("DUMP", "other{space:k}")
    assert server("RESTORE", KEY, 0, payload, "REPLACE") == b"OK"


def is_swept(server):
    """What was invalidated has left its key before the fill comes."""
    server("CACHE.INVALIDATE", "TAGS", "a")
    server.wait_swept()


def is_in_doubt(server):
    """The tag was invalidated, never having been seen, and that has been forgotten."""
    server("CACHE.INVALIDATE", "TAGS", "new")
    server.config("cacheflow.max-tombstones", 0)
    wait_for(lambda: figure(server, "tombstones") == 0, "the tag to be forgotten")


def was_in_doubt(server):
    """It was invalidated and forgotten, and is known anew by an entry that bears it."""
    is_in_doubt(server)
    server("CACHE.SET", "other{space:k}", "v", "TAGS", "new")


def comes_from_elsewhere(server):
    """An entry is moved to it from another database."""
    server("DEL", KEY)
    other = server.connect(db=1)
    other("CACHE.SET", KEY, "moved", "EX", 100)
    assert other("MOVE", KEY, 0) == 1


# What happens, and why a SET (with the tags `a` and `new`) and a TOUCH are refused then, the entry (with
# the tags `a` and `b`) being stale at the grant.
ENTRY = {
    "nothing": ([], STORED, STORED),
    # void nothing
    "it expires": (expires, STORED, ("absent",)),
    "it is evicted": (is_evicted, STORED, ("absent",)),
    "EXPIRE": (["EXPIRE space:k 50"], STORED, STORED),
    "PERSIST": (["PERSIST space:k"], STORED, STORED),
    "TAG": (["CACHE.TAG space:k c"], STORED, STORED),
    "UNTAG": (["CACHE.UNTAG space:k a"], STORED, STORED),
    "reads": (["CACHE.GET space:k STALE", "CACHE.FETCH space:k", "CACHE.META space:k"], STORED, STORED),
    "COPY from it": (["COPY space:k other{space:k}"], STORED, STORED),
    "another key's changes": (["CACHE.SET space:j v", "CACHE.DEL space:i"], STORED, STORED),
    "another tag's invalidation": (["CACHE.INVALIDATE TAGS c"], STORED, STORED),
    "another namespace's": (["CACHE.INVALIDATE NAMESPACE spaces"], STORED, STORED),
    "another database's": (["SELECT 1", "CACHE.INVALIDATE TAGS a new", "CACHE.INVALIDATE NAMESPACE space",
                            "FLUSHDB", "SELECT 0"], STORED, STORED),
    "a SET that did not hold": (["CACHE.SET space:k w NX"], STORED, STORED),
    "a foreign token": (["CACHE.UNLOCK space:k 5", "CACHE.SET space:k w LEASE 5"], STORED, STORED),
    # written
    "SET": (["CACHE.SET space:k w EX 100"], ("written",), ("written",)),
    "SET with the same value": (["CACHE.SET space:k 5 EX 100 TAGS a b"], ("written",), ("written",)),
    "TOUCH": (["CACHE.TOUCH space:k"], ("written",), ("written",)),
    "INCRBY": (["CACHE.INCRBY space:k 1"], ("written",), ("written",)),
    "SET in the past": (["CACHE.SET space:k w EXAT 1"], ("written", "deleted"), ("written", *GONE)),
    "native SET": (["SET space:k w"], ("written", "native"), ("written", "absent")),
    "SUNIONSTORE": (["SADD s{space:k} 1", "SUNIONSTORE space:k s{space:k}"],
                    ("written", "native"), ("written", "absent")),
    "RENAME to it": (["CACHE.SET other{space:k} w EX 100", "RENAME other{space:k} space:k"],
                     ("written",), ("written",)),
    "COPY to it": (["CACHE.SET other{space:k} w EX 9", "COPY other{space:k} space:k REPLACE"],
                   ("written",), ("written",)),
    "RESTORE over it": (is_restored, ("written",), ("written",)),
    "MOVE to it": (comes_from_elsewhere, ("written", "deleted"), ("written", "deleted")),
    # deleted
    "CACHE.DEL": (["CACHE.DEL space:k"], ("deleted",), GONE),
    "DEL": (["DEL space:k"], ("deleted",), GONE),
    "UNLINK": (["UNLINK space:k"], ("deleted",), GONE),
    # To Redis it is a deletion, to Valkey 9 an expiry, which voids nothing.
    "EXPIRE in the past": (["PEXPIRE space:k -1"], ("deleted", "stored"), GONE),
    "a script's DEL": (["EVAL redis.call('DEL',KEYS[1]) 1 space:k"], ("deleted",), GONE),
    "RENAME away": (["RENAME space:k other{space:k}"], ("deleted",), GONE),
    "RENAME away and back": (["RENAME space:k other{space:k}", "RENAME other{space:k} space:k"],
                             ("deleted", "written"),
                             ("deleted", "written")),
    "MOVE away": (["MOVE space:k 1"], ("deleted",), GONE),
    # staled
    "CACHE.STALE": (["CACHE.STALE space:k"], ("staled",), ("staled",)),
    # invalidated
    "hard": (["CACHE.INVALIDATE TAGS b"], ("invalidated",), ("invalidated", "absent")),
    "soft": (["CACHE.INVALIDATE SOFT TAGS b"], ("invalidated",), ("invalidated", "tag")),
    "hard, and swept": (is_swept, ("invalidated",), ("invalidated", "absent")),
    "by a tag of both": (["CACHE.INVALIDATE TAGS a"], ("invalidated", "tag"), ("invalidated", "absent")),
    "by a tag put on since": (["CACHE.TAG space:k c", "CACHE.INVALIDATE SOFT TAGS c"], ("invalidated",),
                              ("invalidated", "tag")),
    "by a tag taken off since": (["CACHE.UNTAG space:k a", "CACHE.INVALIDATE TAGS a"], ("tag",), STORED),
    "by a tag, born anew since": (["CACHE.INVALIDATE SOFT TAGS b", "CACHE.TAG space:k c"],
                                  ("invalidated",), ("invalidated", "tag")),
    "namespace, hard": (["CACHE.INVALIDATE NAMESPACE space"], ("namespace", "invalidated"),
                        ("namespace", "invalidated", "absent")),
    "namespace, soft": (["CACHE.INVALIDATE SOFT NAMESPACE space"], ("namespace", "invalidated"),
                        ("namespace", "invalidated")),
    # a tag that the SET names
    "a tag never seen, hard": (["CACHE.INVALIDATE TAGS new"], ("tag",), STORED),
    "a tag never seen, soft": (["CACHE.INVALIDATE SOFT TAGS x new y"], ("tag",), STORED),
    "a tag of others": (["CACHE.SET other{space:k} w TAGS new", "CACHE.INVALIDATE TAGS new"],
                        ("tag",), STORED),
    "a tag forgotten meanwhile": (is_in_doubt, ("forgotten",), None),
    "a tag forgotten and known again": (was_in_doubt, ("forgotten",), None),
    # databases
    "FLUSHDB": (["FLUSHDB"], ("unknown", "deleted"), ("unknown", *GONE)),
    "FLUSHALL": (["FLUSHALL"], ("unknown", "deleted"), ("unknown", *GONE)),
    "FLUSHALL ASYNC": (["FLUSHALL ASYNC"], ("unknown", "deleted"), ("unknown", *GONE)),
}  # fmt: skip
# The key being absent at the grant: what a SET is refused for.
ABSENT = {
    "nothing": ([], STORED),
    "SET": (["CACHE.SET space:k w"], ("written",)),
    "SET, expired since": (is_written_and_expires, ("written", "deleted")),
    "native SET": (["SET space:k w"], ("native",)),
    "a list": (["RPUSH space:k w"], ("native",)),
    "CACHE.DEL": (["CACHE.DEL space:k"], ("deleted",)),
    "CACHE.STALE": (["CACHE.STALE space:k"], ("staled",)),
    "RENAME to it": (["SET other{space:k} w", "RENAME other{space:k} space:k"], ("written", "native")),
    "COPY to it": (["CACHE.SET other{space:k} w", "COPY other{space:k} space:k"], ("written",)),
    "COPY to it, gone": (
        ["CACHE.SET other{space:k} w", "COPY other{space:k} space:k", "DEL space:k"],
        ("written", "deleted"),
    ),
    "RESTORE": (is_restored, ("written",)),
    "MOVE to it": (comes_from_elsewhere, ("written",)),
    "a tag never seen": (["CACHE.INVALIDATE TAGS new"], ("tag",)),
    "a tag never seen, soft": (["CACHE.INVALIDATE SOFT TAGS a"], ("tag",)),
    "another tag": (["CACHE.INVALIDATE TAGS b"], STORED),
    "a tag forgotten meanwhile": (is_in_doubt, ("forgotten",)),
    "namespace": (["CACHE.INVALIDATE NAMESPACE space"], ("namespace",)),
    "namespace, soft": (["CACHE.INVALIDATE SOFT NAMESPACE space"], ("namespace",)),
    "FLUSHALL": (["FLUSHALL"], ("unknown", "deleted")),
}
