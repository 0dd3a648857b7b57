//! What a cache that is replayed to must tell.

/// A request of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The key, dense from 0.
    pub key: u32,
    /// Bytes that its entry takes.
    pub size: u32,
    /// What a miss of it costs, in ms of recomputation.
    pub cost: u32,
}

/// A cache of bounded size that reads through: what is not there is put there.
pub trait Policy {
    /// Serves a request at time `tick` (requests so far); whether it was a hit.
    /// On a miss the key is stored, and others are evicted until all fits.
    fn request(&mut self, request: &Request, tick: u64) -> bool;
    /// Bytes held. Never over the capacity after a request.
    fn used(&self) -> u64;
}
