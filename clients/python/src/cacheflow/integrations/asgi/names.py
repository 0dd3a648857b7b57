"""The key of a request, and tags as header values.

    http:GET:https://shop.example/products?page=2&sort=name#<digest>!

The digest is of the headers that the response varies by; "!" stands for requests with credentials, which
share only what is said to be for everybody. So no request ever finds what was stored for the other kind.
Long keys end in a digest of all. Braces are encoded: in a cluster they would choose the slot, and it is
clients who write the query.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, unquote_plus

from . import rules
from .policy import Scope

_LONGEST = 400  # characters of a key, past which it is a digest
_LONGEST_PATH = 256


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest()


def surrogate_key(tag: str) -> str:
    """A tag as it stands in Surrogate-Key and Cache-Tag, and is to be purged by: what separates tags there,
    and what no header may have, is percent-encoded."""
    return quote(tag, safe="!#$&'()*+/:;=?@[]~", errors="surrogateescape")


def _host(scope: Scope) -> str:
    host = rules.first(scope["headers"], b"host")
    if host is None:
        server = scope.get("server") or ("", None)
        host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
    return host.lower()


def _path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    text = quote(scope["path"], safe="/%:@!$&'()*+,;=~") if raw is None else raw.decode("latin-1")
    return text.partition("?")[0]


def uri_tag(host: str, path: str) -> str:
    """The tag that every stored response of a path has, whatever its query: what unsafe methods invalidate."""
    return f"uri:{host.lower()}{path if len(path) <= _LONGEST_PATH else '~' + _digest(path)}"


def tag_of(scope: Scope) -> str:
    """The same, for a request."""
    return uri_tag(_host(scope), _path(scope))


def query_of(scope: Scope, wanted: Collection[str] | None) -> bytes:
    """The query in the order of its names, those that are wanted alone. Values of one name keep their order,
    which says something."""
    raw: bytes = scope.get("query_string") or b""
    parts: list[bytes] = [part for part in raw.split(b"&") if part]
    if wanted is not None:
        parts = [part for part in parts if unquote_plus(part.partition(b"=")[0].decode("latin-1")) in wanted]
    parts.sort(key=lambda part: part.partition(b"=")[0])
    return b"&".join(parts)


def bears_credentials(scope: Scope, headers: Iterable[str], cookies: Iterable[str] | None) -> bool:
    """Whether a request is of somebody in particular."""
    if any(rules.values(scope["headers"], name.lower().encode("latin-1")) for name in headers):
        return True
    sent = "; ".join(rules.values(scope["headers"], b"cookie"))
    if not sent or cookies is None:
        return bool(sent)
    try:
        jar = SimpleCookie(sent)
    except CookieError:
        return True  # nobody knows what the application makes of it
    # SimpleCookie stops at what it cannot read; a name that is there at all counts.
    return any(name in jar or f"{name}=" in sent for name in cookies)


def key_of(scope: Scope, query: bytes, vary: Collection[str], credentials: bool) -> str:
    """The cache key of a GET or HEAD."""
    text = f"{scope.get('scheme', 'http')}://{_host(scope)}{_path(scope)}"
    if query:
        text += f"?{query.decode('latin-1')}"
    text = text.replace("{", "%7B").replace("}", "%7D")
    if vary:
        headers = scope["headers"]
        said = (f"{name}={','.join(map(str.strip, rules.values(headers, name.encode())))}" for name in sorted(vary))
        text += f"#{_digest(chr(0).join(said))}"
    if credentials:
        text += "!"
    if len(text) > _LONGEST:
        text = f"{text[:100]}~{_digest(text)}"
    return f"http:{scope['method']}:{text}"
