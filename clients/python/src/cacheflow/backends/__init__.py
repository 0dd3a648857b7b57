"""How the server is spoken to: by the module's commands (module.py), or without it by plain commands and
scripts (plain.py). Both are operations of the core (effects.py): they yield what a driver performs."""

from __future__ import annotations

from .base import BUSY, FRESH, MISS, STALE, Backend, Capabilities, Fetched, Fill, Meta
from .module import ModuleBackend
from .plain import PlainBackend

__all__ = [
    "BUSY",
    "FRESH",
    "MISS",
    "STALE",
    "Backend",
    "Capabilities",
    "Fetched",
    "Fill",
    "Meta",
    "ModuleBackend",
    "PlainBackend",
]
