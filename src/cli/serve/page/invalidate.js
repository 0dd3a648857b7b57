// Invalidating by hand: what, then how many that hits, then it is done. The server insists on
// the same order: without what a preview answered, it invalidates nothing.

import { get, send } from "./api.js";
import { h } from "./dom.js";
import * as show from "./format.js";

const KINDS = { tags: "tag", namespace: "namespace" };

/** Prepares the dialog. `done()`: something was changed. */
export function begin(done) {
  const dialog = document.getElementById("ask");
  const body = document.getElementById("ask-body");
  const heading = document.getElementById("ask-title");
  const toast = document.getElementById("toast");
  const buttons = { invalidate: document.getElementById("invalidate"), session: document.getElementById("session"), readOnly: document.getElementById("read-only") };
  let state = { readOnly: true, session: false };
  let showing = 0;

  function paint() {
    document.body.classList.toggle("may-change", !state.readOnly);
    buttons.readOnly.hidden = !state.readOnly;
    buttons.invalidate.hidden = state.readOnly;
    buttons.session.hidden = state.readOnly;
    buttons.session.textContent = state.session ? "Sign out" : "Sign in";
  }

  async function refresh() {
    state = await get("session");
    paint();
  }

  function say(sentence) {
    toast.textContent = sentence;
    toast.classList.add("shown");
    clearTimeout(showing);
    showing = setTimeout(() => toast.classList.remove("shown"), 6000);
  }

  /** A form of the dialog: what it does on submit, with its failure shown in it. */
  function form(submit, label, kind, ...children) {
    const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
    const button = h("button", { type: "submit", class: kind }, label);
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const element = h("form", null, ...children, wrong, h("div", { class: "actions" }, cancel, button));
    element.addEventListener("submit", async (event) => {
      event.preventDefault();
      wrong.hidden = true;
      button.disabled = true;
      try {
        await submit(element);
      } catch (error) {
        // A session that has ended: the token is asked for again.
        if (error.status === 401 && state.session) {
          state.session = false;
          paint();
        }
        wrong.textContent = error.message;
        wrong.hidden = false;
      } finally {
        button.disabled = false;
      }
    });
    return element;
  }

  function open(title, content) {
    heading.textContent = title;
    body.replaceChildren(content);
    if (!dialog.open) dialog.showModal();
    body.querySelector("input:not([type=checkbox], [hidden]), .danger")?.focus();
  }

  function signIn(then) {
    const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
    const submit = async () => {
      await send("POST", "session", { token: token.value });
      state.session = true;
      paint();
      then();
    };
    const about = h("p", { class: "dim" }, "The token is the first line of the file that `--token-file` names. It is exchanged for a session of eight hours.");
    // Who keeps passwords wants a name to keep it by.
    const name = h("input", { type: "text", autocomplete: "username", value: "cacheflow", hidden: true });
    open("Sign in", form(submit, "Sign in", "primary", name, h("label", { for: "token" }, "Token"), token, about));
  }

  /** First step: what it is to be. */
  function choose() {
    const kind = h("select", { id: "kind" }, h("option", { value: "tags" }, "Tag"), h("option", { value: "namespace" }, "Namespace"));
    const name = h("input", { id: "name", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
    const submit = () => size(kind.value, encodeURIComponent(name.value), name.value);
    open("Invalidate", form(submit, "How many would that hit?", "primary", h("label", { for: "kind" }, "What"), kind, h("label", { for: "name" }, "Name"), name));
  }

  /** Second step: how many that hits, hard or soft. */
  async function size(kind, id, name) {
    const target = { kind, names: [id], soft: false };
    const told = await send("POST", "invalidate", { ...target, preview: true });
    const unsaid = told.errors.map(({ node, error }) => `${node}: ${error}`).join(" · ");
    const hits = h("b", { id: "hits", "data-value": told.hits }, `${told.atLeast ? "at least " : ""}${show.plural(told.hits, "entry", "entries")}`);
    const about = h("p", { class: "size" }, `The ${KINDS[kind]} `, h("code", null, name || "(empty)"), " is on ", hits, ".");
    if (told.confirm === null) {
      open("Invalidate", h("div", null, about, h("p", { class: "wrong", role: "alert" }, `Not every node has answered, so nothing can be invalidated from here. ${unsaid}`)));
      return;
    }
    const soft = h("input", { type: "checkbox", id: "soft" });
    const submit = async () => {
      // What is confirmed is exactly what was previewed: a soft one is another.
      const wanted = { ...target, soft: soft.checked };
      const confirmed = soft.checked ? await send("POST", "invalidate", { ...wanted, preview: true }) : told;
      const { hits: hit } = await send("POST", "invalidate", { ...wanted, confirm: confirmed.confirm });
      dialog.close();
      say(`${show.plural(hit, "entry was", "entries were")} hit.`);
      done();
    };
    const text = `Invalidate ${told.atLeast ? "at least " : ""}${show.plural(told.hits, "entry", "entries")}`;
    const label = h("label", { class: "check", for: "soft" }, soft, h("span", null, "Soft: they turn stale and may be served while they are recomputed"));
    open("Invalidate", form(submit, text, "danger", about, h("p", { class: "dim" }, "From then on nobody reads them. The origin will be asked for what is read again."), label));
  }

  /** Invalidates this, after asking. */
  function ask(kind, id, name) {
    const go = async () => {
      try {
        await size(kind, id, name);
      } catch (error) {
        if (error.status === 401) {
          state.session = false;
          paint();
          signIn(go);
          return;
        }
        open("Invalidate", h("p", { class: "wrong", role: "alert" }, error.message));
      }
    };
    return state.session ? go() : signIn(go);
  }

  buttons.invalidate.addEventListener("click", () => (state.session ? choose() : signIn(choose)));
  buttons.session.addEventListener("click", async () => {
    if (!state.session) {
      signIn(() => dialog.close());
      return;
    }
    try {
      await send("DELETE", "session");
      state.session = false;
      paint();
      say("Signed out.");
    } catch (error) {
      say(error.message);
    }
  });
  return { ask, refresh };
}
