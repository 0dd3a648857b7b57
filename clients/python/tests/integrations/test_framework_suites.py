"""The frameworks' own test-suites, against our backends: run where CACHEFLOW_SUITES is set, for they are fetched
and take minutes. Always: that each can be begun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = ("django", "cachelib", "dogpile")

if os.environ.get("CACHEFLOW_SUITES"):

    @pytest.mark.parametrize("name", NAMES)
    def test_suite(name):
        done = subprocess.run(
            [sys.executable, SCRIPTS / f"{name}-suite"], capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_is_said(name):
    left_out = __import__(f"suites.{name}_left_out", fromlist=["LEFT_OUT"]).LEFT_OUT
    assert left_out and all(why for why in left_out.values())


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_programs(name):
    script = SCRIPTS / f"{name}-suite"
    assert os.access(script, os.X_OK)
    compile(script.read_text(encoding="utf-8"), str(script), "exec")
