// The live view: what the engine renders, its lift, how the session goes, and what is recorded.

import { call } from "./api.js";
import { act, button, byId, count, element, keyed, picks, say, short, tell, toast, whenNew } from "./dom.js";
import { addKeys } from "./keys.js";
import { ModelPicker } from "./models.js";
import { LAYOUTS, Stage } from "./stage.js";
import { Stream } from "./stream.js";

export const VIEW_NAMES = {
  color: "Colour", depth: "Depth", normal: "Normals", edges: "Edges", motion: "Motion", segmentation: "Classes", instance: "Instances",
};
export const DOTS = { good: "good", suspicious: "warn", wrong: "bad", "cannot tell": "" };
const CONTROLS = { pause: "Pause, or go on", step: "Step", hide_hud: "HUD on and off", dump: "Dump a frame" };
const LAYOUT = "realmaster.layout";
const KEPT = 600; // pictures of the render, for when their lifts come: some 60 kB each

/** The views that channels allow. */
export function viewsOf(channels) {
  const has = { normal: "depth", edges: "depth" };
  const views = Object.keys(VIEW_NAMES).filter((view) => channels.includes(view) || channels.includes(has[view]));
  return views.length ? views : ["color"];
}

export class LiveView {
  constructor() {
    this.stage = new Stage(byId("live-stage"));
    this.stage.setLayout(localStorage.getItem(LAYOUT) ?? "side");
    this.view = "color";
    this.shown = false;
    this.state = null;
    this.drawn = []; // when pictures of the render were drawn, for the rate
    this.kept = new Map(); // newest pictures of the render, by serial
    this.lifted = { at: 0, serial: -1 };
    this.stream = new Stream((view, serial, jpeg) => this.pick(view, serial, jpeg), (view, bitmap, about) => this.receive(view, bitmap, about));
    this.picker = new ModelPicker(byId("live-model"), { live: true });
    this.listen();
  }

  get session() {
    const sessions = this.state?.sessions ?? [];
    return sessions.find((session) => session.id === byId("session").value) ?? sessions.at(-1) ?? null;
  }

  setShown(shown) {
    this.shown = shown;
    if (shown) this.picker.load();
    this.watch();
  }

  watch() {
    const live = this.state?.live.on;
    const views = this.shown && !document.hidden ? [this.view, ...(live ? ["source", "lifted"] : [])] : [];
    this.stream.watch(views, this.session?.id ?? null);
  }

  /** Under the wipe both halves show one moment: the lifted frame's own source; as long as lifted frames come. */
  get matched() {
    const { live } = this.state ?? { live: {} };
    const patience = 5000 + 2000 * (live.lag ?? 0);
    return live.on && this.stage.layout === "wipe" && this.view === "color" && this.lifted.at > 0 && performance.now() - this.lifted.at < patience;
  }

  /** What is drawn of a picture that comes. A lifted frame's source is small, as the model sees it: the render itself,
   *  where it came, is drawn in its place. */
  pick(view, serial, jpeg) {
    if (view === "source") return this.matched ? this.kept.get(serial) ?? jpeg : null;
    if (view === "color" && this.state?.live.on) {
      this.kept.set(serial, jpeg);
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    }
    return view === "lifted" || !this.matched ? jpeg : null;
  }

  receive(view, bitmap, { time, serial, latency }) {
    if (!this.session) return;
    if (view === "lifted") {
      this.stage.draw("lifted", bitmap);
      this.lifted = { at: performance.now(), serial };
    } else if (view === "source" || view === this.view) {
      this.stage.draw("render", bitmap);
      const now = performance.now();
      this.drawn = [...this.drawn.filter((at) => now - at < 2000), now];
      const rate = this.drawn.length > 3 ? (1000 * (this.drawn.length - 1)) / (now - this.drawn[0]) : null;
      this.stage.caption("render", this.view === "color" ? "Render" : VIEW_NAMES[this.view],
        [`${time.toFixed(1)} s`, rate && `${rate.toFixed(0)} pictures/s`, latency && `${latency.toFixed(0)} ms behind`].filter(Boolean).join(" · "));
    }
  }

  render(state) {
    this.state = state;
    const session = this.session;
    if (session?.id !== this.keptOf) { // serials begin anew
      this.kept.clear();
      this.keptOf = session?.id;
    }
    this.renderSession(session);
    this.renderControls(session);
    this.picker.setCurrent(state.model);
    this.watch();
  }

  renderSession(session) {
    say(byId("endpoint"), this.state.endpoint);
    byId("session-none").hidden = Boolean(session);
    byId("session-choice").hidden = this.state.sessions.length < 2;
    keyed(byId("session"), this.state.sessions, (each) => each.id, (each) => new Option("", each.id), (option, each) => say(option, short(each.game || each.engine, 60)));
    const views = viewsOf(session?.channels ?? []);
    if (!views.includes(this.view)) this.view = "color";
    picks(byId("live-views"), "live-view", views.map((view) => [view, VIEW_NAMES[view]]), this.view, (view) => this.choose(view));
    picks(byId("live-layouts"), "live-layout", LAYOUTS.slice(0, 2), this.stage.layout, (layout) => this.lay(layout));
    const proof = session?.health;
    byId("proof").hidden = byId("checks").hidden = !proof;
    if (proof) {
      tell(byId("proof"), DOTS[proof.verdict], plainly(proof));
      keyed(byId("check-list"), proof.checks, (check) => check.name, createCheck, updateCheck);
    }
    keyed(byId("session-facts"), session ? facts(session) : [], ([name]) => name, ([name]) => {
      const item = element("li");
      item.append(element("span", "muted", name), element("span"));
      return item;
    }, (item, [, text, kind]) => {
      say(item.lastChild, text);
      item.className = kind ?? "";
    });
    keyed(byId("engine-controls"), session?.controls ?? [], (name) => name, (name) => button(CONTROLS[name], `${CONTROLS[name]}: the engine`, () => this.control(name), "small"));
    if (!session) {
      this.stage.clear("render", "Waiting for an engine.");
      this.stage.caption("render", "Render");
    }
  }

  renderControls(session) {
    const { on, what, lag, fps, every } = this.state.live;
    for (const id of ["record", "replay", "replay-seconds"]) byId(id).disabled = !session;
    const record = byId("record");
    record.classList.toggle("on", Boolean(session?.recording));
    record.setAttribute("aria-pressed", String(Boolean(session?.recording)));
    say(record, session?.recording ? `Stop · ${count(session.recorded, "frame")}` : "Record");
    byId("replay").title = session ? `The last ${session.ring.seconds.toFixed(0)} s are kept` : "";
    if (!this.switching) byId("live-on").checked = on;  // else what was just pressed stands until the daemon knows it
    const slow = every > 1 ? `every ${ordinal(every)} window` : "";
    say(byId("live-detail"), on ? [what, lag !== null && `${lag.toFixed(1)} s behind`, slow].filter(Boolean).join(" · ") : "");
    this.stage.caption("lifted", "Lifted", on && lag !== null ? `${lag.toFixed(1)} s behind · ${(fps ?? 0).toFixed(1)} pictures/s` : "");
    if (!on) {
      this.lifted = { at: 0, serial: -1 };
      this.kept.clear();
      this.stage.clear("lifted", this.state.live.problem ?? "Live lift is off. Switch it on to see the world made real while you play.");
    } else if (!this.lifted.at) this.stage.clear("lifted", `Live lift: ${what} …`);
  }

  control(name) {
    const { session } = this;
    if (session) act(() => call("POST", `/sessions/${encodeURIComponent(session.id)}/control`, { name }));
  }

  choose(view) {
    this.view = view;
    this.drawn = [];
    this.render(this.state);
  }

  lay(layout) {
    this.stage.setLayout(layout);
    localStorage.setItem(LAYOUT, layout);
    if (this.state) this.render(this.state);
  }

  listen() {
    const start = (on) => {
      const { prompt, seed, steps } = Object.fromEntries(new FormData(byId("look")));
      return act(async () => {
        const { model, lora } = this.picker.value;
        if (model !== null) await call("PUT", "/model", { name: model, lora });
        await call("POST", "/live", { on, prompt, seed: Number(seed), steps: steps ? Number(steps) : null });
      });
    };
    const record = () => {
      const session = this.session;
      if (session) act(() => call("POST", session.recording ? "/record/stop" : "/record/start", { session: session.id }));
    };
    const replay = () => act(async () => {
      if (!this.session) return;
      const seconds = byId("replay-seconds").value;
      const { takes } = await call("POST", "/replay/save", { session: this.session.id, seconds: seconds ? Number(seconds) : null });
      const open = () => { location.hash = `#take/${encodeURIComponent(takes[0])}`; };
      if (takes.length) toast("The replay is being saved as a take.", { action: ["Open it", open] });
    });
    byId("record").addEventListener("click", record);
    byId("replay").addEventListener("click", replay);
    byId("live-on").addEventListener("change", async (event) => {
      this.switching = true;
      await start(event.target.checked);
      this.switching = false;
    });
    byId("look").addEventListener("submit", (event) => {
      event.preventDefault();
      start(this.state.live.on).then(() => toast(this.state.live.on ? "From the next window on." : "For when live lift is switched on."));
    });
    byId("session").addEventListener("change", () => this.render(this.state));
    byId("live-full").addEventListener("click", () => this.stage.fullScreen());
    document.addEventListener("visibilitychange", () => this.state && this.watch());
    const keys = {
      r: ["Record, and stop", record],
      s: ["Save the replay", replay],
      l: ["Live lift on and off", () => byId("live-on").click()],
      w: ["Wipe, or side by side", () => this.lay(this.stage.nextLayout())],
      f: ["Full screen", () => this.stage.fullScreen()],
    };
    ["color", "depth", "normal", "edges"].forEach((view, place) => {
      keys[place + 1] = [`Left picture: ${VIEW_NAMES[view].toLowerCase()}`, () => {
        if (this.session && viewsOf(this.session.channels).includes(view)) this.choose(view);
      }];
    });
    addKeys("Live", () => this.shown, keys);
  }
}

/** The proof of sync in words for people who do not know what it proves. */
export function plainly({ verdict, line }) {
  const said = line[0].toUpperCase() + line.slice(1);
  if (verdict === "good") return `${said}: picture, depth and camera belong together.`;
  if (verdict === "wrong") return `${said}: what is recorded now will lift badly.`;
  return `${said}.`;
}

export function createCheck() {
  const item = element("li");
  const dot = element("span", "dot");
  dot.setAttribute("aria-hidden", "true");
  item.append(dot, element("span", "name"), element("span", "muted"));
  return item;
}

export function updateCheck(item, check) {
  whenNew(item, check, () => {
    item.children[0].className = `dot ${DOTS[check.verdict]}`;
    item.children[1].textContent = check.name;
    item.children[2].textContent = [check.sentence, check.figure].filter(Boolean).join("  ");
  });
}

function facts(session) {
  const { ring } = session;
  const cut = ring.cut ? ` of ${ring.wanted}: memory is full` : "";
  const kept = ring.wanted ? `the last ${ring.seconds.toFixed(0)} s${cut}` : "nothing";
  return [
    ["Game", [short(session.game, 100), session.engine].filter(Boolean).join(" · ")],
    ["Picture", `${session.size.join("×")} at ${session.fps.toFixed(1)} frames/s`],
    ["Frames", `${count(session.frames, "frame")}, ${session.dropped ? `${session.dropped} dropped by the game` : "none dropped"}`, session.dropped ? "warn" : ""],
    ["In step", session.desync ? `${session.desync} frames carried channels of other frames` : "every frame is whole", session.desync ? "warn" : ""],
    ["Kept for a replay", kept, ring.cut ? "warn" : ""],
    ["Pixels come", session.transport === "tcp" ? `over tcp${session.mbit ? `, ${rate(session.mbit)}` : ""}` : "by shared memory"],
    ...(session.reduced ? [["Sent", `${session.reduced.how}; the engine's picture is ${session.reduced.size.join("×")}`]] : []),
  ];
}

const rate = (mbit) => (mbit < 1000 ? `${mbit < 10 ? mbit.toFixed(1) : mbit.toFixed(0)} Mbit/s` : `${(mbit / 1000).toFixed(1)} Gbit/s`);

const ordinal = (number) => `${number}${["th", "st", "nd", "rd"][number % 100 > 10 && number % 100 < 14 ? 0 : number % 10] ?? "th"}`;
