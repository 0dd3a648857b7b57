"""A response as a value of the cache, and what is sent of it.

The value is plain data that every codec but raw bytes writes: a mapping with `status`, `headers` (pairs of
text), `body` (text) or `body64` (base64 of what is no UTF-8), `etag`, `at` (Unix seconds, when it was
computed, its age subtracted), `ttl`, `grace` (seconds, from `at`), `tags`, `own` (Cache-Control is the
application's). Two values are no responses: {"vary": [names]}, look under the key with these headers;
{"pass": true}, this cannot be stored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ...units import seconds
from . import rules
from .names import surrogate_key
from .policy import Policy, Send

PASS: dict[str, Any] = {"pass": True}
#: What a 304 repeats (RFC 9110, 15.4.5), and what tells CDNs of tags.
_NOT_MODIFIED = frozenset(b"cache-control content-location date etag expires vary age cache-status".split())


def vary_by(names: Iterable[str]) -> dict[str, Any]:
    """The value that sends readers on to another key."""
    return {"vary": sorted(names)}


def varied_by(value: Any) -> frozenset[str] | None:
    """What such a value sends readers on with; None where it is no such value."""
    names = value.get("vary") if isinstance(value, dict) else None
    return frozenset(map(str, names)) if isinstance(names, list) else None


def etag_of(body: bytes, headers: rules.Headers) -> str:
    """A strong validator: the same for the same bytes in the same coding."""
    digest = blake2b(body, digest_size=12)
    digest.update(",".join(rules.values(headers, b"content-encoding")).encode("latin-1"))
    return f'"{digest.hexdigest()}"'


def cache_control(lifetime: float, grace: float, policy: Policy) -> str:
    """What a response says that says nothing itself. Seconds."""
    if policy.browser_ttl is None:
        text = f"max-age={int(lifetime)}"
    else:
        text = f"max-age={int(seconds(policy.browser_ttl))}, s-maxage={int(lifetime)}"
    if grace:
        text += f", stale-while-revalidate={int(grace)}, stale-if-error={int(grace)}"
    return text


@dataclass(frozen=True)
class Stored:
    """A response. `lifetime`, `grace`: seconds; `at`: when its age was 0, in Unix time."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    etag: str | None
    at: float
    lifetime: float
    grace: float
    tags: tuple[str, ...]
    own: bool

    @classmethod
    def of(
        cls,
        status: int,
        headers: Collection[tuple[bytes, bytes]],
        body: bytes,
        judged: rules.Verdict,
        tags: Iterable[str],
        now: float,
        tag_headers: Iterable[str],
    ) -> Stored:
        """What is kept of a response that has just been computed."""
        listed = {name.lower().encode("latin-1") for name in tag_headers}
        dropped = rules.HOP_BY_HOP | listed | {b"age"}
        dropped |= {name.encode("latin-1") for name in rules.names(headers, b"connection")}
        etag = rules.first(headers, b"etag")
        made = etag is None and status == 200 and bool(body)
        return cls(
            status,
            tuple((name.lower(), value) for name, value in headers if name.lower() not in dropped),
            body,
            etag_of(body, headers) if made else etag,
            now - judged.age,
            judged.ttl + judged.age,
            judged.grace,
            tuple(dict.fromkeys(tags)),
            bool(rules.values(headers, b"cache-control")),
        )

    def value(self) -> dict[str, Any]:
        """The cache's value."""
        headers = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in self.headers]
        value = {
            "status": self.status,
            "headers": headers,
            "etag": self.etag,
            "at": self.at,
            "ttl": self.lifetime,
            "grace": self.grace,
            "tags": list(self.tags),
            "own": self.own,
        }
        try:
            value["body"] = self.body.decode("utf-8")
        except UnicodeDecodeError:
            value["body64"] = base64.b64encode(self.body).decode("ascii")
        return value

    @classmethod
    def read(cls, value: Any) -> Stored | None:
        """Of a value; None where it is no response that this version wrote."""
        try:
            text = value.get("body")
            body = base64.b64decode(value["body64"], validate=True) if text is None else text.encode("utf-8")
            etag = value["etag"]
            return cls(
                int(value["status"]),
                tuple((str(n).encode("latin-1"), str(v).encode("latin-1")) for n, v in value["headers"]),
                body,
                None if etag is None else str(etag),
                float(value["at"]),
                float(value["ttl"]),
                float(value["grace"]),
                tuple(map(str, value["tags"])),
                bool(value["own"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
            return None

    def age(self, now: float) -> float:
        """Seconds since it was computed, by this machine's clock."""
        return max(0.0, now - self.at)

    # --- sending -------------------------------------------------------------------------------
    def outgoing(self, policy: Policy, now: float, loaded: bool) -> list[tuple[bytes, bytes]]:
        """All headers; `loaded`: it was computed for this very request."""
        headers = list(self.headers)
        age = self.age(now)

        def add(name: str, value: str) -> None:
            headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

        if self.etag is not None and not rules.values(self.headers, b"etag"):
            add("etag", self.etag)
        if not self.own:
            add("cache-control", cache_control(self.lifetime, self.grace, policy))
        if not loaded:
            add("age", str(int(age)))
        if self.tags:
            encoded = [surrogate_key(tag) for tag in self.tags]
            for name in policy.tag_headers:
                add(name, (" " if name.lower() == "surrogate-key" else ",").join(encoded))
        if policy.cache_status:
            how = "fwd=miss; stored" if loaded else f"hit; ttl={int(self.lifetime - age)}"
            add("cache-status", f"{policy.cache_status}; {how}")
        return headers

    def unmodified(self, request: rules.Headers) -> bool:
        """Whether the client's copy is this response: a 304 will do (RFC 9110, 13.2.2)."""
        if self.status != 200:
            return False
        tags = rules.values(request, b"if-none-match")
        if tags:
            return self.etag is not None and rules.matches(", ".join(tags), self.etag)
        since, modified = rules.date(request, b"if-modified-since"), rules.date(self.headers, b"last-modified")
        return since is not None and modified is not None and modified <= since

    async def send(self, send: Send, request: rules.Headers, policy: Policy, now: float, loaded: bool) -> None:
        """The response, or 304 if the request has it already. `now`: Unix time."""
        headers = self.outgoing(policy, now, loaded)
        status, body = self.status, self.body
        if self.unmodified(request):
            listed = _NOT_MODIFIED | {name.lower().encode("latin-1") for name in policy.tag_headers}
            status, body = 304, b""
            headers = [(name, value) for name, value in headers if name in listed]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
