/** What a node and an edge consist of, for both ways of drawing: the shapes of the pictures. */

/** @typedef {import("./scene.js").DrawnNode} DrawnNode */
/** @typedef {import("./scene.js").DrawnEdge} DrawnEdge */
/** @typedef {import("./graph.js").Span} Span */
/**
 * @typedef {object} Pen what draws shapes; colors are tokens of the palette
 * @property {(x: number, y: number, width: number, height: number, paint: Paint) => void} box
 * @property {(points: number[], paint: Paint) => void} curve
 * @property {(points: number[], fill: string) => void} polygon
 * @property {(text: string, x: number, y: number, style: TextStyle) => void} text
 */
/** @typedef {{fill?: string, edge?: string, line?: number, radius?: number, dashed?: boolean}} Paint */
/** @typedef {{color: string, size: number, bold: boolean}} TextStyle */

const HEAD = 25;
const ROW = 21;
const SIDE = 11;
const GAP = 6;
const BAR = 4;
const BAR_ROOM = 4;
const BASELINE = 4.6; // from the middle of a line down to its baseline
const ARROW = 8;
const DASHED = ["cut", "alias", "saved"];
const CAUSE_LINE = 14;
const MARK_ROOM = 14;

/** @param {Span[]} line */
function lineWidth(line) {
  let width = GAP * Math.max(line.length - 1, 0);
  for (const span of line) width += span[2];
  return width;
}

/**
 * @param {Pen} pen @param {import("./graph.js").Data} data @param {Span[]} line
 * @param {number} x @param {number} baseline
 */
export function setLine(pen, data, line, x, baseline) {
  let left = x;
  for (const [text, role, width] of line) {
    const [color, size, bold] = data.text[data.roles[role]];
    pen.text(text, left, baseline, { color, size, bold });
    left += width + GAP;
  }
}

/**
 * Draw a node.
 * @param {Pen} pen
 * @param {import("./graph.js").Data} data
 * @param {DrawnNode} node
 */
export function drawNode(pen, data, node) {
  const { card, width, height } = node;
  const left = node.x - width / 2;
  const top = node.y - height / 2;
  const look = card.look || data.looks[card.kind];
  pen.box(left, top, width, height, { fill: look.body, radius: look.radius });
  if (look.head !== look.body) {
    pen.box(left, top, width, card.rows.length ? HEAD : height, { fill: look.head });
  }
  const room = height - (node.bar ? BAR_ROOM : 0);
  const shift = look.radius || !card.rows.length ? (room - HEAD - ROW * card.rows.length) / 2 : 0;
  const isAside = card.rows.length > 0 && !look.radius;
  /** @param {Span[]} line */
  const indent = (line) => (isAside ? SIDE : (width - lineWidth(line)) / 2);
  setLine(pen, data, card.head, left + indent(card.head), top + shift + HEAD / 2 + BASELINE);
  card.rows.forEach((row, number) => {
    const y = top + shift + HEAD + number * ROW;
    const role = Object.keys(data.fills).find((name) => row.some((span) => data.roles[span[1]] === name));
    if (role) pen.box(left + look.radius / 2, y, width - look.radius, ROW - 1, { fill: data.fills[role] });
    setLine(pen, data, row, left + indent(row), y + ROW / 2 - 1 + BASELINE);
  });
  if (look.head !== look.body && card.rows.length) {
    const y = top + HEAD;
    pen.curve([left, y, left + width / 3, y, left + (width * 2) / 3, y, left + width, y], { edge: look.edge, line: 0.6 });
  }
  if (node.bar) drawBar(pen, look.radius, left, top, width, height, node.bar);
  pen.box(left, top, width, height, { edge: look.edge, line: look.line, radius: look.radius, dashed: look.dashed });
}

/**
 * The bar on its track, along the bottom, between the round corners.
 * @param {Pen} pen @param {number} radius @param {number} left @param {number} top
 * @param {number} width @param {number} height @param {import("./colors.js").Bar} bar
 */
function drawBar(pen, radius, left, top, width, height, bar) {
  const inset = Math.max(radius * 0.8, 3);
  const y = top + height - BAR - 1.5;
  pen.box(left + inset, y, width - 2 * inset, BAR, { fill: "panel" });
  pen.box(left + inset, y, (width - 2 * inset) * bar.share, BAR, { fill: bar.token });
}

/**
 * Draw an edge.
 * @param {Pen} pen
 * @param {import("./graph.js").Data} data
 * @param {DrawnEdge} edge
 */
export function drawEdge(pen, data, edge) {
  const { route, before, row } = edge;
  const { token, line } = edge.look;
  const isDashed = DASHED.includes(row.kind);
  if (before) {
    pen.curve(before, { edge: token, line: 1.3, dashed: true });
    drawCause(pen, data, before, edge);
  }
  const drawn = withoutTip(route);
  pen.curve(drawn, { edge: token, line, dashed: isDashed });
  pen.polygon(arrowOf(route, ARROW + line - 1.3), token);
  const { x, y, dx, dy } = middleOf(drawn);
  if (row.kind === "cut" && !before) breakMark(pen, x, y, dx, dy, token);
  else if (edge.through.length) {
    pen.box(x - 3.5, y - 3.5, 7, 7, { fill: "page", edge: "line", line: 1.3, radius: 3.5 });
  }
  const fact = styleOf(data, "fact");
  for (const label of edge.labels) {
    if (label.width) pen.box(label.x - 1, label.y - 0.8 * fact.size, label.width + 2, fact.size, { fill: "page" });
    pen.text(label.text, label.x, label.y, fact);
  }
}

/** The boxes of what stands on an edge: the cause of a cut, or a sign. @param {DrawnEdge} edge */
export function edgeBoxes({ route, before, row, through, isSideways }) {
  const { x, y } = middleOf(withoutTip(route));
  const sign = row.kind === "cut" ? 9 : through.length ? 4 : 0;
  /** @type {Array<[number, number, number, number]>} */
  const boxes = sign && !before ? [[x - sign, y - sign, x + sign, y + sign]] : [];
  if (!before) return boxes;
  const [middle, low] = [(before[before.length - 2] + route[0]) / 2, (before[before.length - 1] + route[1]) / 2];
  const lines = row.lines || [];
  const width = Math.max(0, ...lines.map(lineWidth));
  const high = (CAUSE_LINE * lines.length) / 2;
  boxes.push(isSideways
    ? [middle - width / 2, low - 9, middle + width / 2, low + MARK_ROOM + CAUSE_LINE * lines.length]
    : [middle - 9, low - high - 2, middle + MARK_ROOM + width, low + high + 2]);
  return boxes;
}

/** @param {import("./graph.js").Data} data @param {string} role @returns {TextStyle} */
export function styleOf(data, role) {
  const [color, size, bold] = data.text[role];
  return { color, size, bold };
}

/**
 * The line across the box of a cause, the sign of a cut on it, and the text beside it.
 * @param {Pen} pen @param {import("./graph.js").Data} data @param {number[]} before
 * @param {DrawnEdge} edge
 */
function drawCause(pen, data, before, { route, row, isSideways }) {
  const [startX, startY] = before.slice(-2);
  const [endX, endY] = route;
  const x = (startX + endX) / 2;
  const y = (startY + endY) / 2;
  pen.curve([startX, startY, startX, startY, endX, endY, endX, endY], { edge: "cut", line: 1.3, dashed: true });
  const [dx, dy] = unit(startX, startY, endX, endY);
  breakMark(pen, x, y, dx, dy, "cut");
  const lines = row.lines || [];
  const first = isSideways ? y + MARK_ROOM + 6 : y + 4 - (CAUSE_LINE * (lines.length - 1)) / 2;
  lines.forEach((line, at) => setLine(pen, data, line, isSideways ? x - lineWidth(line) / 2 : x + MARK_ROOM, first + CAUSE_LINE * at));
}

/** @param {number} ax @param {number} ay @param {number} bx @param {number} by @returns {[number, number]} */
function unit(ax, ay, bx, by) {
  const length = Math.hypot(bx - ax, by - ay);
  return length ? [(bx - ax) / length, (by - ay) / length] : [0, 1];
}

/** @param {number[]} route @returns {[number, number]} */
function directionAtEnd(route) {
  const [x, y] = route.slice(-2);
  for (let at = route.length - 4; at >= 0; at -= 2) {
    if (Math.hypot(route[at] - x, route[at + 1] - y) > 0.01) return unit(route[at], route[at + 1], x, y);
  }
  return [0, 1];
}

/** The curve, ended inside its arrow head so that the line does not cover the tip. */
/** @param {number[]} route */
export function withoutTip(route) {
  const [dx, dy] = directionAtEnd(route);
  const points = route.slice();
  for (let at = points.length - 4; at < points.length; at += 2) {
    points[at] -= dx * ARROW * 0.7;
    points[at + 1] -= dy * ARROW * 0.7;
  }
  return points;
}

/** The tip and the two corners of an arrow head. @param {number[]} route @param {number} [length] */
export function arrowOf(route, length = ARROW) {
  const [x, y] = route.slice(-2);
  const [dx, dy] = directionAtEnd(route);
  const side = length * 0.42;
  const [baseX, baseY] = [x - dx * length, y - dy * length];
  return [x, y, baseX - dy * side, baseY + dx * side, baseX + dy * side, baseY - dx * side];
}

/** The middle of a curve and its direction there. @param {number[]} route */
function middleOf(route) {
  const segments = (route.length / 2 - 1) / 3;
  const start = 6 * Math.floor(segments / 2);
  const [ax, ay, bx, by, cx, cy, ex, ey] = route.slice(start, start + 8);
  if (segments % 2 === 0) {
    const [dx, dy] = unit(route[start - 2], route[start - 1], bx, by);
    return { x: ax, y: ay, dx, dy };
  }
  const [dx, dy] = unit(ax + bx, ay + by, cx + ex, cy + ey);
  return { x: (ax + 3 * bx + 3 * cx + ex) / 8, y: (ay + 3 * by + 3 * cy + ey) / 8, dx, dy };
}

/**
 * The sign of a cut: two short strokes across a gap in the line.
 * @param {Pen} pen @param {number} x @param {number} y @param {number} dx @param {number} dy
 * @param {string} token
 */
function breakMark(pen, x, y, dx, dy, token) {
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]];
  pen.polygon(corners.flatMap(([a, b]) => [x + a * 3 * dx - b * 5 * dy, y + a * 3 * dy + b * 5 * dx]), "page");
  for (const along of [-3, 3]) {
    const [a, b] = [[-6, 2], [6, -2]].map(([across, lean]) => [
      x + (along + lean) * dx - across * dy,
      y + (along + lean) * dy + across * dx,
    ]);
    pen.curve([...a, ...a, ...b, ...b], { edge: token, line: 1.6 });
  }
}
