"""The README's examples run, in their order, as one program."""

import os
import re

from conftest import url_of

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")


def test_the_examples_run(own_server, capsys):
    with open(README, encoding="utf-8") as readme:
        examples = re.findall(r"```python\n(.*?)```", readme.read(), re.DOTALL)
    assert len(examples) == 4
    names = {}
    for example in examples:
        exec(example.replace("redis://localhost:6379", url_of(own_server)), names)
    assert "fencing token" in capsys.readouterr().out
    assert set(names["cache"].meta("price:7").tags) == {"shelf:3"}
    names["cache"].close()
