#!/usr/bin/env python3
"""The servers that the scenarios ask for, started on loopback for whoever runs them, in any language.

    server.py [--binary redis-server] [--module target/release/libcacheflow.so] KIND …

KIND is `module` (one server with the module), `plain` (one without) or `cluster` (three primaries with the
module). One line of JSON is printed when all are ready:

    {"module": {"url": "redis://127.0.0.1:…", "nodes": ["127.0.0.1:…"]},
     "cluster": {"url": "redis://127.0.0.1:…", "nodes": [three addresses]}}

They are stopped when the standard input closes, and killed with this process however it ends. Exit status 1,
and the log's lines, where a server died or logged a panic meanwhile. It needs what the module's own tests
need (tests/requirements.txt): `scripts/setup` makes .venv with it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.cluster import Cluster  # noqa: E402 - found by the line above
from harness.server import Fleet  # noqa: E402

KINDS = ("module", "plain", "cluster")


def start(fleet, kind):
    """The ports of the servers of a kind, started."""
    if kind == "cluster":
        return [node.port for node in Cluster(fleet, primaries=3, replicas=0).nodes]
    options = {"module": None} if kind == "plain" else {}
    return [fleet.start(name=kind, **options).port]


def main():
    """Start, say so, wait, stop."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="KIND")
    parser.add_argument("--binary", default="redis-server", help="the server: a name or a path")
    parser.add_argument("--module", default=ROOT / "target/release/libcacheflow.so", type=Path)
    options = parser.parse_args()
    binary = shutil.which(options.binary)
    if binary is None:
        parser.error(f"there is no {options.binary}")
    if not options.module.exists() and set(options.kinds) != {"plain"}:
        parser.error(f"{options.module} is missing: make build")
    with tempfile.TemporaryDirectory(prefix="cacheflow-conformance-") as directory:
        fleet = Fleet(binary, str(options.module.resolve()), directory)
        try:
            started = {kind: start(fleet, kind) for kind in options.kinds}
            told = {
                kind: {
                    "url": f"redis://127.0.0.1:{ports[0]}",
                    "nodes": [f"127.0.0.1:{port}" for port in ports],
                }
                for kind, ports in started.items()
            }
            print(json.dumps(told), flush=True)
            sys.stdin.buffer.read()
            problems = fleet.problems()
        finally:
            for server in list(fleet.servers):
                fleet.discard(server)
    if problems:
        sys.exit("\n".join(["a server broke:", *problems]))


if __name__ == "__main__":
    main()
