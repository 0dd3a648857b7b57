"""All operations in one."""

from __future__ import annotations

from .locking import Locking
from .many import Many
from .tracking import Tracking
from .writing import Writing


class Core(Many, Writing, Locking, Tracking):
    """What the drivers run. One core a client."""

    def client_stats(self) -> dict[str, int]:
        """This client's own."""
        return super().client_stats() | {"queued_invalidations": len(self.queue)}
