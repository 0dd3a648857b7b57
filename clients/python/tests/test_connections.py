"""How servers are reached: TLS with certificates of both sides, a Unix socket, an ACL user who may do no more than
is needed; and connections that are reset while nobody uses them."""

import re
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from certificates import Authority
from conftest import wait_for
from harness.server import free_port
from scenarios.processes import Proxy

from cacheflow import CacheFlow, Unavailable

KINDS = pytest.mark.parametrize("kind", ["threads", "async"])
README = Path(__file__).parents[1] / "README.md"


def exercise(cache):
    """Both lanes, the tracking connection, and the level."""
    tag = f"{cache.namespace}:t"  # tags are shared by all who use the server
    assert cache.get_or_set("k", lambda: {"a": 1}, ttl=60, tags=[tag]) == {"a": 1}
    wait_for(lambda: cache.core.local.live, "the tracking connection")
    wait_for(lambda: cache.get_or_set("k", list, ttl=60) and cache.client_stats()["l1_hit"], "a hit in the level")
    assert cache.invalidate(tag) == 1
    assert cache.get("k") is None
    assert cache.set_many({"a": 1, "b": 2}, ttl=60, grace=60) == ["a", "b"]
    assert cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert cache.touch("a") and cache.incr("n") == 1 and cache.delete("a", soft=True) == 1
    assert cache.delete("b") == 1
    assert cache.get_or_set_many(["a", "c"], lambda keys: dict.fromkeys(keys, 3), ttl=60) == {"a": 1, "c": 3}
    with cache.lock("l", ttl=30) as lock:
        assert lock.extend(60)
        assert not cache.lock("l", ttl=1, wait=0.05).acquire()
    assert cache.meta("c").state == "fresh" and cache.stats().client["load"] >= 2
    assert cache.clear() >= 1


# --- TLS -----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_args(authority):
    """A server's, that wants its clients' certificates."""
    certificate, key = authority.issue("server")
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority.certificate)
    return (*files, "--tls-auth-clients", "yes")


@pytest.fixture(scope="module")
def tls_port(fleet, tls_args):
    port = free_port()
    server = fleet.start(("--tls-port", port, *tls_args), name="tls")
    yield port
    fleet.discard(server)


@pytest.fixture(scope="module")
def trusted(authority):
    """The options of a client that both sides believe."""
    certificate, key = authority.issue("client")
    return {"ssl_ca_certs": authority.certificate, "ssl_certfile": certificate, "ssl_keyfile": key}


@KINDS
def test_tls_with_certificates_of_both_sides(make, tls_port, trusted, kind, namespace):
    exercise(make(kind, f"rediss://localhost:{tls_port}", namespace=namespace, local=True, **trusted))


@KINDS
@pytest.mark.parametrize("missing", ["the client's certificate", "the authority", "the name"])
def test_who_is_not_to_be_believed_is_not(make, tls_port, trusted, kind, missing, tmp_path):
    options, host = dict(trusted), "localhost"
    if missing == "the client's certificate":
        del options["ssl_certfile"], options["ssl_keyfile"]
    elif missing == "the authority":
        options["ssl_ca_certs"] = Authority(tmp_path, "another authority").certificate
    else:
        host = "127.0.0.2"  # which the server's certificate does not name
    cache = make(kind, f"rediss://{host}:{tls_port}", **options)
    with pytest.raises(Unavailable) as error:
        cache.connect()
    assert error.value.code == "connection"
    assert cache.get_or_set("k", lambda: 1, ttl=60) == 1, "and the application is answered"


@KINDS
def test_a_cluster_by_tls(fleet, make, tls_args, trusted, kind, namespace):
    port = free_port()
    args = ("--tls-port", port, "--tls-cluster", "yes", "--cluster-enabled", "yes", *tls_args)
    server = fleet.start(args, name="tls-cluster")
    server("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_for(lambda: "cluster_state:ok" in server("CLUSTER", "INFO").decode(), "the slots")
    cache = make(kind, f"rediss+cluster://127.0.0.1:{port}", namespace=namespace, local=True, **trusted)
    exercise(cache)
    assert cache.capabilities.cluster
    cache.close()
    fleet.discard(server)


# --- a Unix socket -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def socket(fleet):
    directory = tempfile.mkdtemp(prefix="cacheflow-")  # a socket's path has at most 107 characters
    path = f"{directory}/redis.sock"
    server = fleet.start(("--unixsocket", path, "--unixsocketperm", "700"), name="unix")
    yield path
    fleet.discard(server)
    shutil.rmtree(directory)


@KINDS
def test_a_unix_socket(make, socket, kind, namespace):
    exercise(make(kind, f"unix://{socket}", namespace=namespace, local=True))


def test_a_unix_socket_of_redis_py(socket, namespace):
    import redis

    client = redis.Redis(unix_socket_path=socket)
    with CacheFlow(client, namespace=namespace, local=True) as cache:
        exercise(cache)
    client.close()


# --- ACL -----------------------------------------------------------------------------------------
@pytest.fixture
def user(server, namespace):
    """The user that the README grants what a client needs, for the test's namespace."""
    (rule,) = re.findall(r"^ACL SETUSER (.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    name, *words = rule.replace("\\\n", " ").replace("shop", namespace).split()
    name = f"{name}-{namespace}"
    server("ACL", "SETUSER", name, *words)
    yield name
    server("ACL", "DELUSER", name)


@KINDS
def test_a_user_who_may_do_what_is_needed(make, server, user, kind, namespace, recorder):
    url = f"redis://{user}:secret@127.0.0.1:{server.port}"
    cache = make(kind, url, namespace=namespace, local=True, observers=[recorder])
    exercise(cache)
    assert not [e for e in recorder.events if e.error is not None], "nothing was refused"


def test_and_nothing_of_other_namespaces(make, server, user, recorder):
    url = f"redis://{user}:secret@127.0.0.1:{server.port}"
    cache = make("threads", url, namespace="other", observers=[recorder])
    assert cache.get_or_set("k", lambda: 1, ttl=60) == 1
    assert {e.error.code for e in recorder.events if e.error is not None} == {"noperm"}


# --- connections that were lost ------------------------------------------------------------------
def lost(cache):
    """Whether asyncio knows that every idle connection is lost."""
    lanes = [lane for pair in cache._cache._driver.transport._lanes.values() for lane in pair]
    idle = [connection for lane in lanes for connection in lane._idle]
    return idle and all(connection._writer.transport.is_closing() for connection in idle)


@KINDS
def test_what_was_reset_while_nobody_used_it_is_noticed(make, server, kind, namespace, recorder):
    tag = f"{namespace}:t"
    with closing(Proxy(f"127.0.0.1:{server.port}")) as proxy:
        cache = make(kind, proxy.url, namespace=namespace, observers=[recorder])
        for use in (
            lambda: cache.get_or_set("k", lambda: 1, ttl=60, tags=[tag]) == 1,
            lambda: cache.get_many(["k", "l"]) == {"k": 1},
            lambda: cache.set_many({"k": 1, "l": 2}, ttl=60) == ["k", "l"],
            lambda: cache.invalidate(tag) == 0,
        ):
            assert use()
            proxy.tell("reset")
            if kind == "async":
                wait_for(lambda: lost(cache), "the loss to be known")
            assert use()
        assert not [e for e in recorder.events if e.error is not None]
        cache.close()
