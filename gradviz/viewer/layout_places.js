/**
 * Fourth step of the layered layout: the x of each box, after Brandes and Köpf.
 * A port of gradviz/renderers/layout/layered.py, which has the reasons; a test compares the two.
 */

/** @typedef {import("./layout_rows.js").Rows} Rows */

const GAPS = [22, 14, 11]; // between boxes, between a box and a bend, between bends
const FOUR = 30000; // Boxes and bends up to which there is time for all four corners, not two.

/**
 * Compute an x for each vertex: none overlap, and links are straight where possible.
 * @param {Rows} rows
 * @param {number[]} widths of each vertex, in points
 * @returns {number[]} the x of each vertex's middle; the leftmost box or bend begins at 0
 */
export function placeInRows(rows, widths) {
  const count = widths.length;
  const gaps = gapsOf(rows, widths);
  const { upper, lower } = straight(rows);
  const four = [[true, true], [true, false], [false, true], [false, false]];
  const corners = count > FOUR ? [four[0], four[3]] : four;
  const found = corners.map(([downwards, rightwards]) =>
    packBlocks(rows, align(rows, downwards ? upper : lower, downwards, rightwards), gaps, rightwards),
  );
  const lefts = found.map((xs) => leftEdge(xs, widths));
  const rights = found.map((xs) => rightEdge(xs, widths));
  let narrowest = 0;
  for (let at = 1; at < found.length; at += 1) {
    if (rights[at] - lefts[at] < rights[narrowest] - lefts[narrowest]) narrowest = at;
  }
  corners.forEach(([, rightwards], number) => {
    const edges = rightwards ? lefts : rights;
    const shift = edges[narrowest] - edges[number];
    const xs = found[number];
    for (let at = 0; at < count; at += 1) xs[at] += shift;
  });
  const middle = new Float64Array(count);
  for (let at = 0; at < count; at += 1) {
    const sorted = found.map((xs) => xs[at]).sort((a, b) => a - b);
    middle[at] = (sorted[corners.length / 2 - 1] + sorted[corners.length / 2]) / 2;
  }
  centreFree(rows, upper, lower, middle, gaps);
  const left = leftEdge(middle, widths);
  return Array.from(middle, (x) => x - left);
}

/** @param {Float64Array} xs @param {number[]} widths */
function leftEdge(xs, widths) {
  let edge = Infinity;
  for (let at = 0; at < xs.length; at += 1) edge = Math.min(edge, xs[at] - widths[at] / 2);
  return edge;
}

/** @param {Float64Array} xs @param {number[]} widths */
function rightEdge(xs, widths) {
  let edge = -Infinity;
  for (let at = 0; at < xs.length; at += 1) edge = Math.max(edge, xs[at] + widths[at] / 2);
  return edge;
}

/** Say how far each vertex's middle stays from that of its left neighbor. */
/** @param {Rows} rows @param {number[]} widths */
function gapsOf(rows, widths) {
  const gaps = new Float64Array(widths.length);
  for (const row of rows.rows) {
    for (let at = 1; at < row.length; at += 1) {
      const left = row[at - 1];
      const right = row[at];
      const bends = Number(left >= rows.boxes) + Number(right >= rows.boxes);
      gaps[right] = (widths[left] + widths[right]) / 2 + GAPS[bends];
    }
  }
  return gaps;
}

/**
 * Pick for each vertex the neighbors above and below with which it may be aligned.
 * Both ends of a link must prefer it. Links that cross a trunk are not aligned.
 * @param {Rows} rows
 */
function straight(rows) {
  const count = rows.rank.length;
  const place = new Int32Array(count);
  for (const row of rows.rows) row.forEach((vertex, at) => (place[vertex] = at));
  const behind = chainLengths(rows, rows.rows, rows.up);
  const ahead = chainLengths(rows, rows.rows.slice().reverse(), rows.down);
  /** @type {Set<number>} */
  const upwards = new Set();
  for (let v = 0; v < count; v += 1) {
    for (const up of preferred(rows, v, rows.up, behind)) upwards.add(up * count + v);
  }
  /** @type {number[][]} */
  const upper = Array.from({ length: count }, () => []);
  /** @type {number[][]} */
  const lower = Array.from({ length: count }, () => []);
  for (let v = 0; v < count; v += 1) {
    for (const down of preferred(rows, v, rows.down, ahead)) {
      if (!upwards.has(v * count + down)) continue;
      if (rows.up[v].length || middleInput(rows, down, place) === v) {
        lower[v].push(down);
        upper[down].push(v);
      }
    }
  }
  for (const chosen of [upper, lower]) {
    for (const near of chosen) if (near.length > 1) near.sort((a, b) => place[a] - place[b]);
    for (const row of rows.rows) giveWay(rows, row, chosen, place);
  }
  return { upper, lower };
}

/**
 * Count the boxes on the longest path from each vertex to an end.
 * @param {Rows} rows @param {number[][]} order @param {number[][]} neighbors
 */
function chainLengths(rows, order, neighbors) {
  const lengths = new Int32Array(rows.rank.length);
  for (const row of order) {
    for (const vertex of row) {
      let longest = 0;
      for (const other of neighbors[vertex]) if (lengths[other] > longest) longest = lengths[other];
      lengths[vertex] = longest + Number(vertex < rows.boxes);
    }
  }
  return lengths;
}

/**
 * A bend prefers its trunk, a box the neighbor with the longest chain.
 * @param {Rows} rows @param {number} vertex @param {number[][]} neighbors
 * @param {Int32Array} lengths
 */
function preferred(rows, vertex, neighbors, lengths) {
  const near = neighbors[vertex];
  if (near.length < 2) return near;
  if (vertex >= rows.boxes) {
    const bends = near.filter((other) => other >= rows.boxes);
    return bends.length ? bends : near;
  }
  let longest = 0;
  for (const other of near) if (lengths[other] > longest) longest = lengths[other];
  return near.filter((other) => lengths[other] === longest);
}

/**
 * The source to place a target below, if no source has a chain.
 * @param {Rows} rows @param {number} target @param {Int32Array} place
 */
function middleInput(rows, target, place) {
  const above = rows.up[target];
  if (!above.length || above.some((vertex) => rows.up[vertex].length)) return null;
  const sorted = above.slice().sort((a, b) => place[a] - place[b]);
  return sorted[(sorted.length - 1) >> 1];
}

/**
 * Drop the links of a row that cross a trunk.
 * @param {Rows} rows @param {number[]} row @param {number[][]} chosen @param {Int32Array} place
 */
function giveWay(rows, row, chosen, place) {
  if (row.length === 1) return;
  const none = -2;
  let any = false;
  const ends = row.map((vertex) => {
    const first = vertex >= rows.boxes && chosen[vertex].length ? chosen[vertex][0] : -1;
    if (first < rows.boxes) return none;
    any = true;
    return place[first];
  });
  if (!any) return;
  const after = new Int32Array(row.length);
  let lowest = place.length;
  for (let at = row.length - 1; at >= 0; at -= 1) {
    after[at] = lowest;
    if (ends[at] !== none) lowest = Math.min(lowest, ends[at]);
  }
  let highest = -1; // the rightmost end of the trunks to the left
  row.forEach((vertex, at) => {
    if (ends[at] !== none) highest = Math.max(highest, ends[at]);
    else if (chosen[vertex].length) {
      const before = highest;
      chosen[vertex] = chosen[vertex].filter((n) => before < place[n] && place[n] < after[at]);
    }
  });
}

/**
 * Join vertices with a median neighbor into blocks; returns the first vertex of each's.
 * @param {Rows} rows @param {number[][]} chosen @param {boolean} downwards
 * @param {boolean} rightwards
 */
function align(rows, chosen, downwards, rightwards) {
  const count = rows.rank.length;
  const root = new Int32Array(count);
  const place = new Int32Array(count);
  for (let at = 0; at < count; at += 1) root[at] = at;
  for (const row of rows.rows) row.forEach((v, at) => (place[v] = rightwards ? at : -at));
  const total = rows.rows.length;
  for (let step = 0; step < total; step += 1) {
    const row = rows.rows[downwards ? step : total - 1 - step];
    let taken = -count - 1;
    for (let index = 0; index < row.length; index += 1) {
      const vertex = row[rightwards ? index : row.length - 1 - index];
      const near = chosen[vertex];
      if (!near.length) continue;
      const low = near[(near.length - 1) >> 1];
      const high = near[near.length >> 1];
      for (const other of rightwards ? [low, high] : [high, low]) {
        if (taken < place[other]) {
          root[vertex] = root[other];
          taken = place[other];
          break;
        }
      }
    }
  }
  return root;
}

/**
 * Move the blocks as far to the left (or right) as possible, then back towards the others.
 * @param {Rows} rows @param {Int32Array} root @param {Float64Array} gaps
 * @param {boolean} rightwards
 */
function packBlocks(rows, root, gaps, rightwards) {
  const count = root.length;
  const begins = new Int32Array(count + 1);
  const waiting = new Int32Array(count);
  for (const row of rows.rows) {
    for (let at = 1; at < row.length; at += 1) {
      const [first, second] = rightwards ? [row[at - 1], row[at]] : [row[at], row[at - 1]];
      begins[root[first] + 1] += 1;
      waiting[root[second]] += 1;
    }
  }
  for (let at = 0; at < count; at += 1) begins[at + 1] += begins[at];
  const fill = begins.slice();
  const others = new Int32Array(begins[count]);
  const distances = new Float64Array(begins[count]);
  for (const row of rows.rows) {
    for (let at = 1; at < row.length; at += 1) {
      const [first, second] = rightwards ? [row[at - 1], row[at]] : [row[at], row[at - 1]];
      const slot = fill[root[first]];
      others[slot] = root[second];
      distances[slot] = gaps[row[at]];
      fill[root[first]] += 1;
    }
  }
  /** @type {number[]} */
  const order = [];
  for (let v = 0; v < count; v += 1) if (root[v] === v && !waiting[v]) order.push(v);
  const xs = new Float64Array(count);
  for (let at = 0; at < order.length; at += 1) {
    const block = order[at];
    for (let slot = begins[block]; slot < begins[block + 1]; slot += 1) {
      const other = others[slot];
      xs[other] = Math.max(xs[other], xs[block] + distances[slot]);
      waiting[other] -= 1;
      if (!waiting[other]) order.push(other);
    }
  }
  for (let at = order.length - 1; at >= 0; at -= 1) {
    const block = order[at];
    if (begins[block] === begins[block + 1]) continue;
    let least = Infinity;
    for (let slot = begins[block]; slot < begins[block + 1]; slot += 1) {
      least = Math.min(least, xs[others[slot]] - distances[slot]);
    }
    xs[block] = Math.max(xs[block], least);
  }
  const placed = new Float64Array(count);
  for (let v = 0; v < count; v += 1) placed[v] = rightwards ? xs[root[v]] : -xs[root[v]];
  return placed;
}

/**
 * Move unaligned vertices towards their neighbors, as far as possible.
 * @param {Rows} rows @param {number[][]} upper @param {number[][]} lower
 * @param {Float64Array} xs @param {Float64Array} gaps
 */
function centreFree(rows, upper, lower, xs, gaps) {
  for (const row of rows.rows) {
    row.forEach((vertex, at) => {
      const count = rows.up[vertex].length + rows.down[vertex].length;
      if (upper[vertex].length || lower[vertex].length || !count) return;
      let wish = 0;
      for (const other of rows.up[vertex]) wish += xs[other];
      for (const other of rows.down[vertex]) wish += xs[other];
      wish /= count;
      if (at) wish = Math.max(wish, xs[row[at - 1]] + gaps[vertex]);
      if (at + 1 < row.length) wish = Math.min(wish, xs[row[at + 1]] - gaps[row[at + 1]]);
      xs[vertex] = wish;
    });
  }
}
