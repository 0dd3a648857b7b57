//! What another node tells of its invalidations, where entries are already.

use super::*;

/// Key and birth, all of one namespace and with tag 7.
const BORN: [(u8, u64); 4] = [(0, 30), (3, 10), (6, 20), (9, 40)];

fn told(namespace: bool, hard: u64) -> Invalidated<'static> {
    let name: &[u8] = if namespace { &[0] } else { &[7] };
    Invalidated { db: 0, namespace, name, stamps: Stamps { hard: Stamp(hard), soft: Stamp(0) } }
}

fn invalidate(world: &mut World, namespace: bool, stamp: u64) -> u64 {
    if namespace {
        world.index.invalidate_namespace(0, &[0], Stamp(stamp), Mode::Hard)
    } else {
        world.index.invalidate_tag(0, &[7], Stamp(stamp), Mode::Hard)
    }
}

fn alive(world: &World) -> Vec<u8> {
    let lives = |(_, handle): &(&Key, &Handle)| {
        world.index.verdict(0, View::new(world.heap.bytes(**handle))) == Verdict::Untouched
    };
    world.keys.iter().filter(lives).map(|((_, key), _)| *key).collect()
}

#[test]
fn what_was_born_later_stays() {
    for namespace in [false, true] {
        let mut world = World::default();
        for (key, born) in BORN {
            world.set((0, key), BTreeSet::from([7, 8]), Stamp(born));
        }
        for (hard, spare, left) in [
            (5, 0, &[0, 3, 6, 9][..]),
            (20, 0, &[0, 6, 9]),
            (12, 0, &[0, 6, 9]),   // older than what is known
            (1000, 1, &[0, 6, 9]), // the same, as far as clocks differ
            (35, 0, &[9]),
        ] {
            world.index.remember(told(namespace, hard), Millis(spare), &mut world.heap);
            assert_eq!(world.index.validate(&world.heap), Vec::<String>::new(), "{hard}");
            assert_eq!(alive(&world), left, "{hard}");
        }
        loop {
            match world.index.sweep(&world.heap, true) {
                Sweep::Done => break,
                Sweep::Remove(_, handle) => {
                    let key = world.keys.iter().find(|(_, own)| **own == handle).map(|(key, _)| *key);
                    world.remove(key.expect("it is there"));
                }
                Sweep::Nothing | Sweep::Tell(..) | Sweep::Wait => {}
            }
        }
        assert_eq!(world.keys.keys().map(|(_, key)| *key).collect::<Vec<_>>(), [9], "the dead are swept");
        assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
        assert_eq!(invalidate(&mut world, namespace, 50), 1, "the rest is hit by the next");
        assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
    }
}
