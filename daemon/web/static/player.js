// Plays a take, and beside it one of its lifts, kept together frame by frame. Knows the stage it draws on; knows
// nothing of buttons.

import { frameUrl, liftUrl } from "./api.js";

const AHEAD = 10;
const KEPT = 240;
const DRIFT = 0.12; // seconds by which the video may be off before it is set right

export class Player {
  /** `info`: what the API says of the take. `changed()` is called when the position or the state changed. */
  constructor(stage, info, changed) {
    Object.assign(this, { stage, info, changed });
    this.times = steady(info.elapsed);
    this.view = info.channels.includes("color") ? "color" : "depth";
    this.lift = null;
    this.index = 0;
    this.playing = false;
    this.first = 0; // of the part that is played, and marked for trims and lifts
    this.end = this.times.length;
    this.images = new Map();
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
    this.video.addEventListener("seeked", () => this.drawLift());
    this.video.addEventListener("loadeddata", () => this.drawLift());
    this.video.addEventListener("error", () => {
      if (this.lift) this.stage.clear("lifted", "The lifted video cannot be played by this browser; export it instead.");
    });
    this.closed = false;
    this.show(0);
  }

  get length() { return this.times.length; }

  get seconds() { return this.times[this.index] ?? 0; }

  get total() { return this.info.seconds; }

  /** Show this lift beside the render; null for none. */
  setLift(lift) {
    this.lift = lift;
    this.range = lift?.frames ?? [0, this.length];
    if (lift) {
      this.video.src = liftUrl(this.info.name, lift.name);
      if (this.index < this.range[0] || this.index >= this.range[1]) this.show(this.range[0]);
      else this.show(this.index);
    } else {
      this.video.pause();
      this.video.removeAttribute("src");
      this.video.load();
      this.stage.clear("lifted", this.info.lifts.length ? "No lift is chosen." : "This take has not been lifted yet.");
      this.stage.caption("lifted", "Lifted");
    }
    this.changed();
  }

  setView(view) {
    this.view = view;
    this.images.clear();
    this.show(this.index);
  }

  /** Go to a frame. */
  show(index) {
    this.index = Math.max(0, Math.min(this.length - 1, Math.round(index)));
    this.began = null;
    this.seek();
    this.draw();
    this.changed();
  }

  step(by) {
    this.pause();
    this.show(this.index + by);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.length < 2) return;
    if (this.index >= this.end - 1 || this.index < this.first) this.show(this.first);
    this.playing = true;
    this.began = null;
    this.changed();
    requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    this.playing = false;
    this.video.pause();
    this.seek();
    this.changed();
  }

  close() {
    this.closed = true;
    this.playing = false;
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }

  /** Where in the lifted video the frame is, in seconds; null outside the lift. */
  place(index) {
    if (!this.lift || index < this.range[0] || index >= this.range[1]) return null;
    return this.times[index] - this.times[this.range[0]];
  }

  seek() {
    const place = this.place(this.index);
    if (place !== null && Math.abs(this.video.currentTime - place) > 0.004) this.video.currentTime = place + 0.002;
    else if (place !== null) this.drawLift();
  }

  tick(now) {
    if (!this.playing || this.closed) return;
    if (this.began === null) this.began = now - 1000 * this.seconds;
    const at = (now - this.began) / 1000;
    let index = this.index;
    while (index + 1 < this.end && this.times[index + 1] <= at) index++;
    const image = this.fetch(index);
    if (!image.complete && at - this.times[this.index] < 2) {
      this.began = null; // the take is slower to read than to play: it waits, and goes on from here
      this.video.pause();
    } else {
      this.index = index;
      this.draw();
      this.follow(index);
      this.changed();
    }
    if (this.index >= this.end - 1 && at > this.times[this.end - 1] + 0.5) this.show(this.first); // again
    requestAnimationFrame((later) => this.tick(later));
  }

  /** Let the video run along, and set it right when it is off. */
  follow(index) {
    const place = this.place(index);
    if (place === null) {
      this.video.pause();
      if (this.lift) this.stage.clear("lifted", "This part of the take was not lifted.");
      return;
    }
    if (Math.abs(this.video.currentTime - place) > DRIFT) this.video.currentTime = place + 0.002;
    if (this.video.paused && !this.video.ended) this.video.play().catch(() => {});
    this.drawLift();
  }

  draw() {
    for (let ahead = 0; ahead < AHEAD; ahead++) {
      const next = this.first + (((this.index - this.first + ahead) % Math.max(1, this.end - this.first)) + Math.max(1, this.end - this.first)) % Math.max(1, this.end - this.first);
      this.fetch(ahead ? next : this.index);
    }
    const image = this.images.get(this.index);
    if (image.complete && image.naturalWidth) this.stage.draw("render", image, image.naturalWidth, image.naturalHeight);
    if (this.lift && this.place(this.index) === null) this.stage.clear("lifted", "This part of the take was not lifted.");
  }

  drawLift() {
    if (this.lift && this.video.readyState >= 2 && this.place(this.index) !== null) {
      this.stage.draw("lifted", this.video, this.video.videoWidth, this.video.videoHeight);
    }
  }

  fetch(index) {
    let image = this.images.get(index);
    if (!image) {
      image = new Image();
      image.onload = () => { if (!this.closed && index === this.index && this.images.get(index) === image) this.draw(); };
      image.onerror = () => { if (!this.closed && index === this.index) this.stage.clear("render", "This frame cannot be shown."); };
      image.src = frameUrl(this.info.name, index, this.view);
      this.images.set(index, image);
      if (this.images.size > KEPT) this.images.delete(this.images.keys().next().value);
    }
    return image;
  }
}

/** Times that only rise; a lost frame has that of the one before. */
function steady(elapsed) {
  let last = 0;
  return elapsed.map((time) => (last = Math.max(last, time ?? last)));
}
