// The page: shows the daemon's state, which it is sent whole whenever it changes, and passes on what is pressed.
// Names of games, takes and prompts come from outside: they go in as text, never as HTML.

import { call, connect, exportUrl, frameUrl } from "./api.js";
import { Stage } from "./stage.js";

const byId = (id) => document.getElementById(id);
const DOTS = { good: "good", suspicious: "warn", wrong: "bad", "cannot tell": "" };
const stage = new Stage();
const VIEW_NAMES = { color: "Colour", depth: "Depth", normal: "Normals", motion: "Motion", segmentation: "Classes", instance: "Instances" };
let state = null;
let lastNotice = null;

connect("/events", {
  message: (text) => { state = JSON.parse(text); render(); },
  close: () => { health("bad", "No connection to the daemon; trying again …"); setEnabled(false); },
});

// -- what is shown

function render() {
  const session = chosenSession();
  renderHealth(session);
  renderProof(session);
  renderSessions();
  renderViews(session);
  renderControls(session);
  renderTakes();
  renderQueue();
  renderNotices();
}

const chosenSession = () =>
  state.sessions.find((session) => session.id === byId("session").value) ?? state.sessions.at(-1) ?? null;

function renderHealth(session) {
  byId("model").textContent = `Model ${state.model.name}${state.model.lora ? ` + ${state.model.lora}` : ""}`;
  byId("endpoint").textContent = state.endpoint;
  const problem = state.problem || session?.problem || session?.notices.join(" ") || state.live.problem || "";
  byId("problem").hidden = !problem;
  byId("problem").textContent = problem;
  if (!session) {
    health("", "No engine connected");
    stage.clear("render");
    return;
  }
  const ailing = session.health?.verdict === "wrong";
  const facts = [
    [session.engine, session.game].filter(Boolean).join(" · "),
    session.size.join("×"),
    `${session.fps.toFixed(1)} fps`,
    count(session.frames, "frame"),
    session.dropped ? `${session.dropped} dropped` : "none dropped",
    session.desync ? `${session.desync} out of step` : ailing ? session.health.line : "in step",
    `over ${session.transport}`,
    `last ${session.ring.seconds.toFixed(0)} s kept${session.ring.cut ? ` of ${session.ring.wanted}: memory is full` : ""}`,
  ];
  health(session.desync || ailing ? "warn" : "good", facts.join(" · "));
}

/** What the examination of the frames says: one line, and a line per check when opened. */
function renderProof(session) {
  const found = session?.health;
  byId("proof").hidden = !found;
  if (!found) return;
  byId("proof-dot").className = `dot ${DOTS[found.verdict]}`;
  const line = found.line[0].toUpperCase() + found.line.slice(1);
  if (byId("proof-line").textContent !== line) byId("proof-line").textContent = line;
  keyed(byId("proof-checks"), found.checks, (check) => check.name, createCheck, (item, check) => {
    item.children[0].className = `dot ${DOTS[check.verdict]}`;
    item.children[1].textContent = check.name;
    item.children[2].textContent = [check.sentence, check.figure].filter(Boolean).join("  ");
  });
}

function createCheck() {
  const item = document.createElement("li");
  const dot = element("span", "dot");
  dot.setAttribute("aria-hidden", "true");
  item.append(dot, element("span", "name"), element("span", "muted"));
  return item;
}

function health(kind, text) {
  byId("health-dot").className = `dot ${kind}`;
  if (byId("health-text").textContent !== text) byId("health-text").textContent = text;
}

function renderSessions() {
  const select = byId("session");
  byId("session-choice").hidden = state.sessions.length < 2;
  keyed(select, state.sessions, (session) => session.id, () => document.createElement("option"), (option, session) => {
    option.value = session.id;
    option.textContent = session.game || session.engine;
  });
  stage.set({ session: chosenSession()?.id ?? null });
}

function renderViews(session) {
  const views = Object.keys(VIEW_NAMES).filter((view) => session?.channels.includes(view === "normal" && !session.channels.includes(view) ? "depth" : view));
  if (!views.length) views.push("color");
  keyed(byId("views"), views, (view) => view, createView, () => {});
  if (!views.includes(stage.view)) stage.set({ view: "color" });
  for (const input of byId("views").querySelectorAll("input")) input.checked = input.value === stage.view;
}

function createView(view) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "view", value: view });
  input.addEventListener("change", () => {
    stage.set({ view });
    byId("render-name").textContent = view === "color" ? "Render" : VIEW_NAMES[view];
  });
  label.append(input, span(VIEW_NAMES[view]));
  return label;
}

function renderControls(session) {
  setEnabled(Boolean(session));
  const record = byId("record");
  record.classList.toggle("on", Boolean(session?.recording));
  record.setAttribute("aria-pressed", String(Boolean(session?.recording)));
  record.textContent = session?.recording ? `Stop · ${count(session.recorded, "frame")}` : "Record";
  byId("live").checked = state.live.on;
  stage.set({ live: state.live.on });
  const { on, what, lag, fps } = state.live;
  byId("live-detail").textContent = on ? [what, lag === null ? "" : `${lag.toFixed(1)} s behind, ${fps.toFixed(1)} fps`].filter(Boolean).join(" · ") : "";
  byId("lifted-empty").textContent = on ? `Live lift: ${what} …` : "Switch on Live lift, or play a finished lift from the takes below.";
  if (!on) stage.clear("lifted");
}

function setEnabled(enabled) {
  byId("record").disabled = byId("replay").disabled = !enabled;
}

function renderTakes() {
  byId("takes-empty").hidden = state.takes.length > 0;
  keyed(byId("takes"), state.takes, (take) => take.name, createTake, updateTake);
}

function createTake(take) {
  const item = element("li", "take");
  const thumb = element("div", "no-thumb");
  const text = document.createElement("div");
  text.append(element("p", "name"), element("p", "muted facts"), element("p", "sentence"), element("div", "actions"));
  item.append(thumb, text);
  return item;
}

function updateTake(item, take) {
  const key = JSON.stringify(take);
  if (item.dataset.shown === key) return; // so that focus and pictures stay while nothing changed
  item.dataset.shown = key;
  if (take.frames && item.firstChild.tagName !== "IMG") {
    const image = Object.assign(document.createElement("img"), {
      src: frameUrl(take.name, 0, take.channels.includes("color") ? "color" : take.channels[0], 272), alt: "", loading: "lazy",
    });
    item.firstChild.replaceWith(image);
  }
  const name = item.querySelector(".name");
  name.replaceChildren(take.name);
  if (take.state !== "closed") {
    name.append(element("span", `badge ${take.state === "recording" ? "recording" : "bad"}`, take.state));
  }
  item.querySelector(".facts").textContent = [
    count(take.frames, "frame"), `${take.seconds.toFixed(1)} s`, take.size?.join("×"), take.game || take.engine,
    take.dropped ? `${take.dropped} dropped` : "",
  ].filter(Boolean).join(" · ");
  item.querySelector(".sentence").textContent = take.problem ?? "";
  const actions = item.querySelector(".actions");
  const focused = actions.contains(document.activeElement) ? [...actions.children].indexOf(document.activeElement) : -1;
  actions.replaceChildren();
  if (take.frames && take.state !== "unreadable") {
    actions.append(button("Lift …", `Lift take ${take.name}`, () => openLift(take)));
    const link = Object.assign(element("a", "button", "Export MP4"), { href: exportUrl(take.name), download: "" });
    link.setAttribute("aria-label", `Export take ${take.name} as MP4`);
    actions.append(link);
  }
  for (const lift of take.lifts) {
    const range = lift.report.frames ?? [0, take.frames];
    actions.append(button(`▶ ${lift.name}`, `Play lift ${lift.name} of take ${take.name}`, () => playLift(take.name, lift.name, range)));
  }
  actions.children[focused]?.focus();
}

function renderQueue() {
  byId("queue-empty").hidden = state.lifts.length > 0;
  keyed(byId("queue"), state.lifts, (job) => job.id, createJob, updateJob);
}

function createJob(job) {
  const item = element("li", "job");
  const top = element("div", "top");
  const text = document.createElement("div");
  text.append(element("p", "name", job.take), element("p", "muted facts"));
  top.append(text, button("Cancel", `Cancel the lift of ${job.take}`, () => act(() => call("DELETE", `/lifts/${job.id}`))));
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", `Progress of the lift of ${job.take}`);
  item.append(top, bar, element("p", "sentence"));
  return item;
}

function updateJob(item, job) {
  const waiting = job.state === "queued", running = job.state === "running";
  item.querySelector(".facts").textContent = [
    job.lift, running && job.total ? `${job.done} of ${job.total} frames` : job.state, job.prompt && `“${job.prompt}”`,
  ].filter(Boolean).join(" · ");
  item.querySelector("button").hidden = !(waiting || running);
  const bar = item.querySelector("progress");
  bar.hidden = !(waiting || running);
  if (job.total) { bar.max = job.total; bar.value = job.done; } else if (running) bar.removeAttribute("value"); else bar.value = 0;
  item.querySelector(".sentence").textContent = job.sentence;
}

function renderNotices() {
  const newest = state.notices.at(-1)?.id ?? 0;
  if (lastNotice !== null) {
    for (const notice of state.notices) if (notice.id > lastNotice) toast(notice.text, notice.kind === "error");
  }
  lastNotice = newest;
}

// -- what is pressed

byId("record").addEventListener("click", () => {
  const session = state && chosenSession();
  if (session) act(() => call("POST", session.recording ? "/record/stop" : "/record/start", { session: session.id }));
});
byId("replay").addEventListener("click", () => {
  const session = state && chosenSession();
  if (session) act(() => call("POST", "/replay/save", { session: session.id }));
});
byId("live").addEventListener("change", (event) => act(() => call("POST", "/live", { on: event.target.checked })));
byId("session").addEventListener("change", () => render());
for (const input of document.querySelectorAll("input[name=layout]")) {
  input.addEventListener("change", () => stage.set({ layout: input.value }));
}
byId("player-close").addEventListener("click", () => stage.stop());

function playLift(take, lift, range) {
  act(() => stage.play(take, lift, range));
  byId("stage").scrollIntoView({ block: "start" });
}

function openLift(take) {
  const dialog = byId("lift-dialog"), form = byId("lift-form");
  form.reset();
  byId("lift-take").textContent = `${take.name}, ${count(take.frames, "frame")}`;
  form.elements.end.value = form.elements.end.max = String(take.frames);
  form.elements.first.max = String(take.frames - 1);
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "lift") return;
    const { prompt, first, end, seed, steps } = Object.fromEntries(new FormData(form));
    act(() => call("POST", "/lifts", {
      take: take.name, frames: [Number(first), Number(end)], prompt, seed: Number(seed), steps: steps ? Number(steps) : null,
    }));
  };
  dialog.showModal();
}

async function act(what) {
  try {
    await what();
  } catch (error) {
    toast(error.message, true);
  }
}

// -- small things

function toast(text, error = false) {
  const note = element("p", error ? "error" : "", text);
  byId("toasts").append(note);
  setTimeout(() => note.remove(), error ? 9000 : 5000);
}

/** Make the parent's elements follow the items: one element per key, kept while its item is there, in order. */
function keyed(parent, items, key, create, update) {
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

function element(tag, classes = "", text = "") {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (text) node.textContent = text;
  return node;
}
const span = (text) => element("span", "", text);
function button(text, label, press) {
  const node = Object.assign(element("button", "", text), { type: "button" });
  node.setAttribute("aria-label", label);
  node.addEventListener("click", press);
  return node;
}
function count(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}
