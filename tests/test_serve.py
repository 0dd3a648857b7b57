"""`cacheflow serve` over real HTTP: metrics, health and JSON of a server, a cluster, a Sentinel group; nodes
that die; who may change anything."""

import socket
from urllib.parse import quote

import pytest

from harness.cluster import Cluster
from harness.leases import grant, locker
from harness.metrics import check, families, samples, value
from harness.program import Served, url_of
from harness.sentinel import NAME, Sentinel
from harness.server import wait_for

pytestmark = pytest.mark.topology("single")
TOKEN = "a-token-of-the-test"
ON_PURPOSE = {"X_CacheFlow": "1"}
BEARER = {**ON_PURPOSE, "Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def serve(request):
    """Starts it: serve("--url", …)."""
    started = []

    def start(*arguments, **options):
        started.append(Served(*arguments, **options))
        return started[-1]

    yield start
    for served in started:
        served.discard()


@pytest.fixture
def token_file(tmp_path):
    """A file with the token."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n", encoding="utf-8")
    return path


def up(text):
    """Each node, and whether it is up."""
    return {
        dict(labels)["node"]: of == 1
        for (name, *labels), of in samples(text).items()
        if name == "cacheflow_up"
    }


def name_of(server):
    """What a node is called."""
    return f"127.0.0.1:{server.port}"


# --- one server ------------------------------------------------------------------------------------
def test_metrics_of_a_server(server, serve):
    for n in range(5):
        server("CACHE.SET", f"shop:{n}", "v", "COST", 100)
        server("CACHE.GET", f"shop:{n}")
    served = serve("--url", url_of(server)).wait_ready()
    text = served.get("/metrics")
    assert check(text) == "", "promtool check metrics"
    node = {"node": name_of(server), "role": "primary"}
    assert value(text, "cacheflow_up", **node) == 1
    assert value(text, "cacheflow_hits_total", namespace="shop", **node) == 5
    assert value(text, "cacheflow_origin_saved_seconds_total", namespace="shop") == 0.5
    assert value(text, "cacheflow_discovery_up") == 1
    assert value(text, "cacheflow_scrape_duration_seconds", **node) > 0
    version = server.info("server")["redis_version"]
    assert value(text, "cacheflow_server_info", engine="redis", version=version) in (0, 1)
    assert families(text)["cacheflow_wait_duration_seconds"].type == "histogram"
    assert served.ask("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_health(server, serve):
    served = serve("--url", url_of(server)).wait_ready()
    assert served.get("/healthz")["status"] == "ok"
    ready = served.get("/readyz")
    (node,) = ready["nodes"]
    assert ready["ready"] and node["up"] and node["node"] == name_of(server) and node["error"] is None
    assert served.ask("/nothing").code == 404 and served.ask("/api/nothing").code == 404
    assert served.stop() == 0, "to be stopped is how it ends"
    assert "stopped" in served.said()


def test_a_server_that_is_killed_or_hangs_is_down(fresh_server, serve):
    server = fresh_server()
    served = serve("--url", url_of(server), "--timeout", "300ms").wait_ready()
    server.pause()
    wait_for(lambda: up(served.get("/metrics")) == {name_of(server): False}, "it to be down")
    assert served.ask("/readyz").code == 503 and served.get("/healthz")
    assert "no answer within 300 ms" in served.get("/api/nodes")["nodes"][0]["error"]
    server.resume()
    served.wait_ready()
    server.kill9()
    wait_for(lambda: up(served.get("/metrics")) == {name_of(server): False}, "it to be down")
    text = served.get("/metrics")
    assert check(text) == "" and value(text, "cacheflow_discovery_up") == 0
    ready = served.ask("/readyz")
    assert ready.code == 503 and not ready.json()["ready"] and ready.json()["failure"]
    server.start()
    served.wait_ready()


def test_a_server_without_the_module_is_down(fresh_server, serve):
    plain = fresh_server(module=None)
    served = serve("--url", url_of(plain))
    wait_for(lambda: "CACHE.METRICS" in (served.get("/api/nodes")["nodes"][0]["error"] or ""), "the reason")
    assert up(served.get("/metrics")) == {name_of(plain): False}


def test_a_password_is_never_shown(fresh_server, serve, tmp_path):
    secret = "s3cret-of-the-test"
    server = fresh_server()
    server("ACL", "SETUSER", "watcher", "on", f">{secret}", "~*", "&*", "+@all")
    path = tmp_path / "password"
    path.write_text(secret + "\n", encoding="utf-8")
    for place in (
        {"env": {"CACHEFLOW_PASSWORD": secret}, "more": ()},
        {"env": {"REDISCLI_AUTH": secret}, "more": ()},
        {"env": {}, "more": ("--password-file", path)},
        {"env": {"CACHEFLOW_URL": f"redis://watcher:{secret}@127.0.0.1:{server.port}"}, "more": None},
    ):
        url = () if place["more"] is None else ("--url", url_of(server), "--user", "watcher", *place["more"])
        served = serve(*url, env=place["env"]).wait_ready()
        with open(f"/proc/{served.process.pid}/cmdline", encoding="utf-8") as line:
            assert secret not in line.read()
        assert secret not in served.said() + served.get("/metrics")
        served.stop()
    wrong = serve("--url", url_of(server), "--user", "watcher", env={"CACHEFLOW_PASSWORD": secret + "x"})
    wait_for(lambda: wrong.ask("/readyz").json()["failure"] != "nobody has answered yet", "a refusal")
    said = wrong.ask("/readyz").body + wrong.said()
    assert secret not in said


# --- JSON ------------------------------------------------------------------------------------------
@pytest.fixture
def loaded(server):
    """A server with something of everything."""
    for n in range(3):
        server("CACHE.SET", f"shop:{n}", "value-of-it", "EX", 1000, "COST", 2000, "TAGS", "sale", f"item {n}")
        for _ in range(n + 1):
            server("CACHE.GET", f"shop:{n}")
    server("CACHE.GET", "shop:none")
    server("CACHE.SET", b"odd:\xff&?", "v")
    server("CACHE.NAMESPACE", "SET", "shop", "MAXFILLS", 1, "BREAKER", 50, 60_000, "MAXMEMORY", 10_000_000)
    server("CACHE.SET", "gone:1", "v", "TAGS", "old")
    server("CACHE.INVALIDATE", "TAGS", "old")
    server.wait_swept()
    grant(server, "shop:leased", "LEASE", 600_000)
    return server


def test_what_the_page_shows_is_what_the_server_says(loaded, serve):
    served = serve("--url", url_of(loaded)).wait_ready()
    overview = served.get("/api/overview")
    assert (overview["hits"], overview["originSavedSeconds"]) == (6, 12)
    assert overview["nodes"] == {"up": 1, "all": 1} and overview["readOnly"]
    assert overview["invalidations"] == 1 and overview["leases"] == 1
    assert set(overview["refusedByReason"]) >= {"invalidated", "superseded"}
    rows = {row["namespace"]: row for row in served.get("/api/namespaces")["namespaces"]}
    assert (rows["shop"]["hits"], rows["shop"]["entries"], rows["shop"]["limitBytes"]) == (6, 3, 10_000_000)
    assert rows["*"]["rest"] and rows["odd"]["entries"] == 1
    hot = served.get("/api/hotkeys?by=hits&count=2")["keys"]
    assert [(row["key"], row["figure"]) for row in hot] == [("shop:2", 3), ("shop:1", 2)]
    assert served.get("/api/hotkeys?by=cost")["keys"][0]["figure"] == 6000
    assert served.ask("/api/hotkeys?by=fame").code == 400
    tags = served.get("/api/tags?match=" + quote("item*"))
    assert [row["entries"] for row in tags["tags"]] == [1, 1, 1] and tags["whole"]
    assert served.get("/api/tags")["tags"][0] | {"id": ""} == {"tag": "sale", "id": "", "entries": 3}
    (breaker,) = served.get("/api/breakers")["breakers"]
    assert (breaker["namespace"], breaker["state"], breaker["maxFills"]) == ("shop", "closed", 1)
    (record,) = served.get("/api/log")["log"]
    assert (record["target"], record["hits"], record["user"]) == ("old", 1, "default")
    leases = served.get("/api/leases")
    assert leases["leases"] == 1 and leases["leasesByNamespace"] == {"shop": 1}
    (node,) = served.get("/api/nodes")["nodes"]
    assert node["up"] and node["entries"] == 4 and node["module"]


def test_the_page_is_there_and_is_kept(server, serve):
    served = serve("--url", url_of(server)).wait_ready()
    kinds = {
        "/": "text/html",
        "/page/app.js": "text/javascript",
        "/page/vendor/uPlot.min.css": "text/css",
        "/page/icon.svg": "image/svg+xml",
    }
    for path, kind in kinds.items():
        answer = served.ask(path)
        assert answer.code == 200 and answer.headers["Content-Type"].startswith(kind)
        again = served.ask(path, If_None_Match=answer.headers["ETag"])
        assert again.code == 304 and again.body == "" and again.headers["ETag"] == answer.headers["ETag"]
        assert served.ask(path, If_None_Match='"other"').code == 200
    for path in ("/page/none.js", "/page/../mod.rs", "/page/%2e%2e/mod.rs", "/page/vendor", "/page/"):
        assert served.ask(path).code == 404, path


def test_what_commands_take_and_who_is_in_progress(loaded, serve):
    served = serve("--url", url_of(loaded)).wait_ready()
    loaded("CACHE.SET", "shop:hot", "v", "COST", 60_000)
    loaded("CACHE.GET", "shop:hot")
    loaded("CACHE.STALE", "shop:hot")
    loaded("CACHE.LOCK", "shop:1", 60_000)
    waiter = locker(loaded, "shop:1", block=60_000)
    answer = served.get("/api/progress")
    keys = {row["key"]: row for row in answer["keys"]}
    assert keys["shop:1"]["waiters"] == 1 and 0 < keys["shop:1"]["leaseMs"] <= 60_000
    assert set(keys) == {"shop:1"}, "nobody computes the others"
    assert answer["errors"] == [] and answer["keys"][0]["node"] == name_of(loaded)
    waiter.close()
    said = loaded.info("commandstats")["cmdstat_cache.get"]

    def same():
        rows = {row["command"]: row for row in served.get("/api/commands")["commands"]}
        return f"calls={rows['CACHE.GET']['calls']:.0f}," in said and rows["CACHE.GET"]

    get = wait_for(same, "a new look at the server")
    assert 0 < get["seconds"] < 1 and 0 < get["p50"] <= get["p99"] and get["failed"] == 0
    over = {served.get(f"/api/{path}")["over"] for path in ("commands", "overview", "namespaces", "nodes")}
    assert len(over) == 1, "of the same nodes"


def test_sums_over_other_nodes_are_told_apart(fresh_server, serve):
    server = fresh_server()
    served = serve("--url", url_of(server)).wait_ready()
    first = served.get("/api/overview")
    server.restart()

    def anew():
        now = served.get("/api/overview")
        return now["nodes"]["up"] == 1 and now["atMs"] > first["atMs"] and now["over"] != first["over"]

    wait_for(anew, "the server to be told from the one before")


def test_a_key_is_looked_up_without_its_value(loaded, serve):
    served = serve("--url", url_of(loaded)).wait_ready()
    found = served.get("/api/key?key=shop%3A1")
    assert found["meta"]["state"] == "fresh" and found["meta"]["tags"] == ["sale", "item 1"]
    assert found["value"] is None
    assert "value-of-it" not in served.ask("/api/key?key=shop%3A1").body
    odd = served.get("/api/key?key=" + quote(b"odd:\xff&?"))
    assert odd["meta"]["namespace"] == "odd" and odd["key"] == "odd:\\xff&?"
    assert served.get("/api/key?key=" + odd["id"])["key"] == odd["key"]
    assert served.get("/api/key?key=none")["meta"] is None
    assert served.ask("/api/key").code == 400
    shows = serve("--url", url_of(loaded), "--show-values").wait_ready()
    assert shows.get("/api/key?key=shop%3A1")["value"] == {"text": "value-of-it", "bytes": 11, "whole": True}


# --- changing anything -----------------------------------------------------------------------------
def preview(served, headers, **body):
    """The answer to a preview."""
    return served.ask("/api/invalidate", {"kind": "tags", **body, "preview": True}, **headers)


def test_without_a_token_nothing_changes(loaded, serve):
    served = serve("--url", url_of(loaded)).wait_ready()
    assert served.get("/api/session") == {"readOnly": True, "session": False}
    assert preview(served, BEARER, names=["sale"]).code == 403
    assert served.ask("/api/session", {"token": TOKEN}, **ON_PURPOSE).code == 401
    assert loaded("CACHE.GET", "shop:1") == b"value-of-it"


def test_an_invalidation_is_shown_and_then_confirmed(loaded, serve, token_file):
    served = serve("--url", url_of(loaded), "--token-file", token_file).wait_ready()
    shown = preview(served, BEARER, names=["sale"]).json()
    assert (shown["hits"], shown["atLeast"], shown["errors"]) == (3, False, [])
    assert loaded("CACHE.GET", "shop:1") == b"value-of-it", "it was shown, no more"
    target = {"kind": "tags", "names": ["sale"]}
    for wrong in ({}, {"confirm": "x"}, {"confirm": shown["confirm"], "names": ["other"]}):
        assert served.ask("/api/invalidate", {**target, **wrong}, **BEARER).code == 409
    done = served.ask("/api/invalidate", {**target, "confirm": shown["confirm"]}, **BEARER)
    assert done.json()["hits"] == 3 and loaded("CACHE.GET", "shop:1") is None
    assert served.ask("/api/invalidate", {**target, "confirm": shown["confirm"]}, **BEARER).code == 409, (
        "once"
    )
    space = {"kind": "namespace", "names": [quote("odd")], "soft": True}
    shown = served.ask("/api/invalidate", {**space, "preview": True}, **BEARER).json()
    assert shown["hits"] == 1
    assert served.ask("/api/invalidate", {**space, "confirm": shown["confirm"]}, **BEARER).json()["hits"] == 1
    assert loaded("CACHE.GET", b"odd:\xff&?", "STALE") == b"v" and loaded("CACHE.GET", b"odd:\xff&?") is None
    assert served.ask("/api/invalidate", {**target, "names": [], "preview": True}, **BEARER).code == 400


def test_a_session_is_no_use_to_a_foreign_page(loaded, serve, token_file):
    served = serve("--url", url_of(loaded), "--token-file", token_file).wait_ready()
    assert served.ask("/api/session", {"token": "wrong"}, **ON_PURPOSE).code == 401
    assert served.ask("/api/session", {"token": TOKEN}).code == 403, "a form of a foreign page"
    begun = served.ask("/api/session", {"token": TOKEN}, **ON_PURPOSE)
    cookie = begun.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    own = {"Cookie": cookie.split(";")[0]}
    assert served.get("/api/session", **own) == {"readOnly": False, "session": True}
    here = f"http://127.0.0.1:{served.port}"
    assert preview(served, {**own, **ON_PURPOSE, "Origin": here}, names=["sale"]).code == 200
    assert preview(served, own, names=["sale"]).code == 403, "not on purpose"
    assert preview(served, {**own, **ON_PURPOSE, "Origin": "http://evil"}, names=["sale"]).code == 403
    assert preview(served, ON_PURPOSE, names=["sale"]).code == 401
    text = {**own, **ON_PURPOSE, "Content_Type": "text/plain"}
    assert preview(served, text, names=["sale"]).code == 415
    assert served.ask("/api/session", method="DELETE", **own, **ON_PURPOSE).code == 200
    assert preview(served, {**own, **ON_PURPOSE}, names=["sale"]).code == 401
    assert TOKEN not in served.said()


def test_what_browsers_are_told(server, serve):
    served = serve("--url", url_of(server)).wait_ready()
    for path in ("/metrics", "/api/overview", "/nothing", "/", "/page/app.js"):
        headers = served.ask(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        # What a page is made of is kept, and asked about each time.
        kept = path == "/" or path.startswith("/page/")
        assert headers["Cache-Control"] == ("no-cache" if kept else "no-store")
        assert "Access-Control-Allow-Origin" not in headers
    assert served.ask("/api/overview", Host="evil.example").code == 421, "a name that was made to lead here"
    other = serve("--url", url_of(server), "--allow-host", "cache.example").wait_ready()
    assert other.ask("/api/overview", Host="cache.example").code == 200


def test_garbage_and_slow_clients_keep_nobody_waiting(server, serve):
    served = serve("--url", url_of(server)).wait_ready()
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    for n, slow in enumerate(held):
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: lo" if n % 2 else b"\x00\xff\r\n\r\n")
    assert served.get("/healthz")
    answer = served.ask("/api/invalidate", {"kind": "tags", "names": ["x" * 2_000_000]}, **BEARER)
    assert answer.code == 413
    for slow in held:
        slow.close()
    assert served.stop() == 0


# --- several ---------------------------------------------------------------------------------------
def test_a_cluster_with_nodes_that_die(fleet, serve, no_server_broke):
    with Cluster(fleet, primaries=3, replicas=1) as cluster:
        client = cluster.connect()
        for n in range(30):
            assert client("CACHE.SET", f"shop:{n}", "v", "TAGS", "sale") == b"OK"
        first = cluster.primaries()[0]
        served = serve("--url", url_of(first), "--timeout", "2s").wait_ready()
        text = served.get("/metrics")
        assert check(text) == ""
        assert up(text) == {name_of(node): True for node in cluster.nodes}
        shards = {dict(labels)["shard"] for (name, *labels) in samples(text) if name == "cacheflow_up"}
        assert shards == {"0-5460", "5461-10921", "10922-16383"}
        assert value(text, "cacheflow_entries", role="primary", namespace="shop") == 30
        assert served.get("/api/overview")["entries"] == 30, "replicas have them once more"
        assert served.get("/api/tags")["tags"][0]["entries"] == 30
        for n in range(5):
            assert served.get(f"/api/key?key=shop%3A{n}")["meta"]["state"] == "fresh", "wherever it lies"
        replica = cluster.replicas()[-1]
        cluster.kill(replica)
        wait_for(lambda: not up(served.get("/metrics"))[name_of(replica)], "the node to be down")
        assert served.ask("/readyz").code == 200, "each shard has its primary"
        successor = cluster.replica_of(first)
        cluster.kill(first)
        wait_for(lambda: not up(served.get("/metrics"))[name_of(first)], "the node to be down")

        def followed():
            return value(served.get("/metrics"), "cacheflow_up", node=name_of(successor), role="primary") == 1

        wait_for(followed, "the failover to be followed, though who was asked first is gone")


def test_a_group_of_sentinels_and_its_failover(fleet, serve, no_server_broke):
    group = Sentinel(fleet, replicas=1, down_after=30_000)  # none of its own, on a machine that stands still
    try:
        served = serve("--url", url_of(*group.sentinels), "--sentinel", NAME).wait_ready()
        primary = group.primary()
        text = served.get("/metrics")
        assert up(text) == {name_of(server): True for server in group.servers}
        assert value(text, "cacheflow_up", role="primary", shard=NAME) == 1
        assert value(text, "cacheflow_up", node=name_of(primary), role="primary") == 1
        new = group.failover()
        assert new is not primary

        def followed():
            return value(served.get("/metrics"), "cacheflow_up", node=name_of(new), role="primary") == 1

        wait_for(followed, "the failover to be followed")
        assert served.get("/api/overview")["kind"] == "sentinel"
    finally:
        group.end()
