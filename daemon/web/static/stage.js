// Two pictures, the render and its lift: side by side, under a wipe, or one alone; full screen. Draws what it is given
// and knows nothing of where that comes from.

import { element, say } from "./dom.js";

export const LAYOUTS = [["side", "Side by side"], ["wipe", "Wipe"], ["left", "Left only"], ["right", "Right only"]];

export class Stage {
  /** Builds itself into `root`. */
  constructor(root, { left = "Render", right = "Lifted" } = {}) {
    this.root = root;
    this.pictures = element("div", "pictures");
    this.sides = { render: this.side("render", left), lifted: this.side("lifted", right) };
    this.line = element("div", "wipe-line");
    this.slider = Object.assign(element("input", "wipe-slider"), { type: "range", min: 0, max: 100, value: 50, step: 1 });
    this.slider.setAttribute("aria-label", "Wipe: how much of the left picture is shown");
    this.pictures.append(this.sides.render.figure, this.sides.lifted.figure, this.line);
    root.append(this.pictures, this.slider);
    this.slider.addEventListener("input", () => this.moveWipe());
    const drag = (event) => {
      if (this.layout !== "wipe" || !(event.buttons & 1)) return;
      const box = this.pictures.getBoundingClientRect();
      this.slider.value = String(Math.round(100 * (event.clientX - box.left) / box.width));
      this.moveWipe();
      event.preventDefault();
    };
    this.pictures.addEventListener("pointerdown", drag);
    this.pictures.addEventListener("pointermove", drag);
    this.setLayout("side");
    this.moveWipe();
  }

  side(which, name) {
    const figure = element("figure", which);
    const canvas = Object.assign(element("canvas"), { width: 320, height: 180 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", name);
    const empty = element("p", "empty");
    const caption = element("figcaption");
    const title = element("span", "title", name), detail = element("span", "detail");
    caption.append(title, detail);
    figure.append(canvas, empty, caption);
    return { figure, canvas, empty, title, detail, context: canvas.getContext("2d") };
  }

  setLayout(layout) {
    this.layout = layout;
    this.pictures.className = `pictures ${layout}`;
    this.slider.hidden = layout !== "wipe";
  }

  nextLayout() {
    return this.layout === "wipe" ? "side" : "wipe";
  }

  moveWipe() {
    this.pictures.style.setProperty("--wipe", `${this.slider.value}%`);
  }

  draw(which, image, width = image.width, height = image.height) {
    const { canvas, context, empty } = this.sides[which];
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      this.root.style.setProperty("--ratio", String(width / height));
    }
    context.drawImage(image, 0, 0, width, height);
    empty.hidden = true;
  }

  /** Nothing to be seen on one side, and why. */
  clear(which, sentence = "") {
    const { canvas, context, empty } = this.sides[which];
    if (!empty.hidden || sentence) {
      context.clearRect(0, 0, canvas.width, canvas.height);
      empty.hidden = false;
      say(empty, sentence);
    }
  }

  caption(which, name, detail = "") {
    const { canvas, title, detail: about } = this.sides[which];
    say(title, name);
    say(about, detail);
    canvas.setAttribute("aria-label", name);
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.pictures.requestFullscreen?.().catch(() => {});
  }
}
