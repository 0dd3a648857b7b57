"""Engine names to server binaries, through scripts/engines."""

import os
import re
import subprocess

import pytest

# A test of hash slots that move as a whole.
ATOMIC_MIGRATION = pytest.mark.since(redis=(8, 4), valkey=(9, 0))

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def binary(name):
    """The server binary of an engine, fetched first if need be. A path is taken as it is."""
    if os.sep in name:
        return os.path.abspath(name)
    script = os.path.join(ROOT, "scripts", "engines")
    subprocess.run([script, "get", name], check=True)
    return subprocess.run([script, "path", name], check=True, capture_output=True, text=True).stdout.strip()


def version(path):
    """`("redis", (8, 4))`, or the same of Valkey."""
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    numbers = tuple(int(part) for part in re.search(r"v=(\d+)\.(\d+)", said).groups())
    return "valkey" if "valkey" in said.lower() else "redis", numbers
