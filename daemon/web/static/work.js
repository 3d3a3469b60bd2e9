// What the daemon works on: lifts, exports and trims, with their progress, and where the results lie.

import { call, downloadUrl, previewUrl } from "./api.js";
import { about, act, button, byId, bytes, element, keyed, link, toast, whenNew } from "./dom.js";
import { takeHref } from "./library.js";

const WORDS = { queued: "waits", done: "done", failed: "failed", cancelled: "cancelled", "set aside": "set aside" };
const FORMS = { lift: "lifted video", compare: "side by side", take: "trim" };
const SHOWN = 12;

export function renderWork(state) {
  const jobs = [
    ...state.lifts.map((job) => ({ ...job, key: `lift ${job.id}`, path: null, kind: "lift", out: job.lift })),
    ...state.exports.map((job) => ({ ...job, key: `export ${job.id}`, kind: "export", out: job.name })),
  ];
  const live = (job) => job.state === "running" || job.state === "queued";
  const shown = [...jobs.filter((job) => job.state === "running"), ...jobs.filter((job) => job.state === "queued").reverse(), ...jobs.filter((job) => !live(job))].slice(0, SHOWN);
  byId("work-empty").hidden = shown.length > 0;
  const takes = new Set(state.takes.map((take) => take.name));
  keyed(byId("work"), shown, (job) => job.key, () => element("li", "job"), (item, job) => {
    const { done, total, left, previews, ...rest } = job;
    whenNew(item, { ...rest, here: takes.has(job.take) }, () => fill(item, job, takes));
    progress(item, job);
  });
}

function fill(item, job, takes) {
  const busy = job.state === "running" || job.state === "queued";
  const title = element("p", "name");
  const into = job.kind === "export" && job.to === "take" && job.state === "done" ? job.name : job.take;
  if (takes.has(into)) title.append(link(into, "", takeHref(into, job.kind === "lift" && job.state === "done" ? job.out : job.lift && job.kind === "export" ? job.lift : null)));
  else title.append(into);
  const row = element("div", "actions");
  const path = job.kind === "lift" ? `/lifts/${job.id}` : `/exports/${job.id}`;
  if (busy) row.append(button("Cancel", `Cancel the ${job.kind} of ${job.take}`, () => act(() => call("DELETE", path)), "small"));
  if (job.kind === "lift" && ["set aside", "failed", "cancelled"].includes(job.state) && takes.has(job.take)) row.append(button("Try again", `Try the lift of ${job.take} again`, () => act(() => call("POST", `${path}/retry`)), "small"));
  const parts = [title, element("p", "muted about")];
  if (busy) {
    const bar = element("progress");
    bar.setAttribute("aria-label", `Progress of the ${job.kind} of ${job.take}`);
    parts.push(bar);
  }
  if (job.sentence) parts.push(element("p", "sentence", job.sentence));
  for (const note of job.notes ?? []) parts.push(element("p", "muted note", note));
  if (job.kind === "export" && job.state === "done" && job.to !== "take") {
    const where = element("p", "path");
    where.append(element("code", "", job.path));
    parts.push(where);
    const file = link("Download", `Download ${job.name}`, downloadUrl(job.id), "button small");
    file.download = "";
    row.append(file, button("Copy path", `Copy the path of ${job.name}`, () => copy(job.path), "small"));
  }
  if (row.children.length) parts.push(row);
  item.className = `job ${job.state.replace(" ", "-")}`;
  item.replaceChildren(...parts);
}

function progress(item, job) {
  const { state, done, total, left } = job;
  const what = job.kind === "lift" ? `lift ${job.out}` : `${FORMS[job.to] ?? job.to}${job.to === "take" ? "" : " export"}`;
  const far = state === "running" ? (total ? `${done} of ${total} frames` : "starting") : WORDS[state] ?? state;
  const time = state === "running" && typeof left === "number" ? `about ${about(left)} left` : "";
  const size = job.bytes ? bytes(job.bytes) : "";
  const text = [what, far, time, size].filter(Boolean).join(" · ");
  const line = item.querySelector(".about");
  if (line.textContent !== text) line.textContent = text;
  preview(item, job);
  const bar = item.querySelector("progress");
  if (!bar) return;
  if (total) {
    bar.max = total;
    bar.value = done;
  } else if (state === "running") bar.removeAttribute("value");
  else bar.value = 0;
}

/** What a model of many steps expects of the window that it is sampling. */
function preview(item, job) {
  let picture = item.querySelector(".preview");
  if (!job.previews) {
    picture?.remove();
    return;
  }
  if (!picture) {
    picture = element("img", "preview");
    picture.alt = `What the lift of ${job.take} will look like`;
    item.querySelector(".about").after(picture);
  }
  const url = previewUrl(job.id, job.previews);
  if (picture.getAttribute("src") !== url) picture.src = url;
}

async function copy(path) {
  try {
    await navigator.clipboard.writeText(path);
    toast("The path is copied.");
  } catch {
    toast("The browser does not allow to copy: select the path instead.", { error: true });
  }
}
