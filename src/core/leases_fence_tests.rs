//! Each clause of the fence by itself, and the stale-set race in its
//! deterministic interleavings, with the index that the module would ask.

use super::tests::{bench, token, Bench, ABSENT, ASK, KEY, STALE};
use super::*;
use crate::index::{Index, Mode, Stamps};

/// A table, and what was invalidated when.
struct Shard {
    bench: Bench,
    index: Index,
}

const NAMESPACE: &[u8] = b"";

impl Shard {
    fn new() -> Shard {
        Shard { bench: bench(), index: Index::default() }
    }

    fn grant(&mut self) -> Stamp {
        token(self.bench.fetch(ABSENT, ASK))
    }

    fn invalidate(&mut self, mode: Mode, tag: &[u8]) -> Stamp {
        let stamp = self.bench.draw();
        self.index.invalidate_tag(0, tag, stamp, mode);
        stamp
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            under: Under::Nothing,
            touch: false,
            invalidated: Stamp(0),
            namespace: self.index.namespace_stamps(0, NAMESPACE),
            low_water: self.index.low_water(),
        }
    }

    fn fill_at(
        &mut self,
        at: At<'_>,
        token: Stamp,
        tags: &[&[u8]],
        evidence: Evidence,
    ) -> Result<Filled, Refusal> {
        let stamps: Vec<Option<Stamps>> = tags.iter().map(|tag| self.index.stamps(at.db, tag)).collect();
        let now = self.bench.now();
        let judged = self.bench.leases.judge(at, token, &evidence, stamps.iter().copied(), now);
        let filled = self.bench.leases.fill(at, token, &evidence, stamps, now);
        assert_eq!(judged.err(), filled.err(), "what is judged is what is done");
        assert_eq!(self.bench.leases.validate(), Vec::<String>::new());
        filled
    }

    fn fill(&mut self, token: Stamp, tags: &[&[u8]]) -> Result<(), Refusal> {
        let evidence = self.evidence();
        self.fill_at(KEY, token, tags, evidence).map(|_| ())
    }
}

// ── one clause each ─────────────────────────────────────────────────────────

#[test]
fn nothing_happened() {
    let mut shard = Shard::new();
    let t = shard.grant();
    shard.bench.now += 200;
    assert_eq!(shard.fill(t, &[b"a"]), Ok(()));
    assert_eq!(shard.fill(t, &[b"a"]), Err(Refusal::Unknown), "a token fills once");
    assert_eq!(shard.bench.leases.totals().fills, 1);
}

#[test]
fn a_later_lease() {
    let mut shard = Shard::new();
    let t = shard.grant();
    shard.bench.pass(1000);
    let later = shard.grant();
    assert_eq!(shard.fill(t, &[]), Err(Refusal::Superseded));
    assert_eq!(shard.bench.leases.counts().leases, 1, "which is not ended by it");
    assert_eq!(shard.fill(later, &[]), Ok(()));
}

#[test]
fn a_later_lock() {
    let mut shard = Shard::new();
    let t = shard.grant();
    shard.bench.pass(1000);
    let lock = token(shard.bench.lock(50, None));
    assert_eq!(shard.fill(t, &[]), Err(Refusal::Superseded));
    assert_eq!(shard.fill(lock, &[]), Ok(()));
}

#[test]
fn the_key_was_written_deleted_or_staled() {
    for (change, why) in [
        (Change::Written, Refusal::Written),
        (Change::Deleted, Refusal::Deleted),
        (Change::Staled, Refusal::Staled),
    ] {
        for ran_out in [false, true] {
            for lock in [false, true] {
                let mut shard = Shard::new();
                let t = if lock { token(shard.bench.lock(1000, None)) } else { shard.grant() };
                shard.bench.pass(if ran_out { 1000 } else { 1 });
                shard.bench.change(change);
                assert_eq!(shard.fill(t, &[]), Err(why), "{change:?} ran out: {ran_out} lock: {lock}");
            }
        }
    }
}

#[test]
fn what_lies_there_was_invalidated() {
    let mut shard = Shard::new();
    let t = token(shard.bench.fetch(STALE, ASK));
    let stamp = shard.invalidate(Mode::Hard, b"of-the-old");
    let evidence = Evidence { invalidated: stamp, ..shard.evidence() };
    assert_eq!(shard.fill_at(KEY, t, &[], evidence).err(), Some(Refusal::Invalidated));
}

#[test]
fn what_lay_there_was_invalidated_and_swept() {
    let mut shard = Shard::new();
    let t = token(shard.bench.fetch(STALE, ASK));
    let stamp = shard.invalidate(Mode::Hard, b"of-the-old");
    shard.bench.change(Change::Invalidated(stamp));
    assert_eq!(shard.fill(t, &[]), Err(Refusal::Invalidated));
    // A grant from after it has nothing to do with it, be the sweep as late as it may.
    let after = shard.grant();
    shard.bench.change(Change::Invalidated(stamp));
    assert_eq!(shard.fill(after, &[]), Ok(()));
}

#[test]
fn a_tag_named_was_invalidated() {
    for mode in [Mode::Hard, Mode::Soft] {
        for known in [false, true] {
            let mut shard = Shard::new();
            if known {
                shard.index.intern(0, b"tag");
            }
            shard.invalidate(mode, b"tag");
            let t = shard.grant();
            assert_eq!(shard.fill(t, &[b"tag"]), Ok(()), "before the grant");
            let t = shard.grant();
            shard.invalidate(mode, b"tag");
            assert_eq!(shard.fill(t, &[b"other", b"tag"]), Err(Refusal::Tag), "{mode:?} known: {known}");
            let t = shard.grant();
            shard.invalidate(mode, b"tag");
            assert_eq!(shard.fill(t, &[b"other"]), Ok(()), "another's");
        }
    }
}

#[test]
fn a_tag_at_the_very_stamp_is_newer() {
    let mut shard = Shard::new();
    let t = shard.grant();
    shard.index.invalidate_tag(0, b"tag", t, Mode::Hard);
    assert_eq!(shard.fill(t, &[b"tag"]), Err(Refusal::Tag));
}

#[test]
fn a_tag_forgotten_meanwhile() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let stamp = shard.invalidate(Mode::Hard, b"tag");
    shard.index.forget(Stamp(stamp.0 + 1), 0, 10);
    assert_eq!(shard.index.stamps(0, b"tag"), None);
    assert_eq!(shard.fill(t, &[b"tag"]), Err(Refusal::Forgotten));
    let t = shard.grant();
    assert_eq!(shard.fill(t, &[b"tag"]), Ok(()), "younger than the mark");
}

#[test]
fn a_tag_forgotten_and_known_again() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let stamp = shard.invalidate(Mode::Hard, b"tag");
    shard.index.forget(Stamp(stamp.0 + 1), 0, 10);
    shard.index.intern(0, b"tag");
    assert_eq!(shard.index.stamps(0, b"tag"), Some(Stamps::default()));
    assert_eq!(shard.fill(t, &[b"tag"]), Err(Refusal::Forgotten));
}

#[test]
fn a_tag_never_seen_and_older_than_the_mark() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let stamp = shard.invalidate(Mode::Hard, b"another");
    shard.index.forget(Stamp(stamp.0 + 1), 0, 10);
    assert_eq!(shard.fill(t, &[b"new"]), Err(Refusal::Forgotten), "it cannot be told");
    let t = shard.grant();
    let stamp = shard.invalidate(Mode::Hard, b"another");
    shard.index.forget(Stamp(stamp.0 + 1), 0, 10);
    assert_eq!(shard.fill(t, &[]), Ok(()), "without tags there is nothing to tell");
}

#[test]
fn the_namespace_was_invalidated() {
    for mode in [Mode::Hard, Mode::Soft] {
        let mut shard = Shard::new();
        let t = shard.grant();
        let stamp = shard.bench.draw();
        shard.index.invalidate_namespace(0, NAMESPACE, stamp, mode);
        assert_eq!(shard.fill(t, &[]), Err(Refusal::Namespace));
        let t = shard.grant();
        shard.index.invalidate_namespace(0, b"other", stamp, mode);
        assert_eq!(shard.fill(t, &[]), Ok(()));
    }
}

#[test]
fn it_ran_out_or_its_client_went_with_nothing_newer() {
    let mut shard = Shard::new();
    let t = shard.grant();
    shard.bench.pass(1000 + 599_999);
    assert_eq!(shard.fill(t, &[]), Ok(()));
    let t = shard.grant();
    shard.bench.leases.disconnect(1, shard.bench.now());
    assert_eq!(shard.fill(t, &[]), Ok(()));
}

#[test]
fn it_is_no_longer_remembered() {
    let mut shard = Shard::new();
    let t = shard.grant();
    shard.bench.pass(1000);
    let (evidence, later) = (shard.evidence(), Time(shard.bench.now + 600_000));
    let before = Time(later.0 - 1);
    assert!(shard.bench.leases.judge(KEY, t, &evidence, [], before).is_ok());
    assert_eq!(
        shard.bench.leases.judge(KEY, t, &evidence, [], later),
        Err(Refusal::Unknown),
        "without a tick"
    );
    shard.bench.pass(600_000);
    assert_eq!(shard.fill(t, &[]), Err(Refusal::Unknown));
    assert_eq!(shard.bench.leases.counts(), Counts::default());
}

#[test]
fn it_was_given_up() {
    let mut shard = Shard::new();
    let t = shard.grant();
    assert!(shard.bench.leases.unlock(KEY, t, None, shard.bench.now()));
    assert!(shard.fill(t, &[]).is_err());
    let t = shard.grant();
    assert!(shard.bench.leases.unlock(KEY, t, Some(Millis(50)), shard.bench.now()));
    assert!(shard.fill(t, &[]).is_err());
}

#[test]
fn it_was_granted_on_another_key_or_by_nobody() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let other = At { key: b"other", ..KEY };
    let theirs = token(shard.bench.fetch_at(other, ABSENT, ASK, 1));
    for forged in [theirs, Stamp(0), Stamp(t.0 - 1), Stamp(t.0 + 1), Stamp(u64::MAX)] {
        assert!(shard.fill(forged, &[]).is_err(), "{forged:?}");
    }
    let elsewhere = At { db: 1, ..KEY };
    let evidence = shard.evidence();
    assert_eq!(shard.fill_at(elsewhere, t, &[], evidence).err(), Some(Refusal::Unknown));
    assert_eq!(shard.fill(t, &[]), Ok(()), "none of which ended it");
}

#[test]
fn a_native_key_that_was_not_there() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let native = Evidence { under: Under::Native, ..shard.evidence() };
    assert_eq!(shard.fill_at(KEY, t, &[], native).err(), Some(Refusal::Native));
    let there = Sight { there: There::Native, invalidated: Stamp(0) };
    let moment = shard.bench.moment();
    let t = token(shard.bench.leases.lock(KEY, there, Millis(50), None, 1, moment));
    assert!(shard.fill_at(KEY, t, &[], native).is_ok(), "it was there at the grant");
}

#[test]
fn touch_needs_an_entry() {
    let mut shard = Shard::new();
    for (under, why) in [
        (Under::Nothing, Some(Refusal::Absent)),
        (Under::Native, Some(Refusal::Absent)),
        (Under::Entry, None),
    ] {
        let t = token(shard.bench.fetch(STALE, ASK));
        let evidence = Evidence { under, touch: true, ..shard.evidence() };
        assert_eq!(shard.fill_at(KEY, t, &[], evidence).err(), why);
    }
}

// ── what an end does ────────────────────────────────────────────────────────

#[test]
fn a_refusal_ends_the_grant_and_promotes() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let waits = shard.bench.wait(Ask { block: Some(Millis(0)), ..ASK }, 3);
    shard.invalidate(Mode::Hard, b"tag");
    assert_eq!(shard.fill(t, &[b"tag"]), Err(Refusal::Tag));
    let answers = shard.bench.perform(ABSENT);
    let [(id, answer)] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(id, waits);
    assert_eq!(shard.fill(t, &[]), Err(Refusal::Superseded), "not with other tags either");
    assert_eq!(shard.fill(token(answer), &[b"tag"]), Ok(()));
    let totals = shard.bench.leases.totals();
    assert_eq!(
        totals.refusals().filter(|(_, n)| *n > 0).collect::<Vec<_>>(),
        [(Refusal::Superseded, 1), (Refusal::Tag, 1)]
    );
}

#[test]
fn judging_ends_nothing() {
    let mut shard = Shard::new();
    let t = shard.grant();
    let (evidence, now) = (shard.evidence(), shard.bench.now());
    for _ in 0..2 {
        assert!(shard.bench.leases.judge(KEY, t, &evidence, [], now).is_ok());
    }
    assert_eq!(shard.bench.leases.counts().leases, 1);
}

#[test]
fn labels_are_unique_and_in_order() {
    for (n, why) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, n);
        assert_eq!(Refusal::ALL.iter().filter(|other| other.label() == why.label()).count(), 1);
    }
}

// ── the stale-set race ──────────────────────────────────────────────────────
// The reader misses and loads the old row; the writer writes its database and
// invalidates; the reader fills. Stored, the old value would stay for a TTL.

#[test]
fn race_by_key() {
    // caffeine#193
    let mut shard = Shard::new();
    let reader = shard.grant();
    shard.bench.change(Change::Deleted);
    let next = shard.bench.fetch(ABSENT, ASK);
    assert!(matches!(next, Answer::Miss { .. }), "MISS with a token at once, whoever held a lease");
    assert_eq!(shard.fill(reader, &[]), Err(Refusal::Superseded));
    assert_eq!(shard.fill(token(next), &[]), Ok(()));
}

#[test]
fn race_by_key_on_a_stale_entry() {
    let mut shard = Shard::new();
    let reader = token(shard.bench.fetch(STALE, ASK));
    shard.bench.change(Change::Staled);
    let next = shard.bench.fetch(STALE, ASK);
    assert!(matches!(next, Answer::Stale { token: Some(_) }), "STALE with one");
    assert_eq!(shard.fill(reader, &[]), Err(Refusal::Superseded));
}

#[test]
fn race_by_tag_on_an_absent_key() {
    // laravel#61328, FusionCache#535: nothing in the cache carries the tag yet.
    for mode in [Mode::Hard, Mode::Soft] {
        let mut shard = Shard::new();
        let reader = shard.grant();
        shard.invalidate(mode, b"product:1");
        assert_eq!(shard.fill(reader, &[b"product:1"]), Err(Refusal::Tag));
        assert!(matches!(shard.bench.fetch(ABSENT, ASK), Answer::Miss { .. }));
    }
}

#[test]
fn race_by_tag_on_an_entry() {
    // FusionCache#628: the refresh of a stale entry, whose tags are known.
    for (mode, next) in [(Mode::Hard, There::Absent), (Mode::Soft, STALE.there)] {
        let mut shard = Shard::new();
        let reader = token(shard.bench.fetch(STALE, ASK));
        let stamp = shard.invalidate(mode, b"product:1");
        let sight = Sight { there: next, invalidated: stamp };
        let second = token(shard.bench.fetch(sight, ASK));
        assert_eq!(shard.fill(reader, &[]), Err(Refusal::Superseded), "though it names no tag");
        let evidence = Evidence { invalidated: stamp, ..shard.evidence() };
        assert!(shard.fill_at(KEY, second, &[b"product:1"], evidence).is_ok());
    }
}

#[test]
fn race_by_namespace() {
    for mode in [Mode::Hard, Mode::Soft] {
        let mut shard = Shard::new();
        let reader = shard.grant();
        let stamp = shard.bench.draw();
        shard.index.invalidate_namespace(0, NAMESPACE, stamp, mode);
        let sight = Sight { invalidated: stamp, ..ABSENT };
        let next = shard.bench.fetch(sight, ASK);
        assert!(matches!(next, Answer::Miss { .. }), "found by its stamp: no key was walked");
        assert_eq!(shard.fill(reader, &[]), Err(Refusal::Superseded));
        assert_eq!(shard.fill(token(next), &[]), Ok(()));
    }
}

#[test]
fn race_with_the_writers_pattern() {
    // The writer locks, writes its database, publishes with its token.
    let mut shard = Shard::new();
    let reader = shard.grant();
    shard.bench.pass(1000);
    let writer = token(shard.bench.lock(5000, None));
    assert_eq!(shard.fill(reader, &[]), Err(Refusal::Superseded), "it loaded before the lock");
    assert!(matches!(shard.bench.fetch(ABSENT, ASK), Answer::Busy { .. }));
    assert_eq!(shard.fill(writer, &[]), Ok(()));
}

#[test]
fn a_lock_keeps_it_busy_through_invalidations() {
    let mut shard = Shard::new();
    let lock = token(shard.bench.lock(5000, None));
    let stamp = shard.invalidate(Mode::Hard, b"product:1");
    let sight = Sight { invalidated: stamp, ..ABSENT };
    assert!(matches!(shard.bench.fetch(sight, ASK), Answer::Busy { .. }));
    let soft = Sight { invalidated: stamp, ..STALE };
    assert_eq!(shard.bench.fetch(soft, ASK), Answer::Stale { token: None });
    assert!(shard.bench.leases.extend(KEY, lock, Millis(10), shard.bench.now()));
    assert_eq!(shard.fill(lock, &[]), Err(Refusal::Invalidated), "its fence is broken");
}

#[test]
fn expiry_of_the_old_entry_voids_nothing() {
    // rails#54229: nobody calls anything when it expires.
    let mut shard = Shard::new();
    let reader = token(shard.bench.fetch(STALE, ASK));
    assert!(matches!(shard.bench.fetch(ABSENT, ASK), Answer::Busy { .. }));
    assert_eq!(shard.fill(reader, &[]), Ok(()));
}
