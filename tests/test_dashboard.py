"""The dashboard in real headless Chromium: what is on it is what the servers say, under load; invalidating
from it; nodes that die; hostile names; phones; a console that has nothing to say."""

import contextlib

import pytest

from harness.browser import DESK, PHONE, Browser
from harness.cluster import Cluster
from harness.leases import locker, stats
from harness.program import Served, url_of
from harness.server import wait_for
from harness.shop import Shop

pytestmark = pytest.mark.topology("single")
TOKEN = "a-token-of-the-test"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def chromium():
    """One browser for all of them."""
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(chromium):
    """Opens the dashboard of what is served: page(*arguments). The console must be clean at the end."""
    with contextlib.ExitStack() as started:

        def open_it(*arguments, ready=True):
            served = Served(*arguments)
            started.callback(served.discard)
            if ready:
                served.wait_ready()
            chromium.complaints()
            return chromium.open(served.port)

        yield open_it
        said = chromium.complaints()
        chromium.driver.get("about:blank")
    assert said == [], "the console, violations of the policy among it"


@pytest.fixture
def token_file(tmp_path):
    """A file with the token."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n", encoding="utf-8")
    return path


@pytest.fixture
def loaded(server):
    """A server under the shop's load, which has ended: figures that stand still."""
    with Shop(server.connect, [server], pause=0.001) as shop:
        wait_for(
            lambda: stats(server)["hits"] > 3000 and stats(server)["coalesced"] > 0, "the shop to be busy"
        )
    assert shop.failures == []
    server.wait_swept()
    return server


def reads(server):
    """All reads that a server counted."""
    of = stats(server)
    return of["hits"] + of["stale-hits"] + of["misses"] + of["busy"]


# --- what it shows ---------------------------------------------------------------------------------
def test_figures_are_the_servers(loaded, page):
    browser = page("--url", url_of(loaded))
    said = stats(loaded)
    assert browser.value("tile-reads-below") == reads(loaded)
    assert browser.value("tile-coalesced-below") == said["coalesced"]
    assert browser.value("tile-saved-below") == pytest.approx(said["origin-ms-saved"] / 1000)
    assert browser.value("tile-removed-below") == said["invalidated-entries"]
    ratio = (said["hits"] + said["stale-hits"]) / reads(loaded)
    shown = float(browser.text("#tile-ratio").removesuffix(" %"))
    assert shown == pytest.approx(100 * ratio, abs=0.06)
    rows = browser.rows("namespaces")
    assert {"product", "price", "user", "image", "search", "page"} <= set(rows)
    for name in ("product", "image"):
        own = stats(loaded, "NAMESPACE", name)
        assert browser.figure("namespaces", name, "Hits") == own["hits"]
        assert browser.figure("namespaces", name, "Entries") == own["entries"]
    assert "256 KiB" in " ".join(rows["image"]) and "16 MiB" in " ".join(rows["product"])
    wait_for(lambda: browser.rows("hotkeys"), "the lists")
    for by in ("hits", "cost", "bytes", "waits"):
        browser.press(f"#hotkeys label:has([value={by}])")
        hot = loaded("CACHE.HOTKEYS", "BY", by, "COUNT", 3)
        names = [
            key.decode()
            for key, _ in (hot if isinstance(hot[0], list) else zip(hot[::2], hot[1::2], strict=True))
        ]
        first = names[0]
        wait_for(lambda name=first: next(iter(browser.rows("hotkeys")), None) == name, f"the first by {by}")
    tags = browser.rows("tags")
    assert float(tags["product:0"][0]) == len(keys_of(loaded, "product:0"))
    newest = loaded("CACHE.LOG", 1)[0]
    assert newest[newest.index(b"target") + 1].decode().removeprefix("@") in browser.texts("#log code")[0]
    (node,) = browser.rows("nodes").values()
    assert node[:2] == ["up", "primary"]
    name = f"127.0.0.1:{loaded.port}"
    # Entries end by themselves meanwhile.
    wait_for(
        lambda: browser.figure("nodes", name, "Entries") == stats(loaded)["entries"], "those of the node"
    )
    assert browser.text("#state-text") == "1 node" and browser.text("#read-only") == "read only"


def keys_of(server, tag):
    """The keys with a tag."""
    cursor, keys = server("CACHE.KEYS", tag, 0, "COUNT", 10_000)
    assert cursor == b"0"
    return keys


def test_it_is_live(server, page):
    """Rates are of what happens between two looks, not since the start."""
    server("CACHE.SET", "shop:1", "v", "COST", 100)
    browser = page("--url", url_of(server))
    with Shop(server.connect, [server], pause=0.001):
        wait_for(lambda: (browser.value("tile-reads") or 0) > 50, "reads by the second")
        wait_for(lambda: browser.figure("namespaces", "product", "Reads/s"), "those of a namespace")
        wait_for(lambda: browser.find("#chart-reads canvas"), "a chart")
        wait_for(lambda: (browser.value("tile-saved") or 0) > 0, "the time that is saved")
        assert "fresh" in browser.find("#chart-reads .plot")[0].get_attribute("aria-label")
        assert 0 < browser.value("tile-latency") < 1
    browser.press("#pause")
    before = browser.value("tile-reads-below")
    server("CACHE.GET", "shop:1")
    assert browser.text("#state-text").startswith("paused")
    assert browser.value("tile-reads-below") == before
    browser.press("#pause")
    wait_for(lambda: browser.value("tile-reads-below") == reads(server), "it to go on")


def test_what_is_in_progress(server, page):
    for n in range(2):
        server("CACHE.FETCH", f"shop:{n}", "LEASE", 60_000, "KEEP")
    server("CACHE.LOCK", "shop:locked", 60_000)
    waiting = [locker(server, "shop:locked") for _ in range(3)]
    browser = page("--url", url_of(server))
    wait_for(lambda: browser.rows("progress"), "the key that is waited for")
    found = {kind: browser.value(f"now-{kind}") for kind in ("leases", "locks", "waiters")}
    assert found == {"leases": 2, "locks": 1, "waiters": 3}
    assert browser.figure("progress", "shop:locked", "Waiting") == 3
    for waiter in waiting:
        waiter.close()
    wait_for(lambda: browser.value("now-waiters") == 0, "them to be gone")


def test_tables_sort_and_lists_are_searched(fresh_server, page):
    server = fresh_server()  # what others have invalidated and counted would be listed, too
    for n, name in enumerate(("a", "b", "c")):
        for k in range(3 - n):
            server("CACHE.SET", f"{name}:{k}", "v" * 100 * (n + 1) ** 3, "TAGS", f"tag-{name}", "all")
        for _ in range(n + 1):
            server("CACHE.GET", f"{name}:0")
    browser = page("--url", url_of(server))

    def order(title):
        browser.press(f"#namespaces button.sort[data-title='{title}']")
        return list(browser.rows("namespaces"))

    assert order("Hits")[:3] == ["c", "b", "a"]
    assert order("Hits")[-3:] == ["a", "b", "c"]
    assert order("Entries")[:3] == ["a", "b", "c"]
    assert browser.find("#namespaces th[aria-sort=descending]")[0].text.startswith("Entries")
    browser.write("#namespaces input", "b")
    wait_for(lambda: list(browser.rows("namespaces")) == ["b"], "one row")
    browser.write("#tags input", "g-c")
    wait_for(lambda: browser.rows("tags") == {"tag-c": ["1", ""]}, "the tag with that in its name")
    browser.write("#tags input", "tag-[ab]")
    wait_for(lambda: set(browser.rows("tags")) == {"tag-a", "tag-b"}, "those that match a pattern")
    browser.write("#tags input", "none")
    wait_for(lambda: "No tag matches." in browser.texts("#tags .empty"), "nothing to be found")


def test_rates_of_two_looks(server, page):
    """What the page makes of counters, by its own modules: no rate where there is none to tell."""
    browser = page("--url", url_of(server))
    said = browser.ask("""
        const { Looks, quantile, ratios } = await import("/page/series.js");
        const { bytes, count, percent, time } = await import("/page/format.js");
        const rates = (...looks) => {
            const all = new Looks();
            for (const [atMs, over, hits] of looks) all.push({ atMs, over, hits });
            return all.rates(["hits"]).hits;
        };
        const times = (count, short, long) => ({ count, buckets: [[0.1, short], [1, long], [null, count]] });
        return {
            rate: rates([1000, "a", 5], [3000, "a", 25]),
            first: rates([1000, "a", 5]),
            reset: rates([1000, "a", 5], [3000, "a", 2]),
            other: rates([1000, "a", 5], [3000, "b", 25]),
            same: rates([1000, "a", 5], [1000, "a", 5]),
            unknown: rates([1000, "a", null], [3000, "a", 25]),
            calm: rates([0, "a", 0], [20000, "a", 1000], [22000, "a", 1010], [24000, "a", 1020]),
            quantiles: [
                quantile(times(0, 0, 0), times(10, 10, 10), 0.5),
                quantile(times(5, 5, 5), times(5, 5, 5), 0.5),
                quantile(times(2, 2, 2), times(6, 2, 4), 0.9),
                quantile(undefined, times(1, 1, 1), 0.5),
            ],
            none: ratios({ hits: 0, staleHits: 0, misses: 0, busy: 0 }).served,
            half: ratios({ hits: 1, staleHits: 1, misses: 1, busy: 1 }),
            shown: [count(1234567), count(9999), count(null) === "\\u2013", count(999960)],
            others: [percent(0.99999), percent(1), bytes(1 << 20), time(0.0000021), time(5025), time(119)],
        }""")
    assert (said["rate"], said["calm"]) == (10, 5)
    nothing = [said[why] for why in ("first", "reset", "other", "same", "unknown", "none")]
    assert nothing == [None] * 6
    assert said["quantiles"] == [pytest.approx(0.05), None, 1, None]
    assert said["half"] == {"served": 0.5, "fresh": 0.25, "stale": 0.25}
    assert said["shown"] == ["1.23 M", "9,999", True, "1.00 M"], "what is not known is a dash"
    assert said["others"] == ["99.9 %", "100 %", "1 MiB", "2.10 µs", "1 h 23 min", "119 s"]


# --- a key -----------------------------------------------------------------------------------------
def test_a_key_is_looked_up(server, page):
    server("CACHE.SET", "shop:1", "secret-of-it", "EX", 100, "COST", 70, "TAGS", "sale", "item:1")
    browser = page("--url", url_of(server))
    browser.write("#lookup-key", "shop:1\n")
    wait_for(lambda: browser.find("#sheet-state"), "the key")
    assert browser.text("#sheet-state") == "fresh" and browser.texts("#sheet .tags code") == [
        "sale",
        "item:1",
    ]
    assert browser.text("[data-field='cost-ms']") == "70 ms" and browser.text("[data-field=bytes]") == "12 B"
    assert "secret-of-it" not in browser.driver.page_source
    browser.press("#sheet .close")
    browser.write("#lookup-key", "none\n")
    wait_for(lambda: "There is no such key." in browser.texts("#sheet .empty"), "that there is none")
    browser = page("--url", url_of(server), "--show-values")
    browser.write("#lookup-key", "shop:1\n")
    wait_for(lambda: browser.texts("pre#sheet-value") == ["secret-of-it"], "the value")


def test_names_are_text_whatever_they_are(server, page):
    server("CACHE.SET", f"{EVIL}:{EVIL}", EVIL, "TAGS", EVIL)
    server("CACHE.GET", f"{EVIL}:{EVIL}")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", EVIL)
    browser = page("--url", url_of(server), "--show-values")
    wait_for(lambda: EVIL in browser.rows("tags") and browser.rows("hotkeys"), "the lists")
    assert EVIL in browser.rows("namespaces") and f"{EVIL}:{EVIL}" in browser.rows("hotkeys")
    assert EVIL in browser.texts("#log code")
    browser.press("#hotkeys button.link")
    wait_for(lambda: browser.texts("pre#sheet-value") == [EVIL], "the value")
    assert browser.find("main img, dialog img") == []


# --- invalidating ----------------------------------------------------------------------------------
def test_without_a_token_nothing_is_offered(server, page):
    server("CACHE.SET", "shop:1", "v", "TAGS", "sale")
    browser = page("--url", url_of(server))
    wait_for(lambda: browser.rows("tags"), "the lists")
    offered = browser.find("button.act, #invalidate, #session")
    assert offered and not any(button.is_displayed() for button in offered)
    assert browser.text("#read-only") == "read only"


def test_a_tag_is_invalidated_after_a_preview(server, page, token_file):
    for n in range(7):
        server("CACHE.SET", f"shop:{n}", "v", "EX", 100, "GRACE", 100, "TAGS", "a sale/€", f"item:{n}")
    browser = page("--url", url_of(server), "--token-file", token_file)
    browser.press("#tags .act[aria-label='Invalidate tag a sale/€']")
    browser.write("#token", "wrong\n")
    wait_for(lambda: browser.texts("#ask .wrong") == ["this is not the token"], "the refusal")
    browser.complaints()  # the browser notes each answer that is a refusal: 401
    browser.write("#token", TOKEN + "\n")
    wait_for(lambda: browser.find("#hits"), "the preview")
    assert browser.text("#hits") == "7 entries" and server("CACHE.GET", "shop:3") == b"v"
    browser.press("#ask .actions button")
    assert not browser.find("#ask")[0].is_displayed() and server("CACHE.GET", "shop:3") == b"v", "cancelled"
    browser.press("#tags .act[aria-label='Invalidate tag a sale/€']")
    browser.press("#soft")
    browser.press("#ask .danger")
    wait_for(lambda: browser.text("#toast") == "7 entries were hit.", "the answer")
    assert server("CACHE.GET", "shop:3") is None and server("CACHE.GET", "shop:3", "STALE") == b"v", "soft"
    wait_for(lambda: browser.texts("#log code") == ["a sale/€"], "it in the log")
    browser.press("#namespaces .act[aria-label='Invalidate namespace shop']")
    wait_for(lambda: browser.texts("#hits") == ["7 entries"], "the preview")
    browser.press("#ask .danger")
    wait_for(lambda: server("CACHE.GET", "shop:3", "STALE") is None, "it to be invalidated")
    browser.press("#session")
    wait_for(lambda: browser.text("#session") == "Sign in", "the session's end")


# --- who is dead, who looks ------------------------------------------------------------------------
def test_a_dead_node_is_shown_dead(fleet, page, no_server_broke):
    with Cluster(fleet, primaries=3, replicas=1) as cluster:
        client = cluster.connect()
        for n in range(30):
            assert client("CACHE.SET", f"shop:{n}", "v", "TAGS", "sale") == b"OK"
        browser = page("--url", url_of(cluster.nodes[0]), "--timeout", "2s")
        assert browser.value("tile-memory-below") == 30 and len(browser.rows("nodes")) == 6
        assert browser.text("#state-text") == "cluster · 6 nodes" and not browser.find("#banner p")
        dead = cluster.replicas()[-1]
        name = f"127.0.0.1:{dead.port}"
        cluster.kill(dead)
        wait_for(lambda: browser.rows("nodes")[name][0] == "down", "the node to be down")
        assert browser.text("#state-text") == "cluster · 5 of 6 nodes up"
        assert browser.text("#banner").startswith(f"{name} (replica) is down: cannot connect")
        assert [name in row.text for row in browser.find("tr.dead")] == [True]
        assert browser.value("tile-memory-below") == 30, "the others are shown as ever"
        cluster.restart(dead)
        wait_for(lambda: not browser.find("tr.dead"), "it to be back")
        assert not browser.find("#banner")[0].is_displayed()


def test_a_program_that_is_gone_is_said(server, chromium):
    served = Served("--url", url_of(server)).wait_ready()
    try:
        chromium.open(served.port)
        assert served.stop() == 0
        wait_for(lambda: chromium.text("#state-text") == "not connected", "it to be noticed")
        assert "cannot be reached" in chromium.text("#banner") and chromium.find("main.old")
    finally:
        served.discard()
        chromium.driver.get("about:blank")
        chromium.complaints()


@pytest.mark.parametrize("screen", [PHONE, (320, 640)])
def test_on_a_phone_nothing_is_wider_than_the_screen(loaded, page, chromium, screen):
    chromium.size(*screen)
    try:
        browser = page("--url", url_of(loaded))
        wait_for(lambda: browser.rows("tags") and browser.find("#chart-reads canvas"), "all of it")
        assert browser.run("return [document.documentElement.scrollWidth, innerWidth]") == [screen[0]] * 2
    finally:
        chromium.size(*DESK)


def test_dark_and_light(server, page, chromium):
    browser = page("--url", url_of(server))
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.run(ground)
    browser.press("#theme")
    light = browser.run(ground)
    assert light != dark
    chromium.colours(dark=False)
    browser.run("localStorage.clear(); location.reload()")
    wait_for(lambda: browser.value("tile-reads-below") is not None and browser.run(ground) == light, "light")
    chromium.colours(dark=True)
    wait_for(lambda: browser.run(ground) == dark, "the system's colours to be followed")
    # Whoever cannot see knows what everything is, and reaches it by keys.
    unnamed = """return [...document.querySelectorAll("button, input, select")].filter((e) =>
        e.offsetParent && !(e.labels?.length || e.getAttribute("aria-label") || e.innerText.trim()))
        .map((e) => e.outerHTML)"""
    assert browser.run(unnamed) == []
