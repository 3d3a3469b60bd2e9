// The review of a dataset: one card a pair. What is decided goes to the server at once, which remembers it.

const list = document.getElementById("list");
const show = document.getElementById("show");
const counts = document.getElementById("counts");
const template = document.getElementById("card");
let pairs = [];

const kept = (pair) => pair.decision === "keep" || (pair.decision !== "drop" && pair.reasons.length === 0);

const SHOWN = {
  all: () => true,
  kept,
  dropped: (pair) => !kept(pair),
  undecided: (pair) => pair.decision === null,
};

async function decide(pair, decision) {
  const answer = await fetch("/decide", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id: pair.id, decision }),
  });
  if (!answer.ok) {
    counts.textContent = `${pair.id}: the decision could not be kept (${answer.status})`;
    return;
  }
  pair.decision = decision;
  refresh(pair);
  count();
}

function makeCard(pair) {
  const card = template.content.firstElementChild.cloneNode(true);
  pair.card = card;
  card.querySelector("h2").textContent = pair.id;
  const name = encodeURIComponent(pair.id);
  card.querySelector("img").src = `/sheet/${name}`;
  card.querySelector("img").alt = `render, target and edges of ${pair.id}`;
  card.querySelector(".sheet").addEventListener("click", () => play(pair));
  card.querySelector(".reasons").textContent = [...pair.reasons, ...pair.notes].join("; ");
  card.querySelector(".caption").textContent = pair.caption;
  for (const [score, value] of Object.entries(pair.scores)) {
    if (value === null) continue;
    const entry = document.createElement("div");
    const term = document.createElement("dt");
    const number = document.createElement("dd");
    term.textContent = score.replaceAll("_", " ");
    number.textContent = Number.isInteger(value) ? value : value.toFixed(3);
    entry.append(term, number);
    card.querySelector("dl").append(entry);
  }
  for (const button of card.querySelectorAll("[data-decision]")) {
    button.addEventListener("click", () => decide(pair, button.dataset.decision || null));
  }
  refresh(pair);
  return card;
}

function refresh(pair) {
  pair.card.classList.toggle("kept", kept(pair));
  for (const button of pair.card.querySelectorAll("[data-decision]")) {
    button.classList.toggle("chosen", (button.dataset.decision || null) === pair.decision);
  }
}

function play(pair) {
  const box = pair.card.querySelector(".videos");
  box.hidden = !box.hidden;
  for (const video of box.children) {
    if (box.hidden) {
      video.pause();
      continue;
    }
    video.src ||= `/${video.className}/${encodeURIComponent(pair.id)}`;
    video.currentTime = 0;
    video.play();
  }
}

function count() {
  const good = pairs.filter(kept).length;
  const decided = pairs.filter((pair) => pair.decision !== null).length;
  counts.textContent = `${good} kept, ${pairs.length - good} turned down, ${decided} decided by hand`;
}

function fill() {
  list.replaceChildren(...pairs.filter(SHOWN[show.value]).map((pair) => pair.card));
  if (!list.children.length) list.textContent = "Nothing to show.";
}

function step(by) {
  const cards = [...list.querySelectorAll("article")];
  const at = cards.indexOf(document.activeElement);
  const next = cards[Math.min(cards.length - 1, Math.max(0, at + by))];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "center" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, button")) return;
  const pair = pairs.find((each) => each.card === document.activeElement);
  const keys = { j: () => step(1), k: () => step(-1) };
  if (pair) {
    Object.assign(keys, {
      y: () => decide(pair, "keep"),
      n: () => decide(pair, "drop"),
      u: () => decide(pair, null),
      " ": () => play(pair),
    });
  }
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

show.addEventListener("change", fill);
pairs = await (await fetch("/pairs")).json();
pairs.forEach(makeCard);
fill();
count();
