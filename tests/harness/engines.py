"""Engine names to server binaries, through scripts/engines."""

import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def binary(name):
    """The server binary of an engine, fetched first if need be. A path is taken as it is."""
    if os.sep in name:
        return os.path.abspath(name)
    script = os.path.join(ROOT, "scripts", "engines")
    subprocess.run([script, "get", name], check=True)
    return subprocess.run([script, "path", name], check=True, capture_output=True, text=True).stdout.strip()


def moves_slots_atomically(path):
    """Whether a server moves hash slots as a whole: Redis 8.4 and later, Valkey 9 and later."""
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    version = tuple(int(part) for part in re.search(r"v=(\d+)\.(\d+)", said).groups())
    return version >= ((9, 0) if "valkey" in said.lower() else (8, 4))
