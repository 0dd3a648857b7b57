// Tables that are sorted by a click, and that change under the reader's eyes without moving
// what he points at: rows keep their elements, and their places as long as the pointer or
// the focus is among them.

import { h, text } from "./dom.js";

/**
 * columns: { id, title, of(row): what is sorted by, make(cell): once, show(cell, row), number, minor, help }
 * options: { key(row), sort: id, down: boolean, empty: text, caption, dead(row) }
 */
export class Table {
  #rows = new Map();
  #data = [];
  #columns;
  #options;
  #sort;
  #down;
  #body = h("tbody");
  #empty;
  #heads = new Map();

  constructor(columns, options) {
    this.#columns = columns;
    this.#options = options;
    this.#sort = options.sort;
    this.#down = options.down ?? true;
    this.#empty = h("p", { class: "empty" }, options.empty);
    const head = h("tr", null, ...columns.map((column) => this.#head(column)));
    const table = h("table", null, h("caption", { class: "unseen" }, options.caption), h("thead", null, head), this.#body);
    this.element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${options.caption}: rows` }, table, this.#empty);
    this.#mark();
  }

  #head(column) {
    const kind = [column.number ? "number" : "", column.minor ? "minor" : ""].join(" ").trim() || undefined;
    if (!column.of) return h("th", { class: kind, scope: "col" }, h("span", { class: "unseen" }, column.title));
    const by = () => {
      this.#down = this.#sort === column.id ? !this.#down : Boolean(column.number);
      this.#sort = column.id;
      this.#mark();
      this.#order(true);
    };
    const button = h("button", { type: "button", class: "sort", "data-title": column.title, title: column.help, onclick: by }, column.title);
    const head = h("th", { class: kind, scope: "col" }, button);
    this.#heads.set(column.id, head);
    return head;
  }

  #mark() {
    for (const [id, head] of this.#heads) {
      if (id === this.#sort) head.setAttribute("aria-sort", this.#down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  #make(row) {
    const cells = this.#columns.map((column) => {
      const kind = [column.number ? "number" : "", column.minor ? "minor" : "", column.kind ?? ""].join(" ").trim();
      const cell = h(column.head ? "th" : "td", { class: kind || undefined, scope: column.head ? "row" : undefined });
      column.make?.(cell, row);
      return cell;
    });
    return h("tr", { "data-key": this.#options.key(row) }, ...cells);
  }

  /** Shows these rows. */
  set(data) {
    this.#data = data;
    const keep = new Set(data.map(this.#options.key));
    for (const [key, element] of this.#rows) {
      if (!keep.has(key)) {
        element.remove();
        this.#rows.delete(key);
      }
    }
    for (const row of data) {
      const key = this.#options.key(row);
      let element = this.#rows.get(key);
      if (!element) this.#rows.set(key, (element = this.#make(row)));
      element.row = row;
      element.classList.toggle("dead", this.#options.dead?.(row) ?? false);
      this.#columns.forEach((column, at) => column.show?.(element.children[at], row));
    }
    this.#empty.hidden = data.length > 0;
    this.#order(false);
  }

  /** Another text where there are no rows. */
  set empty(value) {
    text(this.#empty, value);
  }

  #order(asked) {
    const held = !asked && (this.#body.matches(":hover") || this.#body.contains(document.activeElement));
    const column = this.#columns.find(({ id }) => id === this.#sort);
    const rows = [...this.#data];
    if (column) {
      const sign = this.#down ? -1 : 1;
      rows.sort((one, other) => {
        const [a, b] = [column.of(one), column.of(other)];
        // What is not known stands last, whichever way.
        if (a === null || b === null || a === undefined || b === undefined) return (a ?? null) === null ? ((b ?? null) === null ? 0 : 1) : -1;
        return sign * (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
      });
    }
    const elements = rows.map((row) => this.#rows.get(this.#options.key(row)));
    if (held) {
      elements.filter((element) => !element.isConnected).forEach((element) => this.#body.append(element));
      return;
    }
    elements.forEach((element, at) => {
      if (this.#body.children[at] !== element) this.#body.insertBefore(element, this.#body.children[at] ?? null);
    });
  }
}
