"""Where the servers are: a URL, or a redis-py client whose connections are to be had alike.

    redis://[user:password@]host:port/db     rediss:// for TLS     unix:///path/to/socket
    redis+cluster://host:port,host:port      rediss+cluster:// for TLS
    redis+sentinel://host:port,host:port/service/db     rediss+sentinel:// for TLS to the servers

Query parameters and keyword options are those of redis-py's connections (`ssl_ca_certs`, `username`,
`health_check_interval`, `sentinel_kwargs` for the Sentinels' own, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff

from ..effects import Node
from ..errors import ConfigError

_parse_url: Any = redis.connection.parse_url  # untyped
_SCHEMES = ("redis", "rediss", "unix")
#: What is ours to decide: how commands are sent and replies read.
_OURS = ("decode_responses", "protocol", "retry", "retry_on_timeout", "retry_on_error", "max_connections")
_OURS_TOO = ("cache", "cache_config", "maint_notifications_config", "event_dispatcher", "himport_registry")


@dataclass(frozen=True)
class Address:
    """Where, in parts. kind: single, cluster, sentinel, client (a redis-py client's own pool)."""

    kind: str
    url: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    pool: Any = None

    @property
    def cluster(self) -> bool:
        """Whether there are hash slots."""
        return self.kind == "cluster"


def _hosts(netloc: str) -> tuple[tuple[str, int], ...]:
    found = []
    for part in netloc.split(","):
        host, _, port = part.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError("bad_address", f"{part!r} is no host:port")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)


def parse(where: Any, options: Mapping[str, Any]) -> Address:
    """An address of a URL or a client. ConfigError `bad_address`."""
    if not isinstance(where, str):
        pool = getattr(where, "connection_pool", None)
        if pool is None or not hasattr(pool, "connection_class"):
            raise ConfigError(
                "bad_address",
                f"{type(where).__name__} is neither a URL nor a redis-py client of one server or a Sentinel's "
                "service; for a cluster give a redis+cluster:// URL",
            )
        return Address("client", options=options, pool=pool)
    scheme, _, kind = urlsplit(where).scheme.partition("+")
    if scheme not in _SCHEMES or kind not in ("", "cluster", "sentinel") or (kind and scheme == "unix"):
        raise ConfigError("bad_address", f"{where.split('://')[0]}:// is no scheme that is known")
    if not kind:
        return Address("single", where, options=options)
    parts = urlsplit(where)
    credentials, _, hosts = parts.netloc.rpartition("@")
    nodes = _hosts(hosts)
    options = dict(options)
    if credentials:
        user, _, password = credentials.partition(":")
        options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    if scheme == "rediss":
        options["ssl"] = True
    if kind == "cluster":
        if parts.path.strip("/") not in ("", "0"):
            raise ConfigError("bad_address", "a cluster has database 0 only")
        return Address("cluster", nodes=nodes, options=options | _query(parts.query))
    service, _, db = parts.path.strip("/").partition("/")
    if not service or (db and not db.isdigit()):
        raise ConfigError("bad_address", "a Sentinel's URL ends with /service or /service/db")
    options["db"] = int(db or 0)
    return Address("sentinel", nodes=nodes, service=unquote(service), options=options | _query(parts.query))


def _query(query: str) -> dict[str, Any]:
    """Query parameters as redis-py casts them."""
    parsed: dict[str, Any] = _parse_url(urlunsplit(("redis", "h", "", query, "")))
    parsed.pop("host", None)
    return parsed


def connection_options(address: Address, timeout: float, retry_class: Any) -> dict[str, Any]:
    """redis-py's options of a connection: the caller's, and what is ours. Errors are retried by the lanes,
    which know which commands may be sent twice."""
    found = {name: value for name, value in address.options.items() if name != "sentinel_kwargs"}
    found |= {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "decode_responses": False,
        "protocol": 2,
        "retry": retry_class(NoBackoff(), 0),
    }
    return found


def open_pool(address: Address, node: Node, timeout: float, library: Any, retry_class: Any) -> Any:
    """A pool of redis-py's for a node, of which only make_connection is used: it knows what a connection is
    made with. `library` is redis or redis.asyncio."""
    options = connection_options(address, timeout, retry_class)
    if address.kind == "single":
        pool = library.ConnectionPool.from_url(address.url, **options)
    elif address.kind == "cluster":
        host, port = node if node is not None else address.nodes[0]
        classes = library.connection
        kind = classes.SSLConnection if options.pop("ssl", False) else classes.Connection
        pool = library.ConnectionPool(connection_class=kind, host=host, port=port, **options)
    elif address.kind == "sentinel":
        sentinels = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            **address.options.get("sentinel_kwargs", {}),
        }
        manager = library.sentinel.Sentinel(list(address.nodes), sentinel_kwargs=sentinels)
        pool = library.sentinel.SentinelConnectionPool(address.service, manager, **options)
    else:
        pool = _alike(address.pool, options, library)
    pool.max_connections = 1 << 31  # the lanes count
    return pool


def _alike(pool: Any, options: Mapping[str, Any], library: Any) -> Any:
    """A pool that connects as a client's own does."""
    inherited = {name: value for name, value in pool.connection_kwargs.items() if name not in (*_OURS, *_OURS_TOO)}
    inherited |= options
    manager = getattr(pool, "sentinel_manager", None)
    if manager is not None:
        inherited.pop("connection_pool", None)
        return type(pool)(pool.service_name, manager, **inherited)
    return library.ConnectionPool(connection_class=pool.connection_class, **inherited)
