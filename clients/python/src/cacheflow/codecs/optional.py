"""Libraries that only some codecs need, imported when they are first needed."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingLibrary(ImportError):
    """The library of an extra is not installed. Subclass of ImportError; the message names the extra."""


def library(module: str, extra: str) -> ModuleType:
    """The module, or MissingLibrary that says which extra of the package brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingLibrary(f"{module} is not installed: pip install 'cacheflow[{extra}]'", name=module) from error
