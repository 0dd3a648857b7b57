"""DUMP payloads by hand: taken apart, put together, falsified, with a right checksum or without.

A payload is, for a value of a module's type: the byte 7 (RDB_TYPE_MODULE_2), the type's id (nine
letters of six bits and ten bits of encoding version), what the module saved, each part behind an
opcode, an end mark; then two bytes of RDB version and the CRC64 of all that. An entry saves its
metadata and its value in a string, or in two where the value is long (`pack` of src/core/codec.rs).
`sound` is the metadata's decoder a second time, so that tests can say of any bytes whether the module
must take them.
"""

import os
from dataclasses import dataclass

from . import lz4
from .engines import ROOT

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
MODULE_2, STRING, END_OF_VALUE = 7, 5, 0
FOOTER = 10  # bytes: the version's two and the checksum's eight

LAST_TIME = (1 << 48) - 2
STAMP_LIMIT = 1 << 53
VERSION, WITH_ADAPTIVE, WITH_PACKED = 1, 2, 3
END, TIMES, GRACE, STALED, COST, HITS, DEAD, TAGS, ADAPTIVE, PACKED = (1 << bit for bit in range(10))
KNOWN = (1 << 10) - 1
WITHOUT_A_NUMBER = DEAD | TAGS | ADAPTIVE  # fields that are not one number each
MOST_TAGS = LONGEST_TAG = 65535
TOGETHER = 4096  # bytes: of the longest value that lies with its metadata


def _no_field_is_new():
    """This file knows the fields that this tree's codec takes."""
    with open(os.path.join(ROOT, "src", "core", "codec.rs"), encoding="utf-8") as codec:
        assert "const KNOWN: u64 = (1 << 10) - 1;" in codec.read(), "a field that this file does not know"


_no_field_is_new()


# --- the checksum ----------------------------------------------------------------------------------
def _table():
    # The polynomial of Jones, 0xad93d23594c935a9, reflected: as src/crc64.c of Redis has it.
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x95AC9329AC4BC9B5 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def crc64(data, crc=0):
    """CRC-64/Jones of some bytes, or of what `crc` is of and these behind it."""
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def seal(body, rdb_version):
    """A payload of this body (all but the footer), with a right checksum."""
    signed = body + rdb_version.to_bytes(2, "little")
    return signed + crc64(signed).to_bytes(8, "little")


def rdb_version(payload):
    """The RDB version that a payload names."""
    return int.from_bytes(payload[-FOOTER : 2 - FOOTER], "little")


# --- numbers and strings as RDB has them -----------------------------------------------------------
def length(n):
    """A length as RDB writes it."""
    if n < 1 << 6:
        return bytes([n])
    if n < 1 << 14:
        return bytes([0x40 | n >> 8, n & 0xFF])
    if n < 1 << 32:
        return b"\x80" + n.to_bytes(4, "big")
    return b"\x81" + n.to_bytes(8, "big")


def string(data):
    """A string as a module saves it, uncompressed."""
    return length(STRING) + length(len(data)) + data


def type_id(name="cacheflow", version=1):
    """The id of a module's type."""
    number = 0
    for letter in name:
        number = number << 6 | LETTERS.index(letter)
    return b"\x81" + (number << 10 | version).to_bytes(8, "big")


def body(meta, value, name="cacheflow", version=1):
    """An entry's payload without the footer."""
    return bytes([MODULE_2]) + type_id(name, version) + packed(meta, value) + bytes([END_OF_VALUE])


def packed(meta, value):
    """An entry's strings as the module saves them."""
    if len(value) > TOGETHER:
        return string(varint(2 * len(meta) + 1) + meta) + string(value)
    return string(varint(2 * len(meta)) + meta + value)


def varint(n):
    """LEB128, shortest form."""
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


# --- metadata --------------------------------------------------------------------------------------
@dataclass
class Meta:
    """An entry's metadata; None and 0: not there. `length` is there with `end` and `written` only."""

    born: int = 0
    end: int | None = None
    written: int | None = None
    length: int | None = None
    grace: int = 0
    staled: int | None = None
    cost: int = 0
    hits: int = 0
    dead: bool = False
    tags: tuple = ()
    auto: tuple = ()  # EXAUTO: min, max, digest, exposure, refills, marks
    unpacked: int | None = None  # how long the value is, where it is packed


def encode(meta):
    """The bytes of metadata, sound or not."""
    fields, numbers = 0, [meta.born]
    for flag, values in (
        (END, [meta.end]),
        (TIMES, [meta.written, meta.length] if meta.end is not None else [meta.written]),
        (GRACE, [meta.grace or None]),
        (STALED, [meta.staled]),
        (COST, [meta.cost or None]),
        (HITS, [meta.hits or None]),
    ):
        if values[0] is not None:
            fields |= flag
            numbers += values
    if meta.dead:
        fields |= DEAD
    if meta.auto:
        fields |= ADAPTIVE
        numbers += meta.auto
    if meta.unpacked is not None:
        fields |= PACKED
        numbers.append(meta.unpacked)
    out = b"".join(varint(n) for n in numbers)
    if meta.tags:
        fields |= TAGS
        out += varint(len(meta.tags)) + b"".join(varint(len(tag)) + tag for tag in meta.tags)
    return bytes([version_of(fields)]) + varint(fields) + out


def version_of(fields):
    """The version that metadata with these fields is of."""
    if fields & PACKED:
        return WITH_PACKED
    return WITH_ADAPTIVE if fields & ADAPTIVE else VERSION


def read_varint(data, at):
    """(number, where the next begins), or None where there is no sound one."""
    n = 0
    for i in range(10):
        if at + i >= len(data):
            return None
        byte = data[at + i]
        if i and not byte:  # not the shortest form
            return None
        n |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            return (n, at + i + 1) if n < 1 << 64 else None
    return None


def read_tags(data, at):
    """(tags, where the rest begins), or None where there are no sound ones."""
    found = read_varint(data, at)
    if found is None or not 0 < found[0] <= MOST_TAGS:
        return None
    count, at = found
    tags = []
    for _ in range(count):
        found = read_varint(data, at)
        if found is None or found[0] > LONGEST_TAG or found[1] + found[0] > len(data):
            return None
        size, at = found
        tags.append(bytes(data[at : at + size]))
        at += size
    return (tuple(tags), at) if len(set(tags)) == count else None


def numbers_of(fields):
    """How many numbers there are before the tags."""
    with_length = fields & (END | TIMES) == END | TIMES
    return 1 + bin(fields & ~WITHOUT_A_NUMBER).count("1") + with_length + 6 * bool(fields & ADAPTIVE)


def decode(data):
    """The Meta that bytes hold, or None where the module must refuse them."""
    found = read_varint(data, 1) if len(data) >= 2 else None
    if found is None or found[0] & ~KNOWN or data[0] != version_of(found[0]):
        return None
    (fields, at), numbers, tags = found, [], ()
    wanted = numbers_of(fields)
    for _ in range(wanted):
        found = read_varint(data, at)
        if found is None:
            return None
        numbers.append(found[0])
        at = found[1]
    if fields & TAGS:
        found = read_tags(data, at)
        if found is None:
            return None
        tags, at = found
    if at != len(data):
        return None
    take = iter(numbers)
    meta = Meta(born=next(take))
    if fields & END:
        meta.end = next(take)
    if fields & TIMES:
        meta.written = next(take)
        if fields & END:
            meta.length = next(take)
    meta.grace = next(take) if fields & GRACE else 0
    meta.staled = next(take) if fields & STALED else None
    meta.cost = next(take) if fields & COST else 0
    meta.hits = next(take) if fields & HITS else 0
    meta.unpacked = numbers.pop() if fields & PACKED else None
    meta.auto = tuple(take)
    meta.dead, meta.tags = bool(fields & DEAD), tags
    return meta if _is_sound(meta, fields) else None


def sound(data, value=b"v"):
    """Whether the module must take these bytes as metadata, with that value."""
    meta = decode(data)
    return meta is not None and read(meta, value) is not None


def read(meta, value):
    """What a reader gets of a value that is stored so, or None where it does not unpack."""
    return value if meta.unpacked is None else lz4.intact(value, meta.unpacked)


def _is_sound(meta, fields):
    for flag, number in ((GRACE, meta.grace), (COST, meta.cost), (HITS, meta.hits)):
        if fields & flag and not number:
            return False
    times = (meta.end, meta.written, meta.length, meta.staled, meta.grace, meta.born // 1000)
    implied = meta.born // 1000, None if meta.end is None else max(0, meta.end - meta.born // 1000)
    if meta.auto:
        least, most, digest, exposure, refills, marks = meta.auto
        if not (1 <= least <= most < 1 << 32 and digest < 1 << 32 and exposure < 1 << 16 > refills):
            return False
        if marks >> 5 > 4 or meta.end is None:
            return False
    if meta.unpacked is not None and meta.unpacked >= 1 << 32:
        return False
    return (
        meta.born < STAMP_LIMIT
        and all(time is None or time <= LAST_TIME for time in times)
        and meta.cost < 1 << 32
        and (not meta.grace or meta.end is not None)
        and (meta.written is None or (meta.written, meta.length) != implied)
    )


def _lzf(data):
    """LZF undone: a run of literals, or a copy of what came before."""
    out, at = bytearray(), 0
    while at < len(data):
        control = data[at]
        at += 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
            continue
        count = control >> 5
        if count == 7:
            count += data[at]
            at += 1
        back = ((control & 0x1F) << 8) + data[at] + 1
        at += 1
        if back > len(out):
            raise IndexError("a copy of what is before the beginning")
        # It may be longer than what it copies: then that comes again and again.
        piece = bytes(out[-back : len(out) - back + count + 2] if back > count + 2 else out[-back:])
        out += (piece * (-(-(count + 2) // len(piece))))[: count + 2]
    return bytes(out)


def _read_length(data, at):
    """(length, whether it is an encoding's number, where the rest begins)."""
    first = data[at]
    if first < 0x40:
        return first, False, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], False, at + 2
    if first >= 0xC0:
        return first & 0x3F, True, at + 1
    size = {0x80: 4, 0x81: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), False, at + 1 + size


def read_string(data, at):
    """(a string that a module saved, where the rest begins)."""
    opcode, _, at = _read_length(data, at)
    assert opcode == STRING
    size, encoded, at = _read_length(data, at)
    if encoded and size < 3:  # a number of one, two or four bytes
        end = at + (1 << size)
        return str(int.from_bytes(data[at:end], "little", signed=True)).encode(), end
    if encoded:
        assert size == 3
        size, _, at = _read_length(data, at)
        was, _, at = _read_length(data, at)
        text = _lzf(data[at : at + size])
        assert len(text) == was
    else:
        text = data[at : at + size]
        assert len(text) == size
    return text, at + size


def unpack(payload):
    """(metadata, value, where the rest begins) of an entry's strings."""
    first, at = read_string(payload, 10)
    found = read_varint(first, 0)
    assert found and found[1] + found[0] // 2 <= len(first)
    head, begin = found
    meta, value = first[begin : begin + head // 2], first[begin + head // 2 :]
    if head & 1:
        assert not value
        value, at = read_string(payload, at)
    return meta, value, at


def entry(payload):
    """(Meta, value) of a payload's entry, or None where it holds no whole one. As Redis does, it reads
    on into the footer where the body is short."""
    try:
        assert payload[:10] == bytes([MODULE_2]) + type_id()
        meta, value, at = unpack(payload)
        # The server reads a length here, in whatever form one may take.
        assert _read_length(payload, at)[0] == END_OF_VALUE
    except (AssertionError, IndexError, KeyError):
        return None
    meta = decode(meta)
    return (meta, value) if meta and read(meta, value) is not None else None


def meta_of(payload):
    """The metadata of a payload that a server took, without a look at the value."""
    meta = decode(unpack(payload)[0])
    assert meta, f"the server took what is no metadata: {payload[:80]!r}"
    return meta


def dumped_meta(payload):
    """The metadata in a payload that a server dumped."""
    found = entry(payload)
    assert found, f"no entry: {payload[:80]!r}"
    return found[0]
