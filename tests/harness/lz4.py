"""LZ4's block format a second time: so that tests can say of any bytes whether the module must take them
for a packed value, and can pack by hand (as nobody would: in literals, and one long run)."""


def _integer(data, at):
    """(what bytes of 255 and one less add up to, where the rest begins)."""
    total = 0
    while True:
        total += data[at]
        at += 1
        if data[at - 1] != 255:
            return total, at


def unpack(data, length):
    """The value of exactly that length, or None where the bytes are none."""
    out, at = bytearray(), 0
    try:
        while True:
            token = data[at]
            literals, match = token >> 4, token & 15
            at += 1
            if literals == 15:
                more, at = _integer(data, at)
                literals += more
            if at + literals > len(data) or len(out) + literals > length:
                return None
            out += data[at : at + literals]
            at += literals
            if at == len(data):
                return bytes(out) if len(out) == length else None
            offset = data[at] | data[at + 1] << 8
            at += 2
            if match == 15:
                more, at = _integer(data, at)
                match += more
            match += 4
            if not 0 < offset <= len(out) or len(out) + match > length:
                return None
            piece = bytes(out[-offset:])
            out += (piece * (match // offset + 1))[:match]
    except IndexError:
        return None


def intact(value, length):
    """The value, or None where the module refuses it: as `Packed::new` of src/core/packing.rs does before
    it unpacks, and then where it does not unpack."""
    if not (64 <= length <= 512 << 20 and len(value) < length <= 255 * len(value)):
        return None
    return unpack(value, length)


def run(length, byte=b"a", end=b"the end"):
    """A run of one byte with that end, packed: `length` bytes in all."""
    match = length - 1 - len(end) - 4 - 15
    assert match >= 0 and len(end) < 15
    return b"\x1f" + byte + b"\x01\x00" + b"\xff" * (match // 255) + bytes([match % 255, len(end) << 4]) + end
