"""What happened while a cache was used, and whether it may have: a checker in the style of Jepsen.

A database of rows with versions stands behind the cache. Writers write version v of row r into it and
then invalidate the tag of r; readers get what is cached or load it. All that they do is recorded with
its begin and end on one clock, and judged afterwards:

    A read that begins after an acknowledged invalidation has ended, which itself began after version v
    was written, returns no version below v.

Nothing else is assumed. An invalidation that ended as PARTIAL, in an error, or with its connection lost
binds nobody (those that are PARTIAL may be held to their word from a given moment on: they are sent
again until they are done); a read that ended in an error, or in a miss, is none. Where a promise has a
window, the test names it (`excuse`): violations in there are counted apart, and measured.

Nothing here talks to a server: see harness/workload.py.
"""

import bisect
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

PARTIAL, ERROR, LOST = "PARTIAL", "ERROR", "LOST"


class Write(NamedTuple):
    """A row was written into the database."""

    row: int
    version: int
    start: float
    end: float


class Invalidation(NamedTuple):
    """A row's tag was invalidated: the integer, or how it failed."""

    row: int
    start: float
    end: float
    outcome: int | str
    via: int = 0

    @property
    def acknowledged(self):
        """Whether the integer was the answer."""
        return isinstance(self.outcome, int)


class Read(NamedTuple):
    """A key was read: its version, None for a miss, or an error's text."""

    row: int
    key: str
    start: float
    end: float
    version: int | str | None
    how: str = "GET"
    via: int = 0

    @property
    def hit(self):
        """Whether there was a value."""
        return isinstance(self.version, int)


class Fill(NamedTuple):
    """What was loaded was stored (True), refused (False), or an error came."""

    row: int
    key: str
    start: float
    end: float
    version: int
    stored: bool | str
    via: int = 0


class Event(NamedTuple):
    """What befell the servers."""

    start: float
    what: str


class Window(NamedTuple):
    """A time in which stale reads of a node are permitted, and from when on they are measured."""

    begin: float
    since: float
    end: float
    why: str
    via: int


class Violation(NamedTuple):
    """A stale read, and the first acknowledged invalidation that forbids it."""

    read: Read
    told: Invalidation
    floor: int

    @property
    def late(self):
        """Seconds from the acknowledgement to the read."""
        return self.read.start - self.told.end


@dataclass
class History:
    """Records of all kinds. Threads may append at any time."""

    writes: list = field(default_factory=list)
    invalidations: list = field(default_factory=list)
    reads: list = field(default_factory=list)
    fills: list = field(default_factory=list)
    events: list = field(default_factory=list)
    windows: list = field(default_factory=list)
    forgetful: set = field(default_factory=set)  # ports of nodes that were killed: they send nothing again

    def event(self, what):
        """Something befalls the servers now."""
        self.events.append(Event(time.monotonic(), what))

    def excuse(self, begin, since, end, why, via):
        """Permit stale reads of the node with that port between begin and end; how long there are any is
        measured from `since`."""
        self.windows.append(Window(begin, since, end, why, via))

    def counts(self):
        """How much there was of everything."""
        found = Counter(reads=0, hits=0, misses=0, fills=0, refused=0, acknowledged=0, failed_reads=0)
        for read in self.reads:
            found["hits" if read.hit else "misses" if read.version is None else "failed_reads"] += 1
        found["reads"] = len(self.reads) - found["failed_reads"]
        for fill in self.fills:
            stored = fill.stored
            found["fills" if stored is True else "refused" if stored is False else "failed_fills"] += 1
        for it in self.invalidations:
            found["acknowledged" if it.acknowledged else it.outcome.partition(" ")[0].lower()] += 1
        return dict(found)


class Floors:
    """What acknowledged invalidations forbid: from when on, for each row, below which version."""

    def __init__(self, history, settled=None):
        """`settled`: from then on PARTIAL ones are done, too."""
        written = defaultdict(list)
        for write in history.writes:
            written[write.row].append((write.end, write.version))
        steps = defaultdict(list)
        for it in history.invalidations:
            kept = it.outcome == PARTIAL and it.via not in history.forgetful
            bound = it.end if it.acknowledged else settled if kept else None
            # What was written before it began.
            versions = [version for end, version in written[it.row] if end <= it.start]
            if bound is not None and versions:
                steps[it.row].append((max(bound, it.end), max(versions), it))
        self._rows = {}
        for row, found in steps.items():
            ends, floors, told, highest = [], [], [], 0
            for end, version, it in sorted(found, key=lambda step: step[:2]):
                if version > highest:
                    highest = version
                    ends.append(end)
                    floors.append(version)
                    told.append(it)
            self._rows[row] = ends, floors, told

    def violation(self, read):
        """The Violation that a read is, or None."""
        if not read.hit or read.row not in self._rows:
            return None
        ends, floors, told = self._rows[read.row]
        known = bisect.bisect_left(ends, read.start)  # ended before it began
        first = bisect.bisect_right(floors, read.version)  # floors grow
        return Violation(read, told[first], floors[known - 1]) if first < known else None


@dataclass
class Report:
    """What a history came to."""

    history: History
    counts: dict
    violations: list
    excused: list

    def measured(self):
        """For each window how many stale reads there were, and seconds until the last of them began."""
        found = []
        for window in self.history.windows:
            reads = [one.read for one in self.excused if _within(one.read, window)]
            last = max((read.start - window.since for read in reads), default=None)
            found.append((window.why, len(reads), last))
        return found

    def __str__(self):
        lines = [" ".join(f"{name}={count}" for name, count in self.counts.items())]
        for why, count, last in self.measured():
            until = "" if last is None else f", the last began {1000 * last:.1f} ms after"
            lines.append(f"{why}: {count} stale reads{until}")
        return "\n".join(lines)

    def assert_never_stale(self):
        """Fail with the first violations, each with what explains it."""
        if self.violations:
            parts = [excerpt(self.history, one) for one in self.violations[:3]]
            raise AssertionError(f"{len(self.violations)} stale reads\n{self}\n" + "\n".join(parts))

    def assert_used(self, *names, least=1):
        """Fail if there was too little of anything for the run to mean something."""
        for name in names or ("hits", "fills", "refused", "acknowledged"):
            assert self.counts.get(name, 0) >= least, f"vacuous: too few {name}: {self}"


def _within(read, window):
    return read.via == window.via and read.start <= window.end and read.end >= window.begin


def check(history, settled=None):
    """Judge it."""
    floors, violations, excused = Floors(history, settled), [], []
    for read in sorted(history.reads, key=lambda read: read.start):
        if found := floors.violation(read):
            permitted = any(_within(read, window) for window in history.windows)
            (excused if permitted else violations).append(found)
    return Report(history, history.counts(), violations, excused)


def excerpt(history, violation):
    """The smallest part of a history that shows why a read is wrong, times in ms from its beginning:
    both versions' writes, the first invalidation that forbids it, the fill and the reads of that key
    which had the value first and last, and what befell the servers meanwhile."""
    read, told, _ = violation
    own = [write for write in history.writes if write.row == read.row]
    shown = [write for write in own if write.version == read.version]
    newer = [write for write in own if write.version > read.version and write.end <= told.start]
    shown += newer[-1:]
    fills = [
        fill
        for fill in history.fills
        if fill.key == read.key and fill.version == read.version and fill.start <= read.end and fill.stored
    ]
    shown += sorted(fills, key=lambda fill: fill.start)[-2:]
    begin = min([one.start for one in shown] + [told.start])
    alike = [
        other
        for other in history.reads
        if other.key == read.key and begin <= other.start < read.start and other.version is not None
    ]
    shown += [told, read, *sorted(alike, key=lambda other: other.start)[-2:]]
    between = [
        one for one in history.invalidations if one.row == read.row and told.end < one.start < read.start
    ]
    shown += between[-1:]
    shown += [event for event in history.events if begin - 5 <= event.start <= read.end]
    lines = [f"row {read.row}, key {read.key}: version {read.version} read, {violation.floor} was due"]
    for one in sorted(shown, key=lambda one: one.start):
        lines.append(_line(one, begin, "  <-- stale" if one is read else ""))
    if len(between) > 1:
        lines.append(f"  ({len(between) - 1} more invalidations of the row before the read)")
    return "\n".join(lines)


def _line(one, begin, mark):
    at = f"{1000 * (one.start - begin):9.2f}"
    if isinstance(one, Event):
        return f"  {at}            {one.what}"
    until = f"{1000 * (one.end - begin):9.2f}"
    what = {
        Write: lambda: f"database := version {one.version}",
        Invalidation: lambda: f"INVALIDATE -> {one.outcome} (via {one.via})",
        Read: lambda: f"{one.how} {one.key} -> version {one.version} (of {one.via})",
        Fill: lambda: f"SET {one.key} version {one.version} -> {one.stored} (of {one.via})",
    }[type(one)]()
    return f"  {at} {until}  {what}{mark}"


# --- durability --------------------------------------------------------------------------------


class Step(NamedTuple):
    """An operation of a client that alone writes some keys, and what they hold after it."""

    start: float
    end: float | None  # None: not acknowledged
    what: str
    after: dict


class Survived(NamedTuple):
    """What a server that was killed still knew of one client's steps."""

    upto: int  # the last step that may be in the data, -1 for none
    lost: list  # acknowledged steps that are not
    error: str | None
    candidates: tuple = ()  # every step after which things were as they are: emptied twice is empty twice


def survived(steps, data, killed, tolerance):
    """Compare what is there after a kill with what one client did: it must be what was there after one
    of its steps, and that one no older than the last that was acknowledged more than `tolerance`
    seconds before the kill (0: than the last acknowledged)."""
    states = [{}, *(step.after for step in steps)]
    acknowledged = [at for at, step in enumerate(steps) if step.end is not None]
    bound = [at for at in acknowledged if not tolerance or steps[at].end < killed - tolerance]
    least = bound[-1] if bound else -1
    matching = [at - 1 for at, state in enumerate(states) if state == data]
    if not matching:
        near = steps[acknowledged[-1]] if acknowledged else Step(0, 0, "nothing", {})
        return Survived(-1, [], f"it is in no state it ever was in: {data}, the last was {near}")
    upto = matching[-1]
    lost = [steps[at] for at in acknowledged if at > upto]
    if upto < least:
        back = f"what {steps[upto].what if upto >= 0 else 'nothing'} left, {killed - lost[0].end:.3f} s"
        return Survived(upto, lost, f"it is {back} before the kill: {len(lost)} acknowledged steps lost")
    return Survived(upto, lost, None, tuple(at for at in matching if at >= least))


def one_prefix(clients):
    """Whether what survived of several clients can be the beginning of one log: no step that survived
    began after a lost one had ended. `clients` are (steps, Survived). Where what is there fits several
    steps of a client, any of them will do. The first contradiction of the latest of them, or None."""
    ends = [[(_last_begun(steps, at), at) for at in found.candidates] for steps, found in clients]
    contradictions = []
    for cut, _ in sorted({one for of_client in ends for one in of_client}, reverse=True):
        kept = [max((at for begun, at in of_client if begun <= cut), default=None) for of_client in ends]
        if None not in kept:
            found = _contradiction([steps for steps, _ in clients], kept)
            if found is None:
                return None
            contradictions.append(found)
    return contradictions[0] if contradictions else None


def _changes(steps, upto):
    """The steps up to that one which changed anything: one that did not proves nothing."""
    before = [{}, *(step.after for step in steps)]
    return [step for at, step in enumerate(steps[: upto + 1]) if step.after != before[at]]


def _last_begun(steps, upto):
    return max((step.start for step in _changes(steps, upto)), default=float("-inf"))


def _contradiction(clients, kept):
    lost = [
        step
        for steps, at in zip(clients, kept, strict=True)
        for step in steps[at + 1 :]
        if step.end is not None
    ]
    first = min(lost, key=lambda step: step.end, default=None)
    for steps, at in zip(clients, kept, strict=True):
        for step in _changes(steps, at):
            if first and step.start > first.end:
                return f"{first.what} is lost, {step.what} is there, which began later"
    return None
