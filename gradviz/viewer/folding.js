/** From the recorded graph to what is seen of it: groups opened and closed, bookkeeping hidden. */

import { neighbors, reach } from "./graph.js";

/** @typedef {import("./graph.js").Model} Model */
/** @typedef {import("./graph.js").Frame} Frame */
/** @typedef {import("./state.js").State} State */

/**
 * A node that is drawn: a recorded one, a closed group, or another copy of a leaf.
 * @typedef {object} SeenNode
 * @property {string} id
 * @property {number} node its place in the frame, or -1
 * @property {number} group number of the group, or -1
 * @property {number} card
 * @property {boolean} again
 */
/**
 * @typedef {object} SeenEdge
 * @property {number} source place in the seen nodes
 * @property {number} target
 * @property {number} edge what it has in common with others, a number
 * @property {number} input
 * @property {number} output
 * @property {string[]} through
 * @property {number} times how many edges it stands for
 */
/** @typedef {{nodes: SeenNode[], edges: SeenEdge[], isTurned: boolean}} Seen */ // with the gradient

const MOST_PARALLEL = 3; // edges of one look between two nodes that are drawn one by one
const TENSORS = ["leaf", "parameter", "untracked", "saved"]; // to a group, one line whatever uses it
const TANGLE = 12; // rows that the edges of a leaf may cross before it is drawn once more

/** The id of a group, which no node has. @param {string} key */
export function groupId(key) {
  return `@${key}`;
}

/**
 * The group that is drawn for each group: itself, one around it, or -1 for an open one.
 * @param {Frame} frame
 * @param {State} state
 */
export function shownGroups(frame, state) {
  const shown = new Int32Array(frame.groups.length);
  frame.groups.forEach((group, number) => {
    const around = group.parent >= 0 ? shown[group.parent] : -1;
    shown[number] = around >= 0 ? around : isOpen(group, state) ? -1 : number;
  });
  return shown;
}

/** @param {import("./graph.js").Group} group @param {State} state */
export function isOpen(group, state) {
  return state.toggled.has(group.key) !== group.isOpen;
}

/**
 * The nodes and edges of a frame that are drawn.
 * @param {Model} model
 * @param {Frame} frame
 * @param {State} state
 * @returns {Seen}
 */
export function seenGraph(model, frame, state) {
  const count = frame.keys.length;
  const shown = shownGroups(frame, state);
  const isHidden = new Uint8Array(count);
  if (!state.bookkeeping) for (const node of frame.hidden) isHidden[node] = 1;
  const kept = state.only ? onlyPaths(model, frame, state.only) : null;
  const cards = frame.card.slice();
  /** @type {Map<number, number>} */
  const weights = new Map();
  if (!state.bookkeeping) {
    for (const [node, card, input] of frame.relabel) {
      cards[node] = card;
      if (input >= 0) weights.set(node, input);
    }
  }
  /** @type {SeenNode[]} */
  const nodes = [];
  const place = new Int32Array(count).fill(-1);
  const groups = new Int32Array(frame.groups.length).fill(-1);
  for (let node = 0; node < count; node += 1) {
    const parent = frame.parent[node];
    if (isHidden[node] || (parent === -2 && !state.everything)) continue;
    if (kept && !kept.has(node)) continue;
    const group = parent >= 0 ? shown[parent] : -1;
    if (group < 0) {
      place[node] = nodes.length;
      nodes.push({ id: frame.keys[node], node, group: -1, card: cards[node], again: false });
      continue;
    }
    if (groups[group] < 0) {
      groups[group] = nodes.length;
      const { key, card } = frame.groups[group];
      nodes.push({ id: groupId(key), node: -1, group, card, again: false });
    }
    place[node] = groups[group];
  }
  const edges = seenEdges(model, frame, { place, isHidden, nodes, weights });
  const seen = cloneLeaves(frame, { nodes, edges, isTurned: false });
  if (frame.flow !== "gradient") return seen;
  const turned = seen.edges.map((edge) => ({ ...edge, source: edge.target, target: edge.source }));
  return { nodes: seen.nodes, edges: turned, isTurned: true };
}

/**
 * The nodes on the paths to and from a node or group.
 * @param {Model} model @param {Frame} frame @param {string} id
 * @returns {Set<number> | null}
 */
function onlyPaths(model, frame, id) {
  const starts = nodesOf(frame, id);
  if (!starts.length) return null;
  const kinds = (/** @type {number} */ edge) => {
    const { kind } = model.data.edges[frame.edge[edge]];
    return kind === "gradient" || kind === "cut";
  };
  const found = reach(frame, starts, { backwards: true, kinds });
  for (const node of reach(frame, starts, { backwards: false, kinds })) found.add(node);
  return found;
}

/** The recorded nodes that an id stands for. @param {Frame} frame @param {string} id */
export function nodesOf(frame, id) {
  const node = frame.place.get(id);
  if (node !== undefined) return [node];
  const group = id.startsWith("@") ? frame.groupPlace.get(id.slice(1)) : undefined;
  if (group === undefined) return [];
  const within = new Uint8Array(frame.groups.length);
  frame.groups.forEach(({ parent }, number) => {
    within[number] = Number(number === group || (parent >= 0 && within[parent] === 1));
  });
  return frame.parent.flatMap((parent, at) => (parent >= 0 && within[parent] ? [at] : []));
}

/**
 * The edges that are drawn; equal parallel ones are drawn as one.
 * @param {Model} model
 * @param {Frame} frame
 * @param {{place: Int32Array, isHidden: Uint8Array, nodes: SeenNode[], weights: Map<number, number>}} found
 */
function seenEdges(model, frame, { place, isHidden, nodes, weights }) {
  const incoming = neighbors(frame, true);
  /** @param {number} edge */
  const origin = (edge) => {
    const words = [];
    let first = edge;
    let node = frame.source[edge];
    while (isHidden[node] && incoming.begins[node] < incoming.begins[node + 1]) {
      const { kind, op } = model.row(frame, node);
      if (kind !== "accumulate" && op && words.length < 6) words.unshift(op);
      first = incoming.edges[incoming.begins[node]];
      node = frame.source[first];
    }
    return { node, output: frame.output[first], words };
  };
  /** @type {Map<string, SeenEdge>} */
  const merged = new Map();
  /** @type {SeenEdge[]} */
  const all = [];
  /** @type {Map<string, SeenEdge[]>} */
  const alike = new Map();
  for (let edge = 0; edge < frame.source.length; edge += 1) {
    const user = frame.target[edge];
    const target = place[user];
    if (isHidden[user] || target < 0) continue;
    const from = isHidden[frame.source[edge]] ? origin(edge) : null;
    const first = from ? from.node : frame.source[edge];
    const source = place[first];
    if (source < 0 || source === target) continue;
    const input = frame.input[edge];
    const row = frame.edge[edge];
    const given = model.data.edges[row].through || [];
    let through = from ? [...from.words, ...given] : given;
    if (weights.get(user) === input) through = [];
    const inGroup = nodes[source].group >= 0 || nodes[target].group >= 0;
    const output = nodes[source].group >= 0 ? 0 : from ? from.output : frame.output[edge];
    const seen = { source, target, edge: row, input, output, through, times: 1 };
    if (inGroup) {
      const key = `${source} ${target} ${model.data.edges[row].kind}`;
      const known = merged.get(key);
      if (known) {
        if (nodes[source].group >= 0 || !TENSORS.includes(model.row(frame, frame.source[edge]).kind)) known.times += 1;
        if (through.join() !== known.through.join()) known.through = [];
        continue;
      }
      merged.set(key, seen);
      all.push(seen);
      continue;
    }
    const key = `${source} ${target} ${row} ${output} ${through.join()}`;
    const same = alike.get(key);
    if (same) same.push(seen);
    else alike.set(key, [seen]);
  }
  for (const same of alike.values()) {
    if (same.length > MOST_PARALLEL) all.push({ ...same[0], times: same.length });
    else all.push(...same);
  }
  return all.sort((a, b) => a.input - b.input);
}

/**
 * Draw a copy of a leaf, or a box of leaves, at each use, if its edges would cross much of the picture.
 * @param {Frame} frame @param {Seen} seen
 * @returns {Seen}
 */
function cloneLeaves(frame, seen) {
  const { nodes, edges } = seen;
  const rank = lateRanks(nodes.length, edges);
  /** @type {Map<number, Map<number, SeenEdge[]>>} */
  const uses = new Map();
  for (const edge of edges) {
    if (cardAgain(frame, nodes[edge.source]) < 0) continue;
    const users = uses.get(edge.source) || new Map();
    uses.set(edge.source, users);
    const list = users.get(edge.target);
    if (list) list.push(edge);
    else users.set(edge.target, [edge]);
  }
  for (const [leaf, users] of uses) {
    if (users.size < 2) continue;
    const order = [...users.keys()].sort((a, b) => rank[a] - rank[b]);
    let span = 0;
    for (const user of order) span += rank[user] - rank[order[0]];
    if (span < TANGLE) continue;
    const { node, group, id } = nodes[leaf];
    const card = cardAgain(frame, nodes[leaf]);
    order.slice(1).forEach((user, number) => {
      const again = nodes.length;
      nodes.push({ id: `${id}~${number + 1}`, node, group, card, again: true });
      for (const edge of /** @type {SeenEdge[]} */ (users.get(user))) edge.source = again;
    });
  }
  return seen;
}

/** The card of a copy of a leaf, or of a box of leaves; -1 for other nodes. */
/** @param {Frame} frame @param {SeenNode} seen */
function cardAgain(frame, { node, group }) {
  return group >= 0 ? frame.groups[group].again : frame.again[node];
}

/** Layer of each node, as late as its users allow: a negative number, 0 for the results. */
/** @param {number} count @param {SeenEdge[]} edges */
function lateRanks(count, edges) {
  const waiting = new Int32Array(count);
  /** @type {number[][]} */
  const sources = Array.from({ length: count }, () => []);
  for (const { source, target } of edges) {
    waiting[source] += 1;
    sources[target].push(source);
  }
  /** @type {number[]} */
  const order = [];
  for (let node = 0; node < count; node += 1) if (!waiting[node]) order.push(node);
  const rank = new Int32Array(count);
  for (let at = 0; at < order.length; at += 1) {
    const node = order[at];
    for (const source of sources[node]) {
      rank[source] = Math.min(rank[source], rank[node] - 1);
      waiting[source] -= 1;
      if (!waiting[source]) order.push(source);
    }
  }
  return rank;
}
