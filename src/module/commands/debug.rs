//! `CACHE.DEBUG FAULT name` · `CACHE.DEBUG CLOCK offset-ms` · `CACHE.DEBUG SWEEP
//! 0 | 1` · `CACHE.DEBUG DEAF 0 | 1` · `CACHE.DEBUG BUS message`
//!
//! For our own tests, and registered only with `debug yes` among the module's
//! arguments: makes the border of that name panic (`""`: none), turns the
//! module's clock, holds the sweep, lets nothing of the cluster's bus through,
//! or takes a message as if it had come over that.

use std::sync::atomic::Ordering::Relaxed;

use cacheflow_core::number::parse_i64;
use cacheflow_core::request::RequestError;

use super::{Command, Error};
use crate::ahead;
use crate::border;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::relay_bus;
use crate::state::CLOCK_OFFSET;
use crate::sweep::HELD;

pub struct Debug;

impl Command for Debug {
    const SPEC: Spec = Spec {
        name: c"cache.debug",
        summary: c"For tests: FAULT makes a callback panic, CLOCK turns the clock, SWEEP holds the sweep, DEAF hears nothing of the bus, BUS takes a message.",
        since: c"0.1.0",
        complexity: c"O(1)",
        flags: c"admin no-monitor",
        cluster_flags: None,
        acl: c"admin dangerous",
        arity: 3,
        keys: Keys::None,
        tips: None,
        args: &[Arg::text(c"subcommand"), Arg::text(c"argument")],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let (what, argument) = (args.get(1).bytes(), args.get(2).bytes());
        if what.eq_ignore_ascii_case(b"FAULT") {
            border::arm(argument);
        } else if what.eq_ignore_ascii_case(b"CLOCK") {
            let offset = parse_i64(argument).ok_or(RequestError::NotAnInteger)?;
            CLOCK_OFFSET.store(offset, Relaxed);
            leases::clock_turned();
            ahead::clock_turned();
        } else if what.eq_ignore_ascii_case(b"SWEEP") {
            HELD.store(argument == b"0", Relaxed);
        } else if what.eq_ignore_ascii_case(b"DEAF") {
            relay_bus::DEAF.store(argument == b"1", Relaxed);
        } else if what.eq_ignore_ascii_case(b"BUS") {
            relay_bus::receive(ctx, &[b'0'; 40], argument);
        } else {
            return Err(RequestError::Syntax.into());
        }
        ctx.reply_ok();
        Ok(())
    }
}
