"""What a team asks first."""

from .panels import (
    ALL,
    BYTES,
    COUNT,
    RATE,
    SECONDS,
    SHARE,
    curves,
    gauge,
    hit_ratio,
    number,
    page,
    quantile,
    rate,
    ratio,
    reads,
)

GOOD_FROM = ((None, "red"), (0.5, "yellow"), (0.8, "green"))
BAD_FROM_ONE = ((None, "green"), (1, "red"))


def overview():
    """What a team asks first."""
    return page(
        "cacheflow-overview",
        "CacheFlow: overview",
        "What the cache saves, what it costs, and whether it is well.",
        [],
        [
            (
                "Now",
                [
                    number(
                        "Hit ratio",
                        SHARE,
                        "Reads answered with a value, fresh or stale.",
                        hit_ratio(),
                        GOOD_FROM,
                    ),
                    number("Reads", RATE, "Reads answered, with a value or with nothing.", reads()),
                    number(
                        "Origin time saved",
                        SECONDS,
                        "Seconds of the origin's time that hits save in each second.",
                        rate("origin_saved_seconds", ALL),
                    ),
                    number("Coalesced", RATE, "Waiters that got what another computed.", rate("coalesced")),
                    number(
                        "Memory",
                        BYTES,
                        "Everything that CacheFlow holds, on the primaries.",
                        gauge("memory_bytes"),
                    ),
                    number(
                        "Nodes down",
                        COUNT,
                        "Nodes that do not answer.",
                        f"count(cacheflow_up{{{ALL}}}) - sum(cacheflow_up{{{ALL}}})",
                        BAD_FROM_ONE,
                    ),
                    number(
                        "Breakers open",
                        COUNT,
                        "Origins that fail and are left alone.",
                        gauge("open_breakers"),
                        BAD_FROM_ONE,
                    ),
                    number(
                        "Incomplete invalidations",
                        COUNT,
                        "Not acknowledged by every primary yet.",
                        gauge("relay_incomplete", ALL),
                        BAD_FROM_ONE,
                    ),
                ],
            ),
            (
                "Reads",
                [
                    curves(
                        "Reads by answer",
                        RATE,
                        "Busy: neither a value nor a lease.",
                        *(
                            (rate(metric, ALL), name)
                            for metric, name in (
                                ("hits", "fresh"),
                                ("stale_hits", "stale"),
                                ("misses", "miss"),
                                ("busy", "busy"),
                            )
                        ),
                        stacked=True,
                    ),
                    curves(
                        "Hit ratio",
                        SHARE,
                        "Fresh and stale together, and each.",
                        (hit_ratio(), "hit"),
                        (ratio(rate("hits", ALL), reads()), "fresh"),
                        (ratio(rate("stale_hits", ALL), reads()), "stale"),
                        top=1,
                    ),
                    curves(
                        "Hit ratio by namespace",
                        SHARE,
                        "The namespaces that are read most.",
                        (
                            f"({hit_ratio(by='namespace')}) and topk(10, {reads(by='namespace')})",
                            "{{namespace}}",
                        ),
                        top=1,
                    ),
                    curves(
                        "Origin time saved by namespace",
                        SECONDS,
                        "Seconds in each second: what is cached best.",
                        (f"topk(10, {rate('origin_saved_seconds', ALL, 'namespace')})", "{{namespace}}"),
                        stacked=True,
                    ),
                ],
            ),
            (
                "The origin",
                [
                    curves(
                        "Fills",
                        RATE,
                        "Refused: something newer had happened. Failed: given up, or the lease ran out.",
                        (rate("fills"), "stored"),
                        (rate("refused_fills"), "refused"),
                        (rate("failed_fills"), "failed"),
                    ),
                    curves(
                        "Refused fills by reason",
                        RATE,
                        "What had happened since the lease was given.",
                        (rate("refused_fills", by="reason"), "{{reason}}"),
                        stacked=True,
                    ),
                    curves(
                        "How long fills take",
                        SECONDS,
                        "From the grant to the fill that was stored.",
                        *(
                            (quantile(share, "fill"), name)
                            for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                        ),
                    ),
                    curves(
                        "How long clients wait",
                        SECONDS,
                        "For a fill or a lock, however that ended.",
                        *(
                            (quantile(share, "wait"), name)
                            for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                        ),
                    ),
                    curves(
                        "Leases, locks, waiters",
                        COUNT,
                        "In progress now.",
                        *((gauge(metric), metric) for metric in ("leases", "locks", "waiters")),
                    ),
                    curves(
                        "Grants and waits",
                        RATE,
                        "Early: of what was fresh. Protected: no lease, by MAXFILLS or BREAKER.",
                        *(
                            (rate(metric), name)
                            for metric, name in (
                                ("grants", "granted"),
                                ("early_elections", "early"),
                                ("promotions", "promoted"),
                                ("waits", "began to wait"),
                                ("coalesced", "coalesced"),
                                ("protected", "protected"),
                            )
                        ),
                    ),
                ],
            ),
            (
                "Memory",
                [
                    curves(
                        "Memory by what it is for",
                        BYTES,
                        "On the primaries.",
                        (gauge("memory_bytes", by="part"), "{{part}}"),
                        stacked=True,
                    ),
                    curves(
                        "Memory against the limits",
                        BYTES,
                        "Of CacheFlow: cacheflow.max-memory. Of the servers: maxmemory.",
                        (gauge("memory_bytes"), "CacheFlow"),
                        (gauge("memory_limit_bytes"), "its limit"),
                        (gauge("server_memory_bytes"), "servers"),
                        (gauge("server_memory_limit_bytes"), "their limit"),
                    ),
                    curves(
                        "What goes",
                        RATE,
                        "Evicted by limit; expired; evicted by the servers, whatever it was.",
                        (rate("evictions", by="reason"), "evicted: {{reason}}"),
                        (rate("expired"), "expired"),
                        (rate("server_evicted_keys"), "by the servers"),
                    ),
                    curves(
                        "What there is",
                        COUNT,
                        "Entries, tags, and memberships of entries in tags.",
                        *((gauge(metric), metric) for metric in ("entries", "tags", "memberships")),
                    ),
                ],
            ),
            (
                "Invalidation",
                [
                    curves(
                        "Invalidations",
                        RATE,
                        "Tags and namespaces, and what they hit.",
                        (rate("invalidations"), "invalidations"),
                        (rate("invalidated_entries"), "entries hit"),
                        (rate("relay_partial", ALL), "answered PARTIAL"),
                    ),
                    curves(
                        "Sweep",
                        COUNT,
                        "What has yet to be taken away. Readers do not see it.",
                        (gauge("sweep_queued"), "backlog"),
                        (rate("sweep_removed"), "removed a second"),
                    ),
                ],
            ),
        ],
    )
