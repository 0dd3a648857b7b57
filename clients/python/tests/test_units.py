"""Durations and sizes."""

import math
from datetime import timedelta

import pytest

from cacheflow import FOREVER, ConfigError
from cacheflow.options import Lifetime, Options
from cacheflow.units import AutoTTL, milliseconds, seconds, size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30, 30.0),
        (0.25, 0.25),
        (timedelta(minutes=5), 300.0),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5s", 1.5),
        ("7d", 604800.0),
        ("1w", 604800.0),
        (0, 0.0),
    ],
)
def test_durations(value, expected):
    assert seconds(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["", "5", "m5", "5 minutes", -1, True, math.nan, None, [], "5mm"])
def test_what_is_no_duration(value):
    with pytest.raises(ConfigError) as error:
        seconds(value)
    assert error.value.code == "bad_duration"


def test_milliseconds_are_whole_and_never_rounded_to_none():
    assert milliseconds(0.0001) == 1
    assert milliseconds("1.5s") == 1500
    assert milliseconds(0) == 0
    with pytest.raises(ConfigError):
        milliseconds(FOREVER)


def test_lifetimes():
    assert Lifetime(None, None).ttl is None
    assert Lifetime(FOREVER, 5).forever
    assert Lifetime(AutoTTL("10s", "1h"), None).auto == (10_000, 3_600_000)
    assert Lifetime(0, None).none


@pytest.mark.parametrize(("value", "expected"), [(10, 10), ("10", 10), ("64mb", 64 << 20), ("1.5 KB", 1536)])
def test_sizes(value, expected):
    assert size(value) == expected


@pytest.mark.parametrize("value", [-1, "big", True, None, "1tb"])
def test_what_is_no_size(value):
    with pytest.raises(ConfigError):
        size(value)


@pytest.mark.parametrize(
    "options",
    [{"connections": 0}, {"mode": "maybe"}, {"namespace": "a:b"}, {"timeout": "soon"}, {"breaker_failures": 0}],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(ConfigError):
        Options(**options)
