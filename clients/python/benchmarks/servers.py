"""A server for a benchmark, by the project's test harness: with the module, on a free loopback port."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tests"))


@contextmanager
def server() -> Iterator[Any]:
    """A harness.server.Server, stopped at the end."""
    from harness import engines
    from harness.server import Fleet

    with tempfile.TemporaryDirectory() as directory:
        module = os.path.join(ROOT, "target", "release", "libcacheflow.so")
        fleet = Fleet(engines.binary("system"), module, directory)
        started = fleet.start()
        try:
            yield started
        finally:
            started.resume()
            fleet.discard(started)
