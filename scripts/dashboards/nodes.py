"""One node against another."""

from .panels import (
    ALL,
    BYTES,
    COUNT,
    NODE,
    OPS,
    RATE,
    SECONDS,
    SHARE,
    curves,
    page,
    rate,
    ratio,
    reads,
    rows,
    variable,
)


def nodes():
    """One node against another."""
    each = "{{node}}"

    def of(metric):
        return (f"cacheflow_{metric}{{{NODE}}}", each)

    def by(metric):
        return (rate(metric, NODE, "node"), each)

    def by_name(expr):
        return f"sum by (node) ({expr})"

    return page(
        "cacheflow-nodes",
        "CacheFlow: nodes",
        "Each server: whether it answers, its memory, its sweep, what it is asked.",
        [variable("node", "Node", 'label_values(cacheflow_up{instance=~"$exporter"}, node)')],
        [
            (
                "All",
                [
                    rows(
                        "Nodes",
                        "Up: 1.",
                        "node",
                        [
                            ("Up", COUNT, by_name(of("up")[0])),
                            ("Uptime", SECONDS, by_name(of("server_uptime_seconds")[0])),
                            ("Memory", BYTES, by_name(of("server_memory_bytes")[0])),
                            ("maxmemory", BYTES, by_name(of("server_memory_limit_bytes")[0])),
                            ("Clients", COUNT, by_name(of("server_clients")[0])),
                            ("Entries", COUNT, by_name(of("entries")[0])),
                        ],
                    ),
                    rows(
                        "Versions",
                        "Of servers, module and exporter.",
                        "version",
                        [
                            (
                                "Version",
                                COUNT,
                                f"count by (engine, version, node) (cacheflow_server_info{{{NODE}}})",
                            ),
                        ],
                    ),
                    rows(
                        "Versions of CacheFlow",
                        "The same on all, but while it is upgraded.",
                        "version",
                        [
                            ("Nodes", COUNT, f"count by (version) (cacheflow_info{{{NODE}}})"),
                            ("Exporters", COUNT, f"count by (version) (cacheflow_exporter_info{{{ALL}}})"),
                        ],
                    ),
                ],
            ),
            (
                "Asked",
                [
                    curves(
                        "Up",
                        COUNT,
                        "0: it does not answer.",
                        of("up"),
                        (f"cacheflow_discovery_up{{{ALL}}}", "discovery by {{instance}}"),
                    ),
                    curves(
                        "How long it takes to answer",
                        SECONDS,
                        "INFO and CACHE.METRICS; the timeout where it does not.",
                        of("scrape_duration_seconds"),
                    ),
                    curves("Commands", OPS, "All that the server has run.", by("server_commands")),
                    curves(
                        "Clients",
                        COUNT,
                        "Connected; waiting for a fill or a lock.",
                        of("server_clients"),
                        (f"cacheflow_waiters{{{NODE}}}", "{{node}}: waiting"),
                    ),
                    curves("Reads", RATE, "Answered here.", (reads(NODE, "node"), each)),
                    curves(
                        "Refresh",
                        COUNT,
                        "Keys that CACHE.REFRESH would give; workers that wait for one.",
                        (f"cacheflow_refresh_candidates{{{NODE}}}", "{{node}}: keys"),
                        (f"cacheflow_refresh_workers{{{NODE}}}", "{{node}}: workers"),
                    ),
                ],
            ),
            (
                "Memory",
                [
                    curves(
                        "Of maxmemory",
                        SHARE,
                        "Of servers that have one.",
                        (
                            ratio(of("server_memory_bytes")[0], of("server_memory_limit_bytes")[0]),
                            each,
                        ),
                        top=1,
                    ),
                    curves(
                        "Of CacheFlow",
                        BYTES,
                        "Everything that it holds.",
                        (f"sum by (node) (cacheflow_memory_bytes{{{NODE}}})", each),
                    ),
                    curves(
                        "Keys evicted by the server", RATE, "Native ones included.", by("server_evicted_keys")
                    ),
                    curves("Tombstones", COUNT, "Invalidated tags that are remembered.", of("tombstones")),
                ],
            ),
            (
                "Sweep, and what should be nothing",
                [
                    curves("Backlog", COUNT, "What the sweep has yet to look at.", of("sweep_queued")),
                    curves("Slices", RATE, "Of the sweep.", by("sweep_slices")),
                    curves(
                        "Longest slice",
                        SECONDS,
                        "Since the counters were reset.",
                        of("sweep_longest_slice_seconds"),
                    ),
                    curves(
                        "Bugs and refused payloads",
                        COUNT,
                        "Since the start.",
                        (f"cacheflow_panics_total{{{NODE}}}", "{{node}}: panics caught"),
                        (f"cacheflow_refused_payloads_total{{{NODE}}}", "{{node}}: payloads refused"),
                    ),
                ],
            ),
        ],
    )
