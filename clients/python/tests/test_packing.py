"""Every caller's value is its own, and equal to what was kept, of whatever shape."""

import copy
import marshal
from collections import OrderedDict
from datetime import datetime, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheflow.packing import DENSE, pack

FROZEN = [None, True, 7, 2**70, 1.5, "text", b"bytes", 1j, Decimal("1.10"), UUID(int=7), datetime.now(timezone.utc)]


def kept(value, decode=None):
    """(what is kept, the function that gives a caller's own)."""
    stored, unpack, size = pack(value, b"encoded", decode or pytest.fail)
    assert size > 0
    return stored, (lambda: stored) if unpack is None else (lambda: unpack(stored))


def containers(value):
    """The identities of all that can be altered in a value."""
    if isinstance(value, dict):
        return {id(value)}.union(*(containers(item) for item in value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(containers, value))
    return {id(value)} if isinstance(value, set) else set()


trees = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sets(st.integers(0, 9), max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(trees)
def test_no_two_share_what_can_be_altered(value):
    before = copy.deepcopy(value)
    stored, own = kept(value)
    assert not containers(stored) & containers(value), "who brought it can alter what he brought"
    one, other = own(), own()
    assert one == other == before and repr(one) == repr(before)
    assert not containers(one) & containers(other)
    assert not containers(one) & containers(value), "nor with who brought it"


@pytest.mark.parametrize("value", [*FROZEN, (1, ("a", None)), frozenset({1, "a"})], ids=repr)
def test_what_nothing_can_alter_is_shared(value):
    _, own = kept(value)
    assert own() is value


def test_large_ones_are_packed():
    value = {"rows": [{"id": number, "name": f"name {number}"} for number in range(200)]}
    stored, own = kept(value)
    assert isinstance(stored, bytes) and len(stored) > DENSE
    assert own() == value and not containers(own()) & containers(own())
    text = "x" * 2 * DENSE
    assert kept(text)[1]() is text


@pytest.mark.parametrize("value", [([1], 2), {"a": ([],)}, [[]] * 2], ids=repr)
def test_what_is_not_quite_a_tree_is_packed(value):
    stored, own = kept(value)
    assert isinstance(stored, bytes) and own() == value == marshal.loads(stored)
    twice = kept([[]] * 2)[1]()
    assert twice[0] is twice[1], "one list in two places stays one"


class Odd(list):
    pass


@pytest.mark.parametrize(
    "value", [Odd(), {"a": Odd()}, bytearray(b"x"), [bytearray(b"x")], OrderedDict(a=1), object()], ids=repr
)
def test_everything_else_is_decoded_each_time(value):
    decoded = []
    stored, own = kept(value, lambda data: decoded.append(data) or "decoded")
    assert stored == b"encoded" and own() == own() == "decoded" and decoded == [b"encoded"] * 2


def test_what_contains_itself_comes_to_an_end():
    value = []
    value.append(value)
    assert kept(value, lambda _: "decoded")[1]() == "decoded"
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert kept(deep, lambda _: "decoded")[1]() == "decoded"
