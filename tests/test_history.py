"""The checker of histories itself: good ones pass, each kind of bad one is seen, and shown in short."""

import random

import pytest

from harness.history import (
    LOST,
    PARTIAL,
    Fill,
    History,
    Invalidation,
    Read,
    Step,
    Write,
    check,
    one_prefix,
    survived,
)

pytestmark = pytest.mark.topology("single")

KEY = "r1:a"


def history(*records):
    """A history of such records, in any order."""
    made = History()
    kinds = {Write: made.writes, Invalidation: made.invalidations, Read: made.reads, Fill: made.fills}
    for record in records:
        kinds[type(record)].append(record)
    return made


def write(version, start, row=1):
    return Write(row, version, start, start + 0.5)


def told(start, end, outcome=3, row=1):
    return Invalidation(row, start, end, outcome, 7001)


def read(start, version, end=None, row=1, key=KEY):
    return Read(row, key, start, start + 0.5 if end is None else end, version, "GET", 7002)


def stale(*records, settled=None):
    """The reads that are reported."""
    return [found.read for found in check(history(*records), settled).violations]


WRITTEN = (write(1, 0), write(2, 10), told(11, 12))


@pytest.mark.parametrize(
    "version, start",
    [(2, 13), (3, 13), (None, 13), ("TIMEOUT", 13), (1, 12), (1, 11.5), (1, 5)],
    ids=["new", "newer", "miss", "error", "begun as it ended", "begun meanwhile", "begun before"],
)
def test_what_may_be_read(version, start):
    assert stale(*WRITTEN, read(start, version)) == []


def test_the_old_value_after_the_acknowledgement():
    bad = read(12.1, 1)
    assert stale(*WRITTEN, bad, read(12.1, 2)) == [bad]
    assert stale(*WRITTEN, read(12.1, 1, row=2)) == [], "another row"
    assert stale(*WRITTEN, read(11, 1, end=99)) == [], "it may have been served at once"


@pytest.mark.parametrize("outcome", [PARTIAL, LOST, "ERROR CLUSTERDOWN"])
def test_what_was_not_acknowledged_binds_nobody(outcome):
    records = (write(1, 0), write(2, 10), told(11, 12, outcome), read(13, 1))
    assert stale(*records) == []
    assert stale(*records, settled=13) == [], "begun as it was settled"
    expected = [records[-1]] if outcome == PARTIAL else []
    assert stale(*records, settled=12.5) == expected, "kept its word later"
    made = history(*records)
    made.forgetful.add(7001)
    assert check(made, 12.5).violations == [], "killed: there is nobody to keep it"


def test_an_invalidation_tells_nothing_of_a_write_that_ended_after_it_began():
    assert stale(write(1, 0), Write(1, 2, 10, 11.1), told(11, 12), read(13, 1)) == []
    assert stale(write(1, 0), Write(1, 2, 10, 11), told(11, 12), read(13, 1)) != []


def test_an_older_invalidation_that_ends_later_takes_nothing_back():
    records = (write(1, 0), write(2, 10), write(3, 20), told(21, 22), told(11, 30))
    assert [bad.version for bad in stale(*records, read(23, 2), read(31, 2), read(32, 1))] == [2, 2, 1]
    assert stale(*records, read(23, 3), read(31, 3)) == []


def test_the_first_that_forbids_it_is_named_and_the_highest_due():
    records = (write(1, 0), write(2, 10), write(3, 20), told(11, 12), told(21, 22))
    (bad,) = check(history(*records, read(30, 1))).violations
    assert (bad.told.start, bad.floor, bad.late) == (11, 3, 18)
    (bad,) = check(history(*records, read(15, 1))).violations
    assert bad.floor == 2


def test_windows_excuse_and_are_measured():
    elsewhere = Read(1, KEY, 14, 14.1, 1, "GET", 7003)
    made = history(*WRITTEN, read(12.1, 1), read(14, 1), read(16, 1), elsewhere)
    made.excuse(11, 11.5, 14.2, "promotion", 7002)
    found = check(made)
    assert [bad.read.start for bad in found.violations] == [14, 16]
    assert found.measured() == [("promotion", 2, 2.5)]
    assert "promotion: 2 stale reads, the last began 2500.0 ms after" in str(found)
    with pytest.raises(AssertionError, match="2 stale reads"):
        found.assert_never_stale()


def test_an_excerpt_has_what_explains_it_and_no_more():
    noise = [Fill(1, "r1:b", n / 10, n / 10, 1, True) for n in range(130)]
    noise += [read(n / 10, 2, row=2, key="r2:a") for n in range(130)]
    early = Fill(1, KEY, 0.6, 0.7, 1, True, 7002)
    late = Fill(1, KEY, 12.2, 12.3, 1, True, 7002)
    refused = Fill(1, KEY, 12.4, 12.5, 1, False, 7002)
    made = history(*WRITTEN, early, late, refused, *noise, read(13, 1))
    with pytest.raises(AssertionError) as failure:
        check(made).assert_never_stale()
    text = str(failure.value)
    assert text.count("SET r1:a version 1 -> True") == 2 and "-> False" not in text
    assert "database := version 2" in text and "INVALIDATE -> 3 (via 7001)" in text
    assert text.count("<-- stale") == 1 and "r1:b" not in text and "r2:a" not in text
    assert len(text.splitlines()) < 12


def test_vacuous_runs_are_seen():
    made = history(*WRITTEN, read(13, 2), Fill(1, KEY, 1, 2, 1, True), Fill(1, KEY, 1, 2, 1, False))
    found = check(made)
    found.assert_used()
    assert found.counts["hits"] == found.counts["fills"] == found.counts["refused"] == 1
    for missing in ("reads", "fills", "invalidations"):
        with pytest.raises(AssertionError, match="vacuous"):
            check(History(**{**vars(made), missing: []})).assert_used()


def test_random_histories_of_a_correct_cache_pass_and_each_stale_read_is_seen():
    """A cache that does what it says, at random; then the same with one old value read."""
    chance, seen = random.Random(1), 0
    for _ in range(200):
        clock, version, cached, bound, records = 0.0, 0, None, 0, []
        for _ in range(60):
            clock += 1
            what = chance.random()
            if what < 0.2:
                version += 1
                records.append(write(version, clock))
            elif what < 0.5 and version:
                acknowledged = chance.random() < 0.7
                records.append(told(clock, clock + 0.9, 1 if acknowledged else LOST))
                cached, bound = None, version if acknowledged else bound
            elif what < 0.7 and version:
                cached = version
            else:
                records.append(read(clock, cached))
        assert stale(*records) == []
        if bound > 1:
            bad = read(clock + 1, chance.randrange(1, bound))
            assert stale(*records, bad) == [bad]
            seen += 1
    assert seen > 100


# --- durability --------------------------------------------------------------------------------
STEPS = [
    Step(1, 2, "SET a 1", {"a": 1}),
    Step(3, 4, "SET b 2", {"a": 1, "b": 2}),
    Step(5, 6, "INVALIDATE", {}),
    Step(7, None, "SET a 4", {"a": 4}),
]


@pytest.mark.parametrize("data, upto", [({}, 2), ({"a": 4}, 3)])
def test_what_may_be_there_after_a_kill(data, upto):
    found = survived(STEPS, data, 8, 0)
    assert (found.upto, found.lost, found.error) == (upto, [], None)


@pytest.mark.parametrize(
    "data, lost, error",
    [
        ({"a": 1, "b": 2}, 1, "what SET b 2 left"),
        ({"a": 1}, 2, "what SET a 1 left"),
        ({"b": 2}, 0, "no state it ever was in"),
    ],
    ids=["invalidated, and back", "lost", "half"],
)
def test_what_may_not(data, lost, error):
    found = survived(STEPS, data, 8, 0)
    assert error in found.error and len(found.lost) == lost
    found = survived(STEPS, data, 8, 10)
    assert (found.error is None) == bool(lost), "a wide tolerance forgives a loss, nothing else"


def test_the_tolerance_is_counted_back_from_the_kill():
    assert survived(STEPS, {"a": 1, "b": 2}, 8, 2.5).error is None, "acknowledged 2 s before"
    assert survived(STEPS, {"a": 1, "b": 2}, 8, 1.5).error is not None
    assert survived([], {}, 8, 0).error is None


def test_what_survived_is_one_prefix():
    late = [Step(6.5, 6.8, "SET c 1", {"c": 1})]
    kept, lost = survived(late, {"c": 1}, 8, 0), survived(STEPS, {"a": 1}, 8, 10)
    assert one_prefix([(late, kept), (STEPS, survived(STEPS, {}, 8, 0))]) is None
    assert "SET b 2 is lost, SET c 1 is there" in one_prefix([(late, kept), (STEPS, lost)])
    assert one_prefix([(late, survived(late, {}, 8, 10)), (STEPS, lost)]) is None


def test_a_state_that_comes_again_may_be_any_of_them():
    """Emptied, filled and emptied again: which of the two it was, nobody can tell."""
    twice = [
        Step(1, 1.5, "SET c 1", {"c": 1}),
        Step(2, 2.5, "INVALIDATE", {}),
        Step(6.5, 6.8, "SET c 2", {"c": 2}),
        Step(7, 7.5, "INVALIDATE again", {}),
    ]
    lost = survived(STEPS, {"a": 1}, 8, 10)
    assert one_prefix([(twice, survived(twice, {}, 8, 10)), (STEPS, lost)]) is None
    assert one_prefix([(twice[:3], survived(twice[:3], {"c": 2}, 8, 10)), (STEPS, lost)]) is not None
    # With appendfsync always the first of them is out of the question.
    assert one_prefix([(twice, survived(twice, {}, 8, 0)), (STEPS, lost)]) is not None
