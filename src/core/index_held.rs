//! Bytes: what entries take, counted as they come and go.

use super::*;
use crate::footprint::{MEMBER, SLOT};

/// What entries take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Their allocations.
    pub(super) bytes: u64,
    /// The server's for their keys, its tables aside.
    pub(super) server: u64,
    /// Tags that they carry.
    pub(super) carried: u64,
    /// Those with an end.
    pub(super) timed: u64,
}

impl Held {
    pub(super) fn of(view: View<'_>, footprint: &Footprint) -> Held {
        let timed = view.is_timed();
        let longer = if view.is_companion() { footprint.companion } else { 0 };
        Held {
            bytes: footprint.classes.block(view.size()) as u64,
            server: footprint.of_key(view.name().len() + longer, timed) as u64,
            carried: view.tags().len() as u64,
            timed: u64::from(timed),
        }
    }

    pub(super) fn add(&mut self, one: Held) {
        self.bytes += one.bytes;
        self.server += one.server;
        self.carried += one.carried;
        self.timed += one.timed;
    }

    pub(super) fn take(&mut self, one: Held) {
        self.bytes -= one.bytes;
        self.server -= one.server;
        self.carried -= one.carried;
        self.timed -= one.timed;
    }
}

impl Index {
    /// Bytes that come back with an entry, its share of the tables aside.
    pub fn bytes_of_entry(&self, view: View<'_>) -> u64 {
        let held = Held::of(view, &self.footprint);
        held.bytes + held.server + SLOT as u64 + held.carried * MEMBER as u64
    }

    /// What the entries of a namespace take: their own, and their share of
    /// the database's tables.
    pub(super) fn bytes_of(&self, database: &Database, namespace: &Namespace) -> u64 {
        let (all, own) = (database.slots.len() as u64, namespace.entries + namespace.doomed);
        let tables = self.footprint.tables(all, database.held.timed);
        let share =
            if all == 0 { 0 } else { (u128::from(tables) * u128::from(own) / u128::from(all)) as u64 };
        namespace.held.bytes
            + namespace.held.server
            + own * SLOT as u64
            + namespace.held.carried * MEMBER as u64
            + share
    }

    /// Bytes that the server has for the keys of all entries, its tables
    /// included; the entries themselves and the index are not in it.
    pub fn keyspace_bytes(&self) -> u64 {
        self.databases
            .iter()
            .map(|database| {
                let keys = database.slots.len() as u64;
                database.held.server + self.footprint.tables(keys, database.held.timed)
            })
            .sum()
    }
}
