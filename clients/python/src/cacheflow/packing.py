"""How the level keeps a value so that every caller gets one of its own: no caller can alter another's.

    what nothing can alter          as it is: str, numbers, dates, tuples of such, …
    up to DENSE bytes, a tree of    as it is, privately, with a copier that makes new containers and shares what
    dict, list, set                 nothing can alter: a third of what marshal takes for a dict of five fields
    larger, or not quite a tree     marshal's bytes: a fifth to a half of the memory
    everything else                 encoded, and decoded each time

Only exact types are taken apart: what a subclass would add to a copy is not known.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Callable, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

Copier = Callable[[Any], Any]

DENSE = 4096  # bytes, from which on memory counts for more than a microsecond
_DEEPEST = 16
_MARSHALS = (type(None), bool, int, float, complex, str, bytes)
_FROZEN: Set[type] = frozenset({*_MARSHALS, date, datetime, time, timedelta, Decimal, UUID})


class _NoTree(Exception):
    """Too large, too deep, or of a type or shape that is not copied here."""


class _Survey:
    """A walk through a value: its bytes, and how to copy it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    def copier(self, value: Any, depth: int = 0) -> Copier | None:
        """What copies it; None where nothing can alter it. _NoTree."""
        kind = type(value)
        self.bytes += sys.getsizeof(value)
        if kind in _FROZEN:
            return None
        if depth > _DEEPEST or self.bytes > DENSE or kind not in (dict, list, set, tuple, frozenset):
            raise _NoTree
        if kind in (tuple, frozenset):
            if any(self.copier(item, depth + 1) is not None for item in value):
                raise _NoTree
            return None
        if id(value) in self._seen:  # in two places, or in itself: copies would be apart
            raise _NoTree
        self._seen.add(id(value))
        if kind is set:
            if any(self.copier(item, depth + 1) is not None for item in value):
                raise _NoTree
            return set.copy
        if kind is list:
            places = [(at, found) for at, item in enumerate(value) if (found := self.copier(item, depth + 1))]
            return _deep(list.copy, places) if places else list.copy
        places = []
        for name, item in value.items():
            if self.copier(name, depth + 1) is not None:
                raise _NoTree
            if (found := self.copier(item, depth + 1)) is not None:
                places.append((name, found))
        return _deep(dict.copy, places) if places else dict.copy


def _deep(shallow: Copier, places: list[tuple[Any, Copier]]) -> Copier:
    def copy(value: Any) -> Any:
        made = shallow(value)
        for place, copier in places:
            made[place] = copier(made[place])
        return made

    return copy


def _marshals(value: Any, depth: int = 0) -> bool:
    """Whether marshal gives this back as it was. (It writes a bytearray too, and reads bytes.)"""
    kind = type(value)
    if kind in _MARSHALS:
        return True
    if depth > 100 or kind not in (dict, list, set, tuple, frozenset):
        return False
    if kind is dict:
        return all(_marshals(name, depth + 1) and _marshals(item, depth + 1) for name, item in value.items())
    return all(_marshals(item, depth + 1) for item in value)


def pack(value: Any, data: bytes, decode: Callable[[bytes], object]) -> tuple[Any, Copier | None, int]:
    """What to keep of a value, what makes a caller's own of it (None: it is that), and the bytes it takes.
    `data` is the value encoded, `decode` reads that."""
    survey = _Survey()
    try:
        copier = survey.copier(value)
    except _NoTree:
        pass
    else:
        return (value, None, survey.bytes) if copier is None else (copier(value), copier, survey.bytes)
    kept, unpack = (marshal.dumps(value), marshal.loads) if _marshals(value) else (data, decode)
    return kept, unpack, sys.getsizeof(kept)
