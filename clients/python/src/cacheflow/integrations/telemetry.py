"""What metrics and traces have in common: one vocabulary for the client's events, whatever reports them."""

from __future__ import annotations

from ..codecs import CodecError
from ..errors import CacheFlowError

#: How reads are answered, by event: fresh and stale from Redis, from the level in the process, or not.
RESULTS = {
    "hit": "fresh",
    "stale": "stale",
    "l1_hit": "local",
    "l1_stale": "local_stale",
    "miss": "miss",
}
#: Events that are no failures of what was asked for, though they say what brought them about.
STATES = frozenset({"breaker", "tracking"})


def code_of(error: BaseException) -> str:
    """What to count an error by: the code of ours, the class of what loaders raise."""
    return error.code if isinstance(error, CacheFlowError | CodecError) else type(error).__name__
