// Pairs to look through: a card each, with its sheet, videos and scores. What is decided goes to the daemon at once,
// and the dataset remembers it.

import { call, datasetPath, pairPath, pairUrl } from "./api.js";
import { act, button, count, element, keyed, picks, say, toast } from "./dom.js";
import { addKeys } from "./keys.js";

const SHOWN = {
  all: ["All", () => true],
  kept: ["Kept", (pair) => pair.kept],
  dropped: ["Turned down", (pair) => !pair.kept],
  undecided: ["Undecided", (pair) => pair.decision === null],
};
const DECISIONS = [["keep", "Keep"], ["drop", "Drop"], [null, "As the filters say"]];

export class PairsView {
  constructor(root) {
    this.root = root;
    this.shown = false;
    this.dataset = null;
    this.pairs = [];
    this.filter = "all";
    this.choice = Object.assign(element("select"), { ariaLabel: "Dataset" });
    this.choice.addEventListener("change", () => this.choose(this.choice.value));
    this.filters = element("fieldset", "picks");
    this.filters.append(element("legend", "sr", "Which pairs are shown"));
    this.counts = element("span", "muted");
    this.counts.setAttribute("role", "status");
    this.settleButton = button("Apply to the dataset", "", () => this.settle(), "main");
    this.bar = element("div", "bar");
    this.bar.append(this.choice, this.filters, this.counts, element("span", "spring"), this.settleButton);
    this.hint = element("p", "hint");
    this.list = element("ul", "pairs");
    root.append(this.bar, this.hint, this.list);
    const focused = (what) => () => { const pair = this.focused(); if (pair) what(pair); };
    addKeys("Pairs", () => this.shown, {
      j: ["Next pair", () => this.step(1)],
      k: ["Pair before", () => this.step(-1)],
      y: ["Keep it", focused((pair) => this.decide(pair, "keep"))],
      n: ["Drop it", focused((pair) => this.decide(pair, "drop"))],
      u: ["Leave it to the filters", focused((pair) => this.decide(pair, null))],
      " ": ["Play its videos", focused((pair) => this.play(pair))],
    });
  }

  setShown(shown) {
    this.shown = shown;
    if (shown) this.load();
    else for (const video of this.list.querySelectorAll("video")) video.pause();
  }

  async load() {
    const datasets = await act(() => call("GET", "/datasets"));
    if (!datasets) return;
    this.bar.hidden = !datasets.length;
    this.choice.hidden = datasets.length < 2;
    keyed(this.choice, datasets, (each) => each.name, (each) => new Option("", each.name), (option, each) => say(option, `${each.name} · ${each.kept} of ${each.pairs}`));
    this.hint.hidden = datasets.length > 0;
    this.hint.replaceChildren("No dataset of pairs yet. ", element("code", "", "realmaster pairs TAKE -o datasets/NAME"), " makes one beside the takes folder.");
    const chosen = datasets.find((each) => each.name === this.dataset) ?? datasets[0];
    if (chosen) await this.choose(chosen.name);
    else this.list.replaceChildren();
  }

  async choose(name) {
    const pairs = await act(() => call("GET", `${datasetPath(name)}/pairs`));
    if (!pairs) return;
    Object.assign(this, { dataset: name, pairs });
    this.choice.value = name;
    this.render();
  }

  render() {
    const { pairs } = this;
    picks(this.filters, "pairs-shown", Object.entries(SHOWN).map(([value, [text]]) => [value, text]), this.filter, (value) => { this.filter = value; this.render(); });
    const kept = pairs.filter((pair) => pair.kept).length;
    say(this.counts, `${kept} kept, ${pairs.length - kept} turned down, ${pairs.filter((pair) => pair.decision !== null).length} decided by hand`);
    const shown = pairs.filter(SHOWN[this.filter][1]);
    this.hint.hidden = shown.length > 0;
    if (!shown.length) say(this.hint, pairs.length ? "No pair is of that kind." : "No pair has been made in this dataset yet.");
    keyed(this.list, shown, (pair) => `${this.dataset} ${pair.id}`, (pair) => this.card(pair), (card, pair) => this.update(card, pair));
  }

  card(pair) {
    const card = element("li", "pair");
    card.tabIndex = -1;
    card.pair = pair;
    const title = element("h3", "", pair.id);
    const sheet = button("", `Play render and target of ${pair.id}`, () => this.play(pair), "sheet");
    sheet.append(Object.assign(element("img"), { src: pairUrl(this.dataset, pair.id, "sheet"), alt: `Render, target and edges of ${pair.id}`, loading: "lazy" }));
    const videos = element("div", "videos");
    videos.hidden = true;
    const reasons = element("p", "sentence", [...pair.reasons, ...pair.notes].join("; "));
    const scores = element("dl", "scores");
    for (const [score, value] of Object.entries(pair.scores)) {
      if (value === null) continue;
      const entry = element("div");
      entry.append(element("dt", "", score.replaceAll("_", " ")), element("dd", "", Number.isInteger(value) ? String(value) : value.toFixed(3)));
      scores.append(entry);
    }
    const row = element("div", "actions");
    for (const [decision, text] of DECISIONS) {
      const choose = button(text, `${text}: ${pair.id}`, () => this.decide(card.pair, decision), "small");
      choose.dataset.decision = decision ?? "";
      row.append(choose);
    }
    card.append(title, sheet, videos, reasons, element("p", "muted", pair.caption), scores, row);
    return card;
  }

  update(card, pair) {
    card.pair = pair;
    card.classList.toggle("kept", pair.kept);
    for (const choose of card.querySelectorAll("[data-decision]")) choose.setAttribute("aria-pressed", String((choose.dataset.decision || null) === pair.decision));
  }

  async decide(pair, decision) {
    if (!(await act(() => call("PUT", `${pairPath(this.dataset, pair.id)}/decision`, { decision })))) return;
    pair.decision = decision;
    pair.kept = decision === "keep" || (decision === null && !pair.reasons.length);
    const before = [...this.list.children].findIndex((card) => card.pair === pair);
    this.render();
    if (!this.cardOf(pair)) this.list.children[Math.min(before, this.list.children.length - 1)]?.focus();
  }

  /** The two videos side by side, started together. */
  play(pair) {
    const box = this.cardOf(pair)?.querySelector(".videos");
    if (!box) return;
    box.hidden = !box.hidden;
    if (!box.children.length) {
      for (const kind of ["render", "target"]) {
        const video = Object.assign(element("video"), { src: pairUrl(this.dataset, pair.id, kind), muted: true, loop: true, playsInline: true });
        video.setAttribute("aria-label", `${kind} of ${pair.id}`);
        box.append(video);
      }
    }
    for (const video of box.children) {
      if (box.hidden) { video.pause(); continue; }
      video.currentTime = 0;
      video.play().catch(() => {});
    }
  }

  async settle() {
    const done = await act(() => call("POST", `${datasetPath(this.dataset)}/settle`));
    if (done) toast(`pairs.jsonl has ${count(done.pairs, "pair")} now, ${done.rejected} are turned down.`);
  }

  cardOf(pair) {
    return [...this.list.children].find((card) => card.pair === pair) ?? null;
  }

  focused() {
    return document.activeElement?.closest("li.pair")?.pair ?? null;
  }

  step(by) {
    const cards = [...this.list.children];
    const at = cards.indexOf(document.activeElement?.closest("li.pair"));
    const next = cards[Math.min(cards.length - 1, Math.max(0, at + by))];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "center" });
  }
}
