/** A picture on a canvas, of which only what is in view is drawn: for many thousands of nodes. */

import { drawEdge, drawNode } from "./shapes.js";

/** @typedef {import("./scene.js").Picture} Picture */
/** @typedef {import("./shapes.js").Paint} Paint */
/** @typedef {import("./shapes.js").Pen} Pen */
/** @typedef {import("./graph.js").Data} Data */
/** @typedef {{x: number, y: number, scale: number}} Camera the place at the top left, and pixels a point */

const CELL = 800; // points
const READABLE = 0.34; // scale from which on text is drawn
const COARSE = 0.12; // scale below which boxes are plain and curves are straight

/** Which nodes and edges are near a place. */
export class Grid {
  /** @param {Picture} picture */
  constructor(picture) {
    this.picture = picture;
    this.columns = Math.max(1, Math.ceil(picture.width / CELL));
    this.rows = Math.max(1, Math.ceil(picture.height / CELL));
    /** @type {number[][]} */
    this.nodes = Array.from({ length: this.columns * this.rows }, () => []);
    /** @type {number[][]} */
    this.edges = Array.from({ length: this.columns * this.rows }, () => []);
    /** @type {number[]} */
    this.long = [];
    picture.nodes.forEach((node, at) => {
      const span = [node.x - node.width / 2, node.y - node.height / 2, node.x + node.width / 2, node.y + node.height / 2];
      for (const cell of this.cells(span[0], span[1], span[2], span[3])) this.nodes[cell].push(at);
    });
    picture.edges.forEach(({ route, before }, at) => {
      let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
      for (const points of before ? [route, before] : [route]) {
        for (let i = 0; i < points.length; i += 2) {
          left = Math.min(left, points[i]);
          right = Math.max(right, points[i]);
          top = Math.min(top, points[i + 1]);
          bottom = Math.max(bottom, points[i + 1]);
        }
      }
      const cells = this.cells(left, top, right, bottom);
      if (cells.length > 40) this.long.push(at);
      else for (const cell of cells) this.edges[cell].push(at);
    });
  }

  /** @param {number} left @param {number} top @param {number} right @param {number} bottom */
  cells(left, top, right, bottom) {
    const clamp = (/** @type {number} */ value, /** @type {number} */ most) => Math.max(0, Math.min(most - 1, Math.floor(value / CELL)));
    const found = [];
    for (let row = clamp(top, this.rows); row <= clamp(bottom, this.rows); row += 1) {
      for (let column = clamp(left, this.columns); column <= clamp(right, this.columns); column += 1) {
        found.push(row * this.columns + column);
      }
    }
    return found;
  }

  /** The nodes and edges that may be seen in a rectangle. */
  /** @param {number} left @param {number} top @param {number} right @param {number} bottom */
  within(left, top, right, bottom) {
    const nodes = new Set();
    const edges = new Set(this.long);
    for (const cell of this.cells(left, top, right, bottom)) {
      for (const node of this.nodes[cell]) nodes.add(node);
      for (const edge of this.edges[cell]) edges.add(edge);
    }
    return { nodes, edges };
  }

  /** The node at a place; -1 for none. @param {number} x @param {number} y */
  at(x, y) {
    for (const cell of this.cells(x, y, x, y)) {
      for (const number of this.nodes[cell]) {
        const node = this.picture.nodes[number];
        if (Math.abs(node.x - x) <= node.width / 2 && Math.abs(node.y - y) <= node.height / 2) return number;
      }
    }
    return -1;
  }
}

/** Draws shapes on a canvas. @implements {Pen} */
class CanvasPen {
  /** @param {CanvasRenderingContext2D} context @param {Record<string, string>} colors @param {string} font */
  constructor(context, colors, font) {
    this.context = context;
    this.colors = colors;
    this.font = font;
  }

  /** @param {Paint} paint */
  paint({ fill, edge, line, dashed }) {
    const { context, colors } = this;
    if (fill) {
      context.fillStyle = colors[fill];
      context.fill();
    }
    if (edge) {
      context.strokeStyle = colors[edge];
      context.lineWidth = line || 1;
      context.setLineDash(dashed ? [5, 3] : []);
      context.stroke();
    }
  }

  /** @param {number} x @param {number} y @param {number} width @param {number} height @param {Paint} paint */
  box(x, y, width, height, paint) {
    this.context.beginPath();
    const radius = Math.min(paint.radius || 0, width / 2, height / 2);
    if (radius > 0) this.context.roundRect(x, y, width, height, radius);
    else this.context.rect(x, y, width, height);
    this.paint(paint);
  }

  /** @param {number[]} points @param {Paint} paint */
  curve(points, paint) {
    this.context.beginPath();
    trace(this.context, points);
    this.paint({ ...paint, fill: undefined });
  }

  /** @param {number[]} points @param {string} fill */
  polygon(points, fill) {
    this.context.beginPath();
    this.context.moveTo(points[0], points[1]);
    for (let at = 2; at < points.length; at += 2) this.context.lineTo(points[at], points[at + 1]);
    this.context.closePath();
    this.paint({ fill });
  }

  /** @param {string} text @param {number} x @param {number} y @param {import("./shapes.js").TextStyle} style */
  text(text, x, y, { color, size, bold }) {
    this.context.font = `${bold ? "bold " : ""}${size}px ${this.font}`;
    this.context.fillStyle = this.colors[color];
    this.context.fillText(text, x, y);
  }
}

/** @param {CanvasRenderingContext2D} context @param {number[]} points */
function trace(context, points) {
  context.moveTo(points[0], points[1]);
  for (let at = 2; at + 5 < points.length; at += 6) {
    context.bezierCurveTo(points[at], points[at + 1], points[at + 2], points[at + 3], points[at + 4], points[at + 5]);
  }
}

/**
 * Draw the visible part.
 * @param {CanvasRenderingContext2D} context
 * @param {Data} data
 * @param {Grid} grid
 * @param {Camera} camera
 * @param {{width: number, height: number, ratio: number, colors: Record<string, string>, font: string, selected: string, lit: Set<number> | null}} view
 */
export function drawCanvas(context, data, grid, camera, view) {
  const { picture } = grid;
  const { scale } = camera;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = view.colors.page;
  context.fillRect(0, 0, view.width * view.ratio, view.height * view.ratio);
  const zoom = scale * view.ratio;
  context.setTransform(zoom, 0, 0, zoom, -camera.x * zoom, -camera.y * zoom);
  const right = camera.x + view.width / scale;
  const bottom = camera.y + view.height / scale;
  const seen = grid.within(camera.x, camera.y, right, bottom);
  if (scale < READABLE) drawCoarse(context, data, picture, seen, scale, view.colors);
  else {
    const pen = new CanvasPen(context, view.colors, view.font);
    for (const number of seen.edges) drawEdge(pen, data, picture.edges[number]);
    for (const number of seen.nodes) drawNode(pen, data, picture.nodes[number]);
  }
  const chosen = picture.place.get(view.selected);
  if (chosen !== undefined) outline(context, picture.nodes[chosen], view.colors["leaf-edge"], 3 / scale);
  if (view.lit) for (const number of view.lit) outline(context, picture.nodes[number], view.colors.level, 1.5 / scale);
}

/** @param {CanvasRenderingContext2D} context @param {import("./scene.js").DrawnNode} node @param {string} color @param {number} line */
function outline(context, node, color, line) {
  context.setLineDash([]);
  context.strokeStyle = color;
  context.lineWidth = line;
  context.strokeRect(node.x - node.width / 2 - 3, node.y - node.height / 2 - 3, node.width + 6, node.height + 6);
}

/**
 * Boxes and lines without text, all of one color at once.
 * @param {CanvasRenderingContext2D} context @param {Data} data @param {Picture} picture
 * @param {{nodes: Set<number>, edges: Set<number>}} seen @param {number} scale
 * @param {Record<string, string>} colors
 */
function drawCoarse(context, data, picture, seen, scale, colors) {
  context.setLineDash([]);
  for (const isCut of [false, true]) {
    context.beginPath();
    for (const number of seen.edges) {
      const { route, row } = picture.edges[number];
      if ((row.kind === "cut") !== isCut) continue;
      if (scale < COARSE) {
        context.moveTo(route[0], route[1]);
        for (let at = 6; at < route.length; at += 6) context.lineTo(route[at], route[at + 1]);
      } else trace(context, route);
    }
    context.strokeStyle = colors[isCut ? "cut" : "line"];
    context.lineWidth = Math.max(1.3, 0.6 / scale);
    context.stroke();
  }
  /** @type {Map<string, number[]>} */
  const byColor = new Map();
  for (const number of seen.nodes) {
    const node = picture.nodes[number];
    const look = node.card.look || data.looks[node.card.kind];
    const token = node.bar ? node.bar.token : scale < COARSE ? look.edge : look.head === "page" ? look.body : look.head;
    const list = byColor.get(token);
    if (list) list.push(number);
    else byColor.set(token, [number]);
  }
  for (const [token, numbers] of byColor) {
    context.beginPath();
    for (const number of numbers) {
      const { x, y, width, height } = picture.nodes[number];
      context.rect(x - width / 2, y - height / 2, width, height);
    }
    context.fillStyle = colors[token];
    context.fill();
    if (scale < COARSE) continue;
    context.strokeStyle = colors["op-edge"];
    context.lineWidth = 1.2;
    context.stroke();
  }
}
