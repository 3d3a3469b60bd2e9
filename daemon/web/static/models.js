// Choosing a model and an adapter: what there is, and what fits this machine.

import { call } from "./api.js";
import { element, keyed, say } from "./dom.js";

const OTHER = "\u0000other";
let asked = null;

/** The models of this machine, asked for once a minute at most. */
function models() {
  if (!asked || Date.now() - asked.at > 60000) {
    asked = { at: Date.now(), answer: call("GET", "/models") };
    asked.answer.catch(() => { asked = null; });
  }
  return asked.answer;
}

export class ModelPicker {
  /** Builds itself into `root`. `live`: only models that lift from the render alone. */
  constructor(root, { live = false } = {}) {
    this.live = live;
    this.current = { name: "", lora: null };
    this.known = null;
    const model = element("label", "", "Model ");
    this.model = element("select");
    this.model.name = "model";
    model.append(this.model);
    const adapter = element("label", "", "Adapter ");
    this.adapter = element("select");
    this.adapter.name = "adapter";
    adapter.append(this.adapter);
    this.otherLabel = element("label", "", "Its file, folder or hub id ");
    this.other = Object.assign(element("input"), { maxLength: 500, autocomplete: "off" });
    this.otherLabel.append(this.other);
    this.note = element("p", "muted note");
    root.append(model, adapter, this.otherLabel, this.note);
    this.model.addEventListener("change", () => this.showAdapters());
    this.adapter.addEventListener("change", () => this.showNote());
    this.fill();
  }

  /** The daemon's own model {name, lora}. */
  setCurrent({ name, lora }) {
    if (name === this.current.name && lora === this.current.lora) return;
    this.current = { name, lora };
    this.fill();
    this.model.value = name;
    this.showAdapters();
  }

  /** Ask what there is, when the picker comes into view. */
  async load() {
    if (this.known) return;
    say(this.note, "Looking which models fit this machine …");
    let found;
    try {
      found = await models();
    } catch (error) {
      say(this.note, error.message);
      return;
    }
    if (found.pending) {
      asked = null;
      setTimeout(() => { if (this.note.offsetParent) this.load(); }, 2000); // while it is looked at
      return;
    }
    this.known = found;
    const chosen = this.model.value;
    this.fill();
    this.model.value = chosen;
    this.showAdapters();
  }

  /** {model, lora}; null stands for the daemon's own, and for the model's own adapter. */
  get value() {
    const own = this.model.value === this.current.name;
    const adapter = this.adapter.value === OTHER ? this.other.value.trim() : this.adapter.value;
    const lora = adapter || null;
    return own && lora === this.current.lora ? { model: null, lora: null } : { model: this.model.value, lora };
  }

  entry() {
    return this.known?.models.find((each) => each.name === this.model.value) ?? null;
  }

  fill() {
    const all = (this.known?.models ?? []).filter((each) => each.live || !this.live || each.name === this.current.name);
    if (this.current.name && !all.some((each) => each.name === this.current.name)) all.unshift({ name: this.current.name, runs: true, here: true, fits: true });
    const groups = [
      ["Runs here", all.filter((each) => each.runs)],
      ["Would fit; to be fetched from the hub", all.filter((each) => each.fits && !each.here)],
      ["Does not run here", all.filter((each) => !each.fits)],
    ].filter(([, list]) => list.length);
    keyed(this.model, groups, ([name]) => name, ([name]) => Object.assign(element("optgroup"), { label: name }), (group, [name, list]) => {
      keyed(group, list, (each) => each.name, (each) => new Option(each.name, each.name), (option, each) => {
        option.disabled = !each.fits && each.name !== this.current.name;
        say(option, each.name);
      });
    });
  }

  showAdapters() {
    const entry = this.entry();
    const fitting = (this.known?.adapters ?? []).filter((each) => !each.family || !entry?.family || each.family === entry.family);
    const own = entry && this.known && !entry.adapter ? "none" : "the model's own";
    const options = [["", own], ...fitting.map((each) => [each.reference, each.name])];
    const lora = this.model.value === this.current.name ? this.current.lora : null;
    if (lora && !options.some(([value]) => value === lora)) options.push([lora, lora]);
    options.push([OTHER, "another …"]);
    keyed(this.adapter, options, ([value]) => `a${value}`, ([value, text]) => new Option(text, value), (option, [, text]) => say(option, text));
    this.adapter.value = lora ?? "";
    this.showNote();
  }

  showNote() {
    this.otherLabel.hidden = this.adapter.value !== OTHER;
    const entry = this.entry();
    if (!entry) return;
    say(this.note, [entry.description, entry.needs && `Needs ${entry.needs}`, entry.verdict, entry.licence && `Licence: ${entry.licence}`]
      .filter(Boolean).map((text) => text[0].toUpperCase() + text.slice(1)).join(". ").replaceAll("..", ".") + (entry.verdict ? "." : ""));
  }
}
