"""Random interleavings of everything that leases, locks and waiters meet, against a naive model of
them (harness/lease_model.py): over the wire, on a clock that the test turns."""

import os
import random

import pytest

from harness.lease_model import Model
from harness.leases import GAUGES, counted
from harness.tagged import DEBUG, await_sweep
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

SEEDS = int(os.environ.get("CACHEFLOW_SEEDS", "3"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_the_order_the_invariants_hold(fresh_server, seed):
    server = fresh_server(module_args=DEBUG)
    model = Model(server, random.Random(seed))
    model.run(3000)
    model.end()
    for what, least in {"grants": 300, "stored": 25, "refused": 100, "waits": 100, "served late": 10}.items():
        assert model.counts.get(what, 0) > least, f"a model test that does not get there: {model.counts}"
    assert {name: counted(server, name) for name in GAUGES} == dict.fromkeys(GAUGES, 0)
    await_sweep(server)
    assert_verified(server)
    assert server.info()["cacheflow_panics"] == "0"
