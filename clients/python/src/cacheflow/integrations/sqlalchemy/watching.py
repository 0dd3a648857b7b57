"""What sessions change, gathered by their events, and invalidated after the commit.

    after_begin            the session has a connection: its statements are watched
    after_cursor_execute   INSERT, UPDATE, DELETE, wherever they come from: the table's tag
    after_insert, …        (mappers) an object was flushed: its row's tag
    after_commit           of a savepoint: what it changed belongs to the transaction around it
    after_transaction_end  of the outermost, committed: now others see it. INVALIDATE. Else all is dropped

So what was rolled back invalidates nothing, nor does what was never committed. It is sent at the end and not in
after_commit, for what is raised there leaves the session's connection unreturned.

Between the commit and the invalidation readers may get the old value, as they would have a moment earlier;
a load that began before the invalidation is not stored after it. A process that dies between the two leaves
old values until their time is up.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, event, inspect
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.orm import Mapper, Session, object_session

from ...aio import AsyncCacheFlow
from ...client import CacheFlow
from ...errors import ConfigError, InvalidationError
from .tagging import Tagging, referring, tables_in, tables_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
    from sqlalchemy.orm import SessionTransaction, UOWTransaction, scoped_session, sessionmaker

    Sessions = (
        type[Session] | Session | sessionmaker[Any] | scoped_session[Any] | async_sessionmaker[Any] | AsyncSession
    )

log = logging.getLogger("cacheflow")

#: Execution option for statements that are text: the tables that they change (Table, mapped class, name).
CHANGES = "cacheflow_changes"


def _asyncio(name: str) -> tuple[type[Any], ...]:
    """A class of sqlalchemy.ext.asyncio, if the application has imported that: it needs greenlet, which who has
    sessions of threads alone need not have."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return () if module is None else (getattr(module, name),)


def _sync(session: Session | AsyncSession) -> Session:
    given: Any = session
    sync: Session = given.sync_session if isinstance(given, _asyncio("AsyncSession")) else given
    return sync


@lru_cache(maxsize=1024)
def _referring(table: Table, _: int) -> list[str]:
    """Names of what refers to a table; the second argument is the number of tables there are to look at."""
    return [other.fullname for other in referring(table)]


class _Changes:
    """Of one transaction or savepoint: tags, and rows by the tag that stands for all of them."""

    __slots__ = ("rows", "tags")

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.rows: dict[str, set[str]] = {}

    def merge(self, other: _Changes) -> None:
        self.tags |= other.tags
        for all_rows, rows in other.rows.items():
            self.rows.setdefault(all_rows, set()).update(rows)

    def to_send(self, most: int) -> list[str]:
        tags = set(self.tags)
        for all_rows, rows in self.rows.items():
            # Past so many it is cheaper to hit every row of the table than to name each.
            tags |= {all_rows} if len(rows) > most else rows
        return sorted(tags)


class _Watched:
    """Of one session."""

    __slots__ = ("changes", "committed", "flushing", "listeners", "reads")

    def __init__(self) -> None:
        self.changes: dict[SessionTransaction, _Changes] = {}
        self.committed: set[SessionTransaction] = set()
        self.flushing = False
        self.listeners: list[tuple[Connection, Any]] = []
        self.reads: list[set[str]] = []


class DatabaseTags(Tagging):
    """Tags of tables and rows (see tagging.py), invalidated by what sessions commit.

    prefix: before every tag. rows: past so many rows of a table in one transaction all of the table's are
    invalidated instead of each. failures: of an invalidation, when the data is committed already. "raise": out
    of commit(), an InvalidationError; "queue": sent again in the background until it is done, logged, and
    raised only if the client cannot queue it.
    """

    def __init__(
        self,
        cache: CacheFlow | AsyncCacheFlow,
        *,
        prefix: str = "db:",
        rows: int = 500,
        failures: str = "raise",
    ) -> None:
        super().__init__(prefix)
        if failures not in ("raise", "queue"):
            raise ConfigError("bad_option", f"failures={failures!r} is neither raise nor queue")
        self._cache, self._rows, self._queue = cache, rows, failures == "queue"
        self._targets: list[Any] = []
        self._session_events: dict[str, Callable[..., None]] = {
            "after_begin": self._after_begin,
            "before_flush": self._before_flush,
            "after_flush": self._after_flush,
            "after_soft_rollback": self._after_soft_rollback,
            "after_commit": self._after_commit,
            "after_transaction_end": self._after_transaction_end,
        }
        self._mapper_events: dict[str, Callable[..., None]] = {
            "after_insert": self._written,
            "after_update": self._updated,
            "after_delete": self._written,
        }

    # --- beginning and end ---------------------------------------------------------------------
    def listen(self, sessions: Sessions) -> None:
        """Watch what these sessions change: a sessionmaker's, an async_sessionmaker's, all of a Session class,
        or one session. Of an AsyncSession the cache may be an AsyncCacheFlow, which sessions of threads cannot
        wait for."""
        target: Any = sessions
        if isinstance(target, _asyncio("async_sessionmaker")):
            parent = target.kw.get("sync_session_class") or target.class_.sync_session_class
            own = type(parent.__name__, (parent,), {})  # a class of its own, that others' are not watched
            target.configure(sync_session_class=own)
            target = own
        elif isinstance(target, _asyncio("AsyncSession")):
            target = target.sync_session
        if not self._targets:
            for name, function in self._mapper_events.items():
                event.listen(Mapper, name, function)
        self._targets.append(target)
        for name, function in self._session_events.items():
            event.listen(target, name, function)

    def close(self) -> None:
        """Watch nothing any more. Between transactions."""
        for target in self._targets:
            for name, function in self._session_events.items():
                event.remove(target, name, function)
        if self._targets:
            for name, function in self._mapper_events.items():
                event.remove(Mapper, name, function)
        self._targets.clear()

    # --- what applications say -----------------------------------------------------------------
    def add(self, session: Session | AsyncSession, *tags: str) -> None:
        """Invalidate these tags too if the session's transaction, or the savepoint that it is in, commits."""
        session = _sync(session)
        if not session.in_transaction():
            session.begin()
        self._changes(session).tags |= set(tags)

    @contextmanager
    def reads(self, session: Session | AsyncSession) -> Iterator[set[str]]:
        """The tags of all tables that the session reads within, what relationships load included: a set that
        fills. What it does not ask the database for, because it has it, is not in it."""
        session = _sync(session)
        watched = self._watched(session)
        tags: set[str] = set()
        watched.reads.append(tags)
        try:
            yield tags
        finally:
            watched.reads = [other for other in watched.reads if other is not tags]

    # --- gathering -----------------------------------------------------------------------------
    def _watched(self, session: Session) -> _Watched:
        watched: _Watched | None = session.info.get(self)
        if watched is None:
            watched = session.info[self] = _Watched()
        return watched

    def _changes(self, session: Session) -> _Changes:
        transaction = session.get_nested_transaction() or session.get_transaction()
        assert transaction is not None
        return self._watched(session).changes.setdefault(transaction, _Changes())

    def _after_begin(self, session: Session, _: SessionTransaction, connection: Connection) -> None:
        watched = self._watched(session)
        if any(known is connection for known, _ in watched.listeners):
            return  # a savepoint on it
        reference = weakref.ref(session)

        def executed(_: Any, __: Any, ___: Any, ____: Any, context: Any, _____: Any) -> None:
            session = reference()
            if session is not None and session.in_transaction():
                self._executed(session, context)

        event.listen(connection, "after_cursor_execute", executed)
        watched.listeners.append((connection, executed))

    def _executed(self, session: Session, context: Any) -> None:
        watched = self._watched(session)
        options = context.execution_options
        named = options.get(CHANGES)
        if named is not None:
            for thing in [named] if isinstance(named, str) or not isinstance(named, list | tuple | set) else named:
                self._changed(session, self._table_names(thing), True)
        compiled = context.compiled
        if compiled is None:
            return
        statement = compiled.statement
        changing = [statement] if getattr(statement, "is_dml", False) else []
        changing += [cte.element for cte in compiled.ctes or () if getattr(cte.element, "is_dml", False)]
        for part in changing:
            # What the unit of work emits is compiled into a cache of the mapper's: its rows are named by the
            # mapper's events. All else, also what event handlers execute during a flush, names no rows.
            by_object = watched.flushing and options.get("compiled_cache") is not None
            tables = tables_in(part.table)
            self._changed(session, [table.fullname for table in tables], not by_object)
            if getattr(part, "is_delete", False):
                for table in tables:
                    self._changed(session, _referring(table, len(table.metadata.tables)), True)
        if watched.reads and not changing:
            state = getattr(compiled.compile_state, "statement", None)  # with the joins of eager loading
            for clause in (statement, state):
                if clause is not None:
                    for tags in watched.reads:
                        tags.update(map(self.table, tables_in(clause)))

    @staticmethod
    def _table_names(thing: Any) -> list[str]:
        if isinstance(thing, str):
            return [thing]
        if isinstance(thing, Table):
            return [thing.fullname]
        mapper = inspect(thing, raiseerr=False)
        if not isinstance(mapper, Mapper):
            raise ConfigError("bad_option", f"{CHANGES} names tables, mapped classes, names, not {thing!r}")
        return [table.fullname for table in mapper.tables if isinstance(table, Table)]

    def _changed(self, session: Session, names: list[str], unnamed_rows: bool) -> None:
        tags = self._changes(session).tags
        for name in names:
            tags.add(self.table(name))
            if unnamed_rows:
                tags.add(self.rows(name))

    def _before_flush(self, session: Session, _: UOWTransaction, __: Any) -> None:
        self._watched(session).flushing = True

    def _after_flush(self, session: Session, _: UOWTransaction) -> None:
        self._watched(session).flushing = False

    def _after_soft_rollback(self, session: Session, _: SessionTransaction) -> None:
        self._watched(session).flushing = False  # a flush that failed has no after_flush

    def _written(self, mapper: Mapper[Any], _: Connection, target: Any) -> None:
        session = object_session(target)
        if session is None or self not in session.info:
            return
        keys = {tuple(mapper.primary_key_from_instance(target)), tuple(inspect(target).identity or ())}
        rows = self._changes(session).rows.setdefault(self.rows(tables_of(mapper.base_mapper)[0]), set())
        rows |= {self.identity(mapper, key) for key in keys if key}

    def _updated(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        session = object_session(target)
        # Told of every object in the flush, also of those that are as they were.
        if session is not None and session.is_modified(target):
            self._written(mapper, connection, target)

    # --- the transaction's end -----------------------------------------------------------------
    def _after_commit(self, session: Session) -> None:
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction is not None:
            self._watched(session).committed.add(transaction)

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        watched = self._watched(session)
        changes = watched.changes.pop(transaction, None)
        committed = transaction in watched.committed
        watched.committed.discard(transaction)
        if transaction.nested:
            if changes is not None and committed and session.in_transaction():
                self._changes(session).merge(changes)
            return
        if transaction.parent is not None:
            return  # a flush's, within
        for connection, function in watched.listeners:
            event.remove(connection, "after_cursor_execute", function)
        watched.listeners.clear()
        watched.changes.clear()
        watched.flushing = False
        if changes is not None and committed:
            tags = changes.to_send(self._rows)
            if tags:
                self._invalidate(tags)

    def _invalidate(self, tags: list[str]) -> None:
        try:
            if isinstance(self._cache, CacheFlow):
                self._cache.invalidate(*tags, retry=self._queue)
            else:
                from sqlalchemy.util import await_only  # as above: of greenlet

                await_only(self._cache.invalidate(*tags, retry=self._queue))
        except MissingGreenlet:
            raise ConfigError(
                "not_async", "committed, not invalidated: an AsyncCacheFlow cannot be waited for by a Session"
            ) from None
        except InvalidationError as error:
            # Of a partial one the server does not let go by itself.
            if not self._queue or not (error.queued or error.code == "partial"):
                raise
            log.warning("committed, and its invalidation is still to be done: %s", error)
