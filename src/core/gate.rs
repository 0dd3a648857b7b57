//! Whether anybody listens to the replication stream.
//!
//! `RM_Replicate` builds its command (a look-up by name, an argument vector:
//! 3,550 instructions, more than a third of a native SET) before the server
//! asks whether there is anybody to send it to. Most caches have neither
//! replicas nor an AOF, so we ask first.
//!
//! The gate is open unless it is certain that nobody listens. What the server
//! takes for listening (`shouldPropagate`, src/server.c): an AOF, a replica, a
//! replication backlog, a slot migration. None of these begins without a
//! sign:
//! - an AOF that is turned on forks for its first rewrite;
//! - a replica's first synchronisation forks (disk, diskless and RDB channel
//!   alike), and what was written before the fork is in its snapshot; the
//!   server tells of the fork before it runs another command;
//! - a later, partial one needs the backlog that the first one left, or one
//!   that a server inherits: by having been a replica (a change of role), or
//!   from its RDB file (found by asking, once the dataset is loaded);
//! - a slot migrates only in cluster mode, where the gate is always open.
//!
//! Once open for a listener it stays so: the backlog outlives replicas. Where
//! the gate is closed, the module still hands the server the command verbatim:
//! that costs next to nothing, counts for save points, and would lose no write
//! if the server knew of a listener that this page forgets.

/// The gate's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Not known: to be found out by asking the server before the next write.
    Unknown,
    /// Nobody has listened so far.
    Closed,
    /// Somebody listens, or may.
    Open,
}

/// A sign that the server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A dataset has been loaded, or loading it has ended otherwise.
    Loaded,
    /// A child was forked.
    Forked,
    /// The server became a primary or a replica.
    RoleChanged,
    /// A replica came or went.
    ReplicaChanged,
}

/// What the server answers when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// It is in cluster mode.
    pub cluster: bool,
    /// It is a replica itself.
    pub replica: bool,
    /// Replicas, in whatever state.
    pub replicas: u64,
    /// It has a backlog.
    pub backlog: bool,
    /// Its AOF is on.
    pub aof: bool,
}

impl Gate {
    /// The state after a sign.
    #[must_use]
    pub fn after(self, sign: Sign) -> Gate {
        match (self, sign) {
            (Gate::Open, _) | (_, Sign::RoleChanged | Sign::ReplicaChanged) => Gate::Open,
            (_, Sign::Loaded | Sign::Forked) => Gate::Unknown,
        }
    }

    /// The state once the server has answered.
    #[must_use]
    pub fn told(self, listeners: Listeners) -> Gate {
        let Listeners { cluster, replica, replicas, backlog, aof } = listeners;
        if self == Gate::Open || cluster || replica || replicas > 0 || backlog || aof {
            Gate::Open
        } else {
            Gate::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server, as far as it matters: what makes it propagate, and the signs
    /// it gives. Replicas attach only where a real one lets them.
    #[derive(Default)]
    struct Server {
        listeners: Listeners,
        syncing: bool,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Load { inherits_backlog: bool },
        ReplicaAsks,
        Fork,
        ReplicaLeaves,
        PartialSync,
        Demote,
        Promote,
        AofOn,
        Write,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<bool>().prop_map(|inherits_backlog| Step::Load { inherits_backlog }),
            Just(Step::ReplicaAsks),
            Just(Step::Fork),
            Just(Step::ReplicaLeaves),
            Just(Step::PartialSync),
            Just(Step::Demote),
            Just(Step::Promote),
            Just(Step::AofOn),
            Just(Step::Write),
            Just(Step::Write),
        ]
    }

    proptest! {
        /// A write is passed on whenever somebody listens who has no snapshot
        /// yet to come: that of a fork after the write.
        #[test]
        fn no_listener_misses_a_write(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut gate, mut server) = (Gate::Unknown, Server::default());
            for step in steps {
                match step {
                    Step::Load { inherits_backlog } => {
                        server.listeners.backlog |= inherits_backlog;
                        gate = gate.after(Sign::Loaded);
                    }
                    Step::ReplicaAsks if !server.listeners.replica => {
                        server.listeners.replicas += 1;
                        server.listeners.backlog = true;
                        server.syncing = true;
                    }
                    Step::Fork => {
                        server.syncing = false;
                        gate = gate.after(Sign::Forked);
                    }
                    Step::ReplicaLeaves => {
                        server.listeners.replicas = server.listeners.replicas.saturating_sub(1);
                    }
                    Step::PartialSync if server.listeners.backlog && !server.syncing => {
                        server.listeners.replicas += 1;
                    }
                    Step::Demote => {
                        server.listeners.replica = true;
                        server.listeners.backlog = true;
                        gate = gate.after(Sign::RoleChanged);
                    }
                    Step::Promote => {
                        server.listeners.replica = false;
                        gate = gate.after(Sign::RoleChanged);
                    }
                    Step::AofOn => {
                        server.listeners.aof = true;
                        gate = gate.after(Sign::Forked);
                    }
                    Step::Write => {
                        if gate == Gate::Unknown {
                            gate = gate.told(server.listeners);
                        }
                        let Listeners { replicas, backlog, aof, .. } = server.listeners;
                        let heard = aof || ((replicas > 0 || backlog) && !server.syncing);
                        prop_assert!(gate == Gate::Open || !heard);
                    }
                    Step::ReplicaAsks | Step::PartialSync => {}
                }
            }
        }
    }

    #[test]
    fn it_closes_only_where_nobody_is() {
        let nobody = Listeners::default();
        assert_eq!(Gate::Unknown.told(nobody), Gate::Closed);
        assert_eq!(Gate::Closed.after(Sign::Forked), Gate::Unknown);
        assert_eq!(Gate::Open.told(nobody), Gate::Open);
        for somebody in [
            Listeners { cluster: true, ..nobody },
            Listeners { replica: true, ..nobody },
            Listeners { replicas: 1, ..nobody },
            Listeners { backlog: true, ..nobody },
            Listeners { aof: true, ..nobody },
        ] {
            assert_eq!(Gate::Unknown.told(somebody), Gate::Open);
        }
    }
}
