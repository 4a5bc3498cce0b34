/**
 * Last step of the layered layout: the curves of the links, which bend only between rows.
 * A port of gradviz/renderers/layout/routing.py; a test compares them.
 */

import { pairKey } from "./layout_rows.js";

/** @typedef {import("./layout_rows.js").Rows} Rows */
/** @typedef {import("./layout_rows.js").Pair} Pair */
/** @typedef {{width: number, height: number}} Size of a box, in points */
/** @typedef {[number, number, number]} Run x, top and bottom of an upright part of a link */
/** @typedef {[number, number]} Hop x above a gap between rows, x below it */

export const PARALLEL = 14; // Points between links side by side.
const STEP = 10; // Points between links that touch a box side by side.
const CORNER = 8; // Points that links keep from the corners of a box.
const MOST = 60; // Bows to one side in one gap; more of them would overlap.

/** Draws the links of one graph whose vertices have their places. */
export class Router {
  /**
   * @param {Rows} rows boxes and bends
   * @param {Size[]} boxes
   * @param {number[]} xs middle of each vertex
   * @param {Pair[]} bands top and bottom of each row
   * @param {Map<number, number>} copies how many links join each pair of boxes
   */
  constructor(rows, boxes, xs, bands, copies) {
    this.rows = rows;
    this.boxes = boxes;
    this.xs = xs;
    this.bands = bands;
    /** @type {Map<number, number>} */
    this.strands = new Map();
    for (const [pair, many] of copies) {
      if (many === 1) continue;
      const [source, target] = [Math.floor(pair / 0x4000000), pair % 0x4000000];
      for (const [from, to] of this.hopsOf(source, target)) {
        const hop = pairKey(from, to);
        this.strands.set(hop, Math.max(this.strands.get(hop) || 1, many));
      }
    }
    /** @type {Map<number, number>} */
    this.leavesAt = new Map();
    /** @type {Map<number, number>} */
    this.arrivesAt = new Map();
    for (let box = 0; box < rows.boxes; box += 1) {
      this.setPorts(box, rows.down[box], this.leavesAt, true);
      this.setPorts(box, rows.up[box], this.arrivesAt, false);
    }
    this.straighten();
    /** @type {Map<number, number[]>} */
    this.turns = new Map();
  }

  /**
   * The vertical parts of one of the links between two boxes, from top to bottom.
   * @param {Pair} pair
   * @param {number} copy
   * @param {number} copies
   * @returns {Run[]}
   */
  runs(pair, copy, copies) {
    const [source, target] = pair;
    const [first, last] = this.hopsOf(source, target);
    const shift = (copy - (copies - 1) / 2) * PARALLEL;
    const leaves = /** @type {number} */ (this.leavesAt.get(pairKey(first[0], first[1])));
    const arrives = /** @type {number} */ (this.arrivesAt.get(pairKey(last[1], last[0])));
    const runs = [this.runOfBox(source, leaves + shift, true)];
    this.addBends(source, target, shift, runs);
    runs.push(this.runOfBox(target, arrives + shift, false));
    return runs;
  }

  /**
   * The first and the last part of a link.
   * @param {number} source @param {number} target
   * @returns {[Pair, Pair]}
   */
  hopsOf(source, target) {
    const trunk = this.rows.trunks.get(pairKey(source, target));
    if (!trunk) return [[source, target], [source, target]];
    return [[source, trunk.bends[trunk.first]], [trunk.bends[trunk.stop - 1], target]];
  }

  /**
   * Continue vertically through the rest of a row, where a box is lower than the row.
   * @param {number} box @param {number} x @param {boolean} below
   * @returns {Run}
   */
  runOfBox(box, x, below) {
    const [top, bottom] = this.bands[this.rows.rank[box]];
    const middle = (top + bottom) / 2;
    const half = this.boxes[box].height / 2;
    const reach = Math.max(0, this.boxes[box].width / 2 - 1);
    const at = Math.min(Math.max(x, this.xs[box] - reach), this.xs[box] + reach);
    return below ? [at, middle + half, bottom] : [at, top, middle - half];
  }

  /**
   * Follow a trunk, from one change of direction to the next.
   * @param {number} source @param {number} target @param {number} shift @param {Run[]} runs
   */
  addBends(source, target, shift, runs) {
    const pair = pairKey(source, target);
    const used = this.rows.trunks.get(pair);
    if (!used) return;
    const { bends, stop } = used;
    const { rank } = this.rows;
    if (this.rows.lanes.has(pair)) {
      const top = this.bands[rank[source] + 1][0];
      runs.push([this.xs[bends[0]] + shift, top, this.bands[rank[target] - 1][1]]);
      return;
    }
    let turns = this.turns.get(bends[0]);
    if (!turns) {
      turns = [];
      for (let at = 1; at < bends.length; at += 1) {
        if (Math.abs(this.xs[bends[at - 1]] - this.xs[bends[at]]) > 0.5) turns.push(at);
      }
      this.turns.set(bends[0], turns);
    }
    let first = used.first;
    let at = turns.findIndex((turn) => turn > first);
    if (at < 0) at = turns.length;
    while (first < stop) {
      const end = at < turns.length ? Math.min(stop, turns[at]) : stop;
      const top = this.bands[rank[bends[first]]][0];
      runs.push([this.xs[bends[first]] + shift, top, this.bands[rank[bends[end - 1]]][1]]);
      first = end;
      at += 1;
    }
  }

  /**
   * Choose where links touch the border of a box, so that none overlap.
   * @param {number} box @param {number[]} near @param {Map<number, number>} ports
   * @param {boolean} downwards
   */
  setPorts(box, near, ports, downwards) {
    if (!near.length) return;
    const { xs } = this;
    const middle = xs[box];
    const reach = Math.max(0, this.boxes[box].width / 2 - CORNER);
    const order = near.length > 1 ? near.slice().sort((a, b) => xs[a] - xs[b]) : near;
    const places = order.map((other) => this.wish(box, other));
    const many = order.map(
      (other) => this.strands.get(downwards ? pairKey(box, other) : pairKey(other, box)) || 1,
    );
    let total = 0;
    let most = 0;
    for (const count of many) {
      total += count;
      most = Math.max(most, count);
    }
    const step = Math.min(most > 1 ? PARALLEL : STEP, (2 * reach) / Math.max(1, total - 1));
    for (let i = 0; i < places.length; i += 1) {
      const low = i ? places[i - 1] + (step * (many[i - 1] + many[i])) / 2 : -1e9;
      places[i] = Math.max(places[i], low, middle - reach + (step * (many[i] - 1)) / 2);
    }
    for (let i = places.length - 1; i >= 0; i -= 1) {
      const last = i + 1 >= many.length;
      const high = last ? 1e9 : places[i + 1] - (step * (many[i] + many[i + 1])) / 2;
      places[i] = Math.min(places[i], high, middle + reach - (step * (many[i] - 1)) / 2);
    }
    order.forEach((other, i) => ports.set(pairKey(box, other), places[i]));
  }

  /** Let the only link at one end of a step follow the other end, when that is near. */
  straighten() {
    for (const [key, x] of this.leavesAt) {
      const box = Math.floor(key / 0x4000000);
      const other = key % 0x4000000;
      const end = this.arrivesAt.get(pairKey(other, box)) ?? this.xs[other];
      const apart = Math.abs(x - end);
      if (!(apart > 0 && apart <= STEP) || (this.strands.get(key) || 1) > 1) continue;
      if (this.rows.down[box].length === 1 && this.reaches(box, end)) {
        this.leavesAt.set(key, end);
      } else if (this.rows.up[other].length === 1 && this.reaches(other, x)) {
        this.arrivesAt.set(pairKey(other, box), x);
      }
    }
  }

  /** @param {number} vertex @param {number} x */
  reaches(vertex, x) {
    if (vertex >= this.rows.boxes) return false;
    return Math.abs(x - this.xs[vertex]) <= this.boxes[vertex].width / 2 - CORNER;
  }

  /**
   * Where a link touches a box if it is the only one: directly below, if possible.
   * @param {number} box @param {number} other
   */
  wish(box, other) {
    const x = this.xs[box];
    const reach = Math.max(0, this.boxes[box].width / 2 - CORNER);
    const otherX = this.xs[other];
    const isBox = other < this.rows.boxes;
    const otherReach = isBox ? Math.max(0, this.boxes[other].width / 2 - CORNER) : 0;
    const low = Math.max(x - reach, otherX - otherReach);
    const high = Math.min(x + reach, otherX + otherReach);
    if (low <= high) return Math.min(Math.max((x + otherX) / 2, low), high);
    return x + (otherX > x ? 0.5 : -0.5) * reach;
  }
}

/**
 * Number the bends of one gap by their height, the highest first.
 * @param {Hop[]} found
 * @returns {Map<string, number>} by `hopKey`
 */
export function tracks(found) {
  /** @type {Map<string, number>} */
  const numbers = new Map();
  const unique = new Map(found.map((hop) => [hopKey(hop), hop]));
  for (const sign of [1, -1]) {
    const side = [...unique.values()]
      .map(([above, below]) => /** @type {Hop} */ ([sign * above, sign * below]))
      .filter(([above, below]) => above < below)
      .sort((a, b) => b[0] - a[0] || b[1] - a[1]);
    if (side.length > MOST) continue;
    side.forEach(([begin, end], at) => {
      let number = 0;
      for (const [a, b] of side.slice(0, at)) {
        const before = /** @type {number} */ (numbers.get(hopKey([sign * a, sign * b])));
        if (a <= end) number = Math.max(number, before + 1);
      }
      numbers.set(hopKey([sign * begin, sign * end]), number);
    });
  }
  return numbers;
}

/** @param {Hop} hop */
function hopKey([above, below]) {
  return `${above} ${below}`;
}

/**
 * The height of each bend.
 * @param {Run[][]} links
 * @returns {Map<string, number>}
 */
export function turningHeights(links) {
  /** @type {Map<string, {gap: Pair, found: Hop[]}>} */
  const gaps = new Map();
  for (const runs of links) {
    const parts = joined(runs);
    for (let at = 1; at < parts.length; at += 1) {
      const [above, , begin] = parts[at - 1];
      const [below, top] = parts[at];
      const key = hopKey([begin, top]);
      const known = gaps.get(key);
      if (known) known.found.push([above, below]);
      else gaps.set(key, { gap: [begin, top], found: [[above, below]] });
    }
  }
  const heights = new Map();
  for (const [key, { gap, found }] of gaps) {
    const numbers = tracks(found);
    const count = Math.max(0, ...numbers.values()) + 1;
    for (const [hop, number] of numbers) {
      heights.set(`${key} ${hop}`, gap[0] + ((gap[1] - gap[0]) * (number + 1)) / (count + 1));
    }
  }
  return heights;
}

/**
 * Join vertical parts by S-shaped curves, at the middle of a gap where no height is given.
 * @param {Run[]} runs
 * @param {Map<string, number> | null} heights
 * @returns {number[]} x and y of the 3k + 1 control points of k Bezier curves
 */
export function curve(runs, heights) {
  const parts = joined(runs);
  const points = [parts[0][0], parts[0][1]];
  parts.forEach(([x, top, bottom], at) => {
    if (at) {
      const [above, , begin] = parts[at - 1];
      const known = heights && heights.get(`${begin} ${top} ${above} ${x}`);
      const height = known ?? (begin + top) / 2;
      points.push(above, height, x, height, x, top);
    }
    if (bottom - top > 0.01) {
      const third = (bottom - top) / 3;
      points.push(x, top + third, x, bottom - third, x, bottom);
    }
  });
  return points;
}

/** Runs that go straight on are one. @param {Run[]} runs @returns {Run[]} */
function joined(runs) {
  /** @type {Run[]} */
  const found = [runs[0]];
  for (let at = 1; at < runs.length; at += 1) {
    const last = found[found.length - 1];
    const run = runs[at];
    if (Math.abs(run[0] - last[0]) < 0.5) found[found.length - 1] = [last[0], last[1], run[2]];
    else found.push(run);
  }
  return found;
}

/** Draw a link from a box to itself, at its right side. */
/** @param {Size} box @param {number} x @param {number} y */
export function selfLoop(box, x, y) {
  const right = x + box.width / 2;
  const quarter = box.height / 4;
  return [right, y + quarter, right + 24, y + 2 * quarter, right + 24, y - 2 * quarter, right,
    y - quarter];
}

/** The same points in another order: the last first. @param {number[]} points */
export function reversed(points) {
  const turned = [];
  for (let at = points.length - 2; at >= 0; at -= 2) turned.push(points[at], points[at + 1]);
  return turned;
}
