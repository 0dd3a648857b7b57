"""The vectors that every CacheFlow client reads: the same bytes, the same values, the same codes."""

import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from cacheflow.codecs import DecodeError, Framed, KeyRing

FILE = Path(__file__).parents[3] / "conformance" / "vectors.json"
DATA = json.loads(FILE.read_text(encoding="utf-8"))
KEYS = {name: bytes.fromhex(text) for name, text in DATA["keys"].items()}


def codec(said):
    """The codec that a vector asks for."""
    options = dict(said)
    if "keys" in options:
        options["keys"] = KeyRing(options.pop("active"), {name: KEYS[name] for name in options["keys"]})
    return Framed(options.pop("serializer", "json"), **options)


def value(told):
    """A value as vectors write it: an object with one name that begins with $ is what JSON has not."""
    if isinstance(told, list):
        return [value(item) for item in told]
    if not isinstance(told, dict):
        return told
    match list(told.items()):
        case [("$bytes", text)]:
            return bytes.fromhex(text)
        case [("$zeros", count)]:
            return bytes(count)
        case [("$int" | "$float" as kind, text)]:
            return int(text) if kind == "$int" else float(text)
        case [("$timestamp", text)]:
            return datetime.fromisoformat(text.replace("Z", "+00:00"))
    return {name: value(item) for name, item in told.items()}


def data(vector):
    """A vector's bytes."""
    repeat = vector.get("repeat", {"unit": "", "count": 0})
    return bytes.fromhex(vector["data"]) + bytes.fromhex(repeat["unit"]) * repeat["count"]


def same(one, other):
    """Equal, of the same types, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return one == other


@pytest.mark.parametrize("vector", DATA["vectors"], ids=lambda vector: vector["name"])
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
    names = [vector["name"] for vector in DATA["vectors"]]
    assert len(set(names)) == len(names)
