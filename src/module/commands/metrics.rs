//! `CACHE.METRICS`
//!
//! ```text
//! > CACHE.METRICS
//! # HELP cacheflow_hits_total Reads answered with a fresh value.
//! # TYPE cacheflow_hits_total counter
//! cacheflow_hits_total{namespace="user"} 1200
//! cacheflow_hits_total{namespace="*"} 7
//! …
//! ```
//! The Prometheus text exposition of all that CACHE.STATS counts, and more. Labels by
//! namespace: `cacheflow.metrics-namespaces` of them, the rest is `*`.

use cacheflow_core::metrics::write;
use cacheflow_core::request::RequestError;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Keys, Spec};
use crate::metrics;

pub struct Metrics;

impl Command for Metrics {
    const SPEC: Spec = Spec {
        name: c"cache.metrics",
        summary:
            c"Returns all counters and gauges in the text format of Prometheus, with labels by namespace.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of namespaces",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow admin dangerous",
        arity: 1,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:all_shards response_policy:special"),
        args: &[],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        if args.len() > 1 {
            return Err(RequestError::Syntax.into());
        }
        ctx.reply_bytes(write(&metrics::gather()).as_bytes());
        Ok(())
    }
}
