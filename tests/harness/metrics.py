"""The Prometheus text as others read it: promtool, and the parser of prometheus_client."""

import os
import shutil
import subprocess

from prometheus_client.parser import text_string_to_metric_families

from .engines import ROOT


def promtool():
    """The program, which scripts/setup unpacks."""
    path = shutil.which("promtool") or os.path.join(ROOT, ".tools", "promtool")
    assert os.path.exists(path), "promtool is missing: scripts/setup"
    return path


def check(text):
    """What `promtool check metrics` objects to, syntax and naming; nothing if all is well."""
    done = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def families(text):
    """The metrics by name; parsing fails on what is malformed, and this on what comes twice."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} comes twice"
        found[family.name] = family
    return found


def samples(text):
    """All samples: (name, sorted labels) to value."""
    found = {}
    for family in families(text).values():
        for sample in family.samples:
            place = (sample.name, *sorted(sample.labels.items()))
            assert place not in found, f"{place} comes twice"
            found[place] = sample.value
    return found


def value(text, name, **labels):
    """The sum of the samples of a name that have these labels."""
    wanted = set(labels.items())
    return sum(of for (given, *has), of in samples(text).items() if given == name and wanted <= set(has))
