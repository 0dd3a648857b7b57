"""The examples of docs/python/codecs.md and of the page on migrating run as they stand."""

import re
from pathlib import Path

from conftest import url_of

DOCS = Path(__file__).parents[3] / "docs" / "python"
# What is ours is marked python; what other libraries' users have had is marked py, and is not run.
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page, **names):
    """A page's examples, one after the other, in one namespace."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


def test_codecs():
    run("codecs.md")


def test_migrating(own_server):
    rows = {42: {"name": "Ada"}}
    names = run(
        "migrating-to-python-client.md",
        url=url_of(own_server),
        load_profile=lambda user_id: dict(rows[user_id]),
        save_name=lambda user_id, name: rows[user_id].update(name=name),
        load_price=lambda product_id, currency: 990,
    )
    names["cache"].close()
