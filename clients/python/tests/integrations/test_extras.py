"""Each integration needs its own extra, and nothing else needs it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cacheflow

PLACE = Path(cacheflow.__file__).parent / "integrations"
#: Our files, and the libraries that they may import.
LIBRARIES = {
    "django": {"django"},
    "cachelib.py": {"cachelib"},
    "flask_values.py": {"flask", "markupsafe", "werkzeug"},  # imported where Flask is installed
    "dogpile.py": {"dogpile"},
    "celery.py": {"celery"},
    "arq.py": {"arq"},
    **dict.fromkeys(
        ("clients.py", "codecs.py", "operations.py", "typed_json.py", "refreshers.py", "workers.py"), frozenset()
    ),
}
PROGRAM = """
import importlib, json, sys
sys.modules.update(dict.fromkeys(["django", "cachelib", "dogpile", "celery", "arq", "flask"]))  # cannot be imported
said = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_integration_imports_its_own_library_alone(name):
    files = [PLACE / name] if name.endswith(".py") else sorted((PLACE / name).rglob("*.py"))
    assert files
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    assert found - sys.stdlib_module_names == LIBRARIES[name]


def test_without_the_libraries():
    integrations = [f"cacheflow.integrations.{name}" for name in ("django", "cachelib", "dogpile", "celery", "arq")]
    base = ["cacheflow", "cacheflow.integrations.workers", "cacheflow.integrations.clients"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *base, *integrations], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert list(said) == integrations
    assert all(name.rpartition(".")[2] in error for name, error in said.items())
