// Who invalidated what, the newest first.

import { figure, h, panel, text } from "./dom.js";
import * as show from "./format.js";

const SHOWN = 60;

const line = (record) => {
  const space = record.target.startsWith("@");
  const soft = /\bSOFT\b/i.test(record.command);
  const hits = h("b", { class: "hits" });
  figure(hits, record.hits, show.count(record.hits));
  return h(
    "li", { "data-target": record.target },
    h("time", { datetime: new Date(record.atMs).toISOString(), title: new Date(record.atMs).toLocaleString("en-GB") }, show.moment(record.atMs)),
    h("span", { class: "target" }, h("span", { class: `pill ${space ? "space" : "tag"}` }, space ? "namespace" : "tag"), " ", h("code", null, space ? record.target.slice(1) : record.target), soft ? h("span", { class: "pill stale" }, "soft") : null),
    hits,
    h("span", { class: "who", title: record.nodes.join(", ") }, [record.user, record.client].filter(Boolean).join(" @ ")),
  );
};

/** Puts it into a panel. */
export function begin() {
  const view = panel("log", "Invalidations", "Who invalidated what, and how many entries that hit", 4);
  const list = h("ol", { class: "log" });
  const empty = h("p", { class: "empty" }, "Nothing has been invalidated.");
  view.body.append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Invalidations: rows" }, list, empty));
  let shown = "";
  return {
    section: view.section,
    failed: view.failed,
    path: () => `log?count=${SHOWN}`,
    update(answer) {
      const now = JSON.stringify(answer.log);
      if (now !== shown) list.replaceChildren(...answer.log.map(line));
      shown = now;
      empty.hidden = answer.log.length > 0;
      text(view.section.querySelector(".about"), "Who invalidated what, and how many entries that hit");
      view.failed(answer.errors);
    },
  };
}
