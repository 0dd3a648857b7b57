"""Test suites of frameworks, which ship with their source distributions, run against CacheFlow's backends.

Nothing of theirs is kept in this repository: `fetch` unpacks what pip brings into .frameworks (ignored by git), of
the version that is installed here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[2]
KEPT = PYTHON / ".frameworks"
SUITES = Path(__file__).resolve().parent
SERVER = PYTHON.parent / "conformance" / "server.py"


def fetch(distribution: str) -> Path:
    """The unpacked source distribution of what is installed, fetched if it is not there yet."""
    version = importlib.metadata.version(distribution)
    target = KEPT / f"{distribution}-{version}"
    if target.exists():
        return target
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as place:
        wanted = f"{distribution}=={version}"
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "-d", place, wanted], check=True)
        (archive,) = Path(place).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
        (unpacked,) = (path for path in Path(place).iterdir() if path.is_dir())
        unpacked.rename(target)
    return target


@contextmanager
def server() -> Iterator[str]:
    """A server with the module while the block lasts: its URL."""
    process = subprocess.Popen(
        [sys.executable, SERVER, "module"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["module"]["url"]
    finally:
        process.stdin.close()
        if process.wait(30) != 0:
            sys.exit("the server broke")


def run(command: list[str], cwd: Path, path: list[Path], **environment: str) -> int:
    """Run a suite: `path` is put before its PYTHONPATH."""
    every = {
        **os.environ,
        **environment,
        "PYTHONPATH": os.pathsep.join(str(part) for part in path),
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore"),
    }
    return subprocess.run([sys.executable, *command], cwd=cwd, env=every, check=False).returncode


def tell(left_out: Mapping[str, str]) -> None:
    """Say what is not run, and why."""
    print("Not run, for it cannot apply:")
    for name, why in left_out.items():
        print(f"  {name}: {why}")
    sys.stdout.flush()
