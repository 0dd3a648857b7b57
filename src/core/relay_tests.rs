use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { count: 1000, bytes: 1 << 20 };

fn node(i: u8) -> Node {
    [b'a' + i; 40]
}

fn nodes(which: impl IntoIterator<Item = u8>) -> BTreeSet<Node> {
    which.into_iter().map(node).collect()
}

fn message(number: Number) -> Rc<[u8]> {
    number.to_be_bytes().as_slice().into()
}

/// A relay with two other primaries, and an invalidation begun at 0.
fn begun(own: Own, timeout: Option<u64>) -> (Relay, Number) {
    let mut relay = Relay::default();
    relay.primaries(Time(0), &nodes([0, 1]));
    let number = relay.number();
    assert_eq!(relay.begin(Time(0), number, message(number), own, true, LIMITS), Some(None));
    relay.wait(number, Time(0), timeout.map(Millis));
    (relay, number)
}

fn outcome(told: Option<Told>) -> Option<(Outcome, bool, bool)> {
    told.map(|told| (told.outcome, told.waits, told.first))
}

#[test]
fn all_have_it() {
    let (mut relay, number) = begun(Own::Done(5), Some(1000));
    assert_eq!(relay.due(Time(0), 9).len(), 2);
    assert_eq!(relay.done(&node(0), number, 3), None);
    assert_eq!(relay.done(&node(0), number, 3), None, "it counts once");
    assert_eq!(relay.done(&node(3), number, 3), None, "no primary");
    assert_eq!(outcome(relay.done(&node(1), number, 4)), Some((Outcome::All(12), true, true)));
    assert_eq!(relay.timed_out(Time(5000)), vec![]);
    assert_eq!(relay.due(Time(5000), 9), vec![], "nothing is sent again");
}

#[test]
fn alone_it_is_done_at_once() {
    let mut relay = Relay::default();
    let number = relay.number();
    let told = relay.begin(Time(0), number, message(number), Own::Done(2), true, LIMITS).expect("room");
    assert_eq!(outcome(told), Some((Outcome::All(2), false, true)));
}

#[test]
fn of_this_node_alone() {
    let mut relay = Relay::default();
    relay.primaries(Time(0), &nodes([0]));
    let number = relay.number();
    assert_eq!(relay.begin(Time(0), number, message(number), Own::Awaited(2), false, LIMITS), Some(None));
    assert_eq!(relay.partial(number), Some(Outcome::Partial { done: 0, of: 1 }));
    relay.primaries(Time(0), &nodes([1]));
    assert_eq!(relay.due(Time(0), 9), vec![]);
    assert_eq!(outcome(relay.own_done(number)), Some((Outcome::All(2), false, true)));
    assert_eq!(relay.counts(), Counts { peers: 1, ..Counts::default() }, "it is forgotten");
    relay.primaries(Time(0), &nodes([2]));
    assert_eq!(relay.due(Time(0), 9), vec![]);
}

#[test]
fn some_have_not() {
    let (mut relay, number) = begun(Own::Done(5), Some(1000));
    relay.due(Time(0), 9);
    relay.done(&node(0), number, 3);
    assert_eq!(relay.timed_out(Time(999)), vec![]);
    let told = relay.timed_out(Time(1000)).pop();
    assert_eq!(outcome(told), Some((Outcome::Partial { done: 2, of: 3 }, true, true)));
    // It is tried on, and its end is told, to nobody who waits.
    assert_eq!(relay.due(Time(1000), 9), vec![(node(1), message(number))]);
    assert_eq!(outcome(relay.done(&node(1), number, 1)), Some((Outcome::All(9), false, false)));
}

#[test]
fn a_replica_that_relays_counts_for_nothing() {
    let (mut relay, number) = begun(Own::No, None);
    assert_eq!(relay.partial(number), Some(Outcome::Partial { done: 0, of: 2 }));
    relay.done(&node(0), number, 1);
    assert_eq!(outcome(relay.done(&node(1), number, 1)), Some((Outcome::All(2), true, true)));
}

#[test]
fn its_own_replicas_first() {
    let (mut relay, number) = begun(Own::Awaited(5), Some(100));
    relay.done(&node(0), number, 1);
    assert_eq!(relay.done(&node(1), number, 1), None);
    assert_eq!(relay.partial(number), Some(Outcome::Partial { done: 2, of: 3 }));
    assert_eq!(outcome(relay.own_done(number)), Some((Outcome::All(7), true, true)));
    assert_eq!(relay.own_done(number), None);

    let (mut relay, number) = begun(Own::Awaited(5), Some(100));
    relay.done(&node(0), number, 1);
    relay.done(&node(1), number, 1);
    let told = relay.demoted();
    assert_eq!(told.len(), 1, "its new primary may not have it, and is sent it: {told:?}");
}

#[test]
fn a_replica_that_relayed_it_does_it_once_it_is_promoted() {
    // Its primary, 1, has not acknowledged, dies, and this node takes its place.
    let (mut relay, number) = begun(Own::No, None);
    relay.done(&node(0), number, 1);
    relay.promoted(Time(10));
    assert_eq!(relay.primaries(Time(10), &nodes([0])), vec![], "nobody of the shard has it");
    assert_eq!(relay.partial(number), Some(Outcome::Partial { done: 1, of: 2 }));
    assert_eq!(relay.own_due(), vec![(number, message(number))]);
    assert_eq!(outcome(relay.own_did(number, 5, false)), Some((Outcome::All(6), true, true)));
    assert_eq!((relay.own_due(), relay.own_did(number, 5, false)), (vec![], None), "once");

    // The same, and its replicas have to have it.
    let (mut relay, number) = begun(Own::No, None);
    relay.done(&node(0), number, 1);
    relay.promoted(Time(10));
    relay.primaries(Time(10), &nodes([0]));
    assert_eq!(relay.own_did(number, 5, true), None);
    assert_eq!(outcome(relay.own_done(number)), Some((Outcome::All(6), true, true)));

    // 1 had acknowledged, and nothing it had is known to be here.
    let (mut relay, number) = begun(Own::No, None);
    relay.done(&node(0), number, 1);
    relay.done(&node(1), number, 1);
    relay.promoted(Time(10));
    relay.promoted(Time(10));
    assert_eq!(relay.counts().incomplete, 1);
    assert_eq!(outcome(relay.own_did(number, 0, false)), Some((Outcome::All(2), false, false)));
    assert_eq!(relay.counts().incomplete, 0);

    // It did it as a primary, was none for a while, and is none again before it
    // comes to it.
    let (mut relay, number) = begun(Own::Done(5), None);
    relay.demoted();
    relay.promoted(Time(10));
    assert_eq!(relay.own_due().len(), 1);
    assert_eq!(relay.demoted(), vec![]);
    assert_eq!((relay.own_due(), relay.own_did(number, 5, false)), (vec![], None));
    relay.promoted(Time(REMEMBERED.0 - 1));
    relay.done(&node(0), number, 0);
    relay.done(&node(1), number, 0);
    assert_eq!(outcome(relay.own_did(number, 1, false)), Some((Outcome::All(6), true, true)));
    // And not what is long past, nor what was never meant for the others.
    relay.promoted(Time(REMEMBERED.0));
    let here = relay.number();
    relay.begin(Time(0), here, message(here), Own::Done(1), false, LIMITS);
    relay.promoted(Time(1));
    assert_eq!(relay.own_due(), vec![]);
}

#[test]
fn the_replica_of_one_that_died_is_sent_it() {
    let (mut relay, number) = begun(Own::Done(0), Some(1000));
    relay.due(Time(0), 9);
    relay.done(&node(0), number, 1);
    // 1 has died, 2 was promoted: one more comes while it waits.
    assert_eq!(relay.primaries(Time(10), &nodes([0, 2])), vec![], "the new one has not got it");
    assert_eq!(relay.due(Time(10), 9), vec![(node(2), message(number))]);
    assert_eq!(outcome(relay.done(&node(2), number, 1)), Some((Outcome::All(2), true, true)));
    // 0 has acknowledged and dies: who takes its place is sent it all the same.
    assert_eq!(relay.primaries(Time(20), &nodes([2, 3])), vec![]);
    assert_eq!(relay.due(Time(20), 9), vec![(node(3), message(number))]);
    assert_eq!(outcome(relay.done(&node(3), number, 1)), Some((Outcome::All(3), false, false)));
    // And not what is long past.
    relay.primaries(Time(20 + REMEMBERED.0), &nodes([2]));
    assert_eq!(relay.due(Time(20 + REMEMBERED.0), 9), vec![]);
    assert_eq!(relay.counts(), Counts { peers: 1, kept: 1, incomplete: 0, bytes: size_of_call(&[0; 8]) });
    relay.expire(Time(20 + REMEMBERED.0));
    assert_eq!(relay.counts(), Counts { peers: 1, ..Counts::default() });
}

#[test]
fn one_that_leaves_is_waited_for_no_longer() {
    let (mut relay, number) = begun(Own::Done(0), Some(1000));
    relay.done(&node(0), number, 1);
    let told = relay.primaries(Time(10), &nodes([0]));
    assert_eq!(outcome(told.into_iter().next()), Some((Outcome::All(1), true, true)));
}

#[test]
fn what_restarts_is_sent_it_again() {
    let (mut relay, number) = begun(Own::Done(0), None);
    relay.done(&node(0), number, 1);
    relay.done(&node(1), number, 1);
    relay.restarted(&node(0), Time(100));
    assert_eq!(relay.due(Time(100), 9), vec![(node(0), message(number))]);
    assert_eq!(relay.counts().incomplete, 1);
    assert_eq!(outcome(relay.done(&node(0), number, 0)), Some((Outcome::All(2), false, false)));
    relay.restarted(&node(7), Time(100));
}

#[test]
fn there_is_no_room_for_everything() {
    let mut relay = Relay::default();
    relay.primaries(Time(0), &nodes([0]));
    let limits = Limits { count: 2, bytes: 1000 + size_of_call(&[]) };
    let begin = |relay: &mut Relay, bytes: usize| {
        let number = relay.number();
        relay.begin(Time(0), number, vec![0; bytes].into(), Own::Done(0), true, limits).map(|_| number)
    };
    let first = begin(&mut relay, 10).expect("room");
    begin(&mut relay, 10).expect("room");
    assert_eq!(begin(&mut relay, 10), None, "too many");
    relay.done(&node(0), first, 0);
    let second = begin(&mut relay, 100).expect("the complete one was given up");
    assert_eq!(relay.counts().bytes, size_of_call(&[0; 10]) + size_of_call(&[0; 100]));
    relay.done(&node(0), second, 0);
    assert_eq!(begin(&mut relay, 1001), None, "too much");
}

#[test]
fn who_leaves_is_told_nothing_more() {
    let (mut relay, number) = begun(Own::Done(5), Some(1000));
    assert_eq!(relay.leave(number), Some(Outcome::Partial { done: 1, of: 3 }));
    assert_eq!(relay.timed_out(Time(5000)), vec![]);
    relay.done(&node(0), number, 1);
    assert_eq!(outcome(relay.done(&node(1), number, 1)), Some((Outcome::All(7), false, true)));
}

/// What a call is, naively: for whom it is outstanding.
struct Naive {
    pending: BTreeSet<Node>,
    hits: u64,
    waits: bool,
    deadline: Option<u64>,
    began: u64,
}

proptest! {
    #[test]
    fn is_the_naive_model(
        steps in proptest::collection::vec((0u8..6, any::<u8>(), 0u64..400), 1..120)
    ) {
        let (mut relay, mut now) = (Relay::default(), 0);
        let mut peers = BTreeSet::new();
        let mut model: BTreeMap<Number, Naive> = BTreeMap::new();
        for (what, which, n) in steps {
            let mut told = Vec::new();
            let mut expected = Vec::new();
            match what {
                0 => {
                    let next = nodes((0..4).filter(|i| which & (1 << i) != 0));
                    told = relay.primaries(Time(now), &next);
                    let joined: Vec<Node> = next.difference(&peers).copied().collect();
                    if !joined.is_empty() {
                        model.retain(|_, naive| !naive.pending.is_empty() || now - naive.began < REMEMBERED.0);
                    }
                    for (number, naive) in &mut model {
                        naive.pending.extend(joined.iter().copied());
                        let outstanding = !naive.pending.is_empty();
                        naive.pending.retain(|node| next.contains(node));
                        if outstanding && naive.pending.is_empty() {
                            expected.push(*number);
                        }
                    }
                    peers = next;
                }
                1 => {
                    let number = relay.number();
                    told.extend(relay.begin(Time(now), number, message(number), Own::Done(n), true, LIMITS).expect("room"));
                    let timeout = (which % 2 == 0).then_some(n);
                    let naive = Naive { pending: peers.clone(), hits: n, waits: !peers.is_empty(),
                        deadline: timeout.map(|timeout| now + timeout), began: now };
                    if peers.is_empty() {
                        expected.push(number);
                    } else {
                        relay.wait(number, Time(now), timeout.map(Millis));
                    }
                    model.insert(number, naive);
                }
                2 | 3 => {
                    let (node, number) = (node(which % 4), n % 20);
                    told.extend(relay.done(&node, number, 1));
                    if let Some(naive) = model.get_mut(&number) {
                        if naive.pending.remove(&node) {
                            naive.hits += 1;
                            if naive.pending.is_empty() {
                                expected.push(number);
                            }
                        }
                    }
                }
                4 => {
                    now += n;
                    for told in relay.timed_out(Time(now)) {
                        let naive = model.get_mut(&told.number).expect("known");
                        prop_assert!(naive.deadline.is_some_and(|deadline| deadline <= now) && naive.waits);
                        let of = peers.len() + 1;
                        let done = of - naive.pending.len();
                        prop_assert_eq!(told.outcome, Outcome::Partial { done, of });
                        prop_assert!(told.waits && told.first);
                        naive.waits = false;
                    }
                    for naive in model.values() {
                        prop_assert!(!naive.waits || naive.deadline.is_none_or(|deadline| deadline > now));
                    }
                }
                _ => {
                    // What was not sent for the longest time between two
                    // sendings is due.
                    now += AGAIN_AT_MOST;
                    let due: BTreeSet<_> = relay.due(Time(now), 1000).into_iter().collect();
                    let wanted: BTreeSet<_> = model.iter().flat_map(|(number, naive)| {
                        naive.pending.iter().map(|node| (*node, message(*number)))
                    }).collect();
                    prop_assert_eq!(due, wanted);
                    // The deadlines that have passed meanwhile.
                    for told in relay.timed_out(Time(now)) {
                        model.get_mut(&told.number).expect("known").waits = false;
                    }
                }
            }
            let mut numbers: Vec<_> = told.iter().map(|told| told.number).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, expected);
            for told in told {
                let naive = model.get_mut(&told.number).expect("known");
                prop_assert_eq!(told.outcome, Outcome::All(naive.hits));
                prop_assert_eq!(told.waits, std::mem::take(&mut naive.waits));
                naive.deadline = None;
            }
            let incomplete = model.values().filter(|naive| !naive.pending.is_empty()).count();
            prop_assert_eq!(relay.counts().incomplete, incomplete);
        }
    }
}
