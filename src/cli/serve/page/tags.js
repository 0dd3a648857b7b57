// Tags: the largest, or those that match.

import { bar, figure, fill, h, panel, text } from "./dom.js";
import * as show from "./format.js";
import { Table } from "./table.js";

/** A word is looked for anywhere; who writes a pattern means it. */
function pattern(word) {
  if (word === "") return "*";
  return /[*?[\]\\]/.test(word) ? word : `*${word}*`;
}

/** `ask(kind, id, text)`: invalidates, after asking; `again()`: asks the API anew. */
export function begin(ask, again) {
  let word = "", waiting = 0;
  const find = (event) => {
    word = event.target.value.trim();
    clearTimeout(waiting);
    waiting = setTimeout(again, 250);
  };
  const search = h("input", { type: "search", placeholder: "Search: word or glob", "aria-label": "Search tags", oninput: find, spellcheck: "false", autocomplete: "off", autocapitalize: "off" });
  const view = panel("tags", "Tags", "By entries", 4, search);
  const columns = [
    { id: "tag", title: "Tag", head: true, kind: "wide", of: (row) => row.tag, show: (cell, row) => text(cell, row.tag === "" ? "(empty)" : row.tag) },
    {
      id: "entries", title: "Entries", number: true, of: (row) => row.entries,
      make: (cell) => cell.append(h("span"), bar("fresh")),
      show(cell, row) {
        figure(cell.firstChild, row.entries, show.count(row.entries));
        fill(cell.lastChild, row.share);
        cell.lastChild.classList.remove("high");
      },
    },
    {
      id: "act", title: "Invalidate", kind: "act",
      make(cell, row) {
        const act = () => ask("tags", row.id, row.tag);
        cell.append(h("button", { type: "button", class: "act needs-token", onclick: act, "aria-label": `Invalidate tag ${row.tag}` }, "Invalidate"));
      },
    },
  ];
  const table = new Table(columns, { key: (row) => `t:${row.id}`, sort: "entries", caption: "Tags", empty: "No entry carries a tag." });
  view.body.append(table.element);
  return {
    section: view.section,
    failed: view.failed,
    path: () => `tags?count=100&match=${encodeURIComponent(pattern(word))}`,
    update(answer) {
      const most = answer.tags[0]?.entries || 1;
      const of = answer.found > answer.tags.length ? `the largest ${answer.tags.length} of ` : "";
      const at = answer.whole ? "" : " that were looked at";
      text(view.section.querySelector(".about"), `${of}${show.plural(answer.found, "tag", "tags")}${word ? " that match" : ""}${at}`);
      table.empty = word ? "No tag matches." : "No entry carries a tag.";
      table.set(answer.tags.map((row) => ({ ...row, share: row.entries / most })));
      view.failed(answer.errors);
    },
  };
}
