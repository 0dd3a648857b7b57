"""Values as scenarios and vectors write them, and when two are the same."""

import json
import math
from datetime import datetime

from cacheflow.codecs import Framed, KeyRing

from . import CONFORMANCE

VECTORS = json.loads((CONFORMANCE / "vectors.json").read_text(encoding="utf-8"))
KEYS = {name: bytes.fromhex(text) for name, text in VECTORS["keys"].items()}


def codec(said):
    """The codec that a vector or a client asks for."""
    options = dict(said)
    if "keys" in options:
        options["keys"] = KeyRing(options.pop("active"), {name: KEYS[name] for name in options["keys"]})
    return Framed(options.pop("serializer", "json"), **options)


def value(told):
    """A value as it is: an object with one name that begins with $ stands for what JSON has not."""
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


def same(one, other):
    """Equal, of the same types, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return one == other


def has(found, fields):
    """Whether a mapping has these fields: arrays in any order, {"$between": [a, b]} a range."""
    for name, wanted in fields.items():
        if name not in found:
            return False
        it = found[name]
        if isinstance(wanted, dict):
            low, high = wanted["$between"]
            if not low <= it <= high:
                return False
        elif isinstance(wanted, list):
            if sorted(it) != sorted(wanted):
                return False
        elif not same(it, wanted):
            return False
    return True
