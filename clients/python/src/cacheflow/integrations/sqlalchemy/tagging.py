"""Tags of tables and rows.

    tag           is invalidated by                                 is borne by
    ------------  ------------------------------------------------  -------------------------------------------
    db:users      every change to the table                         what was made from a query of it
    db:users:42   a change to that row, flushed from an object      what was made from that object
    db:users:*    a change to rows that nobody has named: UPDATE    every object's entries, beside the row's tag
                  and DELETE statements, bulk inserts, the
                  database's own ON DELETE

So a change of one row leaves entries of other rows alone, and a statement reaches all of them.

An object's row is that of its base mapper (with joined inheritance the table of the root class), and it has
"*" of every table that it is made of. Primary keys of several columns are joined by commas; commas and percent
signs in values are percent-encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import FromClause, Table, inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.sql import visitors
from sqlalchemy.sql.expression import ClauseElement, ColumnClause, Select

from ...errors import ConfigError

_REFERRED = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


class Tagging:
    """The names; `prefix` stands before every one."""

    def __init__(self, prefix: str = "db:") -> None:
        self.prefix = prefix

    def table(self, table: Table | str) -> str:
        """The tag of a table, by its name with the schema's."""
        return self.prefix + (table if isinstance(table, str) else table.fullname)

    def rows(self, table: Table | str) -> str:
        """The tag of a table's unnamed rows."""
        return f"{self.table(table)}:*"

    def row(self, table: Table | str, *key: Any) -> str:
        """The tag of a row by its primary key, in the order of its columns."""
        parts = (str(part).replace("%", "%25").replace(",", "%2C") for part in key)
        return f"{self.table(table)}:{','.join(parts)}"

    def identity(self, mapper: Mapper[Any], key: Iterable[Any]) -> str:
        """The tag of an object's row."""
        base = mapper.base_mapper
        local = base.local_table
        name = local.fullname if isinstance(local, Table) else "+".join(t.fullname for t in tables_of(base))
        return self.row(name, *key)

    def of(self, *things: Any) -> list[str]:
        """What an entry that was made from these is to be tagged with: mapped objects (their rows), mapped
        classes and tables (any change to them), statements (any change to a table in them; what
        relationships are loaded besides is to be named too, or see DatabaseTags.reads), table names.
        ConfigError for an object without a primary key, and for anything else."""
        tags: dict[str, None] = {}
        for thing in things:
            tags.update(dict.fromkeys(self._of(thing)))
        return list(tags)

    def _of(self, thing: Any) -> Iterator[str]:
        if isinstance(thing, str | Table):
            yield self.table(thing)
            return
        if isinstance(thing, ClauseElement):
            yield from map(self.table, tables_in(thing))
            return
        try:
            found = inspect(thing)
        except NoInspectionAvailable:
            raise ConfigError("bad_option", f"a {type(thing).__name__} has no tags") from None
        if isinstance(found, Mapper):
            yield from map(self.table, tables_of(found))
            return
        if not isinstance(found, InstanceState):
            raise ConfigError("bad_option", f"a {type(thing).__name__} has no tags")
        key = found.identity or found.mapper.primary_key_from_instance(thing)
        if any(part is None for part in key):
            raise ConfigError("bad_option", f"a {type(thing).__name__} without a primary key has no tag yet")
        yield self.identity(found.mapper, key)
        yield from map(self.rows, tables_of(found.mapper))


def tables_of(mapper: Mapper[Any]) -> list[Table]:
    """The tables that a class is mapped to, in the order of their names."""
    return sorted((table for table in mapper.tables if isinstance(table, Table)), key=lambda t: t.fullname)


def tables_in(clause: ClauseElement) -> list[Table]:
    """Every table in a statement, in its subqueries and common table expressions too."""
    found: dict[str, Table] = {}
    seen: set[int] = set()
    waiting: list[Any] = [clause]
    if isinstance(clause, Select):
        waiting += clause.get_final_froms()  # joins along relationships are made by this
    while waiting:
        for part in visitors.iterate(waiting.pop()):
            if isinstance(part, Table):
                found[part.fullname] = part
            elif isinstance(part, ColumnClause) and isinstance(part.table, FromClause):
                # Who selects columns names their table nowhere else.
                if id(part.table) not in seen:
                    seen.add(id(part.table))
                    waiting.append(part.table)
            elif getattr(part, "is_dml", False) and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part.table)  # type: ignore[attr-defined]
    return [found[name] for name in sorted(found)]


def referring(table: Table) -> list[Table]:
    """The tables whose rows the database itself removes or changes with a row of this one (ON DELETE)."""
    found: dict[str, Table] = {}
    waiting = [table]
    while waiting:
        target = waiting.pop()
        for other in target.metadata.tables.values():
            for key in other.foreign_keys:
                rule = (key.ondelete or "").upper()
                # A key may refer to a table that no metadata has.
                if rule in _REFERRED and key.target_fullname.rpartition(".")[0] == target.fullname:
                    if rule == "CASCADE" and other.fullname not in found:
                        waiting.append(other)
                    found[other.fullname] = other
    return list(found.values())
