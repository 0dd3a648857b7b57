"""Tables, classes, and an engine for the tests of database tags."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


wears = Table(
    "wears",
    Base.metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("badge_id", ForeignKey("badges.id"), primary_key=True),
)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    notes: Mapped[list[Note]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    badges: Mapped[list[Badge]] = relationship(secondary=wears)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    text: Mapped[str] = mapped_column(default="")


class Star(Base):
    __tablename__ = "stars"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id", ondelete="SET NULL"))


class Badge(Base):
    __tablename__ = "badges"
    id: Mapped[int] = mapped_column(primary_key=True)


class Staff(Base):
    __tablename__ = "staff"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "staff"}  # noqa: RUF012


class Chief(Staff):
    __tablename__ = "chiefs"
    id: Mapped[int] = mapped_column(ForeignKey("staff.id"), primary_key=True)
    office: Mapped[str] = mapped_column(default="")
    __mapper_args__ = {"polymorphic_identity": "chief"}  # noqa: RUF012


class Price(Base):
    __tablename__ = "prices"
    product: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int] = mapped_column(Integer, default=0)


def real_transactions(engine):
    """sqlite3's driver begins transactions when it likes; here they begin when SQLAlchemy says so."""

    @event.listens_for(engine, "connect")
    def connected(connection, _):
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug on a test

    @event.listens_for(engine, "begin")
    def begun(connection):
        connection.exec_driver_sql("BEGIN")


def database(path, metadata=None):
    """An engine on a file, with the tables of the metadata made."""
    engine = create_engine(f"sqlite:///{path}")
    real_transactions(engine)
    if metadata is not None:
        metadata.create_all(engine)
    return engine
