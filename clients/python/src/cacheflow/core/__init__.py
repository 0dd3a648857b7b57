"""The client without input and output: every operation is a generator (effects.py), for any driver."""

from __future__ import annotations

from .core import Core

__all__ = ["Core"]
