"""What sessions change is invalidated when it has committed, and nothing else: on a real database and server."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from rows import Badge, Base, Chief, Note, Price, Staff, User, database, real_transactions, wears
from sqlalchemy import delete, event, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, aliased, joinedload, scoped_session, selectinload, sessionmaker

from cacheflow import AsyncCacheFlow, CacheFlow, ConfigError, InvalidationError
from cacheflow.integrations.sqlalchemy import DatabaseTags


@pytest.fixture
def cache(server, namespace, recorder):
    with CacheFlow(
        f"redis://127.0.0.1:{server.port}", namespace=namespace, timeout=5.0, observers=[recorder]
    ) as made:
        yield made


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A database file to copy: making tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("rows") / "rows.db"
    engine = database(path, Base.metadata)
    with Session(engine) as session, session.begin():
        session.add_all([User(id=n, name=f"u{n}") for n in (1, 2, 3)])
        session.add_all([Note(id=1, user_id=1), Note(id=2, user_id=2), Badge(id=1)])
        session.add_all([Price(product="a,b", region="%"), Chief(id=7, office="x")])
    engine.dispose()
    return path


@pytest.fixture
def engine(filled, tmp_path):
    engine = database(shutil.copy(filled, tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def db(cache):
    tags = DatabaseTags(cache)
    yield tags
    tags.close()


@pytest.fixture
def sessions(engine, db):
    made = sessionmaker(engine)
    db.listen(made)
    return made


@pytest.fixture
def sent(recorder):
    """The tags that were invalidated since the last call."""

    def take():
        tags = {event.key for event in recorder.events if event.name == "invalidate"}
        recorder.events.clear()
        return tags

    return take


def test_a_row_that_is_flushed_is_invalidated_after_the_commit(sessions, sent):
    with sessions() as session:
        session.get(User, 1).name = "Ada"
        session.flush()
        assert sent() == set()
        session.commit()
        assert sent() == {"db:users", "db:users:1"}
        session.commit()
        assert sent() == set()


def test_inserted_and_deleted_rows(sessions, sent):
    with sessions.begin() as session:
        session.add(User(id=9))
    assert sent() == {"db:users", "db:users:9"}
    with sessions.begin() as session:
        session.delete(session.get(Note, 1))
    assert sent() == {"db:notes", "db:notes:1", "db:stars", "db:stars:*"}


def test_reading_and_what_is_as_it_was_invalidate_nothing(sessions, sent):
    with sessions.begin() as session:
        session.get(User, 1).name = "u1"
        session.scalars(select(User)).all()
    assert sent() == set()


@pytest.mark.parametrize("end", ["rollback", "close", "raise"])
def test_what_is_not_committed_invalidates_nothing(sessions, sent, end):
    session = sessions()
    session.get(User, 1).name = "Ada"
    session.flush()
    session.execute(update(User).values(name="x"))
    if end == "raise":
        with pytest.raises(LookupError), session, session.begin_nested():
            raise LookupError
    else:
        getattr(session, end)()
    assert sent() == set()
    session.get(User, 2).name = "Bob"
    session.commit()
    assert sent() == {"db:users", "db:users:2"}
    session.close()


def test_savepoints(sessions, sent):
    with sessions.begin() as session:
        session.get(User, 1).name = "kept"
        with session.begin_nested():
            session.get(User, 2).name = "kept"
            lost = session.begin_nested()
            session.get(User, 3).name = "lost"
            session.flush()
            lost.rollback()
        with session.begin_nested() as outer:
            with session.begin_nested():
                session.add(Badge(id=5))
            outer.rollback()
        assert sent() == set()
    assert sent() == {"db:users", "db:users:1", "db:users:2"}


def test_a_flush_that_fails(sessions, sent):
    with sessions() as session:
        with pytest.raises(Exception, match="UNIQUE"), session.begin_nested():
            session.execute(insert(User).values(id=1))
        session.add(Badge(id=6))
        session.commit()
        assert sent() == {"db:badges", "db:badges:6"}
        session.add(Badge(id=6))
        with pytest.raises(Exception, match=r"UNIQUE|conflicts"):
            session.commit()
        session.rollback()
        session.execute(update(User).values(name="x"))
        session.commit()
    assert sent() == {"db:users", "db:users:*"}


def test_statements_hit_all_rows_of_their_table(sessions, sent):
    for statement in (
        update(User).where(User.id == 1).values(name="x"),
        insert(User).values(id=10),
        update(User.__table__).values(name="y"),
    ):
        with sessions.begin() as session:
            session.execute(statement)
        assert sent() == {"db:users", "db:users:*"}
    with sessions.begin() as session:
        session.query(Badge).delete()
    assert sent() == {"db:badges", "db:badges:*"}
    with sessions.begin() as session:
        session.connection().execute(update(Note).values(text="x"))
    assert sent() == {"db:notes", "db:notes:*"}


def test_the_databases_own_cascades(sessions, sent):
    with sessions.begin() as session:
        session.execute(delete(User).where(User.id == 3))
    assert sent() == {"db:users", "db:users:*", "db:notes", "db:notes:*", "db:stars", "db:stars:*"}


def test_statements_within_a_query(sessions, db, sent):
    """PostgreSQL's alone, so it is compiled here and not executed."""
    gone = delete(Badge).where(Badge.id == 99).returning(Badge.id).cte("gone")
    compiled = select(gone.c.id).compile(dialect=postgresql.dialect())
    with sessions.begin() as session:
        db._executed(session, SimpleNamespace(compiled=compiled, execution_options={}))
    assert sent() == {"db:badges", "db:badges:*"}


def test_bulk_operations_that_tell_no_events(sessions, sent):
    with sessions.begin() as session:
        session.bulk_update_mappings(User, [{"id": 1, "name": "x"}])
        session.bulk_save_objects([Badge(id=8)])
    assert sent() == {"db:users", "db:users:*", "db:badges", "db:badges:*"}


def test_what_a_handler_executes_during_a_flush_names_no_rows(sessions, sent):
    def count(mapper, connection, target):
        connection.execute(update(User).values(name="counted"))

    event.listen(Note, "after_insert", count)
    try:
        with sessions.begin() as session:
            session.add(Note(id=20))
    finally:
        event.remove(Note, "after_insert", count)
    assert sent() == {"db:notes", "db:notes:20", "db:users", "db:users:*"}


def test_text_says_what_it_changes(sessions, db, sent):
    with sessions.begin() as session:
        session.execute(text("UPDATE users SET name = 'x'"))
    assert sent() == set()
    for named in ("users", User, User.__table__, ["users"]):
        with sessions.begin() as session:
            session.execute(text("UPDATE users SET name = 'x'"), execution_options={"cacheflow_changes": named})
        assert sent() == {"db:users", "db:users:*"}
    with sessions.begin() as session:
        db.add(session, "report")
    assert sent() == {"report"}


def test_relationships(sessions, sent):
    with sessions.begin() as session:
        user = session.get(User, 1)
        user.badges.append(session.get(Badge, 1))
    assert sent() == {"db:users:1", "db:wears", "db:wears:*"}
    with sessions.begin() as session:
        user = session.get(User, 1)
        user.notes.append(Note(id=30))
    assert sent() == {"db:users:1", "db:notes", "db:notes:30"}
    with sessions.begin() as session:
        user = session.get(User, 1)
        user.notes.clear()
    assert {"db:users:1", "db:notes", "db:notes:30", "db:notes:1"} <= sent()


def test_inheritance_and_keys_of_several_columns(sessions, db, sent):
    with sessions.begin() as session:
        chief = session.get(Staff, 7)
        chief.office = "y"
        price = session.get(Price, ("a,b", "%"))
        price.cents = 5
        assert db.of(chief) == ["db:staff:7", "db:chiefs:*", "db:staff:*"]
        assert db.of(price) == ["db:prices:a%2Cb,%25", "db:prices:*"]
    assert sent() == {"db:chiefs", "db:staff:7", "db:prices", "db:prices:a%2Cb,%25"}
    with sessions.begin() as session:
        session.get(Price, ("a,b", "%")).region = "eu"
    assert sent() == {"db:prices", "db:prices:a%2Cb,%25", "db:prices:a%2Cb,eu"}


def test_many_rows_are_all_rows(engine, cache, sent):
    few = DatabaseTags(cache, rows=2, prefix="")
    made = sessionmaker(engine)
    few.listen(made)
    with made.begin() as session:
        for user in session.scalars(select(User)):
            user.name = "x"
    few.close()
    assert sent() == {"users", "users:*"}


def test_tags_of_what_was_read(sessions, db):
    other = aliased(User)
    with sessions() as session:
        assert db.of(session.get(User, 1), User, Note.__table__, "views") == [
            "db:users:1",
            "db:users:*",
            "db:users",
            "db:notes",
            "db:views",
        ]
    for statement, tables in [
        (select(User), ["users"]),
        (select(User.name), ["users"]),
        (select(Note.text).join(User), ["notes", "users"]),
        (select(User).join(User.badges), ["badges", "users", "wears"]),
        (select(other.id), ["users"]),
        (select(select(Note.id).subquery().c.id), ["notes"]),
        (select(User.id).union(select(Note.id)), ["notes", "users"]),
        (select(select(Badge.id).cte("b").c.id), ["badges"]),
        (select(User).where(User.notes.any()), ["notes", "users"]),
        (select(User).where(User.id.in_(select(wears.c.user_id))), ["users", "wears"]),
    ]:
        assert db.of(statement) == [f"db:{table}" for table in tables]
    for nothing in (User(), 5, None):
        with pytest.raises(ConfigError):
            db.of(nothing)


def test_tags_of_all_that_a_session_reads(sessions, db):
    with sessions() as session:
        with db.reads(session) as tags:
            session.scalars(select(User).options(joinedload(User.notes))).unique().all()
            assert tags == {"db:users", "db:notes"}
            session.scalars(select(User).options(selectinload(User.badges))).all()
        assert tags == {"db:users", "db:notes", "db:badges", "db:wears"}
        session.scalars(select(Price)).all()
        assert "db:prices" not in tags
        with db.reads(session) as tags:
            session.get(Note, 1)
        assert tags == {"db:notes"}


def test_entries_live_and_die_with_their_rows(sessions, db, cache):
    loads = []

    def user(number):
        def load(context):
            loads.append(number)
            with sessions() as session:
                found = session.get(User, number)
                context.tags += db.of(found)
                return {"name": found.name}

        return cache.get_or_set(f"user:{number}", load, ttl=60)

    def everybody():
        def load(context):
            loads.append("all")
            statement = select(User.name).order_by(User.id)
            context.tags += db.of(statement)
            with sessions() as session:
                return session.scalars(statement).all()

        return cache.get_or_set("everybody", load, ttl=60)

    for _ in range(2):
        assert (user(1)["name"], user(2)["name"], everybody()) == ("u1", "u2", ["u1", "u2", "u3"])
    assert loads == [1, 2, "all"]
    with sessions.begin() as session:
        session.get(User, 1).name = "Ada"
    assert (user(1)["name"], user(2)["name"], everybody()) == ("Ada", "u2", ["Ada", "u2", "u3"])
    assert loads == [1, 2, "all", 1, "all"]
    with sessions.begin() as session:
        session.execute(update(User).values(name="same"))
    assert (user(1)["name"], user(2)["name"], everybody()) == ("same", "same", ["same"] * 3)


def test_a_load_of_before_the_commit_is_not_stored_after_it(sessions, db, cache):
    def load(context):
        with sessions() as session:
            found = session.get(User, 1)
            context.tags += db.of(found)
            name = found.name
        with sessions.begin() as session:  # a writer, while we go on with the old name
            session.get(User, 1).name = "new"
        return name

    assert cache.get_or_set("user:1", load, ttl=60) == "u1"
    assert cache.get("user:1") is None


def test_a_failed_invalidation_is_raised_after_the_commit(own_server, namespace, engine, recorder):
    with CacheFlow(f"redis://127.0.0.1:{own_server.port}", namespace=namespace, timeout=0.5) as cache:
        db = DatabaseTags(cache)
        made = sessionmaker(engine)
        db.listen(made)
        own_server.kill9()
        with pytest.raises(InvalidationError) as caught, made.begin() as session:
            session.get(User, 1).name = "Ada"
        assert set(caught.value.targets) == {"db:users", "db:users:1"}
        with made() as session:
            assert session.get(User, 1).name == "Ada"
        assert engine.pool.checkedout() == 0
        assert cache.queued_invalidations == 0
        db.close()
        queued = DatabaseTags(cache, failures="queue")
        queued.listen(made)
        with made.begin() as session:
            session.get(User, 1).name = "Bea"
        assert cache.queued_invalidations == 1
        queued.close()


def test_two_phases(engine, db, sent, monkeypatch):
    dialect = engine.dialect
    monkeypatch.setattr(dialect, "do_begin_twophase", lambda connection, xid: connection.exec_driver_sql("BEGIN"))
    monkeypatch.setattr(dialect, "do_prepare_twophase", lambda connection, xid: None)
    finish = lambda word: lambda connection, xid, *_: connection.exec_driver_sql(word)  # noqa: E731
    monkeypatch.setattr(dialect, "do_commit_twophase", finish("COMMIT"))
    monkeypatch.setattr(dialect, "do_rollback_twophase", finish("ROLLBACK"))
    made = sessionmaker(engine, twophase=True)
    db.listen(made)
    with made() as session:
        session.get(User, 1).name = "Ada"
        session.prepare()
        assert sent() == set()
        session.commit()
        assert sent() == {"db:users", "db:users:1"}
        session.get(User, 1).name = "Bea"
        session.prepare()
        session.rollback()
    assert sent() == set()
    with Session(engine) as session:
        assert session.get(User, 1).name == "Ada"


def test_other_ways_to_name_sessions(engine, db, sent):
    scoped = scoped_session(sessionmaker(engine))
    db.listen(scoped)
    scoped.add(Badge(id=50))
    scoped.commit()
    scoped.remove()
    assert sent() == {"db:badges", "db:badges:50"}
    with Session(engine) as session:
        db.listen(session)
        session.add(Badge(id=51))
        session.commit()
        assert sent() == {"db:badges", "db:badges:51"}
    with Session(engine) as unwatched, unwatched.begin():
        unwatched.add(Badge(id=52))
    assert sent() == set()


def test_closed_it_watches_nothing(sessions, db, sent):
    db.close()
    with sessions.begin() as session:
        session.add(Badge(id=60))
    assert sent() == set()


async def test_async_sessions(server, namespace, tmp_path, recorder, sent):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
    real_transactions(engine.sync_engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    url = f"redis://127.0.0.1:{server.port}"
    async with AsyncCacheFlow(url, namespace=namespace, timeout=5.0, observers=[recorder]) as cache:
        db = DatabaseTags(cache)
        made = async_sessionmaker(engine, expire_on_commit=False)
        db.listen(made)
        async with made.begin() as session:
            session.add(User(id=1, name="Ada"))
        assert sent() == {"db:users", "db:users:1"}
        async with made() as session:
            (await session.get(User, 1)).name = "lost"
            await session.flush()
            await session.rollback()
        async with AsyncSession(engine) as unwatched, unwatched.begin():
            unwatched.add(User(id=2))
        assert sent() == set()
        async with made() as session:
            with db.reads(session) as tags:
                await session.scalars(select(User))
            assert tags == {"db:users"}
            db.add(session, "more")
            await session.execute(update(User).values(name="x"))
            await session.commit()
        assert sent() == {"db:users", "db:users:*", "more"}
        db.close()
    await engine.dispose()


def test_an_async_cache_and_a_session_of_threads(server, engine):
    db = DatabaseTags(AsyncCacheFlow(f"redis://127.0.0.1:{server.port}"))
    made = sessionmaker(engine)
    db.listen(made)
    with pytest.raises(ConfigError, match="not_async"), made.begin() as session:
        session.add(Badge(id=70))
    db.close()
    with pytest.raises(ConfigError):
        DatabaseTags(AsyncCacheFlow("redis://127.0.0.1:1"), failures="ignore")
