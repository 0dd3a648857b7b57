"""Each integration needs its own extra, and nothing else needs it."""

import subprocess
import sys

import pytest

EXTRAS = {
    "django": "cacheflow.integrations.django",
    "cachelib": "cacheflow.integrations.cachelib",
    "dogpile": "cacheflow.integrations.dogpile",
    "celery": "cacheflow.integrations.celery",
    "arq": "cacheflow.integrations.arq",
}
PROGRAM = """
import importlib, sys
without, module = sys.argv[1].split(","), sys.argv[2]
sys.modules.update(dict.fromkeys(without))  # None there: it cannot be imported
try:
    importlib.import_module(module)
except ImportError as error:
    sys.exit(str(error))
"""


def imported(module, without):
    """What the import of a module says where some libraries are not installed; "" if it goes well."""
    command = [sys.executable, "-c", PROGRAM, ",".join(without), module]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


@pytest.mark.parametrize("name", EXTRAS)
def test_an_integration_needs_its_own_library_alone(name):
    others = [other for other in (*EXTRAS, "flask") if other != name]
    assert imported(EXTRAS[name], others) == ""
    assert name in imported(EXTRAS[name], [name])


@pytest.mark.parametrize("module", ["cacheflow", "cacheflow.integrations.workers"])
def test_the_client_and_workers_need_none(module):
    assert imported(module, [*EXTRAS, "flask"]) == ""
