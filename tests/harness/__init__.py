"""What the tests stand on: servers, topologies, the wire, and when two datasets are the same."""
