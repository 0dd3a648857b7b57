"""What RFC 9111 (caching), RFC 5861 (stale responses) and RFC 9110 (conditional requests) make of headers.

Functions of headers alone: no clock, no cache. Headers are ASGI's: pairs of bytes, names in lower case.
Where the RFCs leave a choice the cautious one is taken, and said at its place:

- A response with Set-Cookie is not stored (RFC 9111, 7.3 only warns of it).
- `no-cache` and `private` with field names are taken as if they had none.
- A freshness that cannot be read, or is given twice and differs, is none.
- 5xx, 206 and 304 are not stored, whatever they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

Headers = Iterable[tuple[bytes, bytes]]
Directives = dict[str, str | None]

#: Statuses that may be stored without the response saying for how long (RFC 9110, 15.1; not 206, 405, 414, 501).
HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 410})
NEGATIVE = frozenset({404, 410})
NEVER = frozenset({206, 304})
#: Of one connection, or of one exchange: not part of what is stored (RFC 9111, 3.1).
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization "
    b"proxy-connection te trailer transfer-encoding upgrade".split()
)
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_DIRECTIVE = re.compile(rf'({_TOKEN})(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*)))?')
_ETAG = re.compile(r'(?:W/)?"[^"]*"|\*')
_LONGEST = 2**31  # seconds; RFC 9111, 1.2.2


def values(headers: Headers, name: bytes) -> list[str]:
    """The values of a header, in order."""
    return [value.decode("latin-1") for field, value in headers if field.lower() == name]


def first(headers: Headers, name: bytes) -> str | None:
    """The first value of a header; None where there is none."""
    found = values(headers, name)
    return found[0].strip() if found else None


def directives(headers: Headers, name: bytes = b"cache-control") -> Directives:
    """Cache-Control by directive, in lower case, with its argument if it has one."""
    found: Directives = {}
    for match in _DIRECTIVE.finditer(", ".join(values(headers, name))):
        word, quoted, plain = match.group(1).lower(), match.group(2), match.group(3)
        argument = quoted if quoted is not None else plain
        if word in found and found[word] != argument:
            argument = ""  # said twice, and not the same: no number, and so 0
        found[word] = argument
    return found


def names(headers: Headers, field: bytes) -> frozenset[str]:
    """A list of field names, as in Vary, in lower case."""
    listed = ",".join(values(headers, field)).lower().split(",")
    return frozenset(name for item in listed if (name := item.strip()))


def delta(said: Directives, word: str) -> int | None:
    """Seconds that a directive names; None where it is not there, 0 where it is no number."""
    if word not in said:
        return None
    text = said[word] or ""
    return min(int(text), _LONGEST) if text.isascii() and text.isdigit() else 0


def date(headers: Headers, name: bytes) -> float | None:
    """A date in seconds of Unix time; None where there is none that can be read."""
    text = first(headers, name)
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def matches(if_none_match: str, etag: str) -> bool:
    """Whether If-None-Match names the tag, compared weakly (RFC 9110, 13.1.2)."""
    mine = etag.removeprefix("W/")
    return any(tag == "*" or tag.removeprefix("W/") == mine for tag in _ETAG.findall(if_none_match))


@dataclass(frozen=True)
class Asked:
    """What a request wants of a cache.

    bypass: this cache has nothing to do with it. max_age, min_fresh: seconds, None for no such wish.
    """

    bypass: bool
    no_cache: bool
    only_if_cached: bool
    max_age: int | None
    min_fresh: int | None

    def content_with(self, age: float, lifetime: float) -> bool:
        """Whether a response of this age, fresh for `lifetime` seconds from age 0, will do."""
        if self.max_age is not None and age > self.max_age:
            return False
        return self.min_fresh is None or lifetime - age >= self.min_fresh


def asked(headers: Headers, obeyed: bool) -> Asked:
    """Of a GET or HEAD. `obeyed`: whether clients may have a response computed anew by no-cache, max-age
    and min-fresh."""
    said = directives(headers)
    if not said and "no-cache" in directives(headers, b"pragma"):
        said = {"no-cache": None}
    bodied = first(headers, b"content-length") not in (None, "0") or bool(values(headers, b"transfer-encoding"))
    return Asked(
        bypass="no-store" in said or bodied or bool(values(headers, b"range")),
        no_cache=obeyed and ("no-cache" in said or delta(said, "max-age") == 0),
        only_if_cached="only-if-cached" in said,
        max_age=delta(said, "max-age") if obeyed else None,
        min_fresh=delta(said, "min-fresh") if obeyed else None,
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a response may be stored, and for how long, in seconds. `age`: what it had when it came.
    `explicit`: the response itself says how long."""

    store: bool
    ttl: float = 0.0
    grace: float = 0.0
    age: float = 0.0
    explicit: bool = False


def verdict(
    status: int,
    headers: Headers,
    authorized: bool,
    ttl: float | None,
    negative_ttl: float,
    grace: float,
) -> Verdict:
    """Of a response that is complete. `authorized`: the request bore credentials, so that only what is said
    to be for everybody is stored (RFC 9111, 3.5). ttl, negative_ttl (404, 410), grace: the application's,
    where the response names none; a ttl of None is none."""
    said = directives(headers)
    refused = {"no-store", "private", "no-cache"} & said.keys() or "*" in names(headers, b"vary")
    if refused or status in NEVER or not 200 <= status < 500 or values(headers, b"set-cookie"):
        return Verdict(False)
    if authorized and not {"public", "s-maxage", "must-revalidate"} & said.keys():
        return Verdict(False)
    lifetime: float | None = delta(said, "s-maxage")
    if lifetime is None:
        lifetime = delta(said, "max-age")
    if lifetime is None and (expires := first(headers, b"expires")) is not None:
        until, since = date(headers, b"expires"), date(headers, b"date")
        # "0" and the like are in the past. Without a Date the moment of sending is not known here.
        lifetime = max(0.0, until - since) if until is not None and since is not None and expires else 0.0
    explicit = lifetime is not None
    if lifetime is None:
        if status not in HEURISTIC or ttl is None:
            return Verdict(False)
        lifetime = min(ttl, negative_ttl) if status in NEGATIVE else ttl
    age_text = first(headers, b"age") or ""
    age = float(age_text) if age_text.isascii() and age_text.isdigit() else 0.0
    stale = [s for word in ("stale-while-revalidate", "stale-if-error") if (s := delta(said, word)) is not None]
    if stale:
        grace = float(max(stale))
    elif {"must-revalidate", "proxy-revalidate", "s-maxage"} & said.keys() or status in NEGATIVE:
        grace = 0.0  # s-maxage means proxy-revalidate too (RFC 9111, 5.2.2.10)
    left = lifetime - age
    return Verdict(left > 0, left, grace, age, explicit)
