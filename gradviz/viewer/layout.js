/**
 * The layered layout: rows, an order within each row, coordinates, curves.
 * A port of gradviz/renderers/layout/layered.py, which has the reasons; a test compares the two.
 */

import { placeInRows } from "./layout_places.js";
import { PARALLEL, Router, curve, reversed, selfLoop, tracks, turningHeights } from "./layout_routes.js";
import { acyclic, addLanes, cutIntoRows, orderRows, pairKey, rankNodes } from "./layout_rows.js";

/** @typedef {import("./layout_rows.js").Pair} Pair */
/** @typedef {import("./layout_rows.js").Rows} Rows */
/** @typedef {import("./layout_routes.js").Size} Size */
/** @typedef {import("./layout_routes.js").Run} Run */

/**
 * The positions, in points, from the top left corner, y downwards.
 * @typedef {object} Layout
 * @property {number} width
 * @property {number} height
 * @property {Float64Array} xs the middle of each box
 * @property {Float64Array} ys
 * @property {number[][]} routes per link x and y of the control points of Bezier curves
 */

const ROW_GAP = 28; // Points between rows; the more, the farther links go.
const MORE_ROW_GAP = 20;
const TRACK = 6;
const MOST_ROW_GAP = 60; // And the more, the more of them go the same way.
const SEPARATE = 5000; // Up to this number of links, parallel ones are drawn separately.
const BETWEEN = 24;
const ASPECT = 1.6;

/**
 * Place boxes and route the links between them; boxes without links are at the right.
 * @param {Size[]} boxes
 * @param {Pair[]} links
 * @returns {Layout}
 */
export function layOut(boxes, links) {
  const xs = new Float64Array(boxes.length);
  const ys = new Float64Array(boxes.length);
  const isJoined = new Uint8Array(boxes.length);
  for (const [source, target] of links) isJoined[source] = isJoined[target] = 1;
  /** @type {number[]} */
  const joined = [];
  /** @type {number[]} */
  const single = [];
  for (let box = 0; box < boxes.length; box += 1) (isJoined[box] ? joined : single).push(box);
  const place = new Int32Array(boxes.length);
  joined.forEach((box, at) => (place[box] = at));
  const inner = links.map(([a, b]) => /** @type {Pair} */ ([place[a], place[b]]));
  const sheet = layered(joined.map((box) => boxes[box]), inner);
  joined.forEach((box, at) => {
    xs[box] = sheet.xs[at];
    ys[box] = sheet.ys[at];
  });
  /** @type {Pair[]} */
  const sizes = single.map((box) => [boxes[box].width, boxes[box].height]);
  if (joined.length) sizes.unshift(extent(boxes, joined, xs, ys, sheet.routes));
  const corners = pack(sizes).slice(sizes.length - single.length);
  single.forEach((box, at) => {
    xs[box] = round(corners[at][0] + boxes[box].width / 2);
    ys[box] = round(corners[at][1] + boxes[box].height / 2);
  });
  const all = boxes.map((_, box) => box);
  const [width, height] = extent(boxes, all, xs, ys, sheet.routes);
  return { width, height, xs, ys, routes: sheet.routes };
}

/**
 * Place boxes and route links with the data from top to bottom, or from left to right.
 * @param {Size[]} boxes
 * @param {Pair[]} links
 * @param {boolean} isSideways
 * @returns {Layout}
 */
export function layOutAlong(boxes, links, isSideways) {
  if (!isSideways) return layOut(boxes, links);
  const turned = layOut(boxes.map(({ width, height }) => ({ width: height, height: width })), links);
  for (const route of turned.routes) {
    for (let at = 0; at < route.length; at += 2) [route[at], route[at + 1]] = [route[at + 1], route[at]];
  }
  return { width: turned.height, height: turned.width, xs: turned.ys, ys: turned.xs, routes: turned.routes };
}

/**
 * The size of the sheet.
 * @param {Size[]} boxes @param {number[]} chosen @param {Float64Array} xs @param {Float64Array} ys
 * @param {number[][]} routes
 * @returns {Pair}
 */
function extent(boxes, chosen, xs, ys, routes) {
  let width = 0;
  let height = 0;
  for (const box of chosen) {
    width = Math.max(width, xs[box] + boxes[box].width / 2);
    height = Math.max(height, ys[box] + boxes[box].height / 2);
  }
  for (const route of routes) {
    for (let at = 0; at < route.length; at += 2) {
      if (route[at] > width) width = route[at];
      if (route[at + 1] > height) height = route[at + 1];
    }
  }
  return [round(width), round(height)];
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 100) / 100;
}

/**
 * Lay out a graph; parts that no link joins are laid out separately and packed.
 * @param {Size[]} boxes
 * @param {Pair[]} links
 */
export function layered(boxes, links) {
  const xs = new Float64Array(boxes.length);
  const ys = new Float64Array(boxes.length);
  /** @type {number[][]} */
  const routes = new Array(links.length);
  const parts = components(boxes.length, links);
  const sheets = parts.map((part) => component(part.nodes.map((node) => boxes[node]), part.pairs));
  const corners = pack(sheets.map((sheet) => [sheet.width, sheet.height]));
  parts.forEach((part, number) => {
    const [left, top] = corners[number];
    const sheet = sheets[number];
    part.nodes.forEach((node, at) => {
      xs[node] = round(sheet.xs[at] + left);
      ys[node] = round(sheet.ys[at] + top);
    });
    part.links.forEach((link, at) => {
      const route = sheet.routes[at];
      for (let i = 0; i < route.length; i += 2) {
        route[i] = round(route[i] + left);
        route[i + 1] = round(route[i + 1] + top);
      }
      routes[link] = route;
    });
  });
  return { xs, ys, routes };
}

/**
 * Lay out boxes that are all connected.
 * @param {Size[]} boxes
 * @param {Pair[]} pairs
 */
function component(boxes, pairs) {
  const turned = acyclic(boxes.length, pairs.filter(([source, target]) => source !== target));
  let next = 0;
  const downward = pairs.map((pair) => (pair[0] === pair[1] ? pair : turned[next++]));
  /** @type {Map<number, number>} */
  const copies = new Map();
  /** @type {Pair[]} */
  const unique = [];
  for (const [source, target] of turned) {
    const key = pairKey(source, target);
    const many = copies.get(key);
    if (!many) unique.push([source, target]);
    copies.set(key, (many || 0) + 1);
  }
  const rows = cutIntoRows(rankNodes(boxes.length, unique), unique);
  orderRows(rows);
  const widths = vertexWidths(rows, boxes, copies);
  let xs = placeInRows(rows, widths);
  let width = 0;
  xs.forEach((x, at) => (width = Math.max(width, x + widths[at] / 2)));
  addLanes(rows, xs);
  let left = 0;
  for (let at = widths.length; at < xs.length; at += 1) left = Math.min(left, xs[at]);
  if (left) xs = xs.map((x) => x - left);
  const bands = rowBands(rows, boxes, xs);
  const ys = boxes.map((_, box) => {
    const [top, bottom] = bands[rows.rank[box]];
    return (top + bottom) / 2;
  });
  const router = new Router(rows, boxes, xs, bands, copies);
  const upright = uprightRuns(router, turned, copies);
  const heights = pairs.length <= SEPARATE ? turningHeights(upright) : null;
  next = 0;
  const routes = pairs.map((given, at) => {
    const [source, target] = downward[at];
    if (source === target) return selfLoop(boxes[source], xs[source], ys[source]);
    const points = curve(upright[next++], heights);
    return source === given[0] ? points : reversed(points);
  });
  return { width: width - left, height: bands[bands.length - 1][1], xs, ys, routes };
}

/**
 * The vertical parts of each link.
 * @param {Router} router @param {Pair[]} pairs @param {Map<number, number>} copies
 * @returns {Run[][]}
 */
function uprightRuns(router, pairs, copies) {
  /** @type {Map<number, number>} */
  const drawn = new Map();
  return pairs.map((pair) => {
    const key = pairKey(pair[0], pair[1]);
    const many = copies.get(key) || 1;
    const copy = drawn.get(key) || 0;
    if (many > 1) drawn.set(key, copy + 1);
    return router.runs(pair, copy, many);
  });
}

/** @param {Rows} rows @param {Size[]} boxes @param {Map<number, number>} copies */
function vertexWidths(rows, boxes, copies) {
  const widths = new Array(rows.rank.length).fill(0);
  boxes.forEach((box, at) => (widths[at] = box.width));
  for (const [pair, many] of copies) {
    const trunk = many > 1 ? rows.trunks.get(pair) : undefined;
    if (!trunk) continue;
    for (let at = trunk.first; at < trunk.stop; at += 1) {
      const bend = trunk.bends[at];
      widths[bend] = Math.max(widths[bend], (many - 1) * PARALLEL);
    }
  }
  return widths;
}

/**
 * Compute the top and bottom of each row, which is as high as its highest box.
 * @param {Rows} rows @param {Size[]} boxes @param {number[]} xs
 * @returns {Pair[]}
 */
function rowBands(rows, boxes, xs) {
  /** @type {Pair[]} */
  const bands = [];
  let top = 0;
  for (const row of rows.rows) {
    let highest = 0;
    let far = 0;
    for (const v of row) {
      if (v < rows.boxes) highest = Math.max(highest, boxes[v].height);
      for (const below of rows.down[v]) far = Math.max(far, Math.abs(xs[v] - xs[below]));
    }
    const bottom = top + highest;
    bands.push([top, bottom]);
    let more = Math.min(MORE_ROW_GAP, Math.max(0, far - 60) * 0.1);
    if (far > 60 && rows.rank.length <= SEPARATE) {
      /** @type {Pair[]} */
      const hops = row.flatMap((v) => rows.down[v].map((below) => /** @type {Pair} */ ([xs[v], xs[below]])));
      more += TRACK * Math.max(0, ...tracks(hops).values());
    }
    top = bottom + ROW_GAP + Math.min(more, MOST_ROW_GAP);
  }
  return bands;
}

/**
 * Nodes that links join, directly or not.
 * @typedef {object} Part
 * @property {number[]} nodes
 * @property {number[]} links
 * @property {Pair[]} pairs the ends of those links, as places in `nodes`
 */

/**
 * Split a graph into its connected parts, in the order of their first nodes.
 * @param {number} count
 * @param {Pair[]} pairs
 * @returns {Part[]}
 */
function components(count, pairs) {
  const leader = new Int32Array(count);
  for (let node = 0; node < count; node += 1) leader[node] = node;
  /** @param {number} node */
  const find = (node) => {
    while (leader[node] !== node) {
      leader[node] = leader[leader[node]];
      node = leader[node];
    }
    return node;
  };
  for (const [source, target] of pairs) {
    const a = find(source);
    const b = find(target);
    leader[Math.max(a, b)] = Math.min(a, b);
  }
  /** @type {Map<number, Part>} */
  const parts = new Map();
  const place = new Int32Array(count);
  for (let node = 0; node < count; node += 1) {
    const root = find(node);
    let part = parts.get(root);
    if (!part) parts.set(root, (part = { nodes: [], links: [], pairs: [] }));
    place[node] = part.nodes.length;
    part.nodes.push(node);
  }
  pairs.forEach(([source, target], index) => {
    const part = /** @type {Part} */ (parts.get(find(source)));
    part.links.push(index);
    part.pairs.push([place[source], place[target]]);
  });
  return [...parts.values()];
}

/**
 * Set rectangles in columns, tops aligned; a column is as high as the highest rectangle.
 * @param {Pair[]} sizes
 * @returns {Pair[]} the top left corner of each
 */
export function pack(sizes) {
  let area = 0;
  let highest = 0;
  for (const [width, height] of sizes) {
    area += (width + BETWEEN) * (height + BETWEEN);
    highest = Math.max(highest, height);
  }
  const limit = Math.max(Math.sqrt(area / ASPECT), highest);
  /** @type {Pair[]} */
  const corners = [];
  let [left, top, widest] = [0, 0, 0];
  for (const [width, height] of sizes) {
    if (top > 0 && top + height > limit) [left, top, widest] = [left + widest + BETWEEN, 0, 0];
    corners.push([left, top]);
    top += height + BETWEEN;
    widest = Math.max(widest, width);
  }
  return corners;
}
