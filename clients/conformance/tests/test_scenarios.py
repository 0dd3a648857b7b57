"""The scenarios are what the schema says, and what a schema cannot say: names that are used are declared,
gates that are waited at are opened, what is begun is joined."""

import json
from pathlib import Path

import jsonschema
import pytest

DIRECTORY = Path(__file__).parents[1]
FILES = sorted((DIRECTORY / "scenarios").glob("*.json"))
SCENARIOS = [
    pytest.param(scenario, id=f"{path.stem}: {scenario['name']}")
    for path in FILES
    for scenario in json.loads(path.read_text(encoding="utf-8"))["scenarios"]
]
SCHEMA = json.loads((DIRECTORY / "scenario.schema.json").read_text(encoding="utf-8"))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_what_the_schema_says(path):
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text(encoding="utf-8")))


def test_names_are_unique():
    names = [param.id for param in SCENARIOS]
    assert len(set(names)) == len(names)


def values(scenario, *words):
    """What the steps name by these words, in order."""
    return [step[word] for step in scenario["steps"] for word in words if word in step]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_named_is_declared_and_used(scenario):
    loaders, clients = scenario.get("loaders", {}), scenario.get("clients", {})
    called = set(values(scenario, "loader"))
    assert called == loaders.keys()
    assert {name for step in values(scenario, "loaded", "asked") for name in step} <= called
    assert clients.keys() <= set(values(scenario, "on"))
    gates = {loader["gate"] for loader in loaders.values() if "gate" in loader}
    assert set(values(scenario, "await")) == gates == set(values(scenario, "open"))
    begun, joined = values(scenario, "as"), values(scenario, "join")
    assert begun == joined and len(set(begun)) == len(begun)
    proxied = any(client.get("via") == "proxy" for client in clients.values())
    assert proxied == bool(values(scenario, "proxy"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_raw_commands_and_proxies_are_for_single_servers(scenario):
    """A runner need not route what it sends itself, and a cluster's clients are sent past a proxy."""
    raw = [command[0] for command in values(scenario, "redis")]
    if raw or values(scenario, "proxy"):
        assert "cluster" not in scenario["servers"]
    if any(name.startswith("CACHE.") for name in raw):
        assert scenario["servers"] == ["module"]
