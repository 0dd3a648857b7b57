//! What is set for namespaces, at work: taken from CACHE.NAMESPACE, a file or the
//! primary, and given to who goes by it.
//!
//! | setting | goes by it |
//! | --- | --- |
//! | TTL, GRACE, EXAUTO | writes, by [`defaults`] |
//! | MAXFILLS, BREAKER | the table of leases, told by [`took_effect`] |
//! | MAXMEMORY, POLICY | who evicts, told by [`rule`] |
//!
//! A shard in which nothing is set pays one flag a write for them, and reads pay
//! nothing in any.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::settings::{Settings, SettingsError, Table};
use cacheflow_core::times::Defaults;
use lazy_static::lazy_static;

use crate::evict;
use crate::hooks;
use crate::leases;
use crate::shard;
use crate::state::MainThread;

lazy_static! {
    static ref TABLE: MainThread<Table> = MainThread::new(Table::default());
}

/// Whether any namespace has times for writes that name none.
static HAS_DEFAULTS: AtomicBool = AtomicBool::new(false);

/// The times that a key's namespace gives where a write names none.
#[inline]
pub fn defaults(key: &[u8]) -> Defaults {
    if HAS_DEFAULTS.load(Relaxed) {
        looked_up_defaults(key)
    } else {
        Defaults::default()
    }
}

#[inline(never)]
fn looked_up_defaults(key: &[u8]) -> Defaults {
    look(|table| table.get(shard::namespace_of(key)).map(Settings::defaults)).unwrap_or_default()
}

/// Runs `body` on what is set, for looking.
pub fn look<R>(body: impl FnOnce(&Table) -> R) -> R {
    TABLE.with(|table| body(table))
}

/// What is set for a namespace; where nothing is, the default.
pub fn of(namespace: &[u8]) -> Settings {
    look(|table| table.get(namespace).copied()).unwrap_or_default()
}

/// Sets all of a namespace, with the default nothing. Answers whether that
/// changed anything.
///
/// # Errors
/// [`SettingsError`]; nothing is changed then.
pub fn put(namespace: &[u8], settings: Settings) -> Result<bool, SettingsError> {
    let changed = TABLE.with(|table| table.put(namespace, settings))?;
    if changed {
        took_effect(namespace, &settings);
        rule();
    }
    Ok(changed)
}

/// Forgets all: what is set comes with what is about to be loaded.
pub fn forget() {
    let all = TABLE.with(std::mem::take);
    for (namespace, _) in all.all() {
        took_effect(namespace, &Settings::default());
    }
    rule();
}

/// Tells who goes by what is set for a namespace without asking.
fn took_effect(namespace: &[u8], settings: &Settings) {
    HAS_DEFAULTS.store(look(Table::has_defaults), Relaxed);
    leases::protect(namespace, settings.protection());
}

/// Tells who evicts.
fn rule() {
    look(|table| shard::with(|index| index.rule(table)));
    evict::on_limits(hooks::own());
    evict::survey();
}

/// Bytes allocated.
pub fn allocated() -> usize {
    look(Table::allocated)
}
