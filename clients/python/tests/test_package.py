"""What is built: a wheel with the licence, the types' marker, and nothing that is not the client's."""

import sys
import zipfile
from pathlib import Path
from subprocess import run

import cacheflow

HERE = Path(__file__).parents[1]


def test_the_licence_is_the_projects():
    assert (HERE / "LICENSE").read_bytes() == (HERE.parents[1] / "LICENSE").read_bytes()


def test_the_wheel(tmp_path):
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=HERE, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        metadata = opened.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert f"Version: {cacheflow.__version__}" in metadata and "License-File: LICENSE" in metadata
    assert "cacheflow/py.typed" in names and "cacheflow/core/many.py" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"cacheflow", f"cacheflow-{cacheflow.__version__}.dist-info"}
