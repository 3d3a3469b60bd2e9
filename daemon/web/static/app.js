// The page: shows the daemon's state, which it is sent whenever it changed, and leads from view to view.

import { connect } from "./api.js";
import { byId, say, short, tell, toast } from "./dom.js";
import { startKeys } from "./keys.js";
import { Library } from "./library.js";
import { LiveView } from "./live.js";
import { PairsView } from "./pairs.js";
import { LAYOUTS } from "./stage.js";
import { askLift, TakeView } from "./take.js";
import { renderWork } from "./work.js";

const TITLES = { live: "Live", takes: "Takes", take: "Take", pairs: "Pairs" };
let state = null;
let lastNotice = null;

const live = new LiveView();
const library = new Library((listed) => askLift(take.liftPicker, listed, [0, listed.frames]));
const take = new TakeView(library);
const pairs = new PairsView(byId("pairs-root"));
const views = { live, takes: library, take, pairs };

// -- from view to view: #live, #takes, #take/NAME, #take/NAME/LIFT, #pairs; #live/LAYOUT is the pictures and nothing else

function go() {
  const [view, ...names] = location.hash.slice(1).split("/").map(decoded);
  const chosen = view in views && (view !== "take" || names[0]) ? view : "live";
  for (const [name, part] of Object.entries(views)) {
    const shown = name === chosen;
    const changed = byId(name).hidden === shown;
    byId(name).hidden = !shown;
    if (changed || shown !== Boolean(part.isShown)) part.setShown(shown);
    part.isShown = shown;
  }
  if (chosen === "take") take.open(names[0], names[1] ?? null);
  const bare = chosen === "live" && LAYOUTS.some(([layout]) => layout === names[0]);
  document.body.classList.toggle("bare", bare);
  if (bare) live.stage.setLayout(names[0]);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#${chosen}` || (chosen === "take" && link.hash === "#takes");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = chosen === "live" ? "realmaster" : `${chosen === "take" ? names[0] : TITLES[chosen]} · realmaster`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return; // the link to the content
  go();
  window.scrollTo({ top: 0 });
});

// -- the state

connect("/events", {
  message: (text) => {
    state = { ...state, ...JSON.parse(text) };
    document.body.classList.remove("lost");
    live.render(state);
    library.update(state.takes);
    take.setState(state);
    renderWork(state);
    renderHealth();
    renderNotices();
  },
  close: () => {
    document.body.classList.add("lost");
    tell(byId("health"), "bad", "No connection to the daemon; trying again …");
    for (const id of ["record", "replay", "replay-seconds"]) byId(id).disabled = true;
  },
});

function renderHealth() {
  const session = live.session;
  const problem = state.problem || session?.problem || session?.notices.join(" ") || state.live.problem || "";
  byId("problem").hidden = !problem;
  say(byId("problem"), problem);
  if (!session) {
    tell(byId("health"), "", "No engine connected");
    return;
  }
  const wrong = session.health?.verdict === "wrong";
  const how = session.desync ? `${session.desync} out of step` : wrong ? session.health.line : session.health?.verdict === "good" ? "in step" : "";
  const facts = [short(session.game || session.engine, 48), session.size.join("×"), `${session.fps.toFixed(0)} fps`, session.dropped ? `${session.dropped} dropped` : "", how, session.recording ? "recording" : ""];
  tell(byId("health"), session.recording ? "recording" : session.desync || wrong ? "warn" : "good", facts.filter(Boolean).join(" · "));
}

function renderNotices() {
  const newest = state.notices.at(-1)?.id ?? 0;
  if (lastNotice !== null) {
    for (const notice of state.notices) if (notice.id > lastNotice) toast(notice.text, { error: notice.kind === "error" });
  }
  lastNotice = newest;
}

startKeys();
go();
