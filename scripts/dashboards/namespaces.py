"""One namespace against another."""

from .panels import (
    ALL,
    BYTES,
    COUNT,
    NAMESPACE,
    PRIMARIES,
    RATE,
    SECONDS,
    SHARE,
    curves,
    gauge,
    hit_ratio,
    page,
    quantile,
    rate,
    ratio,
    reads,
    rows,
    variable,
)


def namespaces():
    """One namespace against another."""
    both = f"{ALL},{NAMESPACE}"
    primaries = f"{PRIMARIES},{NAMESPACE}"
    each = "{{namespace}}"
    ended = " + ".join(rate(of, primaries, "namespace") for of in ("failed_fills", "fills"))

    def by(metric, where=primaries):
        return (rate(metric, where, "namespace"), each)

    return page(
        "cacheflow-namespaces",
        "CacheFlow: namespaces",
        "What each namespace saves and takes, and how its origin is. '*': what has no name here.",
        [
            variable(
                "namespace",
                "Namespace",
                'label_values(cacheflow_hits_total{instance=~"$exporter"}, namespace)',
            )
        ],
        [
            (
                "All",
                [
                    rows(
                        "Namespaces",
                        "Sorted by reads; a click on a column sorts by it.",
                        "namespace",
                        [
                            ("Reads", RATE, reads(both, "namespace")),
                            ("Hit ratio", SHARE, hit_ratio(both, "namespace")),
                            ("Saved", SECONDS, rate("origin_saved_seconds", both, "namespace")),
                            ("Fills", RATE, rate("fills", primaries, "namespace")),
                            ("Entries", COUNT, gauge("entries", primaries, "namespace")),
                            ("Memory", BYTES, gauge("namespace_bytes", primaries, "namespace")),
                            ("Budget", BYTES, gauge("namespace_limit_bytes", primaries, "namespace")),
                            ("Evicted", RATE, rate("namespace_evictions", primaries, "namespace")),
                        ],
                    ),
                ],
            ),
            (
                "Reads",
                [
                    curves(
                        "Reads",
                        RATE,
                        "Answered, with a value or with nothing.",
                        (reads(both, "namespace"), each),
                        stacked=True,
                    ),
                    curves(
                        "Hit ratio", SHARE, "Fresh and stale.", (hit_ratio(both, "namespace"), each), top=1
                    ),
                    curves(
                        "Stale",
                        SHARE,
                        "The share of reads that got a stale value.",
                        (ratio(rate("stale_hits", both, "namespace"), reads(both, "namespace")), each),
                        top=1,
                    ),
                    curves(
                        "Misses and BUSY",
                        RATE,
                        "What readers did not get.",
                        (rate("misses", both, "namespace"), "{{namespace}}: miss"),
                        (rate("busy", both, "namespace"), "{{namespace}}: busy"),
                    ),
                    curves(
                        "Origin time saved",
                        SECONDS,
                        "Seconds in each second.",
                        by("origin_saved_seconds", both),
                        stacked=True,
                    ),
                    curves("Writes", RATE, "Values written.", by("writes")),
                ],
            ),
            (
                "The origin",
                [
                    curves("Fills", RATE, "Stored.", by("fills")),
                    curves(
                        "Fills that failed",
                        SHARE,
                        "Of those that ended.",
                        (
                            ratio(
                                rate("failed_fills", primaries, "namespace"),
                                ended,
                            ),
                            each,
                        ),
                        top=1,
                    ),
                    curves(
                        "Fill time, p90",
                        SECONDS,
                        "From the grant to the fill.",
                        (quantile(0.9, "fill", primaries, "namespace"), each),
                    ),
                    curves(
                        "Wait time, p90",
                        SECONDS,
                        "Of clients.",
                        (quantile(0.9, "wait", primaries, "namespace"), each),
                    ),
                    curves(
                        "Leases", COUNT, "That are out now.", (gauge("leases", primaries, "namespace"), each)
                    ),
                    curves(
                        "Breakers",
                        COUNT,
                        "1: open, on so many primaries. The rate is of those that opened.",
                        (gauge("breaker_open", primaries, "namespace"), each),
                        (rate("breaker_opened", primaries, "namespace"), "{{namespace}}: opened a second"),
                    ),
                ],
            ),
            (
                "Memory",
                [
                    curves(
                        "Memory",
                        BYTES,
                        "In server and index.",
                        (gauge("namespace_bytes", primaries, "namespace"), each),
                        stacked=True,
                    ),
                    curves(
                        "Of its budget",
                        SHARE,
                        "Of namespaces that have MAXMEMORY.",
                        (
                            ratio(
                                gauge("namespace_bytes", primaries, "namespace"),
                                gauge("namespace_limit_bytes", primaries, "namespace"),
                            ),
                            each,
                        ),
                        top=1,
                    ),
                    curves("Evicted", RATE, "Whatever for.", by("namespace_evictions")),
                    curves("Expired", RATE, "The grace included.", by("expired")),
                ],
            ),
        ],
    )
