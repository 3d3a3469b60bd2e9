// The two pictures: live from the daemon, or a finished lift beside its render; side by side or under a wipe.
// Knows canvases and pictures; knows nothing of takes lists, recording or queues.

import { connect, frameUrl, liftUrl, takeInfo } from "./api.js";

const STREAM_VIEWS = ["color", "depth", "normal", "motion", "segmentation", "instance", "source", "lifted"];
const HEADER_BYTES = 24;
const byId = (id) => document.getElementById(id);

export class Stage {
  constructor() {
    this.view = "color";
    this.session = null;
    this.live = false;
    this.layout = "side";
    this.playing = null; // the Player, while a finished lift is shown
    this.socket = connect("/stream", { open: () => this.watch(), message: (data) => this.receive(data) });
    this.prepareWipe();
  }

  /** Show this channel, session and live lift; layout "side" or "wipe". */
  set(changes) {
    const before = JSON.stringify([this.view, this.session, this.live]);
    Object.assign(this, changes);
    byId("pictures").className = this.layout;
    byId("wipe-row").hidden = this.layout !== "wipe";
    if (JSON.stringify([this.view, this.session, this.live]) !== before) this.watch();
  }

  watch() {
    const watch = [this.view, ...(this.live ? ["source", "lifted"] : [])];
    this.socket.send(JSON.stringify({ watch, session: this.session }));
  }

  async receive(data) {
    const header = new DataView(data, 0, HEADER_BYTES);
    const view = STREAM_VIEWS[header.getUint8(0)];
    const number = header.getUint32(4, true);
    const time = header.getFloat64(16, true);
    try {
      const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, HEADER_BYTES)], { type: "image/jpeg" }));
      if (!this.playing) this.showLive(view, bitmap, time);
      bitmap.close();
    } finally {
      this.socket.send(JSON.stringify({ ack: number }));
    }
  }

  showLive(view, bitmap, time) {
    // Under the wipe both halves must show the same moment: the lifted frame's own source.
    const matched = this.layout === "wipe" && this.live && this.view === "color";
    if (view === "lifted") {
      draw("lifted", bitmap);
      this.liftedTime = time;
    } else if (view === "source" ? matched && this.liftedTime !== undefined : view === this.view && !(matched && this.liftedTime !== undefined)) {
      draw("render", bitmap);
      byId("render-detail").textContent = `${time.toFixed(2)} s`;
    }
  }

  /** Forget live pictures, when there is no engine or no live lift. */
  clear(which) {
    if (this.playing) return;
    if (which === "lifted") this.liftedTime = undefined;
    wipeOut(which);
  }

  /** Play a finished lift; resolves when its first picture can be shown. */
  async play(take, lift, range) {
    this.stop();
    this.playing = new Player(take, lift, range);
    await this.playing.start();
  }

  /** Back to the live pictures. */
  stop() {
    this.playing?.close();
    this.playing = null;
    wipeOut("render");
    wipeOut("lifted");
  }

  prepareWipe() {
    const slider = byId("wipe"), pictures = byId("pictures");
    const move = () => pictures.style.setProperty("--wipe", `${slider.value}%`);
    slider.addEventListener("input", move);
    const drag = (event) => {
      if (this.layout !== "wipe" || !(event.buttons & 1)) return;
      const box = pictures.getBoundingClientRect();
      slider.value = String(Math.round(100 * (event.clientX - box.left) / box.width));
      move();
    };
    pictures.addEventListener("pointerdown", drag);
    pictures.addEventListener("pointermove", drag);
    move();
  }
}

/** A lifted video and the take's frames that it was made of, kept together by the video's clock. */
class Player {
  constructor(take, lift, range) {
    Object.assign(this, { take, lift, first: range[0], end: range[1], frames: new Map(), shown: -1 });
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, loop: true, playsInline: true, preload: "auto", src: liftUrl(take, lift, "lifted.mp4") });
    this.signals = new AbortController();
  }

  async start() {
    const info = await takeInfo(this.take);
    const begin = info.times[this.first];
    this.times = info.times.slice(this.first, this.end).map((time) => time - begin);
    const options = { signal: this.signals.signal };
    const scrub = byId("scrub"), play = byId("play");
    scrub.max = String(this.times.length - 1);
    scrub.addEventListener("input", () => { this.video.pause(); this.video.currentTime = this.times[scrub.value] + 0.001; }, options);
    play.addEventListener("click", () => (this.video.paused ? this.video.play() : this.video.pause()), options);
    for (const name of ["play", "pause"]) {
      this.video.addEventListener(name, () => { play.textContent = this.video.paused ? "Play" : "Pause"; }, options);
    }
    byId("player").hidden = false;
    byId("player-name").textContent = `${this.take} · ${this.lift}`;
    const tick = () => {
      if (this.signals.signal.aborted) return;
      this.show();
      requestAnimationFrame(tick);
    };
    await this.video.play().catch(() => {});
    tick();
  }

  show() {
    if (this.video.readyState < 2) return;
    draw("lifted", this.video, this.video.videoWidth, this.video.videoHeight);
    let index = this.times.findLastIndex((time) => time <= this.video.currentTime + 0.001);
    index = Math.max(0, index);
    for (let ahead = 0; ahead < 6; ahead++) this.fetch((index + ahead) % this.times.length);
    const image = this.frames.get(index);
    if (image?.complete && image.naturalWidth && index !== this.shown) {
      draw("render", image, image.naturalWidth, image.naturalHeight);
      byId("scrub").value = String(index);
      byId("render-detail").textContent = `frame ${this.first + index}`;
      this.shown = index;
    }
  }

  fetch(index) {
    if (this.frames.has(index)) return;
    const image = new Image();
    image.src = frameUrl(this.take, this.first + index);
    this.frames.set(index, image);
    if (this.frames.size > 240) this.frames.delete(this.frames.keys().next().value);
  }

  close() {
    this.signals.abort();
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    byId("player").hidden = true;
    byId("render-detail").textContent = "";
  }
}

function draw(which, image, width = image.width, height = image.height) {
  const canvas = byId(`${which}-canvas`);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  byId(`${which}-empty`).hidden = true;
}

function wipeOut(which) {
  const canvas = byId(`${which}-canvas`);
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  byId(`${which}-empty`).hidden = false;
}
