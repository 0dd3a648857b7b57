"""MessagePack by hand, as much as the module's saved state takes (src/core/saved.rs)."""


def encode(value):
    """A map with names, an array, bytes (`bin`), text, a truth value or an integer; sound or not."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, bytes):
        return _sized(len(value), None, 0xC4, value)
    if isinstance(value, str):
        return _sized(len(value), (0xA0, 32), 0xD9, value.encode())
    if isinstance(value, dict):
        parts = b"".join(encode(name) + encode(of) for name, of in value.items())
        return bytes([0x80 | len(value)]) + parts
    if len(value) < 16:
        return bytes([0x90 | len(value)]) + b"".join(map(encode, value))
    return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(encode, value))


def _integer(n):
    if 0 <= n < 128:
        return bytes([n])
    if n < 0:
        return b"\xd3" + n.to_bytes(8, "big", signed=True)
    for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if n < 1 << 8 * size:
            return bytes([code]) + n.to_bytes(size, "big")
    raise ValueError(n)


def _sized(size, short, code, data):
    if short and size < short[1]:
        return bytes([short[0] | size]) + data
    for step in (0, 1, 2):
        if size < 1 << (8 << step):
            return bytes([code + step]) + size.to_bytes(1 << step, "big") + data
    raise ValueError(size)
