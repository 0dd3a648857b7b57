"""The topologies by name, and the groups of them that tests are marked with."""

import pytest

from . import topology, topology_cluster

TOPOLOGIES = {
    "single": topology.Single,
    "aof": topology.Aof,
    "replica": topology.Replica,
    "cluster": topology_cluster.Cluster,
    "sentinel": topology_cluster.Sentinel,
}
WITHOUT_CLUSTER = tuple(name for name in TOPOLOGIES if name != "cluster")
several_databases = pytest.mark.topology(*WITHOUT_CLUSTER)  # a cluster has one
