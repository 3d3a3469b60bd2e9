// The takes: a grid to choose from, and the trash.

import { call, thumbnailUrl } from "./api.js";
import { act, button, byId, bytes, clock, count, element, keyed, link, say, toast, when, whenNew } from "./dom.js";

export const takeHref = (take, lift = null) => `#take/${encodeURIComponent(take)}${lift ? `/${encodeURIComponent(lift)}` : ""}`;

export class Library {
  /** `lift(take)` is called for the button on a take. */
  constructor(lift) {
    this.lift = lift;
    this.takes = [];
    byId("find").addEventListener("input", () => this.render());
    byId("trash").addEventListener("toggle", () => this.loadTrash());
    byId("trash-all").addEventListener("click", () => this.confirmed(byId("trash-all"), () => call("DELETE", "/trash")));
  }

  setShown(shown) {
    if (shown) this.loadTrash();
  }

  update(takes) {
    this.takes = takes;
    say(byId("take-count"), takes.length ? String(takes.length) : "");
    this.render();
  }

  render() {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (take) => {
      const text = [take.name, take.game, take.engine, ...take.lifts.flatMap((lift) => [lift.name, lift.model, lift.prompt])].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const shown = this.takes.filter(fits);
    byId("takes-empty").hidden = this.takes.length > 0;
    byId("takes-none").hidden = !this.takes.length || shown.length > 0;
    keyed(byId("take-list"), shown, (take) => take.name, () => element("li", "card"), (card, take) => whenNew(card, take, () => this.fill(card, take)));
  }

  fill(card, take) {
    const picture = link("", `Open take ${take.name}`, takeHref(take.name), "thumb");
    picture.tabIndex = -1; // the name below leads to the same place
    picture.setAttribute("aria-hidden", "true");
    if (take.frames && take.state !== "unreadable") picture.append(image(thumbnailUrl(take.name)));
    const best = take.lifts.at(-1);
    if (best) picture.append(image(thumbnailUrl(take.name, best.name), "half"));
    picture.append(element("span", "length", clock(take.seconds)));
    const name = element("p", "name");
    name.append(link(take.name, "", takeHref(take.name)));
    if (take.state !== "closed") name.append(element("span", `badge ${take.state}`, take.state));
    const about = [take.game || take.engine, take.size?.join("×"), count(take.frames, "frame"), take.dropped ? `${take.dropped} dropped` : "", when(take.created)];
    const row = element("div", "chips");
    for (const lift of take.lifts.slice(-3).reverse()) {
      const kept = lift.edges_kept === null ? "" : ` · ${Math.round(100 * lift.edges_kept)} %`;
      const meaning = kept && `keeps ${kept.slice(3)} of the render's depth edges`;
      const chip = link(`${lift.name}${kept}`, [`Play lift ${lift.name} of take ${take.name}`, meaning].filter(Boolean).join(", "), takeHref(take.name, lift.name), "chip");
      chip.title = meaning;
      row.append(chip);
    }
    if (take.frames && take.state !== "unreadable") row.append(button("Lift …", `Lift take ${take.name}`, () => this.lift(take), "small"));
    card.replaceChildren(picture, name, element("p", "muted about", about.filter(Boolean).join(" · ")), ...(take.problem ? [element("p", "sentence", take.problem)] : []), row);
  }

  /** Move a take, or a lift, to the trash, and offer to bring it back. */
  async trash(path, what) {
    const entry = await act(() => call("DELETE", path));
    if (!entry) return false;
    this.loadTrash();
    const undo = () => act(async () => {
      const { take } = await call("POST", `/trash/${encodeURIComponent(entry.id)}/restore`);
      toast(`${what} is back.`);
      this.loadTrash();
      location.hash = takeHref(take, entry.lift);
    });
    toast(`${what} is in the trash.`, { action: ["Undo", undo] });
    return true;
  }

  async loadTrash() {
    const entries = await act(() => call("GET", "/trash"));
    if (!entries) return;
    say(byId("trash-count"), entries.length ? String(entries.length) : "");
    byId("trash-empty").hidden = entries.length > 0;
    byId("trash-all").hidden = entries.length < 2;
    keyed(byId("trash-list"), entries, (entry) => entry.id, (entry) => {
      const what = entry.lift ? `lift ${entry.lift} of ${entry.take}` : entry.take;
      const item = element("li", "line");
      const text = element("div");
      text.append(element("p", "name", what), element("p", "muted about", `${bytes(entry.bytes)} · deleted ${when(new Date(entry.deleted * 1000).toISOString())}`));
      const path = `/trash/${encodeURIComponent(entry.id)}`;
      const forever = button("Delete for good", `Delete ${what} for good`, () => this.confirmed(forever, () => call("DELETE", path)), "danger small");
      item.append(text, button("Bring back", `Bring back ${what}`, () => act(async () => {
        const { take } = await call("POST", `${path}/restore`);
        toast(`${take} is back.`);
        this.loadTrash();
      }), "small"), forever);
      return item;
    });
  }

  /** A button that deletes asks once more, in its own words. */
  confirmed(pressed, what) {
    if (pressed.dataset.sure) {
      delete pressed.dataset.sure;
      act(what).then(() => this.loadTrash());
      return;
    }
    const before = pressed.textContent;
    pressed.dataset.sure = "1";
    pressed.textContent = "Really? This cannot be undone";
    setTimeout(() => {
      delete pressed.dataset.sure;
      if (pressed.isConnected) pressed.textContent = before;
    }, 5000);
  }
}

function image(src, classes = "") {
  return Object.assign(element("img", classes), { src, alt: "", loading: "lazy", decoding: "async" });
}
