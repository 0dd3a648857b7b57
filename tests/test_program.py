"""The program's commands against real servers: invalidate, namespaces apply, export, doctor, completions, and
by TLS."""

import json
import shutil
import subprocess

import pytest

from harness.cluster import Cluster
from harness.leases import stats
from harness.program import run, url_of
from harness.sample import meta
from harness.server import wait_for

pytestmark = pytest.mark.topology("single")
HARD_BYTES = b"a\r\n\x00\xff$3"


# --- invalidate ------------------------------------------------------------------------------------
def test_invalidate(server):
    for n in range(3):
        server("CACHE.SET", f"shop:{n}", "v", "EX", 100, "GRACE", 100, "TAGS", "sale")
    said, _ = run("invalidate", "--url", url_of(server), "--soft", "--tags", "sale", "none")
    assert said == "3 entries were hit\n" and server("CACHE.GET", "shop:1", "STALE") == b"v"
    said, _ = run("invalidate", "--url", url_of(server), "--namespaces", "shop", "--json")
    assert json.loads(said)["hits"] == 3 and server("CACHE.GET", "shop:1", "STALE") is None
    run("invalidate", "--url", url_of(server), code=2)
    _, error = run("invalidate", "--url", "redis://127.0.0.1:1", "--tags", "t", code=1)
    assert error.startswith("cacheflow: cannot connect to 127.0.0.1:1") and error.count("\n") == 1


def test_in_a_cluster_all_primaries_are_reached(fleet, tmp_path, no_server_broke):
    file = tmp_path / "namespaces.toml"
    file.write_text('[shop]\nttl = "5m"\n', encoding="utf-8")
    with Cluster(fleet, primaries=3, replicas=0) as cluster:
        client, url = cluster.connect(), url_of(cluster.nodes[0])
        for n in range(30):
            assert client("CACHE.SET", f"shop:{n}", f"v{n}", "TAGS", "sale") == b"OK"
        run("namespaces", "apply", file, "--url", url)
        assert [node("CACHE.NAMESPACE", "GET", "shop") for node in cluster.nodes] == [[b"ttl", 300_000]] * 3
        said, _ = run("export", "--url", url, text=False)
        assert said.count(b"$3\r\nSET\r\n") == 30
        said, _ = run("invalidate", "--url", url, "--tags", "sale")
        assert said == "30 entries were hit\n"


# --- namespaces apply ------------------------------------------------------------------------------
def test_namespaces_are_as_the_file_says(server, tmp_path):
    file = tmp_path / "namespaces.toml"
    file.write_text(
        '[shop]\nmaxmemory = "1mb"\nttl = "5m"\ngrace = "1h"\nmaxfills = 20\npolicy = "lru"\n'
        'breaker = { percent = 50, cooldown = "10s" }\n[session]\nexauto = { min = "30s", max = "1h" }\n',
        encoding="utf-8",
    )
    server("CACHE.NAMESPACE", "SET", "session", "TTL", 5)
    server("CACHE.NAMESPACE", "SET", "other", "TTL", 5)
    apply = ("namespaces", "apply", file, "--url", url_of(server))
    said, _ = run(*apply, "--dry-run")
    assert "  - TTL 5\n  + EXAUTO 30 3600\n" in said and "would be changed" in said
    assert server("CACHE.NAMESPACE", "GET", "shop") is None, "it was shown, no more"
    said, _ = run(*apply, "--json")
    assert len(json.loads(said)["changes"]) == 2
    shop = server("CACHE.NAMESPACE", "GET", "shop")
    assert dict(zip(shop[::2], shop[1::2], strict=True)) == {
        b"maxmemory": 1 << 20,
        b"ttl": 300_000,
        b"grace": 3_600_000,
        b"maxfills": 20,
        b"breaker": [50, 10_000],
        b"policy": b"lru",
    }
    assert server("CACHE.NAMESPACE", "GET", "session") == [b"exauto", [30, 3600]]
    assert run(*apply)[0].startswith("0 settings"), "to apply it twice changes nothing"
    assert server("CACHE.NAMESPACE", "GET", "other") is not None
    run(*apply, "--prune")
    assert sorted(server("CACHE.NAMESPACE", "LIST")) == [b"session", b"shop"]
    file.write_text('[shop]\nttl = "soon"\n', encoding="utf-8")
    _, error = run(*apply, code=1)
    assert "'shop'" in error and "no length of time" in error


# --- export ----------------------------------------------------------------------------------------
def test_the_way_out(server, fresh_server, tmp_path):
    plain = fresh_server(module=None)
    server("CACHE.SET", b"shop:" + HARD_BYTES, HARD_BYTES, "EX", 1000, "GRACE", 1000, "TAGS", "t")
    server("CACHE.SET", "shop:endless", "v")
    server("CACHE.SET", "shop:stale", "old", "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", "shop:stale")
    server("CACHE.SET", "else:1", "w")
    server("SET", "native", "v")
    assert server("CACHE.TAG", "native", "t") == 1, "its companion is no entry either"
    text, _ = run("export", "--url", url_of(server), "--namespace", "shop", text=False)
    cli = [shutil.which("redis-cli"), "-p", str(plain.port), "--pipe"]
    done = subprocess.run(cli, input=text, capture_output=True, check=True)
    assert b"errors: 0, replies: 2" in done.stdout
    assert plain("GET", b"shop:" + HARD_BYTES) == HARD_BYTES
    assert 990_000 < plain("PTTL", b"shop:" + HARD_BYTES) <= 1_000_000
    assert plain("PTTL", "shop:endless") == -1 and plain("DBSIZE") == 2
    plain("FLUSHALL")
    run("export", "--url", url_of(server), "--with-grace", "--to", url_of(plain))
    assert plain("GET", "shop:stale") == b"old" and plain("DBSIZE") == 4
    assert 1_900_000 < plain("PTTL", b"shop:" + HARD_BYTES) <= 2_000_000
    file = tmp_path / "entries"
    run("export", "--url", url_of(server), "--file", file)
    assert file.read_bytes().count(b"$3\r\nSET\r\n") == 3
    _, error = run("export", "--url", url_of(server), "--file", file, code=1)
    assert "cannot make" in error, "nothing is overwritten"


# --- doctor ----------------------------------------------------------------------------------------
def test_a_server_that_is_well(server):
    server.config("maxmemory", "1gb")
    said, _ = run("doctor", "--url", url_of(server))
    assert "0 findings to mend" in said and "noeviction" in said
    found = json.loads(run("doctor", "--url", url_of(server), "--json")[0])
    assert found["bad"] == 0 and found["kind"] == "single" and found["findings"]


def test_what_is_wrong_is_found(fresh_server):
    plain = fresh_server(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], module=None)
    said, error = run("doctor", "--url", url_of(plain), code=1)
    assert "bad" in said and "loadmodule" in said and error.endswith("1 findings to mend\n")
    server = fresh_server(["--maxmemory-policy", "allkeys-random"])
    server("SET", "native", "v")
    server.config("maxmemory", 1)
    wait_for(lambda: server.error("SET", "other", "v") and server("DBSIZE") == 0, "an eviction")
    server.config("maxmemory", "100mb")
    said, _ = run("doctor", "--url", url_of(server), code=1)
    assert "1 of them no entries" in said and "cacheflow.evict-at" in said
    server("ACL", "SETUSER", "narrow", "on", "nopass", "~*", "+@all", "-cache.metrics")
    said, _ = run(
        "doctor", "--url", url_of(server), "--user", "narrow", env={"CACHEFLOW_PASSWORD": "x"}, code=1
    )
    assert "may not CACHE.METRICS" in said


# --- the rest --------------------------------------------------------------------------------------
def test_completions():
    for shell, word in (("bash", "complete -F"), ("zsh", "#compdef cacheflow"), ("fish", "complete -c")):
        said, _ = run("generate", "completions", shell)
        assert word in said and "invalidate" in said, shell


def test_a_password_on_the_command_line_is_refused(server):
    url = f"redis://:secret@127.0.0.1:{server.port}"
    _, error = run("doctor", "--url", url, code=1)
    assert "CACHEFLOW_PASSWORD" in error and "secret" not in error
    assert run("doctor", env={"CACHEFLOW_URL": f"redis://127.0.0.1:{server.port}"})[0]


@pytest.fixture
def tls(tmp_path, fresh_server):
    """A server that speaks TLS alone, and certificates of an authority of our own."""
    openssl = shutil.which("openssl")
    assert openssl, "openssl is missing"

    def ssl(*arguments):
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True, cwd=tmp_path)

    ca = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority")
    ssl("req", *ca, "-keyout", "ca.key", "-out", "ca.crt", "-addext", "basicConstraints=critical,CA:TRUE")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="utf-8")
    for name in ("server", "client"):
        ssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        ssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *by)
    files = {
        name: tmp_path / name for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key")
    }
    server = fresh_server()
    for name, value in (
        ("tls-cert-file", files["server.crt"]),
        ("tls-key-file", files["server.key"]),
        ("tls-ca-cert-file", files["ca.crt"]),
        ("tls-auth-clients", "yes"),
    ):
        server.config(name, str(value))
    from harness.server import free_port

    port = free_port()
    server.config("tls-port", port)
    return server, port, files


def test_tls(tls):
    server, port, files = tls
    server("CACHE.SET", "k", "v", "TAGS", "t")
    invalidate = ("invalidate", "--tags", "t", "--url", f"rediss://127.0.0.1:{port}")
    own = ("--tls-cert", files["client.crt"], "--tls-key", files["client.key"])
    _, error = run(*invalidate, *own, code=1)
    assert "cannot connect" in error, "nobody whom the system trusts has signed it"
    run(*invalidate, "--tls-ca", files["ca.crt"], code=1)
    assert run(*invalidate, "--tls-ca", files["ca.crt"], *own)[0] == "1 entries were hit\n"
    run(*invalidate, "--tls-insecure", *own)
    assert stats(server)["invalidations"] == 2 and meta(server, "k") is None
