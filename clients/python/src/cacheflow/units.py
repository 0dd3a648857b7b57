"""Durations and sizes as people write them: 30, 0.5, timedelta(minutes=5), "5m", "1h30m", "64mb"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Union

from .errors import ConfigError

#: Seconds as a number, a timedelta, or text such as "250ms", "5m", "1h30m", "7d".
Duration = Union[int, float, str, timedelta]  # noqa: UP007 - evaluated at run time on 3.10

#: A time to live that has no end, whatever the namespace's settings say.
FOREVER = math.inf

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb)?", re.IGNORECASE)
_UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


@dataclass(frozen=True)
class AutoTTL:
    """A time to live that the server learns from how often the value turns out changed, between two bounds
    (EXAUTO). Without the module it is `minimum`."""

    minimum: Duration
    maximum: Duration


@lru_cache(maxsize=1024)
def _parse(text: str) -> float:
    compact = text.replace(" ", "").lower()
    if not _WHOLE.fullmatch(compact):
        raise ConfigError("bad_duration", f"{text!r} is no duration such as 250ms, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(compact))


def seconds(value: Duration) -> float:
    """A duration in seconds, never negative. ConfigError `bad_duration`."""
    if isinstance(value, str):
        return _parse(value)
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
        raise ConfigError("bad_duration", f"{value!r} is no duration in seconds")
    return float(number)


def milliseconds(value: Duration) -> int:
    """A duration in whole milliseconds, at least 1 where it is more than none: the server takes no 0."""
    number = seconds(value)
    if math.isinf(number):
        raise ConfigError("bad_duration", "only a time to live may have no end")
    return max(1, round(number * 1000)) if number else 0


def size(value: int | str) -> int:
    """A number of bytes: 1048576, "64mb". ConfigError `bad_size`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _BYTES.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ConfigError("bad_size", f"{value!r} is no number of bytes such as 1048576 or 64mb")
    return int(float(match[1]) * _UNITS[(match[2] or "b").lower()])
