"""Each integration needs its own extra and no other, and the client none."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPTIONAL = {"starlette", "fastapi", "sqlalchemy", "greenlet", "opentelemetry", "prometheus_client"}
NEEDS = {
    "starlette": {"starlette"},
    # FastAPI itself looks for OpenTelemetry.
    "fastapi": {"fastapi", "starlette", "opentelemetry"},
    "sqlalchemy": {"sqlalchemy"},
    "opentelemetry": {"opentelemetry"},
    "prometheus": {"prometheus_client"},
}


def said(missing, program):
    """What a program prints in a process in which these cannot be imported."""
    program = f"import sys\nfor name in {sorted(missing)}: sys.modules[name] = None\n{program}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("name", NEEDS)
def test_an_integration_needs_its_own_library_alone(name):
    said(OPTIONAL - NEEDS[name], f"import cacheflow.integrations.{name}")


def test_without_any_library_it_is_the_integrations_that_are_not_there():
    program = f"""
import cacheflow.integrations.asgi
for name in {sorted(NEEDS)}:
    try:
        __import__("cacheflow.integrations." + name)
    except ImportError:
        print(name)
"""
    assert said(OPTIONAL, program).split() == sorted(NEEDS)
