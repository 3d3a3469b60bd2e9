// Elements and words. Everything from outside (names of games and takes, prompts) goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with classes and text. */
export function element(tag, classes = "", text = "") {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (text) node.textContent = text;
  return node;
}

/** A button; `label` is what it is called where its text alone does not say it. */
export function button(text, label, press, classes = "") {
  const node = Object.assign(element("button", classes, text), { type: "button" });
  if (label && label !== text) node.setAttribute("aria-label", label);
  node.addEventListener("click", press);
  return node;
}

export function link(text, label, href, classes = "") {
  const node = Object.assign(element("a", classes, text), { href });
  if (label && label !== text) node.setAttribute("aria-label", label);
  return node;
}

/** Set a text only where it changed, so that what is read out or selected is not disturbed. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A dot that tells good from bad, and its words. */
export function tell(node, kind, text) {
  node.querySelector(".dot").className = `dot ${kind}`;
  say(node.querySelector(".text"), text);
}

/** Make the parent's elements follow the items: one element per key, kept while its item is there, in order. */
export function keyed(parent, items, key, create, update = () => {}) {
  const known = new Map([...parent.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let before = [...parent.children].find((child) => child.dataset.key) ?? null;
  for (const item of items) {
    const name = String(key(item));
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    if (child === before) before = before.nextElementSibling;
    else parent.insertBefore(child, before);
    update(child, item);
  }
  for (const child of known.values()) child.remove();
}

/** Run `change` only when what it shows is new, and give the focus back to the same place in the node. */
export function whenNew(node, shown, change) {
  const key = JSON.stringify(shown);
  if (node.dataset.shown === key) return;
  node.dataset.shown = key;
  const places = [...node.querySelectorAll("button, a, input, select")];
  const focused = places.indexOf(document.activeElement);
  change();
  if (focused >= 0 && !node.contains(document.activeElement)) node.querySelectorAll("button, a, input, select")[focused]?.focus();
}

/** Radio buttons that look like one switch; `choose` is called with the value. */
export function picks(fieldset, name, options, chosen, choose) {
  keyed(fieldset, options, ([value]) => value, ([value, text]) => {
    const label = element("label");
    const input = Object.assign(element("input"), { type: "radio", name, value });
    input.addEventListener("change", () => choose(value));
    label.append(input, element("span", "", text));
    return label;
  });
  for (const input of fieldset.querySelectorAll("input")) input.checked = input.value === chosen;
}

/** A sentence that comes and goes; an error stays longer. `action` is [text, press]. */
export function toast(text, { error = false, action = null } = {}) {
  const note = element("p", error ? "error" : "", text);
  let timer = setTimeout(() => note.remove(), error || action ? 10000 : 5000);
  if (action) {
    const [name, press] = action;
    note.append(button(name, name, () => { note.remove(); press(); }));
    note.addEventListener("focusin", () => clearTimeout(timer));
    note.addEventListener("focusout", () => { timer = setTimeout(() => note.remove(), 4000); });
  }
  byId("toasts").append(note);
}

/** Do something that may fail; the daemon's sentence is shown. */
export async function act(what) {
  try {
    return await what();
  } catch (error) {
    toast(error.message, { error: true });
    return undefined;
  }
}

/** Ask with a dialog; resolves to its form's values, or null when it is left. */
export function ask(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? Object.fromEntries(new FormData(dialog.querySelector("form"))) : null);
    dialog.showModal();
  });
}

/** A name from outside, no longer than so many characters. */
export const short = (name, most) => (name.length > most ? `${name.slice(0, most - 1).trimEnd()}…` : name);

export const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

/** 75.4 -> "1:15"; with tenths "1:15.4". */
export function clock(seconds, tenths = false) {
  const whole = Math.max(0, seconds);
  const rest = tenths ? (Math.floor(whole * 10) % 600) / 10 : Math.floor(whole) % 60;
  return `${Math.floor(whole / 60)}:${tenths ? rest.toFixed(1).padStart(4, "0") : String(rest).padStart(2, "0")}`;
}

/** "20 s", "3 min", "2 h": for what is only an estimate. */
export function about(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; number >= 1000 && place < units.length - 1; place++) number /= 1000;
  return `${place && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[place]}`;
}

/** "2026-11-23T01:20:00+00:00" -> "23 Nov, 01:20" in the reader's own time zone; empty for what is no time. */
export function when(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}
