"""The vectors that every CacheFlow client reads: the same bytes, the same values, the same codes."""

import pytest
from scenarios.values import VECTORS, codec, same, value

from cacheflow.codecs import DecodeError


def data(vector):
    """A vector's bytes."""
    repeat = vector.get("repeat", {"unit": "", "count": 0})
    return bytes.fromhex(vector["data"]) + bytes.fromhex(repeat["unit"]) * repeat["count"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_vector(vector):
    reader, key = codec(vector.get("codec", {})), vector["key"]
    if "error" in vector:
        with pytest.raises(DecodeError) as caught:
            reader.decode(key, data(vector))
        assert (caught.value.code, caught.value.key) == (vector["error"], key)
        return
    expected = value(vector["value"])
    assert same(reader.decode(key, data(vector)), expected)
    written = reader.encode(key, expected) if vector.get("written") else data(vector)
    assert written == data(vector)


def test_names_are_unique():
    names = [vector["name"] for vector in VECTORS["vectors"]]
    assert len(set(names)) == len(names)
