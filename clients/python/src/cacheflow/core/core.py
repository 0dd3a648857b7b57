"""All operations in one."""

from __future__ import annotations

from .locking import Locking
from .reading import Reading
from .tracking import Tracking
from .writing import Writing


class Core(Reading, Writing, Locking, Tracking):
    """What the drivers run. One core a client."""

    def client_stats(self) -> dict[str, int]:
        """This client's own."""
        return super().client_stats() | {"queued_invalidations": len(self.queue)}
