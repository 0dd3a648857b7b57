"""CacheFlow with SQLAlchemy 2: what a transaction has changed is invalidated when it has committed.

    Session = sessionmaker(engine)
    db = DatabaseTags(cache)
    db.listen(Session)

    def load(context):
        with Session() as session:
            user = session.get(User, 42)
            context.tags += db.of(user)
            return {"name": user.name}

    cache.get_or_set("user:42", load, ttl="1h")

    tagging.py   the names of tags, and what of objects, tables and statements they are of
    watching.py  what a session changes, by its events, and when it is sent

docs/python/sqlalchemy.md tells how to use it.
"""

from __future__ import annotations

from .tagging import Tagging
from .watching import DatabaseTags

__all__ = ["DatabaseTags", "Tagging"]
