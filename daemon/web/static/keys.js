// Single keys: what each view does with them, and a list of them. They can be switched off, for they collide with
// some screen readers, and they rest while somebody types or a dialog is open.

import { byId, element } from "./dom.js";

const OFF = "realmaster.keys-off";
const on = Object.assign(element("input"), { id: "keys-on", type: "checkbox" });
const list = Object.assign(element("div"), { id: "keys-list" });
const dialog = makeDialog();
const groups = []; // [title, active(), { key: [words, press] }]
const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", Home: "Home", End: "End" };

/** Keys of a part of the page that work while `active()`. */
export function addKeys(title, active, keys) {
  groups.push([title, active, keys]);
}

export function startKeys() {
  document.body.append(dialog);
  on.checked = localStorage.getItem(OFF) === null;
  on.addEventListener("change", () => (on.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));
  byId("keys-open").addEventListener("click", show);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const at = event.target;
    if (at.closest("textarea, select, input:not([type=radio], [type=checkbox], [type=range])")) return;
    if (event.key === "?") { event.preventDefault(); show(); return; }
    if (!on.checked) return;
    if (event.key === " " && at.closest("button, a, summary, [type=checkbox], [type=radio]")) return;
    if (/^(Arrow|Home|End)/.test(event.key) && at.closest("[type=range], [type=radio]")) return;
    for (const [, active, keys] of groups) {
      const entry = active() ? keys[event.key.length === 1 ? event.key.toLowerCase() : event.key] : undefined;
      if (entry) { event.preventDefault(); entry[1](); return; }
    }
  });
}

function makeDialog() {
  const node = Object.assign(element("dialog"), { id: "keys-dialog" });
  const form = Object.assign(element("form"), { method: "dialog" });
  const title = Object.assign(element("h2", "", "Keys"), { id: "keys-title" });
  node.setAttribute("aria-labelledby", title.id);
  on.setAttribute("role", "switch");
  const choice = element("label", "switch");
  choice.append(on, " Single keys do something");
  const end = element("div", "row end");
  end.append(element("button", "main", "Close"));
  form.append(title, list, choice, end);
  node.append(form);
  return node;
}

function show() {
  list.replaceChildren(...groups.map(([title, , keys]) => {
    const part = element("section");
    const words = element("dl");
    for (const [key, [what]] of Object.entries(keys)) {
      const term = element("dt");
      term.append(element("kbd", "", NAMES[key] ?? key.toUpperCase()));
      words.append(term, element("dd", "", what));
    }
    part.append(element("h3", "", title), words);
    return part;
  }));
  dialog.showModal();
}
