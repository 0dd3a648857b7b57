"""Engine names to server binaries, through scripts/engines."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def binary(name):
    """The server binary of an engine, fetched first if need be. A path is taken as it is."""
    if os.sep in name:
        return os.path.abspath(name)
    script = os.path.join(ROOT, "scripts", "engines")
    subprocess.run([script, "get", name], check=True)
    return subprocess.run([script, "path", name], check=True, capture_output=True, text=True).stdout.strip()
