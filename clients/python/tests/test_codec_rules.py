"""What each codec takes, refuses and says, case by case."""

import enum
import subprocess
import sys
from collections import OrderedDict, namedtuple
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from cacheflow.codecs import (
    Codec,
    DecodeError,
    EncodeError,
    Framed,
    JsonCodec,
    JsonSerializer,
    KeyRing,
    MissingLibrary,
    MsgpackCodec,
    PickleCodec,
    RawCodec,
    Serializer,
    Zstd,
    optional,
)

KEY = "shop:user:42"
OLD, NEW = bytes(32), bytes([1]) * 32
Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    """A str that is more than one, as template engines have."""


def cycle():
    """A list that holds itself."""
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize("make", [JsonCodec, MsgpackCodec])
@pytest.mark.parametrize(
    "value",
    [(1, 2), Point(1, 2), {1, 2}, Colour.RED, Text("a"), OrderedDict(a=1), {1: 2}, {"a": {None: 1}}, 1j,
     Decimal("1.0"), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
     bytearray(b"a"), object()],
    ids=repr,
)  # fmt: skip
def test_types_that_would_change_are_refused_and_named(make, value):
    with pytest.raises(EncodeError) as caught:
        make().encode(KEY, {"deep": [value]})
    assert caught.value.code == "unsupported_type"
    assert "value.deep" in caught.value.detail and "default=" in caught.value.detail


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), "\ud800", {"\udfff": 1}, 10**5000, cycle()],
    ids=lambda value: type(value).__name__,
)
def test_json_refuses_what_json_has_not(value):
    with pytest.raises(EncodeError) as caught:
        JsonCodec().encode(KEY, value)
    assert (caught.value.code, caught.value.key) == ("not_encodable", KEY)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", cycle()], ids=ascii)
def test_messagepack_refuses_what_it_has_not(value):
    with pytest.raises(EncodeError) as caught:
        MsgpackCodec().encode(KEY, value)
    assert caught.value.code == "not_encodable"


@pytest.mark.parametrize("value", ["text", bytearray(b"a"), None])
def test_raw_takes_bytes_alone(value):
    with pytest.raises(EncodeError, match="unsupported_type"):
        RawCodec().encode(KEY, value)


def test_what_pickle_cannot_is_an_encode_error():
    with pytest.raises(EncodeError, match="unsupported_type"):
        PickleCodec().encode(KEY, lambda: None)


def default(value):
    """Of the documentation: decimals, tuples."""
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if type(value) is tuple:
        return {"$tuple": list(value)}
    raise TypeError("not cacheable")


def object_hook(read):
    """Its inverse."""
    if read.keys() == {"$decimal"}:
        return Decimal(read["$decimal"])
    return tuple(read["$tuple"]) if read.keys() == {"$tuple"} else read


@pytest.mark.parametrize("make", [JsonCodec, MsgpackCodec])
def test_hooks_bring_further_types_there_and_back(make):
    codec = make(default, object_hook)
    value = {"price": Decimal("9.90"), "rows": [(1, (Decimal(2), "x"))]}
    assert codec.decode(KEY, codec.encode(KEY, value)) == value
    with pytest.raises(EncodeError, match=r"default= refused set \(value.a\): not cacheable"):
        codec.encode(KEY, {"a": {1}})


@pytest.mark.parametrize("make", [JsonCodec, MsgpackCodec])
def test_a_hook_that_returns_what_it_was_given_is_refused_too(make):
    with pytest.raises(EncodeError, match="unsupported_type"):
        make(default=lambda value: value).encode(KEY, {1})


@pytest.mark.parametrize("make", [JsonCodec, MsgpackCodec])
def test_what_a_reading_hook_raises_is_the_callers(make):
    def hook(_):
        raise ValueError("a bug of the hook")

    data = make().encode(KEY, {"a": 1})
    with pytest.raises(ValueError, match="a bug of the hook"):
        make(object_hook=hook).decode(KEY, data)


def test_small_values_are_not_compressed_nor_those_that_would_grow():
    codec = JsonCodec(compress="zstd", min_size=100)
    assert codec.encode(KEY, "a" * 97) == b'"' + b"a" * 97 + b'"'
    assert codec.encode(KEY, "a" * 98)[:3] == b"\xcf\x01\x04"
    noise = bytes(range(256)) * 2
    assert RawCodec(compress="lz4", min_size=0).encode(KEY, noise[:200]) == b"\xcf\x01\x03" + noise[:200]


def test_what_nobody_could_read_is_not_compressed():
    codec = JsonCodec(compress="zstd", max_size=2000)
    value = "a" * 3000
    data = codec.encode(KEY, value)
    assert data == JsonCodec().encode(KEY, value) and codec.decode(KEY, data) == value


def test_keys_rotate():
    before = JsonCodec(keys=KeyRing("old", {"old": OLD}))
    during = JsonCodec(keys=KeyRing("old", {"old": OLD, "new": NEW}))
    after = JsonCodec(keys=KeyRing("new", {"old": OLD, "new": NEW}))
    done = JsonCodec(keys=KeyRing("new", {"new": NEW}))
    assert after.decode(KEY, before.encode(KEY, 1)) == 1
    assert during.decode(KEY, after.encode(KEY, 1)) == 1
    assert done.decode(KEY, after.encode(KEY, 1)) == 1
    with pytest.raises(DecodeError) as caught:
        done.decode(KEY, before.encode(KEY, 1))
    assert (caught.value.code, caught.value.key) == ("unknown_key_id", KEY)


def test_an_encrypted_value_shows_nothing_and_never_repeats():
    codec = JsonCodec(keys=KeyRing("k", {"k": NEW}))
    written = {codec.encode(KEY, "secret") for _ in range(100)}
    assert len(written) == 100 and not any(b"secret" in data for data in written)


@pytest.mark.parametrize(
    "active, keys",
    [("a", {}), ("a", {"b": OLD}), ("a", {"a": b"short"}), ("", {"": OLD}), ("é" * 128, {"é" * 128: OLD})],
)
def test_a_key_ring_that_makes_no_sense_is_refused(active, keys):
    with pytest.raises(ValueError):
        KeyRing(active, keys)


def test_a_key_ring_does_not_show_its_keys():
    ring = KeyRing("a", {"a": b"0123456789abcdef0123456789abcdef"})
    assert repr(ring) == "KeyRing(active='a', ids=['a'])"
    assert len(KeyRing.generate_key()) == 32 and KeyRing.generate_key() != KeyRing.generate_key()


def test_a_key_that_has_no_utf8_is_an_error_of_its_own():
    codec = JsonCodec(keys=KeyRing("k", {"k": NEW}))
    with pytest.raises(EncodeError, match="bad_key"):
        codec.encode("\ud800", 1)
    with pytest.raises(DecodeError, match="bad_key"):
        codec.decode("\ud800", codec.encode(KEY, 1))


@pytest.mark.parametrize(
    "options",
    [{"serializer": "yaml"}, {"compress": "gzip"}, {"min_size": -1}, {"max_size": 0}, {"reads": ["xml"]}],
    ids=repr,
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError):
        Framed(**options)


class Upper:
    """A serializer of one's own, in JSON's place."""

    id = 0

    def dumps(self, value):
        return JsonSerializer().dumps(value).upper()

    def loads(self, data):
        return JsonSerializer().loads(data.lower())


def test_serializers_of_ones_own():
    codec = Framed(Upper(), compress=Zstd(level=9), min_size=0, keys=KeyRing("k", {"k": NEW}))
    assert isinstance(codec, Codec) and isinstance(Upper(), Serializer)
    assert codec.decode(KEY, codec.encode(KEY, ["abc" * 100])) == ["abc" * 100]
    assert Framed(Upper()).encode(KEY, "a") == b'"A"'
    Upper.id = 4
    with pytest.raises(ValueError):
        Framed(Upper())
    Upper.id = 0


def test_a_missing_library_names_its_extra_and_is_a_decode_error_when_reading(monkeypatch):
    def missing(name):
        raise ImportError(name)

    packed = MsgpackCodec().encode(KEY, 1)
    squeezed = JsonCodec(compress="lz4", min_size=0).encode(KEY, "a" * 500)
    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(MissingLibrary, match=r"cacheflow\[zstd\]"):
        Framed(compress="zstd")
    for data in (packed, squeezed):
        with pytest.raises(DecodeError, match="library_missing"):
            JsonCodec().decode(KEY, data)


def test_json_alone_imports_no_optional_library():
    script = (  # what the rest of the client, and redis-py, import is their affair
        "import sys, cacheflow; before = set(sys.modules); from cacheflow.codecs import JsonCodec;"
        "codec = JsonCodec(); codec.decode('', codec.encode('', 1)); new = set(sys.modules) - before;"
        "print([m for m in ('msgpack', 'zstandard', 'lz4', 'cryptography') if m in new])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stdout


def test_errors_say_code_key_and_reason_and_show_nothing_of_the_value():
    with pytest.raises(EncodeError) as caught:
        JsonCodec().encode(KEY, {"card": {"4111"}})
    text = str(caught.value)
    assert text.startswith("unsupported_type: set ") and KEY in text and "4111" not in text
