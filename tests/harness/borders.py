"""The borders between the server and the module, as the module's sources name them."""

import os
import re

from .engines import ROOT

SOURCES = os.path.join(ROOT, "src", "module")


def sources():
    """The module's Rust files, by path."""
    found = {}
    for directory, _, names in os.walk(SOURCES):
        for name in names:
            if name.endswith(".rs"):
                with open(os.path.join(directory, name), encoding="utf-8") as source:
                    found[os.path.join(directory, name)] = source.read()
    return found


def callbacks():
    """The borders of callbacks that the sources name."""
    calls = [
        call
        for text in sources().values()
        for call in re.findall(r"\b(?:cross|told|told_again)\(\s*([^,)]+)", text)
    ]
    return {call.strip('"') for call in calls if call.startswith('"')}


def commands():
    """The commands that the sources define."""
    names = [re.findall(r'name: c"(cache\.[a-z|]+)"', text) for text in sources().values()]
    return {name for found in names for name in found}
