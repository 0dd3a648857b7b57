"""The examples of the pages on integrations run as they stand, each page as one program."""

import re
from pathlib import Path

import djangosite
import pytest
from conftest import url_of
from django.core.cache import caches
from django.template import Context, Template
from django.test import override_settings

DOCS = Path(__file__).parents[4] / "docs" / "python"
BLOCK = re.compile(r"^```(python|django)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, url):
    """The page's examples, with the server of the test."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.split("\n\n")[1].startswith("**In short.**")
    found = [(kind, example.replace("redis://localhost:6379", url)) for kind, example in BLOCK.findall(text)]
    assert found
    return found


def run(page, examples, names=None):
    names = {"__name__": "page"} if names is None else names
    for kind, example in examples:
        if kind == "django":
            assert "rendered once" in Template(example).render(Context({}))
        else:
            exec(compile(example, page, "exec"), names)
    return names


@pytest.fixture
def url(server):
    server("FLUSHALL")
    return url_of(server)


def test_django(url):
    settings, *others = blocks("django.md", url)
    found = run("django.md", [settings])
    assert found["CACHES"]["default"]["BACKEND"] == djangosite.BACKEND
    with override_settings(**{name: value for name, value in found.items() if name.isupper()}):
        run("django.md", others)
        assert caches["default"].invalidate("news") == 1  # the fragment
        caches["default"].client.close()


def test_flask(url):
    names = run("flask.md", blocks("flask.md", url))
    names["backend"].client.close()
    names["plain"].client.close()


def test_dogpile(url):
    names = run("dogpile.md", blocks("dogpile.md", url))
    names["region"].backend.client.close()


def test_workers(url):
    names = run("workers.md", blocks("workers.md", url))
    assert names["worker"].counts["stored"] >= 1
    assert names["WorkerSettings"].functions[0].name == "cacheflow_refresh"
    names["app"].close()
    names["cache"].close()
