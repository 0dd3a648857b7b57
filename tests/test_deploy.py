"""deploy/ as it is committed: what judges of each kind say (promtool, systemd, the schemas of Kubernetes),
and that the pieces fit: a server runs by these files, and its exporter by what they allow it."""

import configparser
import os
import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from harness.engines import ROOT
from harness.leases import end_of, fetcher, grant
from harness.metrics import families, promtool, value
from harness.program import Served, url_of

pytestmark = pytest.mark.topology("single")

DEPLOY = os.path.join(ROOT, "deploy")
UNITS = sorted(os.listdir(os.path.join(DEPLOY, "systemd")))
MANIFESTS = sorted(os.listdir(os.path.join(DEPLOY, "kubernetes")))
# The oldest Kubernetes that is still supported by anybody, and the newest whose schemas there are.
VERSIONS = ("1.28", kubernetes_validate.latest_version())


def read(*path):
    """A file of deploy/."""
    with open(os.path.join(DEPLOY, *path), encoding="utf-8") as text:
        return text.read()


def manifests():
    """All of Kubernetes: kind and name to what it is."""
    found = {}
    for name in MANIFESTS:
        for document in yaml.safe_load_all(read("kubernetes", name)):
            found[document["kind"], document["metadata"]["name"]] = document
    return found


def said(*command, cwd=None):
    """Its exit code, and what it says."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


# --- Prometheus ------------------------------------------------------------------------------------
def alerts():
    """Every alert, by name."""
    groups = yaml.safe_load(read("prometheus", "alerts.yml"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@pytest.mark.parametrize("what", ["check config prometheus.yml", "test rules alerts_test.yml"])
def test_promtool(what):
    code, text = said(promtool(), *what.split(), cwd=os.path.join(DEPLOY, "prometheus"))
    assert code == 0, text


def test_every_alert_is_tested_and_explained():
    tests = read("prometheus", "alerts_test.yml")
    with open(os.path.join(ROOT, "docs", "operations.md"), encoding="utf-8") as text:
        anchors = {heading.lower() for heading in re.findall(r"^#+ (\S+)$", text.read(), re.MULTILINE)}
    assert len(alerts()) == 20
    for name, rule in alerts().items():
        assert f'alertname="{name}"' in tests, f"{name}: no test has it fire"
        notes = rule["annotations"]
        assert notes["runbook"] == f"docs/operations.md#{name.lower()}" and name.lower() in anchors, name
        assert notes["summary"].endswith(".") and notes["description"].endswith("."), name
        assert rule["labels"]["severity"] in ("critical", "warning"), name


def test_alerts_ask_for_metrics_that_there_are():
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as page:
        known = set(re.findall(r"^\| `(cacheflow_\w+)`", page.read(), re.MULTILINE))
    for name, rule in alerts().items():
        for metric in re.findall(r"cacheflow_\w+", rule["expr"]):
            assert re.sub(r"_bucket$", "", metric) in known, f"{name}: {metric}"


# --- systemd ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", UNITS)
def test_units(name, tmp_path):
    # A key may come twice, to add to what was said.
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(read("systemd", name))
    assert parser.sections() == ["Unit", "Service", "Install"]
    command = parser["Service"]["ExecStart"].split()
    assert os.path.isabs(command[0])
    for line in ("NoNewPrivileges", "ProtectSystem", "PrivateDevices"):
        assert parser["Service"][line] in ("yes", "strict"), line
    if not shutil.which("systemd-analyze"):
        return
    # The program is not installed where this runs: another stands for it.
    unit = tmp_path / name
    unit.write_text(read("systemd", name).replace(command[0], "/bin/true"), encoding="utf-8")
    code, text = said("systemd-analyze", "verify", str(unit))
    assert code == 0 and name not in text, text
    code, text = said("systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit))
    assert code == 0, text


def test_the_program_takes_what_its_unit_gives_it(tmp_path):
    """systemd's own variables filled in, and those of the environment file as its comment shows them."""
    unit = read("systemd", "cacheflow-serve.service")
    file = tmp_path / "password"
    file.write_text("secret\n", encoding="utf-8")
    line = re.search(r"^ExecStart=\S+ serve (.*)$", unit, re.MULTILINE).group(1)
    line = line.replace("${CREDENTIALS_DIRECTORY}/password", str(file))
    shown = dict(re.findall(r"^#   (CACHEFLOW_\w+)=(.*)$", unit, re.MULTILINE))
    assert set(shown) == {"CACHEFLOW_URL", "CACHEFLOW_USER", "CACHEFLOW_ARGUMENTS"}
    # No port of this machine but its own is listened on.
    arguments = shown.pop("CACHEFLOW_ARGUMENTS").replace("0.0.0.0:9121", "127.0.0.1:0")
    served = Served(*line.replace("$CACHEFLOW_ARGUMENTS", arguments).split(), env=shown, listen=None)
    try:
        assert served.get("/healthz")["status"] == "ok"
    finally:
        served.discard()


# --- Kubernetes ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_as_the_schemas_say(name):
    documents = list(yaml.safe_load_all(read("kubernetes", name)))
    assert documents
    for document in documents:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    broken = dict(documents[-1], speck={})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_manifests_fit_together():
    found = manifests()
    server, exporter = found["StatefulSet", "cacheflow-redis"], found["Deployment", "cacheflow-exporter"]
    users = found["Secret", "cacheflow-users"]
    for one in (server, exporter):
        pod = one["spec"]["template"]
        assert one["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (service,) = [
            thing
            for (kind, _), thing in found.items()
            if kind == "Service" and thing["metadata"]["name"] == one["metadata"]["name"]
        ]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        names = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
        for variable in container["env"]:
            if "valueFrom" in variable:
                key = variable["valueFrom"]["secretKeyRef"]
                assert key["name"] == "cacheflow-users" and key["key"] in users["stringData"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        assert volumes == {mount["name"] for mount in container.get("volumeMounts", [])}
    policy = found["NetworkPolicy", "cacheflow-redis"]["spec"]
    (peer,) = policy["ingress"][0]["from"]
    labels = exporter["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items(), "the exporter is let in"
    assert users["stringData"]["exporter-password"] in users["stringData"]["users.acl"]


def directives(text):
    """The lines of a redis.conf that say something."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_one_server_is_told_what_the_other_is():
    """The container's configuration is the machine's, but for where it listens and where its files are."""
    own = {"bind", "dir", "aclfile", "protected-mode"}

    def rest(text):
        return [line for line in directives(text) if line.split()[0] not in own]

    found = manifests()
    assert rest(read("redis.conf")) == rest(found["ConfigMap", "cacheflow-redis"]["data"]["redis.conf"])
    assert directives(read("users.acl")) == directives(
        found["Secret", "cacheflow-users"]["stringData"]["users.acl"]
    )


def test_the_image_has_what_is_run():
    file = read("container", "Containerfile")
    copied = dict(re.findall(r"^COPY target/release/(\S+) (\S+)$", file, re.MULTILINE))
    assert set(copied) == {"libcacheflow.so", "cacheflow"}
    assert f"loadmodule {copied['libcacheflow.so']}" in read("redis.conf")
    assert os.path.dirname(copied["cacheflow"]) == "/usr/local/bin"


# --- all of it -------------------------------------------------------------------------------------
def test_a_server_runs_by_these_files(fresh_server, tmp_path):
    """Its own address and directory aside. The exporter sees all by what users.acl allows it, and no more."""
    acl = tmp_path / "users.acl"
    # The harness speaks as the default user.
    acl.write_text(read("users.acl").replace("user default off", "user default on nopass ~* &* +@all"))
    arguments = ["--aclfile", str(acl)]
    for line in directives(read("redis.conf")):
        name, _, rest = line.partition(" ")
        if name not in ("loadmodule", "bind", "port", "dir", "aclfile", "logfile", "save"):
            arguments += [f"--{name}", rest]
    server = fresh_server(arguments)
    assert server.config("maxmemory-policy") == "noeviction" and server.config("cacheflow.evict-at") == "90"
    server("CACHE.SET", "shop:1", "v", "EX", 100, "TAGS", "t")
    app = server.connect()
    app("AUTH", "app", "CHANGE-ME-app")
    assert app("CACHE.GET", "shop:1") == b"v" and app("CACHE.INVALIDATE", "TAGS", "t") == 1
    for refused in (
        ("CACHE.VERIFY",),
        ("CACHE.LOG",),
        ("CACHE.NAMESPACE", "SET", "n", "TTL", 5),
        ("FLUSHALL",),
    ):
        with pytest.raises(Exception, match="NOPERM"):
            app(*refused)
    env = {"CACHEFLOW_USER": "exporter", "CACHEFLOW_PASSWORD": "CHANGE-ME-exporter"}
    served = Served("--url", url_of(server), env=env)
    try:
        text = served.wait_ready().get("/metrics")
        assert value(text, "cacheflow_up") == 1 and families(text)
        for path in ("overview", "nodes", "namespaces", "hotkeys", "tags", "leases", "breakers", "log"):
            assert not served.get(f"/api/{path}").get("errors"), path
        assert served.get("/api/key?key=shop:1")["meta"] is None
    finally:
        served.discard()
    exporter = server.connect()
    exporter("AUTH", "exporter", "CHANGE-ME-exporter")
    for refused in (("CACHE.GET", "shop:1"), ("CACHE.INVALIDATE", "TAGS", "t"), ("CONFIG", "GET", "*")):
        with pytest.raises(Exception, match="NOPERM"):
            exporter(*refused)


def test_an_upgrade_as_the_page_describes_it(fresh_server):
    """Replica first, then fail over to it: nothing of what is kept is lost, and who waits is told."""
    primary = fresh_server()
    assert "can't unload" in primary.error("MODULE", "UNLOAD", "cacheflow")
    replica = fresh_server(["--replicaof", f"127.0.0.1 {primary.port}"])
    primary("CACHE.SET", "shop:1", "v", "EX", 100, "TAGS", "t")
    primary("CACHE.NAMESPACE", "SET", "shop", "TTL", 5000)
    lock = primary("CACHE.LOCK", "job", 600_000)
    grant(primary, "shop:computed")
    replica.wait_replica_of(primary)
    replica.restart()
    replica.wait_replica_of(primary)
    waiter = fetcher(primary, "shop:computed")
    replica("REPLICAOF", "NO", "ONE")
    primary("REPLICAOF", "127.0.0.1", replica.port)
    assert end_of(waiter).startswith("UNBLOCKED")
    assert replica("CACHE.GET", "shop:1") == b"v"
    assert replica("CACHE.NAMESPACE", "GET", "shop") == [b"ttl", 5000]
    assert replica("CACHE.LOCK", "job", 5000) is None, "the lock is held"
    assert replica("CACHE.UNLOCK", "job", lock) == 1
    assert grant(replica, "shop:computed"), "the lease has ended: it is computed once more"
    primary.restart(["--replicaof", f"127.0.0.1 {replica.port}"])
    primary.wait_replica_of(replica)
    assert replica("CACHE.INVALIDATE", "TAGS", "t") == 1 and replica("CACHE.GET", "shop:1") is None
