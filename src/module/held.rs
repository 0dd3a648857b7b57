//! Clients that are held back, by what they wait for, and the other way round:
//! the server names a client that goes, and not what it waited for.

use std::collections::HashMap;
use std::hash::Hash;
use std::os::raw::c_void;

use crate::ffi::blocked::Blocked;

/// Of each client, what it waits for and what is known of it.
pub struct Held<Key, Of> {
    clients: HashMap<Key, (Blocked, Of)>,
    keys: HashMap<Blocked, Key>,
}

impl<Key, Of> Default for Held<Key, Of> {
    fn default() -> Self {
        Held { clients: HashMap::new(), keys: HashMap::new() }
    }
}

/// A client that was held back and is taken out, to be answered or let go: once.
pub struct Taken<Of> {
    blocked: Blocked,
    /// What was known of it.
    pub of: Of,
}

impl<Key: Copy + Eq + Hash, Of> Held<Key, Of> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// What is known of one.
    pub fn get(&self, key: Key) -> Option<&Of> {
        self.clients.get(&key).map(|(_, of)| of)
    }

    /// Takes in the client of a command that was held back.
    pub fn insert(&mut self, key: Key, blocked: Blocked, of: Of) {
        self.clients.insert(key, (blocked, of));
        self.keys.insert(blocked, key);
    }

    /// Takes out who waits for this.
    pub fn take(&mut self, key: Key) -> Option<Taken<Of>> {
        let (blocked, of) = self.clients.remove(&key)?;
        self.keys.remove(&blocked);
        if self.clients.is_empty() {
            // What a burst made them grow to is given back.
            *self = Held::default();
        }
        Some(Taken { blocked, of })
    }

    /// Takes out a client, of which nobody has been told that it was answered.
    pub fn take_client(&mut self, blocked: Blocked) -> Option<(Key, Taken<Of>)> {
        let key = self.keys.get(&blocked).copied()?;
        self.take(key).map(|taken| (key, taken))
    }
}

impl<Of> Taken<Of> {
    /// Lets it go with an answer, which [`free`] of the same type frees.
    pub fn answer<Answer>(self, answer: Answer) {
        let answer = Box::into_raw(Box::new(answer)).cast::<c_void>();
        // SAFETY: it was taken out, so it has not been released; the answer is
        // what the callbacks take.
        unsafe { self.blocked.release(answer) };
    }

    /// Lets it go: it was answered, or has gone.
    pub fn forget(self) {
        // SAFETY: it was taken out, so it has not been released.
        unsafe { self.blocked.forget() };
    }
}

/// Frees an answer.
///
/// # Safety
/// It is null, or one that [`Taken::answer`] was given, of this type; it is
/// freed once.
pub unsafe fn free<Answer>(answer: *mut c_void) {
    if !answer.is_null() {
        // SAFETY: as promised.
        drop(unsafe { Box::from_raw(answer.cast::<Answer>()) });
    }
}
