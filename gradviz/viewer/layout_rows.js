/**
 * First steps of the layered layout: the row of each box, bends of long links, order in a row.
 * A port of gradviz/renderers/layout/rows.py, which has the reasons; a test compares the two.
 */

const MERGE = 8; // A target with more long links than this gathers them in a trunk.
const ENOUGH = 30000; // Bends that are always allowed; and one more for two boxes.
const LANE_GAP = 7; // Points between lanes.
const MOST_LANES = 200; // The outermost is shared by all that find no place in the others.
const CAREFUL = 6000; // Boxes and bends (or half the links) with time for the careful order.
const WORK = 500000; // How many of them may be looked at above that, in all sweeps together.

/** @typedef {[number, number]} Pair source and target of a link, as places in a list of boxes */
/** @typedef {{bends: number[], first: number, stop: number}} Trunk the part of it that is used */

/**
 * A graph in rows, with a bend in each row that a link passes.
 * @typedef {object} Rows
 * @property {number} boxes vertices below this number are boxes, the others bends
 * @property {number[]} rank row of each vertex
 * @property {number[][]} up neighbors of each vertex in the row above
 * @property {number[][]} down neighbors of each vertex in the row below
 * @property {Map<number, Trunk>} trunks per pair of boxes the bends on its way
 * @property {Map<number, number>} lanes per pair of boxes that goes beside the graph, its trunk
 * @property {number[][]} rows vertices of each row, from left to right
 */

/** One number for two boxes. @param {number} source @param {number} target */
export function pairKey(source, target) {
  return source * 0x4000000 + target;
}

/** Empty lists, one per place. @param {number} count @returns {number[][]} */
function emptyLists(count) {
  const lists = new Array(count);
  for (let at = 0; at < count; at += 1) lists[at] = [];
  return lists;
}

/** The targets of each node. @param {number} count @param {Pair[]} pairs */
function targetLists(count, pairs) {
  const lists = emptyLists(count);
  for (const [source, target] of pairs) lists[source].push(target);
  return lists;
}

/**
 * Order the nodes so that links go forward; nodes on or behind a cycle are left out.
 * @param {number} count
 * @param {Pair[]} pairs
 * @param {number[][]} targets
 */
function topological(count, pairs, targets) {
  const waiting = new Int32Array(count);
  for (const [, target] of pairs) waiting[target] += 1;
  const order = [];
  for (let node = 0; node < count; node += 1) if (!waiting[node]) order.push(node);
  for (let at = 0; at < order.length; at += 1) {
    for (const target of targets[order[at]]) {
      waiting[target] -= 1;
      if (!waiting[target]) order.push(target);
    }
  }
  return order;
}

/**
 * Reverse the links that close a cycle.
 * @param {number} count
 * @param {Pair[]} pairs none from a node to itself
 * @returns {Pair[]}
 */
export function acyclic(count, pairs) {
  if (topological(count, pairs, targetLists(count, pairs)).length === count) return pairs.slice();
  const outgoing = emptyLists(count);
  pairs.forEach(([source], index) => outgoing[source].push(index));
  const state = new Uint8Array(count); // 0: not seen, 1: on the path from the root, 2: done
  const turned = pairs.slice();
  for (let root = 0; root < count; root += 1) {
    const stack = state[root] === 0 ? [root] : [];
    while (stack.length) {
      const node = stack[stack.length - 1];
      state[node] = 1;
      let entered = false;
      while (outgoing[node].length && !entered) {
        const index = /** @type {number} */ (outgoing[node].pop());
        const target = pairs[index][1];
        if (state[target] === 1) turned[index] = [target, node];
        else if (state[target] === 0) {
          stack.push(target);
          entered = true;
        }
      }
      if (!entered) {
        state[node] = 2;
        stack.pop();
      }
    }
  }
  return turned;
}

/** @param {ArrayLike<number>} ranks @param {Pair[]} pairs */
function spanOf(ranks, pairs) {
  let total = 0;
  for (const [source, target] of pairs) total += ranks[target] - ranks[source];
  return total;
}

/**
 * Give each node a row number, 0 at the top, such that links are short and all go down.
 * @param {number} count
 * @param {Pair[]} pairs without cycles
 * @returns {number[]}
 */
export function rankNodes(count, pairs) {
  const targets = targetLists(count, pairs);
  const order = topological(count, pairs, targets);
  const early = new Int32Array(count);
  let deepest = 0;
  for (const node of order) {
    const below = early[node] + 1;
    for (const target of targets[node]) if (early[target] < below) early[target] = below;
    if (early[node] > deepest) deepest = early[node];
  }
  const late = new Int32Array(count).fill(deepest);
  const pulled = early.slice();
  const incoming = new Int32Array(count);
  for (const [, target] of pairs) incoming[target] += 1;
  for (let at = order.length - 1; at >= 0; at -= 1) {
    const node = order[at];
    const below = targets[node];
    if (below.length) late[node] = lowest(below, late) - 1;
    if (below.length >= Math.max(1, incoming[node])) pulled[node] = lowest(below, pulled) - 1;
  }
  let best = pulled;
  let least = spanOf(pulled, pairs);
  for (const other of [early, late]) {
    const length = spanOf(other, pairs);
    if (length < least) [best, least] = [other, length];
  }
  let top = count ? best[0] : 0;
  for (const row of best) if (row < top) top = row;
  return Array.from(best, (row) => row - top);
}

/** @param {number[]} nodes @param {Int32Array} ranks */
function lowest(nodes, ranks) {
  let found = ranks[nodes[0]];
  for (const node of nodes) if (ranks[node] < found) found = ranks[node];
  return found;
}

/**
 * Insert the bends; the vertices get their order later.
 * @param {number[]} ranks
 * @param {Pair[]} pairs each pair once, all going down
 * @returns {Rows}
 */
export function cutIntoRows(ranks, pairs) {
  const { keys, ends } = trunksOf(ranks, pairs);
  let allowed = ENOUGH + Math.floor(ranks.length / 2);
  const rank = ranks.slice();
  /** @type {Map<number, number[]>} */
  const bends = new Map();
  const shortest = [...ends].sort((a, b) => a[1][1] - a[1][0] - (b[1][1] - b[1][0]));
  for (const [key, [start, stop]] of shortest) {
    allowed -= stop - start;
    if (allowed < 0) continue;
    const trunk = [];
    for (let row = start; row < stop; row += 1) {
      trunk.push(rank.length);
      rank.push(row);
    }
    bends.set(key, trunk);
  }
  const rows = {
    boxes: ranks.length,
    rank,
    up: emptyLists(rank.length),
    down: emptyLists(rank.length),
    trunks: new Map(),
    lanes: new Map(),
    rows: [],
  };
  /** @type {Set<number>} */
  const steps = new Set();
  /** @param {number} above @param {number} below */
  const step = (above, below) => {
    const key = pairKey(above, below);
    if (steps.has(key)) return;
    steps.add(key);
    rows.down[above].push(below);
    rows.up[below].push(above);
  };
  for (const [source, target] of pairs) {
    const pair = pairKey(source, target);
    const key = keys.get(pair);
    if (key === undefined) {
      step(source, target);
      continue;
    }
    const trunk = bends.get(key);
    if (!trunk) {
      rows.lanes.set(pair, key);
      continue;
    }
    const [start] = /** @type {Pair} */ (ends.get(key));
    const first = ranks[source] + 1 - start;
    const stop = ranks[target] - start;
    rows.trunks.set(pair, { bends: trunk, first, stop });
    step(source, trunk[first]);
    step(trunk[stop - 1], target);
  }
  for (const trunk of bends.values()) {
    for (let at = 1; at < trunk.length; at += 1) step(trunk[at - 1], trunk[at]);
  }
  return rows;
}

/**
 * The trunk that each long link shares, with its first row and the row after its last.
 * @param {number[]} ranks
 * @param {Pair[]} pairs
 */
function trunksOf(ranks, pairs) {
  const long = pairs.filter(([source, target]) => ranks[target] - ranks[source] > 1);
  const gathers = new Map();
  for (const [, target] of long) gathers.set(target, (gathers.get(target) || 0) + 1);
  /** @type {Map<number, number>} */
  const keys = new Map();
  /** @type {Map<number, Pair>} */
  const ends = new Map();
  for (const [source, target] of long) {
    const key = gathers.get(target) > MERGE ? target * 2 + 1 : source * 2;
    keys.set(pairKey(source, target), key);
    const known = ends.get(key);
    const start = ranks[source] + 1;
    const stop = ranks[target];
    ends.set(key, known ? [Math.min(known[0], start), Math.max(known[1], stop)] : [start, stop]);
  }
  return { keys, ends };
}

/**
 * Place the links that do not fit between the boxes at the left of all boxes.
 * @param {Rows} rows each lane is added to it as one more vertex
 * @param {number[]} xs middle of each vertex; those of the lanes are added
 */
export function addLanes(rows, xs) {
  /** @type {Map<number, Pair[]>} */
  const used = new Map();
  for (const [pair, key] of rows.lanes) {
    const ends = /** @type {Pair} */ ([Math.floor(pair / 0x4000000), pair % 0x4000000]);
    const list = used.get(key);
    if (list) list.push(ends);
    else used.set(key, [ends]);
  }
  const spans = [...used].map(([key, pairs]) => [
    Math.max(...pairs.map(([, target]) => rows.rank[target])),
    Math.min(...pairs.map(([source]) => rows.rank[source])),
    key,
  ]);
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  /** @type {number[]} */
  const busy = []; // per lane, the row where its last trunk ends
  for (const [stop, start, key] of spans) {
    let lane = busy.findIndex((end) => end <= start);
    lane = Math.min(lane < 0 ? busy.length : lane, MOST_LANES - 1);
    busy[lane] = stop;
    const vertex = rows.rank.length;
    const pairs = /** @type {Pair[]} */ (used.get(key));
    rows.rank.push(start + 1);
    xs.push(-LANE_GAP * (lane + 2));
    rows.up.push(pairs.map(([source]) => source));
    rows.down.push(pairs.map(([, target]) => target));
    for (const [source, target] of pairs) {
      rows.trunks.set(pairKey(source, target), { bends: [vertex], first: 0, stop: 1 });
      if (rows.down[source].at(-1) !== vertex) rows.down[source].push(vertex);
      if (rows.up[target].at(-1) !== vertex) rows.up[target].push(vertex);
    }
  }
}

/**
 * Order the vertices within their rows, so that few links cross.
 * @param {Rows} rows
 */
export function orderRows(rows) {
  let links = 0;
  for (const below of rows.down) links += below.length;
  const size = Math.max(rows.rank.length, Math.floor(links / 2));
  const careful = size <= CAREFUL;
  const sweeps = careful ? 24 : Math.min(4, Math.floor(WORK / size));
  rows.rows = walkUp(rows);
  const crossings = sweeps ? improve(rows, sweeps, careful) : 0;
  if (crossings && sweeps > 3) {
    const best = rows.rows;
    rows.rows = walkDown(rows);
    if (improve(rows, sweeps, careful) >= crossings) rows.rows = best;
  }
}

/** Walk from the results to their inputs: a tree comes out without crossings. @param {Rows} rows */
function walkUp(rows) {
  /** @type {number[]} */
  const results = [];
  rows.down.forEach((below, vertex) => {
    if (!below.length) results.push(vertex);
  });
  results.sort((a, b) => rows.rank[b] - rows.rank[a]);
  return walk(rows, results, rows.up);
}

/** Walk from the sources to what uses them, long links first. @param {Rows} rows */
function walkDown(rows) {
  /** @type {number[]} */
  const sources = [];
  rows.up.forEach((above, vertex) => {
    if (!above.length) sources.push(vertex);
  });
  sources.sort((a, b) => rows.rank[a] - rows.rank[b]);
  const neighbors = rows.down.map((below) => [
    ...below.filter((vertex) => vertex >= rows.boxes),
    ...below.filter((vertex) => vertex < rows.boxes),
  ]);
  return walk(rows, sources, neighbors);
}

/** @param {Rows} rows @param {number[]} starts @param {number[][]} neighbors */
function walk(rows, starts, neighbors) {
  let deepest = -1;
  for (const row of rows.rank) if (row > deepest) deepest = row;
  const order = emptyLists(deepest + 1);
  const seen = new Uint8Array(rows.rank.length);
  for (const start of starts) {
    const stack = [start];
    while (stack.length) {
      const vertex = /** @type {number} */ (stack.pop());
      if (seen[vertex]) continue;
      seen[vertex] = 1;
      order[rows.rank[vertex]].push(vertex);
      const near = neighbors[vertex];
      for (let at = near.length - 1; at >= 0; at -= 1) stack.push(near[at]);
    }
  }
  return order;
}

/**
 * Sweep up and down, and keep the best order found; returns its number of crossings.
 * @param {Rows} rows @param {number} sweeps @param {boolean} careful
 */
function improve(rows, sweeps, careful) {
  const place = new Int32Array(rows.rank.length);
  for (const row of rows.rows) numberRow(row, place);
  let best = rows.rows.map((row) => row.slice());
  let fewest = countCrossings(rows, place);
  let idle = 0;
  for (let sweep = 0; sweep < sweeps && fewest && idle <= 6; sweep += 1) {
    sweepRows(rows, place, sweep % 2 === 1);
    if (careful) swapNeighbours(rows, place);
    const crossings = countCrossings(rows, place);
    idle += 1;
    if (crossings < fewest) {
      best = rows.rows.map((row) => row.slice());
      fewest = crossings;
      idle = 0;
    }
  }
  rows.rows = best;
  return fewest;
}

/** Count how often links cross, in all rows. @param {Rows} rows @param {Int32Array} place */
function countCrossings(rows, place) {
  let total = 0;
  const sums = new Int32Array(rows.rank.length + 2);
  const ends = [];
  for (let index = 0; index + 1 < rows.rows.length; index += 1) {
    const width = rows.rows[index + 1].length;
    sums.fill(0, 0, width + 2);
    let before = 0;
    for (const vertex of rows.rows[index]) {
      ends.length = 0;
      for (const below of rows.down[vertex]) ends.push(place[below]);
      for (const end of ends) {
        let notRight = 0;
        for (let at = end + 1; at > 0; at -= at & -at) notRight += sums[at];
        total += before - notRight;
      }
      for (const end of ends) {
        for (let at = end + 1; at <= width; at += at & -at) sums[at] += 1;
      }
      before += ends.length;
    }
  }
  return total;
}

/**
 * Sort each row by the mean place of the neighbors in the row before it.
 * @param {Rows} rows @param {Int32Array} place @param {boolean} downwards
 */
function sweepRows(rows, place, downwards) {
  const neighbors = downwards ? rows.up : rows.down;
  const mean = new Float64Array(rows.rank.length);
  const count = rows.rows.length;
  for (let step = 0; step < count; step += 1) {
    const row = rows.rows[downwards ? step : count - 1 - step];
    const moved = [];
    for (const vertex of row) {
      const near = neighbors[vertex];
      if (!near.length) continue;
      let sum = 0;
      for (const other of near) sum += place[other];
      mean[vertex] = sum / near.length;
      moved.push(vertex);
    }
    if (moved.length > 1) {
      moved.sort((a, b) => mean[a] - mean[b]);
      let next = 0;
      for (let at = 0; at < row.length; at += 1) {
        if (neighbors[row[at]].length) {
          row[at] = moved[next];
          next += 1;
        }
      }
    }
    numberRow(row, place);
  }
}

/** Swap vertices that stand side by side as long as that removes crossings. */
/** @param {Rows} rows @param {Int32Array} place */
function swapNeighbours(rows, place) {
  for (let round = 0; round < 4; round += 1) {
    let swapped = false;
    for (const row of rows.rows) {
      for (let at = 0; at + 1 < row.length; at += 1) {
        const left = row[at];
        const right = row[at + 1];
        const won = gain(rows.up, left, right, place) + gain(rows.down, left, right, place);
        if (won > 0) {
          row[at] = right;
          row[at + 1] = left;
          place[right] = at;
          place[left] = at + 1;
          swapped = true;
        }
      }
    }
    if (!swapped) break;
  }
}

/**
 * Count the crossings that disappear when two vertices are exchanged, on one side.
 * @param {number[][]} near @param {number} left @param {number} right @param {Int32Array} place
 */
function gain(near, left, right, place) {
  const mine = near[left];
  const others = near[right];
  let won = 0;
  for (const vertex of mine) {
    const at = place[vertex];
    for (const other of others) won += Math.sign(at - place[other]);
  }
  return won;
}

/** @param {number[]} row @param {Int32Array} place */
function numberRow(row, place) {
  for (let at = 0; at < row.length; at += 1) place[row[at]] = at;
}
