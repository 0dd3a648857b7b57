//! Namespaces past the number of those that are told apart.

use super::tests::Heap;
use super::*;
use crate::entry::{build, Cost, Meta};
use crate::packing::Content;
use crate::units::Millis;

struct World {
    index: Index,
    heap: Heap,
    stamp: u64,
}

impl World {
    fn telling_apart(most: u16) -> World {
        let mut index = Index::default();
        index.tell_apart(most);
        World { index, heap: Heap::default(), stamp: 0 }
    }

    fn tick(&mut self) -> Stamp {
        self.stamp += 1;
        Stamp(self.stamp)
    }

    fn add(&mut self, namespace: &[u8]) -> Handle {
        let born = self.tick();
        let handle = Handle(born.0 << 4); // as addresses are
        let bytes =
            build(&Meta { born, ..Meta::default() }, namespace, Content::Plain(b"v"), &[]).expect("room");
        self.heap.0.insert(handle, bytes);
        assert!(self.index.attach(0, handle, namespace, &mut self.heap));
        handle
    }

    fn verdict(&self, handle: Handle) -> Verdict {
        self.index.verdict(0, View::new(self.heap.bytes(handle)))
    }

    fn invalidate(&mut self, namespace: &[u8]) -> u64 {
        let stamp = self.tick();
        self.index.invalidate_namespace(0, namespace, stamp, Mode::Hard)
    }
}

#[test]
fn the_rest_share_one_and_die_together() {
    let mut world = World::telling_apart(1);
    let [own, one, other] = [b"a", b"b", b"c"].map(|name| world.add(name));
    world.index.tally_of(0, b"c").expect("shared").hit(Cost(7));
    world.index.tally_of(0, b"never seen").expect("shared").misses += 1;
    let shared = world.index.shared(0).expect("there");
    assert_eq!((shared.entries, shared.tally.hits, shared.tally.misses), (2, 1, 1));
    assert_eq!(shared.tally.saved(), Millis(7));
    assert_eq!(world.invalidate(b"b"), 2, "it cannot be said which are whose");
    assert_eq!(
        [own, one, other].map(|entry| world.verdict(entry)),
        [Verdict::Untouched, Verdict::Dead, Verdict::Dead]
    );
    assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
}

#[test]
fn who_has_shared_is_told_apart_only_once_the_database_is_empty() {
    let mut world = World::telling_apart(1);
    world.add(b"a");
    let old = world.add(b"b");
    world.index.tell_apart(100);
    let new = world.add(b"b");
    assert_eq!(world.invalidate(b"b"), 2, "the old one too");
    assert_eq!([old, new].map(|entry| world.verdict(entry)), [Verdict::Dead; 2]);
    let last = Stamp(world.stamp);
    world.index.flush(0);
    let newest = world.add(b"b");
    assert_eq!(world.verdict(newest), Verdict::Untouched);
    assert_eq!(world.index.namespace(0, b"b").map(|view| view.entries), Some(1), "its own now");
    assert_eq!(world.index.namespace_stamps(0, b"b").hard, last, "and what became of it is not forgotten");
}

#[test]
fn what_is_read_is_valued_by_what_is_usual() {
    let mut world = World::telling_apart(2);
    for name in [b"a", b"b", b"c"] {
        world.add(name);
        world.index.tally_of(0, name).expect("there").hit(Cost(0));
    }
    world.index.tally_of(0, b"a").expect("there").stale_hit(Cost(3));
    let mut asked = Vec::new();
    world.index.settle(|name| {
        asked.push(name.to_vec());
        Cost(10)
    });
    assert_eq!(asked, [b"a", b"b"], "of those that share none is usual");
    assert_eq!(world.index.tallies().saved(), Millis(23));
    world.index.settle(|_| Cost(10));
    let (mut names, mut sum) = (Vec::new(), Tally::default());
    world.index.each_namespace(|name, view| {
        names.push(name.to_vec());
        sum = sum.plus(&view.tally);
    });
    assert_eq!((names, sum.saved()), (vec![b"a".to_vec(), b"b".to_vec()], Millis(23)), "once");
    world.index.reset_tallies();
    assert_eq!(world.index.tallies(), Tally::default());
}
