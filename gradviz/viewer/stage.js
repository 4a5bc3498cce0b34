/** The drawing on the screen: SVG or canvas, moved and scaled with mouse, touch and keys. */

import { Grid, drawCanvas } from "./draw_canvas.js";
import { elementId, fillSvg, svgElement } from "./draw_svg.js";
import { h } from "./dom.js";

/** @typedef {import("./scene.js").Picture} Picture */
/** @typedef {import("./draw_canvas.js").Camera} Camera */

export const MOST_IN_SVG = 3000; // nodes that are drawn as elements
const LEAST = 0.0005;
const MOST = 4;
const NEARLY = 0.9; // part of a picture in view from which on no small picture of the whole covers it
const MARGIN = 28; // pixels around a picture that fits
const LARGEST = 1.25; // scale at which a small picture is fitted
const WHOLE = 0.66; // a first picture that needs no smaller scale is shown as a whole
const SMALLEST = 0.82; // scale of a first picture that is larger than the stage: text of 9 pixels
const NARROW = 820; // on a narrower stage a picture of text of 7 pixels is better than one cut at its sides

const DARK = matchMedia("(prefers-color-scheme: dark)");

export class Stage {
  /**
   * @param {import("./graph.js").Data} data
   * @param {{select: (id: string) => void, open: (id: string) => void, nameOf: (id: string) => string, label: string}} act
   */
  constructor(data, act) {
    this.data = data;
    this.act = act;
    /** @type {Picture | null} */
    this.picture = null;
    /** @type {Camera} */
    this.camera = { x: 0, y: 0, scale: 1 };
    this.selected = "";
    /** @type {Set<number> | null} */
    this.lit = null;
    /** @type {Grid | null} */
    this.grid = null;
    this.palettes = [0, 1].map((scheme) => Object.fromEntries(Object.entries(data.palette).map(([token, pair]) => [token, pair[scheme]])));
    this.scene = svgElement("g");
    this.svg = svgElement("svg", { class: "drawing" });
    this.svg.append(this.scene);
    this.canvas = h("canvas", { class: "drawing", hidden: true });
    this.map = h("canvas", { class: "minimap", hidden: true, "aria-hidden": "true" });
    this.element = h("div", {
      class: "stage", tabindex: "0", role: "application", "aria-label": act.label,
      "aria-roledescription": "graph",
    }, this.svg, this.canvas, this.map);
    /** @type {Map<number, {x: number, y: number}>} */
    this.fingers = new Map();
    this.moved = 0;
    this.frame = 0;
    this.listen();
  }

  /** In pixels, as it was when it changed last: to ask the page costs a layout of all of it. */
  get size() {
    if (!this.known) this.known = { width: this.element.clientWidth || 800, height: this.element.clientHeight || 600 };
    return this.known;
  }

  /** @type {{width: number, height: number} | null} */
  known = null;

  get isCanvas() {
    return this.picture !== null && this.picture.nodes.length > MOST_IN_SVG;
  }

  /**
   * Show a picture; the node called `anchor` stays where it is on the screen.
   * @param {Picture} picture
   * @param {{anchor?: {x: number, y: number, id: string}, animate?: boolean}} [how]
   */
  show(picture, how = {}) {
    const before = this.picture;
    this.picture = picture;
    this.lit = null;
    this.hovered = "";
    this.svg.classList.remove("lighting");
    const { anchor } = how;
    const now = anchor && picture.place.get(anchor.id);
    if (anchor && now !== undefined) {
      const node = picture.nodes[now];
      this.camera.x += node.x - anchor.x;
      this.camera.y += node.y - anchor.y;
    }
    this.grid = null;
    this.canvas.hidden = !this.isCanvas;
    this.svg.toggleAttribute("hidden", this.isCanvas);
    if (this.isCanvas) this.scene.replaceChildren();
    else {
      fillSvg(this.scene, this.data, picture, this.act.nameOf);
      if (before && how.animate) this.slide(before, picture, anchor && now !== undefined ? { x: picture.nodes[now].x - anchor.x, y: picture.nodes[now].y - anchor.y } : { x: 0, y: 0 });
    }
    this.mark(this.selected);
    this.redraw();
  }

  /**
   * Animate the nodes from their old positions in less than 200 ms, unless the reader prefers reduced motion.
   * @param {Picture} before @param {Picture} now @param {{x: number, y: number}} shift
   */
  slide(before, now, shift) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || now.nodes.length > 600) return;
    for (const element of this.scene.querySelectorAll(".node")) {
      const id = element.getAttribute("data-id") || "";
      const old = before.place.get(id);
      const node = now.nodes[/** @type {number} */ (now.place.get(id))];
      if (old === undefined) {
        element.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 160 });
        continue;
      }
      const dx = before.nodes[old].x - node.x + shift.x;
      const dy = before.nodes[old].y - node.y + shift.y;
      if (Math.hypot(dx, dy) < 1) continue;
      element.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: 160, easing: "ease-out" });
    }
    for (const element of this.scene.querySelectorAll(".edges, .enclosures")) {
      element.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 180 });
    }
  }

  /** Draw what is to be seen, at the next frame of the screen. */
  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    const { x, y, scale } = this.camera;
    this.scene.setAttribute("transform", `scale(${scale}) translate(${-x} ${-y})`);
    if (this.isCanvas && this.picture) {
      if (!this.grid) this.grid = new Grid(this.picture);
      const ratio = window.devicePixelRatio || 1;
      const { width, height } = this.size;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
      }
      const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
      drawCanvas(context, this.data, this.grid, this.camera, {
        width, height, ratio, colors: this.colors(), font: getComputedStyle(this.element).fontFamily,
        selected: this.selected, lit: this.lit,
      });
    }
    this.drawMap();
  }

  /** The colors as they are now, light or dark; to ask for computed styles costs some of each frame. */
  colors() {
    const { theme } = document.documentElement.dataset;
    const isDark = theme === "dark" || (theme === "auto" && DARK.matches);
    return this.palettes[Number(isDark)];
  }

  /** A small picture of the whole, when only a part is in view. */
  drawMap() {
    const { picture } = this;
    const { width, height } = this.size;
    if (!picture) return;
    const { x, y, scale } = this.camera;
    const inView = (/** @type {number} */ from, /** @type {number} */ length, /** @type {number} */ all) =>
      (Math.min(all, from + length) - Math.max(0, from)) / Math.max(1, all);
    const isWhole = Math.min(inView(x, width / scale, picture.width), inView(y, height / scale, picture.height)) > NEARLY;
    this.map.hidden = isWhole || width < 260 || height < 150;
    if (this.map.hidden) return;
    const ratio = Math.min(Math.min(150, width / 5) / picture.width, Math.min(120, height / 4) / picture.height);
    const [mapWidth, mapHeight] = [Math.max(24, picture.width * ratio), Math.max(24, picture.height * ratio)];
    this.map.width = Math.round(mapWidth);
    this.map.height = Math.round(mapHeight);
    const context = /** @type {CanvasRenderingContext2D} */ (this.map.getContext("2d"));
    const colors = this.colors();
    context.fillStyle = colors.page;
    context.fillRect(0, 0, mapWidth, mapHeight);
    const every = Math.ceil(picture.nodes.length / 4000);
    for (let at = 0; at < picture.nodes.length; at += every) {
      const node = picture.nodes[at];
      context.fillStyle = colors[(node.card.look || this.data.looks[node.card.kind]).edge];
      context.fillRect((node.x - node.width / 2) * ratio, (node.y - node.height / 2) * ratio, Math.max(1, node.width * ratio), Math.max(1, node.height * ratio));
    }
    context.strokeStyle = colors.ink;
    context.lineWidth = 1.5;
    context.strokeRect(x * ratio + 0.5, y * ratio + 0.5, (width / scale) * ratio, (height / scale) * ratio);
  }

  /** The whole picture in view. @param {boolean} [isFirst] readable at least, in part if need be */
  fit(isFirst) {
    const { picture } = this;
    if (!picture) return;
    this.isReadable = Boolean(isFirst);
    const { width, height } = this.size;
    const wide = (width - 2 * MARGIN) / Math.max(1, picture.width);
    const high = (height - 2 * MARGIN) / Math.max(1, picture.height);
    const whole = Math.min(wide, high);
    const isWidthShown = width < NARROW && !picture.isSideways && wide >= WHOLE;
    const inPart = isWidthShown ? Math.min(wide, SMALLEST) : SMALLEST;
    const scale = Math.max(LEAST, Math.min(LARGEST, isFirst && whole < WHOLE ? inPart : whole));
    const at = picture.place.get(this.start.id);
    const node = at === undefined ? { x: picture.width / 2, y: picture.height / 2 } : picture.nodes[at];
    const pad = MARGIN / scale;
    /** @param {number} middle @param {number} shown @param {number} all @param {boolean} isAlong */
    const begin = (middle, shown, all, isAlong) => {
      if (all + 2 * pad <= shown + 1) return all / 2 - shown / 2;
      return isAlong && !this.start.isMiddle ? -pad : Math.max(-pad, Math.min(all + pad - shown, middle - shown / 2));
    };
    this.camera = {
      x: begin(node.x, width / scale, picture.width, picture.isSideways),
      y: begin(node.y, height / scale, picture.height, !picture.isSideways),
      scale,
    };
    this.redraw();
  }

  /** The node around which a large picture begins, and whether it is in the middle in both directions. */
  start = { id: "", isMiddle: false };

  /** How the picture was fitted last: so that its text can be read, or the whole of it. */
  isReadable = true;

  /** Whether the reader moved the picture. */
  isTouched = false;

  /** @param {number} factor @param {number} [left] @param {number} [top] */
  zoom(factor, left, top) {
    this.isTouched = true;
    const { width, height } = this.size;
    const [px, py] = [left ?? width / 2, top ?? height / 2];
    const { x, y, scale } = this.camera;
    const next = Math.max(LEAST, Math.min(MOST, scale * factor));
    this.camera = { x: x + px / scale - px / next, y: y + py / scale - py / next, scale: next };
    this.redraw();
  }

  /** @param {number} dx pixels @param {number} dy */
  pan(dx, dy) {
    this.isTouched = true;
    this.camera.x += dx / this.camera.scale;
    this.camera.y += dy / this.camera.scale;
    this.redraw();
  }

  /** Bring a node into view, with as little movement as possible. @param {string} id @param {boolean} [center] */
  reveal(id, center) {
    const at = this.picture ? this.picture.place.get(id) : undefined;
    if (at === undefined || !this.picture) return;
    this.isTouched = true;
    const node = this.picture.nodes[at];
    const { width, height } = this.size;
    if (center && this.camera.scale < 0.4) this.camera.scale = 0.8;
    const { scale } = this.camera;
    const [w, hh] = [width / scale, height / scale];
    const pad = 24 / scale;
    if (center) {
      this.camera.x = node.x - w / 2;
      this.camera.y = node.y - hh / 2;
    } else {
      this.camera.x = Math.min(Math.max(this.camera.x, node.x + node.width / 2 + pad - w), node.x - node.width / 2 - pad);
      this.camera.y = Math.min(Math.max(this.camera.y, node.y + node.height / 2 + pad - hh), node.y - node.height / 2 - pad);
    }
    this.redraw();
  }

  /** Mark what is selected. @param {string} id */
  mark(id) {
    this.selected = id;
    for (const element of this.scene.querySelectorAll(".node.selected")) element.classList.remove("selected");
    const picture = this.picture;
    if (!picture) return;
    for (const node of picture.nodes) {
      const isSame = node.id === id || (node.again && id !== "" && node.id.startsWith(`${id}~`));
      if (isSame && !this.isCanvas) {
        const element = this.scene.querySelector(`#${elementId(node.id)}`);
        if (element) element.classList.add("selected");
      }
    }
    const isThere = picture.place.has(id) && !this.isCanvas;
    if (isThere) this.element.setAttribute("aria-activedescendant", elementId(id));
    else this.element.removeAttribute("aria-activedescendant");
    this.redraw();
  }

  /** Show which way the gradient goes through a node: to it from the results, and on to leaves. */
  /** @param {string} id "" for none */
  light(id) {
    const { picture } = this;
    const at = picture && id ? picture.place.get(id) : undefined;
    if (!picture || at === undefined) {
      this.svg.classList.remove("lighting");
      if (this.lit) {
        this.lit = null;
        this.redraw();
      }
      return;
    }
    const { nodes, edges } = pathThrough(picture, at);
    if (this.isCanvas) {
      this.lit = nodes;
      this.redraw();
      return;
    }
    this.svg.classList.add("lighting");
    this.scene.querySelectorAll(".node").forEach((element, number) => element.classList.toggle("lit", nodes.has(number)));
    this.scene.querySelectorAll(".edge").forEach((element, number) => element.classList.toggle("lit", edges.has(number)));
  }

  /** The id of the node at a place on the screen; "" for none. @param {MouseEvent} event */
  idAt(event) {
    if (!this.isCanvas || !this.grid || !this.picture) {
      const target = /** @type {Element} */ (event.target);
      const element = target.closest("[data-id]");
      return element ? element.getAttribute("data-id") || "" : "";
    }
    const box = this.element.getBoundingClientRect();
    const { x, y, scale } = this.camera;
    const at = this.grid.at(x + (event.clientX - box.left) / scale, y + (event.clientY - box.top) / scale);
    return at < 0 ? "" : this.picture.nodes[at].id;
  }

  listen() {
    const { element } = this;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      const unit = event.deltaMode === 1 ? 16 : 1;
      if (event.ctrlKey || event.metaKey || (event.deltaX === 0 && Math.abs(event.deltaY * unit) >= 80)) {
        const factor = Math.exp(-Math.max(-240, Math.min(240, event.deltaY * unit)) * (event.ctrlKey ? 0.01 : 0.0018));
        this.zoom(factor, event.clientX - box.left, event.clientY - box.top);
      } else this.pan(event.deltaX * unit, event.deltaY * unit);
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      if (event.target === this.map) return;
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.moved = 0;
    });
    element.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      element.addEventListener(name, (event) => this.fingers.delete(/** @type {PointerEvent} */ (event).pointerId));
    }
    element.addEventListener("click", (event) => {
      if (event.target === this.map || this.moved > 4) return;
      this.act.select(this.idAt(event));
    });
    element.addEventListener("dblclick", (event) => {
      const id = this.idAt(event);
      if (id) this.act.open(id);
    });
    element.addEventListener("pointerleave", () => this.light(""));
    this.map.addEventListener("pointerdown", (event) => this.jump(event));
    this.map.addEventListener("pointermove", (event) => {
      if (event.buttons) this.jump(event);
    });
    // A page that was hidden at first has a size only now.
    new ResizeObserver(() => {
      this.known = null;
      if (this.isTouched) this.redraw();
      else this.fit(this.isReadable);
    }).observe(element);
  }

  /** @param {PointerEvent} event */
  drag(event) {
    const finger = this.fingers.get(event.pointerId);
    if (!finger) {
      if (event.pointerType === "mouse") this.hover(this.idAt(event));
      return;
    }
    const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y];
    const others = [...this.fingers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    if (others.length) {
      const [other] = others;
      const before = Math.hypot(finger.x - other.x, finger.y - other.y);
      const now = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      const box = this.element.getBoundingClientRect();
      if (before > 10) this.zoom(now / before, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
      this.pan(-dx / 2, -dy / 2);
    } else this.pan(-dx, -dy);
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.moved > 4) {
      this.element.setPointerCapture(event.pointerId);
      this.element.classList.add("dragging");
      setTimeout(() => this.element.classList.remove("dragging"), 300);
    }
    finger.x = event.clientX;
    finger.y = event.clientY;
  }

  hovered = "";

  /** @param {string} id */
  hover(id) {
    if (id === this.hovered) return;
    this.hovered = id;
    this.light(id);
  }

  /** @param {PointerEvent} event */
  jump(event) {
    const { picture } = this;
    if (!picture) return;
    const box = this.map.getBoundingClientRect();
    const { width, height } = this.size;
    this.camera.x = ((event.clientX - box.left) / box.width) * picture.width - width / 2 / this.camera.scale;
    this.camera.y = ((event.clientY - box.top) / box.height) * picture.height - height / 2 / this.camera.scale;
    this.redraw();
  }
}

/**
 * The nodes on the gradient paths through a node; cuts are not crossed.
 * @param {Picture} picture
 * @param {number} start
 */
export function pathThrough(picture, start) {
  const nodes = new Set([start]);
  const edges = new Set();
  for (const isBack of [true, false]) {
    /** @type {Map<number, number[]>} */
    const lists = new Map();
    picture.edges.forEach((edge, number) => {
      if (edge.row.kind !== "gradient") return;
      const from = isBack ? edge.target : edge.source;
      const list = lists.get(from);
      if (list) list.push(number);
      else lists.set(from, [number]);
    });
    const seen = new Set([start]);
    const stack = [start];
    while (stack.length) {
      const node = /** @type {number} */ (stack.pop());
      for (const number of lists.get(node) || []) {
        edges.add(number);
        const next = isBack ? picture.edges[number].source : picture.edges[number].target;
        if (seen.has(next)) continue;
        seen.add(next);
        nodes.add(next);
        stack.push(next);
      }
    }
  }
  return { nodes, edges };
}
