"""What runs the scenarios of clients/conformance: processes, actors, steps, and what is expected of them."""

from pathlib import Path

CONFORMANCE = Path(__file__).parents[3] / "conformance"
LIMIT = 20.0  # seconds: a bound for what must come about, not a measurement
