// The dashboard: asks the API every two seconds, and has the parts of the page show it.
//
// What one request does not answer is said where it is missing, and does not keep the rest
// from being shown.

import { get } from "./api.js";
import { h, text } from "./dom.js";
import * as show from "./format.js";
import * as invalidate from "./invalidate.js";
import * as keys from "./keys.js";
import * as log from "./log.js";
import * as lookup from "./lookup.js";
import * as namespaces from "./namespaces.js";
import * as nodes from "./nodes.js";
import * as origin from "./origin.js";
import * as overtime from "./overtime.js";
import { History, Looks } from "./series.js";
import * as tags from "./tags.js";
import * as tiles from "./tiles.js";

const EVERY = 2000;
/** The first rates need two looks: the second comes soon. */
const AT_FIRST = 1000;
const LISTS = ["hotkeys", "tags", "breakers", "log", "progress"];
const READS = ["CACHE.GET", "CACHE.MGET", "CACHE.FETCH"];
const DARK = matchMedia("(prefers-color-scheme: dark)");

const at = (id) => document.getElementById(id);
const looks = { overview: new Looks(), commands: new Looks(), leases: new Looks() };
const history = new History();
let seconds = Number(stored("range")) || 120;
let paused = false;
let round = 0;
let timer = 0;

/** What this browser was told before; nothing where it keeps nothing. */
function stored(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(`cacheflow.${name}`);
    localStorage.setItem(`cacheflow.${name}`, value);
  } catch (error) {
    console.info("this browser keeps no settings:", error.message);
  }
  return null;
}

const { ask, refresh: refreshSession } = invalidate.begin(() => tick(true));
const look = lookup.begin(ask);
const view = {
  namespaces: namespaces.begin(ask),
  hotkeys: keys.beginHot(look, () => list("hotkeys")),
  tags: tags.begin(ask, () => list("tags")),
  log: log.begin(),
  progress: keys.beginProgress(look),
  breakers: origin.beginBreakers(),
  memory: origin.beginMemory(),
  commands: origin.beginCommands(),
  nodes: nodes.begin(),
};
tiles.begin(at("tiles"));
overtime.begin(at("charts"));
at("panels").append(
  ...["namespaces", "hotkeys", "tags", "log", "progress", "breakers", "commands", "memory", "nodes"].map((name) => view[name].section),
);

/** One of the lists. */
async function list(name) {
  try {
    view[name].update(await get(view[name].path?.() ?? name));
  } catch (error) {
    view[name].failed([{ error: error.message }]);
  }
}

/** All that is summed up, and who said it. */
async function sums() {
  const names = ["overview", "nodes", "namespaces", "leases", "commands"];
  const [overview, all, spaces, leases, commands] = await Promise.all(names.map(get));
  const isNew = looks.overview.push(overview);
  looks.commands.push(commands);
  looks.leases.push(leases);
  if (isNew) history.push(overtime.point(looks));
  const slow = commands.commands.filter(({ command, p99 }) => READS.includes(command) && p99 !== null);
  const slowest = slow.length > 0 ? Math.max(...slow.map(({ p99 }) => p99)) : null;
  tiles.update({ overview, rates: looks.overview.rates(overtime.COUNTERS), slowest }, history);
  overtime.update(history, seconds);
  view.nodes.update(all);
  view.namespaces.update(spaces);
  view.progress.updateFigures(leases);
  view.breakers.updateFigures(overview);
  view.memory.updateFigures(overview);
  view.commands.update(looks.commands);
  health(overview, all);
}

/** Who is dead is said above everything. */
function health({ kind, failure, nodes: { up, all }, panics, readOnly, version, atMs }, { nodes: each }) {
  const dead = each.filter((node) => !node.up);
  const problems = dead.map(({ node, role, error }) => `${node} (${role}) is down: ${error}`);
  if (failure) problems.push(`The servers cannot be found out: ${failure}`);
  if (panics > 0) problems.push(`${show.plural(panics, "panic", "panics")} of the module: a bug, see the server's log`);
  warn(problems);
  const state = at("state");
  state.className = `state ${dead.length === 0 && !failure ? "well" : up === 0 ? "bad" : "ill"}`;
  const whole = up === all ? show.plural(all, "node", "nodes") : `${up} of ${show.plural(all, "node", "nodes")} up`;
  text(at("state-text"), paused ? `paused · ${whole}` : kind === "single" ? whole : `${kind} · ${whole}`);
  text(at("foot-version"), `cacheflow ${version}${readOnly ? " · read only: no --token-file" : ""}`);
  text(at("foot-at"), `as of ${show.moment(atMs)}`);
  document.title = dead.length > 0 ? `(${dead.length} down) CacheFlow` : "CacheFlow";
  at("main").classList.remove("old");
}

function warn(problems) {
  const banner = at("banner");
  const said = problems.join("\n");
  if (banner.dataset.said === said) return;
  banner.dataset.said = said;
  banner.hidden = problems.length === 0;
  banner.replaceChildren(...problems.map((problem) => h("p", null, problem)));
}

/** Nobody answers: the figures stay, and are seen to be old. */
function lost(error) {
  const since = looks.overview.newest ? ` The figures are as of ${show.moment(looks.overview.newest.atMs)}.` : "";
  warn([`${error.message}.${since}`]);
  at("state").className = "state bad";
  text(at("state-text"), "not connected");
  at("main").classList.add("old");
}

async function tick(now = false) {
  clearTimeout(timer);
  if (!paused || now) {
    const rest = now || round % 2 === 0 ? [refreshSession(), ...LISTS.map(list)] : [];
    const answered = await Promise.allSettled([sums(), ...rest]);
    const failed = answered.find(({ status }) => status === "rejected");
    if (failed) lost(failed.reason);
    round += 1;
  }
  clearTimeout(timer);
  timer = setTimeout(() => tick(), round < 3 ? AT_FIRST : EVERY);
}

function choosePause() {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").setAttribute("aria-label", paused ? "Resume" : "Pause");
  at("pause").title = paused ? "Resume" : "Pause";
  if (paused) text(at("state-text"), "paused");
  else tick();
}

function paint(theme) {
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  const dark = (document.documentElement.dataset.theme ?? (DARK.matches ? "dark" : "light")) === "dark";
  const other = dark ? "light" : "dark";
  at("theme").dataset.other = other;
  at("theme").title = `To ${other} colours`;
  at("theme").setAttribute("aria-label", `To ${other} colours`);
  overtime.repaint();
}

at("pause").addEventListener("click", choosePause);
at("theme").addEventListener("click", () => {
  const { other } = at("theme").dataset;
  stored("theme", other);
  paint(other);
});
DARK.addEventListener("change", () => paint());
for (const input of at("range").querySelectorAll("input")) {
  input.checked = Number(input.value) === seconds;
  input.addEventListener("change", () => {
    seconds = Number(input.value);
    stored("range", input.value);
    overtime.update(history, seconds);
  });
}
for (const close of document.querySelectorAll("dialog .close")) close.addEventListener("click", () => close.closest("dialog").close());
paint(stored("theme"));
tick();
