//! `cacheflow bench`: how fast the module is (`hot`), what forgetting a tag
//! costs (`invalidate`), what tags on native keys do (`native`), how long a
//! restart takes (`reload`), what many misses of one key cost (`stampede`), what
//! keeping hot keys fresh is worth (`refresh`), what a cluster makes of it all
//! (`cluster`), what TTLs do that are chosen by how often sources change (`ttl`),
//! what a cache does for a workload (`replay`), which entries are worth their
//! room (`eviction`), what it costs a server to make room (`evict`), and what
//! packing values saves and costs (`compression`).

mod cache;
mod clients;
mod cluster;
mod cluster_beside;
mod cluster_calls;
mod cluster_client;
mod cluster_failover;
mod cluster_nodes;
mod cluster_shards;
mod cluster_truth;
mod compression;
mod evict;
mod evict_tail;
mod eviction;
mod eviction_figures;
mod eviction_page;
mod hot;
mod invalidate;
mod load;
mod memory;
mod methods;
mod native;
mod probe;
mod ratio;
mod refresh;
mod reload;
mod replay;
mod resp;
mod rounds;
mod rows;
mod server;
mod stampede;
mod stampede_calls;
mod stampede_cold;
mod stampede_crowd;
mod stampede_idle;
mod stampede_killed;
mod stampede_wake;
mod stampede_ways;
mod summary;
mod ttl;

pub use summary::{bytes_text, time_text};

use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// The module's commands against the server's own, as ratios.
    Hot(hot::Options),
    /// Forgetting a tag with many entries, and what others see of it.
    Invalidate(invalidate::Options),
    /// What tags on native keys cost, and what the module costs those without.
    Native(native::Options),
    /// Loading entries with tags from an RDB file, against native strings.
    Reload(reload::Options),
    /// What expires while it is hot, with workers on CACHE.REFRESH and without.
    Refresh(refresh::Options),
    /// Many clients that miss one key, against locks that applications make.
    Stampede(stampede::Options),
    /// Invalidations, failovers and throughput of a cluster of three shards.
    Cluster(cluster::Options),
    /// TTLs chosen by how often sources change, in simulated time.
    Ttl(ttl::Options),
    /// A workload read through the cache in front of a slow source.
    Replay(replay::Options),
    /// What policies of eviction miss on traces, against exact LRU.
    Eviction(eviction::Options),
    /// Values packed and not: memory and server CPU of both.
    Compression(compression::Options),
    /// What eviction costs a server, and the readers beside it.
    Evict(evict::Options),
    /// For `stampede`: the process that computes, and is killed.
    #[command(hide = true)]
    Hold(stampede_killed::HolderOptions),
}

/// Runs one of them.
pub fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Hot(options) => hot::run(&options),
        Bench::Invalidate(options) => invalidate::run(&options),
        Bench::Native(options) => native::run(&options),
        Bench::Reload(options) => reload::run(&options),
        Bench::Refresh(options) => refresh::run(&options),
        Bench::Stampede(options) => stampede::run(&options),
        Bench::Cluster(options) => cluster::run(&options),
        Bench::Ttl(options) => ttl::run(&options),
        Bench::Replay(options) => replay::run(&options),
        Bench::Eviction(options) => eviction::run(&options),
        Bench::Compression(options) => compression::run(&options),
        Bench::Evict(options) => evict::run(&options),
        Bench::Hold(options) => stampede_killed::hold(&options),
    }
}
