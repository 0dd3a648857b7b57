"""Whatever value, whatever bytes: what goes in comes out or is refused, and nothing else is raised."""

import pickle
import threading
from datetime import datetime, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cacheflow.codecs import (
    DecodeError,
    EncodeError,
    Framed,
    JsonCodec,
    KeyRing,
    Lz4,
    MsgpackCodec,
    PickleCodec,
    RawCodec,
    Zstd,
)

KEY = "shop:user:42"
RING = KeyRing("new", {"new": bytes(range(32)), "old": bytes(range(1, 33))})
COMPRESS = [None, "zstd", "lz4"]

# Only timezone.utc itself is MessagePack's; it has no hour that comes twice, and so no fold.
MOMENTS = st.datetimes().map(lambda moment: moment.replace(tzinfo=timezone.utc, fold=0))
ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def nested(atoms):
    """Lists and dicts of these, of any depth."""
    return st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


JSON_VALUES = nested(ATOMS)
INT64 = st.integers(-(2**63), 2**64 - 1)
MSGPACK_VALUES = nested(st.none() | st.booleans() | INT64 | st.floats() | st.text() | st.binary() | MOMENTS)


def exact(value):
    """Something equal only for values that are the same in type, order and bits."""
    if isinstance(value, dict):
        return dict, [(name, exact(item)) for name, item in value.items()]
    if isinstance(value, list):
        return list, [exact(item) for item in value]
    return type(value), repr(value)


def codecs(make):
    """One kind of codec in every combination of compression and encryption."""
    return st.sampled_from([make(compress=one, min_size=0, keys=keys) for one in COMPRESS for keys in (None, RING)])


@settings(max_examples=120)
@given(codecs(JsonCodec), JSON_VALUES, st.text())
def test_json_comes_back_as_it_was(codec, value, key):
    assert exact(codec.decode(key, codec.encode(key, value))) == exact(value)


@settings(max_examples=120)
@given(codecs(MsgpackCodec), MSGPACK_VALUES, st.text())
def test_messagepack_comes_back_as_it_was(codec, value, key):
    assert exact(codec.decode(key, codec.encode(key, value))) == exact(value)


@settings(max_examples=120)
@given(codecs(RawCodec), st.binary(max_size=5000), st.text())
def test_bytes_come_back_as_they_were(codec, value, key):
    assert codec.decode(key, codec.encode(key, value)) == value


@settings(max_examples=120)
@given(codecs(PickleCodec), st.tuples(st.integers(), st.sets(st.text())))
def test_pickled_values_come_back_as_they_were(codec, value):
    assert codec.decode(KEY, codec.encode(KEY, value)) == value


@given(JSON_VALUES)
def test_plain_json_has_no_frame(value):
    assert JsonCodec().encode(KEY, value)[0] != 0xCF


READERS = [
    Framed(reads=["pickle"]),
    Framed(keys=RING, reads=["pickle"]),
    Framed(keys=RING, allow_plain=True),
    Framed(max_size=100),
]
FRAMES = st.builds(lambda flags, body: b"\xcf\x01" + bytes([flags]) + body, st.integers(0, 31), st.binary())


@settings(max_examples=300)
@given(st.binary() | FRAMES, st.text())
@example(b"\xcf\x01\x01\xc7\x0c\xff" + b"\xff" * 12, KEY)  # a timestamp in no year that there is
@example(b"\xcf\x01\x01\xd7\xff" + b"\xff" * 8, KEY)  # one with too many nanoseconds
@example(b"9" * 5000, KEY)  # more digits than Python reads
@example(b"\xcf\x01\x01" + b"\x91" * 100_000, KEY)  # lists in lists
@example(b"\xcf\x01\x01\x81\x91\x01\x01", KEY)  # a list as a key
@example(b"\xcf\x01\x04\x50\x2a\x4d\x18\x00\x00\x00\x00", KEY)  # a skippable frame of zstd's, and LZ4's
@example(b"\xcf\x01\x08\x50\x2a\x4d\x18\x00\x00\x00\x00", KEY)
def test_hostile_bytes_make_a_value_or_a_decode_error(data, key):
    for reader in READERS:
        try:
            reader.decode(key, data)
        except DecodeError as error:
            assert error.key == key
            assert error.code in DecodeError.__doc__


@settings(max_examples=300)
@given(st.sampled_from([Zstd(), Lz4()]), st.binary(max_size=3000), st.data())
def test_damaged_compression_never_makes_more_than_the_limit(compressor, body, data):
    packed = bytearray(compressor.compress(body * 20))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] = data.draw(st.integers(0, 255))
    try:
        assert len(compressor.decompress(bytes(packed), 10_000)) <= 10_000
    except DecodeError as error:
        assert error.code in ("corrupt", "too_large")


@pytest.mark.parametrize("compressor", [Zstd(), Lz4()])
@settings(max_examples=60)
@given(st.integers(0, 300_000))
def test_the_limit_is_exact(compressor, size):
    packed = compressor.compress(bytes(size))
    assert compressor.decompress(packed, size or 1) == bytes(size)
    if size > 1:
        with pytest.raises(DecodeError, match="too_large"):
            compressor.decompress(packed, size - 1)


@pytest.mark.parametrize("make", [JsonCodec, MsgpackCodec, PickleCodec])
@pytest.mark.parametrize("compress", COMPRESS)
@pytest.mark.parametrize("reads", [[], ["pickle"]])
def test_every_flipped_bit_is_refused_under_encryption(make, compress, reads):
    codec = make(compress=compress, min_size=0, keys=RING, reads=reads)
    data = codec.encode(KEY, {"rows": ["a row"] * 30})
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            codec.decode(KEY, bytes(flipped))


@settings(max_examples=100)
@given(st.text(), st.text(), st.data())
def test_an_encrypted_value_is_of_one_key_and_one_length(key, other, data):
    codec = JsonCodec(keys=RING)
    sealed = codec.encode(key, 1)
    if other != key:
        with pytest.raises(DecodeError, match="decryption_failed"):
            codec.decode(other, sealed)
    with pytest.raises(DecodeError):
        codec.decode(key, sealed[: data.draw(st.integers(0, len(sealed) - 1))])
    with pytest.raises(DecodeError):
        codec.decode(key, sealed + data.draw(st.binary(min_size=1)))


@settings(max_examples=60)
@given(
    st.recursive(
        st.tuples()
        | st.sets(st.integers())
        | st.binary()
        | st.decimals()
        | st.datetimes()
        | st.dates()
        | st.complex_numbers()
        | st.dictionaries(st.integers(), st.none(), min_size=1),
        lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner, min_size=1),
        max_leaves=4,
    )
)
def test_what_would_come_back_changed_is_refused(value):
    with pytest.raises(EncodeError) as caught:
        JsonCodec().encode(KEY, value)
    assert (caught.value.code, caught.value.key) == ("unsupported_type", KEY)


def test_codecs_are_safe_in_threads():
    codec = MsgpackCodec(compress="zstd", min_size=0, keys=RING)
    wrong = []

    def work(number):
        for at in range(200):
            key, value = f"k:{number}:{at}", {"n": [number] * at}
            if codec.decode(key, codec.encode(key, value)) != value:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_pickle_runs_nothing_that_was_not_asked_for():
    ran = []

    class Bomb:
        def __reduce__(self):
            return (ran.append, (1,))

    hostile = b"\xcf\x01\x02" + pickle.dumps(datetime(2026, 1, 1))
    for reader in (JsonCodec(), MsgpackCodec(), RawCodec(), Framed(compress="zstd")):
        with pytest.raises(DecodeError, match="bad_serializer"):
            reader.decode(KEY, hostile)
    assert PickleCodec().decode(KEY, hostile) == datetime(2026, 1, 1)
    with pytest.raises(DecodeError, match="not_encrypted"):
        PickleCodec(keys=RING).decode(KEY, hostile)
    assert not ran
