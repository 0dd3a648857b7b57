"""Metadata of entries by hand: what the module must refuse, what is strange and sound, and at random."""

from . import payload
from .payload import ADAPTIVE, LAST_TIME, MOST_TAGS, PACKED, STAMP_LIMIT, TAGS, Meta, encode, varint

NOW = 1_800_000_000_000  # ms
EDGES = [
    0,
    1,
    127,
    128,
    NOW,
    LAST_TIME,
    LAST_TIME + 1,
    2**32 - 1,
    2**32,
    STAMP_LIMIT - 1,
    STAMP_LIMIT,
    2**64 - 1,
]


def tagged(*parts):
    """Metadata with a birth and tags alone, these being the bytes that stand for the tags."""
    return b"\x01" + varint(TAGS) + varint(1) + b"".join(parts)


def lots(count):
    """So many different tags of two bytes or, past what those can be, of three."""
    return [n.to_bytes(2 + (n >> 16), "big") for n in range(count)]


def written(tags):
    """Tags as the codec writes them, their number before them."""
    return varint(len(tags)) + b"".join(varint(len(tag)) + tag for tag in tags)


HOSTILE = {
    "nothing": b"",
    "version only": b"\x01",
    "no number": b"\x01\x00",
    "version 0": b"\x00\x00\x01",
    "version 2": b"\x02\x00\x01",
    "version 255": b"\xff\x00\x01",
    "an unknown field": b"\x01" + varint(payload.KNOWN + 1) + b"\x01\x01",
    "all fields, no numbers": b"\x01" + varint(payload.KNOWN),
    "fields that end in the middle": b"\x01\x80",
    "fields not in their shortest form": b"\x01\x80\x00\x01",
    "a number not in its shortest form": b"\x01\x00\x81\x00",
    "a zero not in its shortest form": b"\x01\x00\x80\x00",
    "a number of eleven bytes": b"\x01\x00" + b"\x80" * 10 + b"\x01",
    "a number past 64 bits": b"\x01\x00" + b"\xff" * 9 + b"\x02",
    "a number that never ends": b"\x01\x00" + b"\xff" * 500,
    "bytes behind the end": encode(Meta(born=1)) + b"\x00",
    "another metadata behind it": encode(Meta(born=1)) * 2,
    "a stamp past the last": encode(Meta(born=STAMP_LIMIT)),
    "a stamp of 2^64-1": encode(Meta(born=2**64 - 1)),
    "an end past the last": encode(Meta(born=1, end=LAST_TIME + 1)),
    "an end of 2^64-1": encode(Meta(born=1, end=2**64 - 1)),
    "written past the last": encode(Meta(born=1, written=LAST_TIME + 1)),
    "a length past the last": encode(Meta(born=1, end=5, written=2, length=LAST_TIME + 1)),
    "a grace past the last": encode(Meta(born=1, end=5, grace=LAST_TIME + 1)),
    "a grace and no end": encode(Meta(born=1, grace=5)),
    "staled past the last": encode(Meta(born=1, staled=LAST_TIME + 1)),
    "a cost past 32 bits": encode(Meta(born=1, cost=2**32)),
    "a grace of zero": b"\x01\x05\x01\x05\x00",
    "a cost of zero": b"\x01\x10\x01\x00",
    "hits of zero": b"\x01\x20\x01\x00",
    "times that are implied": encode(Meta(born=5000, end=10, written=5, length=5)),
    "a time of writing that is implied": encode(Meta(born=5000, written=5)),
}
HOSTILE |= {
    "tags, and nothing": tagged(),
    "no tags after all": tagged(varint(0)),
    "a tag that is not there": tagged(varint(1)),
    "one tag of two": tagged(varint(2), varint(1), b"a"),
    "2^16-1 tags that are not there": tagged(varint(2**16 - 1)),
    "2^16 tags that are not there": tagged(varint(2**16)),
    "2^16 tags": tagged(written(lots(2**16))),
    "2^32 tags": tagged(varint(2**32), b"\x01a" * 9),
    "2^63 tags": tagged(varint(2**63), b"\x01a" * 9),
    "2^64-1 tags": tagged(varint(2**64 - 1), b"\x01a" * 9),
    "a number of tags past 64 bits": tagged(b"\xff" * 9 + b"\x02", b"\x01a"),
    "a number of tags that never ends": tagged(b"\xff" * 500),
    "a number of tags not in its shortest form": tagged(b"\x81\x00", b"\x01a"),
    "a tag past the end": tagged(varint(1), varint(5), b"abcd"),
    "the last tag past the end": tagged(varint(2), b"\x01a", varint(2), b"b"),
    "the longest tag past the end": tagged(varint(1), varint(2**16 - 1), b"a" * (2**16 - 2)),
    "a tag of 2^16 bytes": tagged(varint(1), varint(2**16), b"a" * 2**16),
    "a tag of 2^32 bytes": tagged(varint(1), varint(2**32), b"a" * 100),
    "a tag of 2^63 bytes": tagged(varint(1), varint(2**63), b"a" * 100),
    "a tag of 2^64-1 bytes": tagged(varint(1), varint(2**64 - 1), b"a" * 100),
    # Where it begins and how long it is add up to 2^64: to the beginning again.
    "a tag that ends before it begins": tagged(varint(2), varint(2**64 - 16), b"a" * 100),
    "two tags that are too long together": tagged(varint(2), varint(2**63), b"a", varint(2**63), b"a"),
    "the length of a tag not in its shortest form": tagged(varint(1), b"\x81\x00", b"a"),
    "a tag twice": tagged(written([b"a", b"a"])),
    "the empty tag twice": tagged(written([b"", b""])),
    "a tag twice among a few": tagged(written([*lots(15), b"\x00\x03"])),
    "a tag twice among many": tagged(written([*lots(MOST_TAGS - 1), b"\x00\x03"])),
    "bytes behind the tags": tagged(written([b"a"]), b"\x00"),
    "a tag more than said": tagged(varint(1), b"\x01a", b"\x01b"),
    "tags of a dead one past the end": encode(Meta(born=1, dead=True, tags=(b"abc",)))[:-1],
}


def adaptive(*auto):
    """Metadata with an end and, for EXAUTO, these numbers."""
    return encode(Meta(born=1, end=5, auto=auto))


HOSTILE |= {
    "adaptive, of the version before": b"\x01" + adaptive(1, 2, 3, 4, 5, 6)[1:],
    "adaptive fields, no numbers": b"\x02" + varint(payload.KNOWN),
    "adaptive without an end": encode(Meta(born=1, auto=(1, 2, 3, 4, 5, 6))),
    "adaptive with bounds of zero": adaptive(0, 2, 3, 4, 5, 6),
    "adaptive with bounds the wrong way round": adaptive(3, 2, 3, 4, 5, 6),
    "adaptive with a bound past 32 bits": adaptive(1, 2**32, 3, 4, 5, 6),
    "adaptive with a digest past 32 bits": adaptive(1, 2, 2**32, 4, 5, 6),
    "adaptive with an exposure past 16 bits": adaptive(1, 2, 3, 2**16, 5, 6),
    "adaptive with refills past 16 bits": adaptive(1, 2, 3, 4, 2**16, 6),
    "adaptive with a reason that is none": adaptive(1, 2, 3, 4, 5, 5 << 5),
    "adaptive with marks past 8 bits": adaptive(1, 2, 3, 4, 5, 2**8),
    "adaptive, of 2^64-1 everywhere": adaptive(*[2**64 - 1] * 6),
    "adaptive and cut short": adaptive(1, 2, 3, 4, 5, 6)[:-1],
    "adaptive and a number more": adaptive(1, 2, 3, 4, 5, 6, 7),
}


def packed(length):
    """Metadata that says of its value that it is packed, and was that long."""
    return encode(Meta(born=1, unpacked=length))


# None is that of "v" or "value 0", which the tests send with it.
HOSTILE |= {
    "packed, of the first version": b"\x01" + packed(64)[1:],
    "packed, of the version before": b"\x02" + packed(64)[1:],
    "packed, and nothing said of it": b"\x03\x00\x01",
    "packed and cut short": packed(64)[:-1],
    "packed of nothing": packed(0),
    "packed and no shorter": packed(1),
    "packed and shorter than any is": packed(63),
    "packed, the shortest": packed(64),
    "packed, more than can be of it": packed(255 * 7 + 1),
    "packed of 512 MB": packed(512 << 20),
    "packed of 4 GB": packed(2**32 - 1),
    "packed of more than 32 bits": packed(2**32),
    "packed of 2^64-1": packed(2**64 - 1),
}
STRANGE = {
    "all zero": Meta(),
    "all at their ends": Meta(
        STAMP_LIMIT - 1, LAST_TIME, LAST_TIME, LAST_TIME, LAST_TIME, LAST_TIME, 2**32 - 1, 2**64 - 1
    ),
    "all at their beginnings": Meta(0, 0, 1, 0, 1, 0, 1, 1),
    "ended before it was born": Meta(born=NOW * 1000, end=1),
    "grace past the end of time": Meta(born=1, end=LAST_TIME, grace=LAST_TIME),
    "staled before it was written": Meta(born=NOW * 1000, end=NOW + 1, staled=1),
    "the longest length": Meta(born=1, end=5, written=5, length=LAST_TIME),
    "written in the future": Meta(born=1, written=LAST_TIME),
    "no end and staled": Meta(born=1, staled=0),
    "the empty tag": Meta(born=1, tags=(b"",)),
    "as many tags as there can be": Meta(born=1, tags=tuple(lots(MOST_TAGS))),
    "the longest tag": Meta(born=1, end=LAST_TIME, tags=(b"t" * 65535, b"")),
    "tags that look like another's": Meta(born=1, tags=(b"\x01a", b"\x02", b"a\x01a", b"\x00")),
    "everything and tags": Meta(
        NOW, NOW, NOW, 5, 6, NOW, 7, 8, False, (b"fuzz1", b"fuzz2"), (1, 2, 3, 4, 5, 6)
    ),
    "adaptive at its ends": Meta(
        born=1, end=LAST_TIME, auto=(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**16 - 1, 2**16 - 1, 0x9F)
    ),
    "adaptive at its beginnings": Meta(born=1, end=0, auto=(1, 1, 0, 0, 0, 0)),
    "adaptive with as many tags as there can be": Meta(
        born=1, end=LAST_TIME, tags=tuple(lots(MOST_TAGS)), auto=(1, 2, 3, 4, 5, 6)
    ),
}


def fuzz(dice, count):
    """Random metadata: fields with numbers at the edges, some of it broken afterwards."""
    for _ in range(count):
        fields = dice.randrange(payload.KNOWN + 1) if dice.random() < 0.95 else dice.randrange(4096)
        # Most are alive, else there is little to look at; and one in four has tags.
        fields &= ~payload.DEAD if dice.random() < 0.7 else ~0
        fields &= ~TAGS if dice.random() < 0.5 else ~0
        fields &= ~ADAPTIVE if dice.random() < 0.7 else ~0
        fields &= ~PACKED if dice.random() < 0.9 else ~0
        numbers = payload.numbers_of(fields)
        edges = EDGES if dice.random() < 0.5 else EDGES[:6]
        parts = [varint(dice.choice(edges)) for _ in range(numbers + dice.choice((0, 0, 0, 0, -1, 1)))]
        if fields & ADAPTIVE and dice.random() < 0.7:  # at random they are hardly ever sound
            small = (
                1,
                60,
                3600,
                2**32 - 1,
                dice.randrange(2**16),
                dice.randrange(2**16),
                dice.randrange(160),
            )
            end = len(parts) - bool(fields & PACKED)
            parts[end - 6 : end] = [varint(n) for n in small]
        if fields & TAGS:
            parts += random_tags(dice)
        version = payload.version_of(fields) if dice.random() < 0.95 else dice.choice((1, 2, 3))
        data = bytes([version]) + varint(fields) + b"".join(parts)
        if dice.random() < 0.3:
            broken = bytearray(data)
            broken[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            data = bytes(broken)
        yield data[:90]


def random_tags(dice):
    """The bytes of some tags, most of them sound."""
    tags = [dice.choice((b"", b"fuzz1", b"fuzz2", b"\x00\xff", b"f" * 9)) for _ in range(dice.randrange(4))]
    if dice.random() < 0.8:
        tags = list(dict.fromkeys(tags)) or [b"fuzz"]
    count = len(tags) if dice.random() < 0.9 else dice.choice((0, 1, 2, 5, 2**16, 2**64 - 1))
    yield varint(count)
    for tag in tags:
        yield varint(len(tag) if dice.random() < 0.95 else dice.choice((0, 2, 127, 2**16, 2**64 - 1))) + tag
