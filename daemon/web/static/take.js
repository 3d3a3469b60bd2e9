// One take: player, lifts and their scores, notes, and what can be done with it.

import { call, liftPath, takePath } from "./api.js";
import { act, ask, button, byId, clock, count, element, keyed, link, picks, say, tell, toast, when } from "./dom.js";
import { addKeys } from "./keys.js";
import { takeHref } from "./library.js";
import { createCheck, DOTS, plainly, updateCheck, viewsOf, VIEW_NAMES } from "./live.js";
import { ModelPicker } from "./models.js";
import { Player } from "./player.js";
import { LAYOUTS, Stage } from "./stage.js";

const FORMS = [
  ["mp4", "Video (MP4)", "any channel, for any player"],
  ["exr", "OpenEXR", "layers with cameras, for Blender and Nuke"],
  ["frames", "Frames", "PNG colour and normals, NPY depth, cameras.json"],
  ["comfyui", "ComfyUI", "reference, depth, normal and edge videos for render-to-real workflows"],
  ["webdataset", "WebDataset", "tar shards for training"],
  ["rerun", "Rerun", "depth as points in space"],
];
const LIFT_FORMS = [
  ["lift", "The lifted video", "as it was made"],
  ["compare", "Render and lift", "side by side in one video"],
];
/** Scores that people can use, in their order: what they are called, how they are read, digits, unit. */
const SCORES = [
  ["depth_edge_alignment", "Depth edges kept", "share of the engine's silhouettes in the picture; higher is truer", 3, ""],
  ["edge_f1", "Edges against geometry", "higher is truer; texture lowers it", 3, ""],
  ["displacement", "Displacement", "how far beside the geometry; lower is truer", 1, " px"],
  ["frame_order", "Frames in their place", "1 is all of them", 3, ""],
  ["warp_error", "Warp error", "lower is steadier", 4, ""],
  ["flicker_ratio", "Change over the render's", "1 changes as the render does", 3, ""],
  ["color_jump", "Colour jumps", "of the whole picture, frame to frame; lower is steadier", 4, ""],
  ["identity_color", "Colour of things", "how far it wanders; lower is better", 4, ""],
  ["faces", "Faces", "likeness to the render's; higher is better", 3, ""],
  ["novelty", "Beyond a colour grade", "0 is a copy of the render", 3, ""],
];

export class TakeView {
  constructor(library) {
    this.library = library;
    this.root = byId("take");
    this.name = null;
    this.info = null;
    this.shown = false;
    this.player = null;
    this.known = ""; // what the list said of the take when its details were read
    this.layout = "side";
    this.liftPicker = new ModelPicker(byId("lift-dialog").querySelector(".picker"));
    const player = (what) => () => this.player && what(this.player);
    addKeys("A take", () => this.shown && this.player !== null, {
      " ": ["Play, and pause", player((it) => it.toggle())],
      ArrowLeft: ["A frame back", player((it) => it.step(-1))],
      ArrowRight: ["A frame on", player((it) => it.step(1))],
      Home: ["To the beginning", player((it) => it.show(it.first))],
      End: ["To the end", player((it) => it.show(it.end - 1))],
      i: ["The part begins here", () => this.mark("first")],
      o: ["The part ends here", () => this.mark("end")],
      x: ["The whole take again", () => this.unmark()],
      w: ["Wipe, or side by side", () => this.lay(this.stage.nextLayout())],
      f: ["Full screen", player(() => this.stage.fullScreen())],
      n: ["Write notes", () => this.root.querySelector("textarea")?.focus()],
    });
  }

  setShown(shown) {
    this.shown = shown;
    if (!shown) this.leave();
  }

  setState(state) {
    this.state = state;
    this.liftPicker.setCurrent(state.model);
    if (!this.shown || !this.name) return;
    const listed = state.takes.find((take) => take.name === this.name);
    if (listed && this.known === "null") this.known = JSON.stringify(listed); // it was opened before the list came
    if (listed && JSON.stringify(listed) !== this.known && listed.state !== "recording") this.open(this.name, this.wanted, true);
  }

  /** Show a take, with one of its lifts or, when null, the newest. */
  async open(name, lift = null, again = false) {
    const listed = this.state?.takes.find((take) => take.name === name);
    if (!again && this.name === name && this.info) {
      this.wanted = lift;
      this.chooseLift(lift);
      return;
    }
    this.known = JSON.stringify(listed ?? null);
    let info;
    try {
      info = await call("GET", takePath(name));
    } catch (error) {
      if (!again) this.fail(name, error.message, Boolean(listed));
      return;
    }
    if (!this.shown) return;
    const kept = again && this.player && this.info.frames === info.frames ? this.player : null;
    const playing = kept?.playing;
    const writing = again ? this.root.querySelector("textarea:focus") : null;
    if (writing) { // the details wait until the notes are written
      this.known = "";
      return;
    }
    this.leave();
    Object.assign(this, { name, info, wanted: lift });
    this.build();
    this.chooseLift(lift);
    if (kept) {
      Object.assign(this.player, { first: kept.first, end: kept.end });
      this.player.show(kept.index);
      if (playing) this.player.play();
    }
    if (this.state) this.setState(this.state); // it may have changed while the details were on their way
  }

  leave() {
    this.player?.close();
    this.player = null;
    this.name = this.info = null;
  }

  /** A take that cannot be shown. One that is there all the same may be deleted. */
  fail(name, sentence, there) {
    this.leave();
    const heading = element("div", "heading"), title = element("h2", "", name), doing = element("div", "actions");
    title.id = "take-name";
    if (there) doing.append(button("Delete", `Delete take ${name}`, () => this.trash(name), "danger"));
    heading.append(back(), title, doing);
    this.root.replaceChildren(heading, element("p", "hint", sentence));
  }

  // -- what it looks like

  build() {
    const { info } = this;
    const heading = element("div", "heading");
    const title = element("h2", "", info.name);
    title.id = "take-name";
    heading.append(back(), title);
    if (info.state !== "closed") heading.append(element("span", `badge ${info.state}`, info.state));
    const doing = element("div", "actions");
    if (info.frames) {
      doing.append(
        button("Lift …", "", () => this.liftPart(), "main"),
        button("Export …", "", () => this.export()),
        button("Trim …", "", () => this.trim()),
      );
    }
    doing.append(button("Rename …", "", () => this.rename()), button("Delete", `Delete take ${info.name}`, () => this.trash(), "danger"));
    heading.append(doing);
    this.root.replaceChildren(heading);
    if (info.problem) this.root.append(element("p", "sentence", info.problem));
    if (info.frames) this.buildPlayer();
    const columns = element("div", "columns");
    columns.append(this.lifts(), this.about());
    this.root.append(columns);
  }

  buildPlayer() {
    const { info } = this;
    const box = element("div", "stage");
    this.root.append(box);
    this.stage = new Stage(box);
    this.stage.setLayout(info.lifts.length ? this.layout : "left");
    const controls = element("div", "player");
    this.playButton = button("▶", "Play", () => this.player.toggle(), "play");
    this.scrub = Object.assign(element("input", "scrub"), { type: "range", min: 0, max: Math.max(0, info.elapsed.length - 1), value: 0, step: 1 });
    this.scrub.setAttribute("aria-label", "Position in the take, in frames");
    this.scrub.addEventListener("input", () => {
      const index = Number(this.scrub.value);
      this.player.pause();
      this.player.show(index);
    });
    const track = element("div", "track");
    this.part = element("div", "part");
    track.append(this.part, this.scrub);
    this.position = element("span", "position");
    controls.append(this.playButton, button("◀", "A frame back", () => this.player.step(-1), "step"), button("▶", "A frame on", () => this.player.step(1), "step"), track, this.position);
    const bar = element("div", "bar"), below = element("div", "bar");
    this.markText = element("span", "muted marks");
    const marks = element("span", "joined");
    marks.append(
      button("Begin here", "The part begins at this frame", () => this.mark("first"), "small"),
      button("End here", "The part ends with this frame", () => this.mark("end"), "small"),
      button("Whole", "The whole take again", () => this.unmark(), "small"),
    );
    const views = element("fieldset", "picks"), layouts = element("fieldset", "picks");
    views.append(element("legend", "sr", "What the left picture shows"));
    layouts.append(element("legend", "sr", "Layout"));
    this.viewPicks = views;
    this.layoutPicks = layouts;
    const view = element("div", "view");
    view.append(layouts, button("Full screen", "", () => this.stage.fullScreen(), "quiet"));
    bar.append(marks, this.markText, view);
    below.append(views);
    this.root.append(controls, bar, below);
    this.player = new Player(this.stage, info, () => this.follow());
    this.renderPicks();
  }

  renderPicks() {
    picks(this.viewPicks, "take-view", viewsOf(this.info.channels).map((view) => [view, VIEW_NAMES[view]]), this.player.view, (view) => {
      this.player.setView(view);
      this.renderPicks();
    });
    this.layoutPicks.hidden = !this.info.lifts.length;
    picks(this.layoutPicks, "take-layout", LAYOUTS.slice(0, 3), this.stage.layout, (layout) => this.lay(layout));
    this.stage.caption("render", this.player.view === "color" ? "Render" : VIEW_NAMES[this.player.view]);
  }

  lay(layout) {
    if (!this.info?.lifts.length) return;
    this.layout = layout;
    this.stage.setLayout(layout);
    this.renderPicks();
  }

  /** The player moved. */
  follow() {
    if (!this.player) return;
    const { index, length, playing, first, end } = this.player;
    this.scrub.value = String(index);
    this.scrub.setAttribute("aria-valuetext", `frame ${index} of ${length}, ${clock(this.player.seconds, true)}`);
    say(this.position, `${clock(this.player.seconds, true)} / ${clock(this.player.total, true)} · frame ${index}`);
    say(this.playButton, playing ? "❚❚" : "▶");
    this.playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
    const whole = first === 0 && end === length;
    const last = Math.max(1, length - 1);
    this.part.style.setProperty("--from", `${(100 * first) / last}%`);
    this.part.style.setProperty("--to", `${(100 * (end - 1)) / last}%`);
    this.part.hidden = whole;
    say(this.markText, whole ? "" : `Part: frames ${first} to ${end - 1}`);
  }

  mark(which) {
    if (!this.player) return;
    const { index } = this.player;
    if (which === "first") {
      this.player.first = index;
      if (this.player.end <= index) this.player.end = this.player.length;
    } else {
      this.player.end = index + 1;
      if (this.player.first > index) this.player.first = 0;
    }
    this.follow();
  }

  unmark() {
    if (!this.player) return;
    this.player.first = 0;
    this.player.end = this.player.length;
    this.follow();
  }

  get range() {
    return this.player ? [this.player.first, this.player.end] : [0, this.info.frames];
  }

  get isWhole() {
    return this.range[0] === 0 && this.range[1] === this.info.frames;
  }

  // -- lifts

  lifts() {
    const panel = element("section", "panel");
    const title = element("h3", "", "Lifts");
    title.id = "lifts-title";
    panel.setAttribute("aria-labelledby", "lifts-title");
    panel.append(title);
    this.liftChoice = element("fieldset", "choices");
    this.liftChoice.append(element("legend", "sr", "Which lift is shown"));
    this.liftAbout = element("div", "lift-about");
    panel.append(this.liftChoice, this.liftAbout);
    if (!this.info.lifts.length) this.liftAbout.append(element("p", "muted", this.info.frames ? "Not lifted yet. Lift … makes this take photorealistic, with the model of your choice." : "There is nothing to lift."));
    return panel;
  }

  chooseLift(name) {
    const { info } = this;
    if (!this.player) return;
    const lift = info.lifts.find((each) => each.name === name) ?? info.lifts.at(-1) ?? null;
    this.lift = lift;
    this.player.setLift(lift);
    picks(this.liftChoice, "take-lift", info.lifts.map((each) => [each.name, each.name]), lift?.name ?? "", (chosen) => { location.hash = takeHref(info.name, chosen); });
    if (!lift) return;
    this.stage.caption("lifted", lift.name);
    const { report } = lift;
    const [first, end] = lift.frames ?? [0, info.frames];
    const made = [
      lift.model && `Model ${lift.model}`, `frames ${first} to ${end - 1}`, `seed ${lift.seed ?? 0}`,
      report.steps && count(report.steps, "step"), lift.seconds && `took ${lift.seconds.toFixed(1)}\u00a0s`,
    ];
    const about = [element("p", "muted", made.filter(Boolean).join(" · "))];
    if (lift.prompt) about.push(element("p", "prompt", `“${lift.prompt}”`));
    const scores = report.scores;
    if (scores?.lifted && scores?.render) about.push(table(scores.lifted, scores.render));
    for (const note of report.memory ?? []) about.push(element("p", "muted", `${note}.`.replace("..", ".")));
    const row = element("div", "actions");
    row.append(
      button("Export …", `Export lift ${lift.name}`, () => this.export(lift)),
      button("Lift again …", `Lift again as ${lift.name} was`, () => this.liftPart(lift)),
      button("Delete", `Delete lift ${lift.name}`, () => this.library.trash(liftPath(info.name, lift.name), `Lift ${lift.name}`), "danger"),
    );
    about.push(row);
    this.liftAbout.replaceChildren(...about);
  }

  about() {
    const { info } = this;
    const panel = element("section", "panel");
    const title = element("h3", "", "About");
    title.id = "about-title";
    panel.setAttribute("aria-labelledby", "about-title");
    const label = element("label", "wide notes", "Notes");
    const notes = Object.assign(element("textarea"), { rows: 3, maxLength: 20000, value: info.notes, placeholder: "What should be remembered of this take?" });
    const kept = element("span", "muted kept");
    kept.setAttribute("role", "status");
    label.append(notes);
    let timer = null;
    const keep = async () => {
      clearTimeout(timer);
      if (notes.value.trim() === info.notes.trim()) return;
      const { name } = info;
      const done = await act(() => call("PATCH", takePath(name), { notes: notes.value }));
      if (done) { info.notes = done.notes; say(kept, "Saved."); }
    };
    notes.addEventListener("input", () => { say(kept, ""); clearTimeout(timer); timer = setTimeout(keep, 1200); });
    notes.addEventListener("blur", () => keep().then(() => this.setState(this.state)));
    const list = element("ul", "facts");
    const dropped = info.dropped ? `${info.dropped} dropped by the game` : "none dropped";
    for (const [name, text] of [
      ["Game", [info.game, info.engine].filter(Boolean).join(" · ")],
      ["Recorded", when(info.created)],
      ["Length", `${clock(info.seconds, true)}, ${count(info.frames, "frame")}, ${dropped}`],
      ["Picture", `${info.size?.join("×") ?? "none"} at ${info.fps.toFixed(0)} frames/s`],
      ["Channels", info.channels.map((channel) => (VIEW_NAMES[channel] ?? channel).toLowerCase()).join(", ")],
      ["Folder", info.path],
    ]) {
      const item = element("li");
      item.append(element("span", "muted", name), element("span", "", text));
      list.append(item);
    }
    panel.append(title, label, kept, list);
    if (info.health) {
      const proof = element("p", "proof");
      proof.append(element("span", "dot"), element("span", "text"));
      tell(proof, DOTS[info.health.verdict], plainly(info.health));
      const details = element("details");
      const checks = element("ul", "check-list");
      keyed(checks, info.health.checks ?? [], (check) => check.name, createCheck, updateCheck);
      details.append(element("summary", "", "What was proved"), checks);
      panel.append(proof, details);
    }
    return panel;
  }

  // -- what can be done

  async rename() {
    const { name } = this.info;
    const values = await askName("Rename", `The folder of ${name} gets the new name too.`, name, "Rename");
    if (!values || values.name === name) return;
    const done = await act(() => call("PATCH", takePath(name), { name: values.name }));
    if (done) location.hash = takeHref(done.name);
  }

  async trim() {
    const { info } = this;
    const [first, end] = this.range;
    if (this.isWhole) {
      toast("Mark a part first: go to a frame and press Begin here, then End here (keys I and O).");
      return;
    }
    const values = await askName("Trim", `A new take of frames ${first} to ${end - 1}, bit by bit; ${info.name} stays as it is.`, `${info.name}-${first}-${end}`.slice(0, 100), "Trim");
    if (values && (await act(() => call("POST", `${takePath(info.name)}/trim`, { frames: [first, end], name: values.name })))) {
      toast(`${values.name} is being made.`);
    }
  }

  async trash(name = this.info.name) {
    if (await this.library.trash(takePath(name), name)) location.hash = "#takes";
  }

  async liftPart(like = null) {
    await askLift(this.liftPicker, this.info, this.range, like);
  }

  async export(lift = null) {
    const { info } = this;
    const dialog = byId("export-dialog"), form = dialog.querySelector("form");
    form.reset();
    say(dialog.querySelector(".about"), lift ? `${lift.name} of ${info.name}` : `${info.name}, ${count(info.frames, "frame")}`);
    const forms = dialog.querySelector(".forms");
    keyed(forms, lift ? LIFT_FORMS : FORMS, ([to]) => to, ([to, name, about]) => {
      const label = element("label", "form");
      const input = Object.assign(element("input"), { type: "radio", name: "to", value: to });
      input.addEventListener("change", () => showOptions(dialog));
      const text = element("span");
      text.append(element("b", "", name), element("span", "muted", about));
      label.append(input, text);
      return label;
    });
    forms.querySelector("input").checked = true;
    const channels = viewsOf(info.channels).map((view) => [view, VIEW_NAMES[view]]);
    form.elements.channel.replaceChildren(...channels.map(([value, name]) => new Option(name, value)), new Option("Colour, depth and normals side by side", "side_by_side"));
    form.elements.first.max = String(info.frames - 1);
    form.elements.end.max = String(info.frames);
    [form.elements.first.value, form.elements.end.value] = this.range;
    dialog.querySelector(".part").hidden = Boolean(lift);
    showOptions(dialog);
    const values = await ask(dialog);
    if (!values) return;
    const asked = { take: info.name, to: values.to, lift: lift?.name ?? null };
    if (!lift) {
      const first = Number(values.first), end = Number(values.end);
      if (first !== 0 || end !== info.frames) asked.frames = [first, end];
      if (values.to === "mp4") asked.channel = values.channel;
      if (values.to === "exr") asked.up = values.up;
    }
    const job = await act(() => call("POST", "/exports", asked));
    if (job) toast(`${job.name} is being made; Work shows where it will lie.`);
  }
}

function showOptions(dialog) {
  const to = dialog.querySelector("[name=to]:checked").value;
  dialog.querySelector(".channel").hidden = to !== "mp4";
  dialog.querySelector(".up").hidden = to !== "exr";
}

/** Ask how a take is to be lifted, and queue that. `like`: a lift whose settings are offered. */
export async function askLift(picker, take, [first, end], like = null) {
  const dialog = byId("lift-dialog"), form = dialog.querySelector("form");
  form.reset();
  say(dialog.querySelector(".about"), `${take.name}, ${count(take.frames, "frame")}`);
  form.elements.first.max = String(take.frames - 1);
  form.elements.end.max = String(take.frames);
  [form.elements.first.value, form.elements.end.value] = like?.frames ?? [first, end];
  if (like) {
    form.elements.prompt.value = like.prompt ?? "";
    form.elements.seed.value = String((like.seed ?? 0) + 1);
  }
  picker.load();
  const values = await ask(dialog);
  if (!values) return;
  const job = await act(() => call("POST", "/lifts", {
    take: take.name, frames: [Number(values.first), Number(values.end)], prompt: values.prompt,
    seed: Number(values.seed), steps: values.steps ? Number(values.steps) : null, ...(picker.value.model ? picker.value : {}),
  }));
  if (job) toast(`${take.name} is queued; Work shows how far it is.`);
}

function askName(title, about, name, yes) {
  const dialog = byId("name-dialog");
  say(byId("name-title"), title);
  say(dialog.querySelector(".about"), about);
  say(dialog.querySelector("[value=yes]"), yes);
  const input = dialog.querySelector("[name=name]");
  input.value = name;
  const answer = ask(dialog);
  input.focus();
  input.select();
  return answer;
}

function back() {
  return link("← Takes", "Back to the takes", "#takes", "back");
}

function table(lifted, render) {
  const rows = SCORES.filter(([key]) => typeof lifted[key] === "number");
  const made = element("table", "scores");
  const head = made.createTHead().insertRow();
  for (const text of ["Score", "Lift", "Render"]) {
    const cell = Object.assign(element("th", "", text), { scope: "col" });
    head.append(cell);
  }
  const body = made.createTBody();
  for (const [key, name, reading, digits, unit] of rows) {
    const row = body.insertRow();
    const cell = Object.assign(element("th"), { scope: "row" });
    cell.append(element("span", "", name), element("span", "muted", reading));
    row.append(cell);
    for (const scores of [lifted, render]) row.append(element("td", "", typeof scores[key] === "number" ? scores[key].toFixed(digits) + unit : "–"));
  }
  return made;
}
