/** From the data and the state to a picture: nodes, edges and frames of open groups in places. */

import { scaleOf } from "./colors.js";
import { isOpen, seenGraph, shownGroups } from "./folding.js";
import { layOutAlong } from "./layout.js";

/** @typedef {import("./graph.js").Model} Model */
/** @typedef {import("./graph.js").Frame} Frame */
/** @typedef {import("./graph.js").Card} Card */
/** @typedef {import("./graph.js").Row} Row */
/** @typedef {import("./state.js").State} State */
/** @typedef {import("./folding.js").SeenNode} SeenNode */
/** @typedef {import("./folding.js").SeenEdge} SeenEdge */
/** @typedef {import("./colors.js").Bar} Bar */

/**
 * @typedef {object} DrawnNode
 * @property {string} id
 * @property {number} node
 * @property {number} group
 * @property {Card} card
 * @property {Row} row
 * @property {string} module
 * @property {boolean} again
 * @property {number} x middle
 * @property {number} y
 * @property {number} width
 * @property {number} height
 * @property {Bar | null} bar
 */
/**
 * @typedef {object} DrawnEdge
 * @property {number} source place in the nodes
 * @property {number} target
 * @property {import("./graph.js").EdgeRow} row
 * @property {number} input
 * @property {number} output
 * @property {string[]} through
 * @property {number} times
 * @property {number[]} route
 * @property {number[] | null} before of a cut whose cause is written, the part before the words
 * @property {EdgeLook} look color and width of its line
 * @property {boolean} isSideways whether the data flows from left to right
 * @property {{x: number, y: number} | null} number where it says which of several outputs it is
 */
/** @typedef {{token: string, line: number}} EdgeLook */
/** @typedef {{group: number, key: string, name: string, x: number, y: number, width: number, height: number, depth: number}} Enclosure */
/**
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {boolean} isSideways whether the data flows from left to right
 * @property {DrawnNode[]} nodes
 * @property {DrawnEdge[]} edges
 * @property {Map<string, number>} place of each node, by its id
 * @property {Enclosure[]} enclosures the open groups that stand apart from all else
 * @property {Array<[string, string]>} legend
 * @property {Map<string, string>} shownAs of each group that is closed, the id of its node
 */

/** @type {EdgeLook} */
const LINE = { token: "line", line: 1.3 };
/** @type {EdgeLook} */
const CUT = { token: "cut", line: 1.3 };
/** @type {EdgeLook} */
const HIGHLIGHT = { token: "ink", line: 3.2 };
const QUIET = ["not recorded", "constant"];
const BAR_ROOM = 4;
const CAUSE_LINE = 14;
const MARK_ROOM = 14;
const LARGE = 5000; // nodes in a picture from which on frames are not laid out together
const MOST_ENCLOSED = 1500; // nodes in a picture with lines around open groups
const PAD = 10;

/** @type {Map<string, any>} */
const PLACES = new Map(); // layouts that were made before; the latest few are kept
const MOST_PLACES = 12;

/** Whether the data flows from left to right. @param {State} state */
const flowsSideways = (state) => state.rankdir === "LR";

/**
 * The picture.
 * @param {Model} model
 * @param {State} state
 * @returns {Picture}
 */
export function pictureOf(model, state) {
  const frame = model.frame(state.frame);
  const seen = seenGraph(model, frame, state);
  const placed = placesOf(model, state, seen);
  /** @type {DrawnNode[]} */
  const nodes = seen.nodes.map((each, at) => {
    const recorded = each.group >= 0 ? model.groupRow(frame, each.group) : model.row(frame, each.node);
    const isRenamed = each.group < 0 && !each.again && each.card !== frame.card[each.node];
    const row = isRenamed ? { ...recorded, op: model.data.cards[each.card].head[0][0] } : recorded;
    const { x, y, width, height } = placed.spots[at];
    const module = each.group >= 0 ? row.module || "" : frame.module[each.node];
    const { id, node, group, again } = each;
    const card = model.data.cards[each.card];
    return { id, node, group, card, row, module, again, x, y, width, height, bar: null };
  });
  const scale = scaleOf(state.color, nodes.filter((node) => !node.again));
  if (scale) for (const node of nodes) node.bar = scale.bar(node.row, node.module);
  const isSideways = flowsSideways(state);
  const levels = scale && scale.edges ? scale.edges(nodes, seen.edges.map(({ source, target, output, edge }) => ({
    source: seen.isTurned ? target : source, target: seen.isTurned ? source : target, output, row: model.data.edges[edge],
  }))) : null;
  const edges = seen.edges.map((edge, at) => {
    const isHighlighted = model.data.edges[edge.edge].kind === "gradient" && nodes[edge.source].card.highlight && nodes[edge.target].card.highlight;
    return {
      look: isHighlighted ? HIGHLIGHT : (levels && levels[at]) || (placed.befores[at] ? CUT : LINE),
      isSideways,
      source: edge.source,
      target: edge.target,
      row: model.data.edges[edge.edge],
      input: edge.input,
      output: edge.output,
      through: edge.through,
      times: edge.times,
      route: placed.routes[at],
      before: placed.befores[at],
      number: null,
    };
  });
  numberOutputs(nodes, edges, isSideways);
  const place = new Map(nodes.map((node, at) => [node.id, at]));
  const shownAs = new Map();
  shownGroups(frame, state).forEach((shown, group) => {
    if (shown >= 0) shownAs.set(frame.groups[group].key, `@${frame.groups[shown].key}`);
  });
  return {
    width: placed.width,
    height: placed.height,
    isSideways,
    nodes,
    edges,
    place,
    enclosures: enclosuresOf(model, frame, state, nodes),
    legend: legendOf(model, nodes, edges, scale, frame.flow),
    shownAs,
  };
}

/**
 * Place the numbers of outputs beside the beginnings of their edges, none on another: the rules of
 * `output_numbers` in gradviz/renderers/edges.py.
 * @param {DrawnNode[]} nodes
 * @param {DrawnEdge[]} edges
 * @param {boolean} isSideways
 */
function numberOutputs(nodes, edges, isSideways) {
  /** @type {Map<number, DrawnEdge[]>} */
  const bySource = new Map();
  for (const edge of edges) {
    const node = nodes[edge.source];
    if (node.group >= 0 || (node.row.outputs || 1) < 2) continue;
    const list = bySource.get(edge.source);
    if (list) list.push(edge);
    else bySource.set(edge.source, [edge]);
  }
  for (const [source, starts] of bySource) {
    const begins = (/** @type {DrawnEdge} */ edge) => (edge.before || edge.route).slice(0, 7);
    if (isSideways) {
      for (const edge of starts) {
        const [x, y] = begins(edge);
        edge.number = { x: x + 4, y: y - 4 };
      }
      continue;
    }
    starts.sort((a, b) => begins(a)[0] - begins(b)[0]);
    const lines = starts.map((edge) => begins(edge)[0]);
    /** @type {Array<[number, number, number]>} */
    const taken = [];
    for (const edge of starts) {
      const [x, y, , , , , later] = begins(edge);
      const width = 6.2 + 6.2 * String(edge.output).length;
      const sides = [x - 4 - width, x + 4];
      if (later - x < -1 || (later - x <= 1 && x >= nodes[source].x - 1)) sides.reverse();
      let place = { x: sides[0], y: y + 11 };
      for (let row = 0, isFree = false; row < 4 && !isFree; row += 1) {
        for (const left of sides) {
          place = { x: left, y: y + 11 * (row + 1) };
          isFree = !taken.some(([low, high, foot]) => low < left + width && left < high && Math.abs(place.y - foot) < 10) &&
            (row > 0 || !lines.some((line) => left - 1 < line && line < left + width + 1));
          if (isFree) break;
        }
      }
      taken.push([place.x, place.x + width, place.y]);
      edge.number = place;
    }
  }
}

/** @param {import("./folding.js").Seen} seen @param {SeenEdge} edge */
function edgeKey(seen, edge) {
  const { source, target, input, output, edge: row } = edge;
  return `${seen.nodes[source].id} ${seen.nodes[target].id} ${input} ${output} ${row} ${edge.through.join()}`;
}

/** @typedef {{x: number, y: number, width: number, height: number}} Spot */
/**
 * The positions of the drawn nodes and edges, in drawing order.
 * @typedef {object} Places
 * @property {number} width
 * @property {number} height
 * @property {Spot[]} spots
 * @property {number[][]} routes
 * @property {Array<number[] | null>} befores of a cut whose cause is written, the part before it
 */

/**
 * The places of nodes and edges; those that several frames of a run share are the same in each.
 * @param {Model} model
 * @param {State} state
 * @param {import("./folding.js").Seen} seen
 * @returns {Places}
 */
function placesOf(model, state, seen) {
  const isLarge = seen.nodes.length > LARGE;
  const numbers = isLarge ? [state.frame] : model.runOf(state.frame);
  const run = isLarge ? `frame ${state.frame}` : model.data.frames[state.frame].run;
  const choice = [[...state.toggled].sort(), state.bookkeeping, state.everything, state.only, Boolean(state.color), state.rankdir, run];
  const name = JSON.stringify(choice);
  const known = PLACES.get(name);
  const isKnown = known && known.model === model;
  const isAlone = numbers.length === 1;
  const placed = isKnown ? known.placed : isAlone ? placesOfOne(model, state, seen) : placesOfRun(model, state, seen, numbers);
  if (!isKnown) PLACES.set(name, { model, placed });
  if (PLACES.size > MOST_PLACES) PLACES.delete(/** @type {string} */ (PLACES.keys().next().value));
  if (isAlone) return placed;
  const cuts = causesShown(model, seen);
  const keys = seen.edges.map((edge) => edgeKey(seen, edge));
  return {
    width: placed.width,
    height: placed.height,
    spots: seen.nodes.map((node) => placed.boxes.get(node.id)),
    routes: keys.map((key) => placed.routes.get(key)),
    befores: keys.map((key, at) => (cuts.has(at) ? placed.routes.get(`cut ${key}`) : null)),
  };
}

/**
 * The places in a frame that shares its graph with no other.
 * @param {Model} model @param {State} state @param {import("./folding.js").Seen} seen
 * @returns {Places}
 */
function placesOfOne(model, state, seen) {
  const room = state.color ? BAR_ROOM : 0;
  const sizes = seen.nodes.map((node) => {
    const { width, height } = model.data.cards[node.card];
    return { width, height: height + room };
  });
  const cuts = causesShown(model, seen);
  /** @type {Array<[number, number]>} */
  const pairs = [];
  /** @type {number[]} */
  const firsts = [];
  seen.edges.forEach((edge, number) => {
    firsts.push(pairs.length);
    if (cuts.has(number)) {
      pairs.push([edge.source, sizes.length], [sizes.length, edge.target]);
      sizes.push(causeSize(model, edge, flowsSideways(state)));
    } else pairs.push([edge.source, edge.target]);
  });
  const layout = layOutAlong(sizes, pairs, flowsSideways(state));
  return {
    width: layout.width,
    height: layout.height,
    spots: seen.nodes.map((_, at) => ({ x: layout.xs[at], y: layout.ys[at], width: sizes[at].width, height: sizes[at].height })),
    routes: firsts.map((first, at) => layout.routes[cuts.has(at) ? first + 1 : first]),
    befores: firsts.map((first, at) => (cuts.has(at) ? layout.routes[first] : null)),
  };
}

/**
 * The room that the cause of a cut takes on its edge.
 * @param {Model} model @param {SeenEdge} edge @param {boolean} isSideways
 */
function causeSize(model, edge, isSideways) {
  const lines = model.data.edges[edge.edge].lines || [];
  const widths = lines.map((line) => line.reduce((sum, span) => sum + span[2], 0));
  if (isSideways) return { width: Math.max(...widths) + 2 * MARK_ROOM, height: 2 * (MARK_ROOM + CAUSE_LINE * lines.length) };
  return { width: 2 * (Math.max(...widths) + MARK_ROOM), height: 6 + CAUSE_LINE * lines.length };
}

/**
 * The places in all frames of a run, by the ids of nodes and the keys of edges.
 * @param {Model} model @param {State} state @param {import("./folding.js").Seen} seen
 * @param {number[]} numbers
 */
function placesOfRun(model, state, seen, numbers) {
  /** @type {Map<string, {width: number, height: number}>} */
  const boxes = new Map();
  /** @type {Map<string, [string, string]>} */
  const links = new Map();
  const shapes = new Set();
  for (const number of numbers) {
    const frame = model.frame(number);
    const isSame = number !== state.frame && shapes.has(frame.signature);
    const other = number === state.frame ? seen : seenGraph(model, frame, { ...state, frame: number });
    for (const node of other.nodes) {
      const card = model.data.cards[node.card];
      const box = boxes.get(node.id) || { width: 0, height: 0 };
      const height = card.height + (state.color ? BAR_ROOM : 0);
      boxes.set(node.id, { width: Math.max(box.width, card.width), height: Math.max(box.height, height) });
    }
    if (!isSame) addLinks(model, other, boxes, links, flowsSideways(state));
    shapes.add(frame.signature);
  }
  const ids = [...boxes.keys()];
  const at = new Map(ids.map((id, place) => [id, place]));
  /** @type {Array<[number, number]>} */
  const pairs = [...links.values()].map(([a, b]) => [Number(at.get(a)), Number(at.get(b))]);
  const sizes = [...boxes.values()];
  const layout = layOutAlong(sizes, pairs, flowsSideways(state));
  const routes = new Map([...links.keys()].map((key, index) => [key, layout.routes[index]]));
  const spots = new Map(ids.map((id, place) => [id, { x: layout.xs[place], y: layout.ys[place], ...sizes[place] }]));
  return { width: layout.width, height: layout.height, boxes: spots, routes };
}

/**
 * @param {Model} model @param {import("./folding.js").Seen} seen
 * @param {Map<string, {width: number, height: number}>} boxes
 * @param {Map<string, [string, string]>} links
 * @param {boolean} isSideways
 */
function addLinks(model, seen, boxes, links, isSideways) {
  const cuts = causesShown(model, seen);
  seen.edges.forEach((edge, number) => {
    const key = edgeKey(seen, edge);
    const [source, target] = [seen.nodes[edge.source].id, seen.nodes[edge.target].id];
    if (!cuts.has(number)) {
      links.set(key, [source, target]);
      return;
    }
    boxes.set(`cut ${key}`, causeSize(model, edge, isSideways));
    links.set(`cut ${key}`, [source, `cut ${key}`]);
    links.set(key, [`cut ${key}`, target]);
  });
}

/** The cut edges whose cause is written: of a path that is cut, the first. */
/** @param {Model} model @param {import("./folding.js").Seen} seen */
function causesShown(model, seen) {
  /** @type {Map<number, Set<string>>} */
  const into = new Map();
  const [begin, end] = seen.isTurned
    ? /** @type {const} */ (["target", "source"])
    : /** @type {const} */ (["source", "target"]);
  for (const edge of seen.edges) {
    const { cause } = model.data.edges[edge.edge];
    if (!cause) continue;
    const known = into.get(edge[end]) || new Set();
    into.set(edge[end], known.add(cause));
  }
  const shown = new Set();
  seen.edges.forEach((edge, number) => {
    const { kind, cause, lines } = model.data.edges[edge.edge];
    if (kind !== "cut" || !cause || !lines || QUIET.includes(cause)) return;
    if (!(into.get(edge[begin]) || new Set()).has(cause)) shown.add(number);
  });
  return shown;
}

/**
 * The open groups that can be outlined: no other node is between theirs.
 * @param {Model} model @param {Frame} frame @param {State} state @param {DrawnNode[]} nodes
 * @returns {Enclosure[]}
 */
function enclosuresOf(model, frame, state, nodes) {
  if (nodes.length > MOST_ENCLOSED) return [];
  /** @type {Map<number, {left: number, top: number, right: number, bottom: number, count: number}>} */
  const spans = new Map();
  const around = nodes.map((node) => {
    const chain = [];
    let group = node.again ? -1 : node.group >= 0 ? frame.groups[node.group].parent : frame.parent[node.node];
    for (; group >= 0; group = frame.groups[group].parent) chain.push(group);
    return chain;
  });
  nodes.forEach((node, at) => {
    for (const group of around[at]) {
      const span = spans.get(group) || { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity, count: 0 };
      span.left = Math.min(span.left, node.x - node.width / 2);
      span.right = Math.max(span.right, node.x + node.width / 2);
      span.top = Math.min(span.top, node.y - node.height / 2);
      span.bottom = Math.max(span.bottom, node.y + node.height / 2);
      span.count += 1;
      spans.set(group, span);
    }
  });
  const found = [];
  for (const [group, span] of spans) {
    if (span.count < 2 || !isOpen(frame.groups[group], state)) continue;
    const isAlone = nodes.every(
      (node, at) =>
        around[at].includes(group) || // what is in it may stand anywhere
        node.x + node.width / 2 < span.left - 4 || node.x - node.width / 2 > span.right + 4 ||
        node.y + node.height / 2 < span.top - 4 || node.y - node.height / 2 > span.bottom + 4,
    );
    if (!isAlone) continue;
    let depth = 0;
    for (let other = frame.groups[group].parent; other >= 0; other = frame.groups[other].parent) depth += 1;
    const row = model.groupRow(frame, group);
    const name = row.name || row.op || "group";
    found.push({
      group, key: frame.groups[group].key, name, depth,
      x: span.left - PAD, y: span.top - PAD,
      width: span.right - span.left + 2 * PAD, height: span.bottom - span.top + 2 * PAD,
    });
  }
  return found.sort((a, b) => a.depth - b.depth);
}

/**
 * The rows of the legend, for the marks that are in the picture.
 * @param {Model} model @param {DrawnNode[]} nodes @param {DrawnEdge[]} edges
 * @param {import("./colors.js").Scale | null} scale @param {string} flow
 * @returns {Array<[string, string]>}
 */
function legendOf(model, nodes, edges, scale, flow) {
  const roles = new Set();
  const found = new Set(flow === "gradient" ? ["flow"] : []);
  for (const { card, row } of nodes) {
    const kind = card.kind === "parameter" ? "leaf" : card.kind;
    const isDocked = kind === "group" && !row.members && row.grad !== undefined;
    found.add(isDocked ? "leaves" : card.again ? (kind === "untracked" ? "untracked-again" : "again") : kind);
    for (const span of [card.head, ...card.rows].flat()) roles.add(model.data.roles[span[1]]);
    if (card.highlight) found.add("highlight");
    if (card.rows.some(([first]) => first && first[0] === "now")) found.add("now");
    if (row.untracked_inputs) found.add("constant");
    if ((row.outputs || 1) > 1) found.add("output");
  }
  for (const [word, role] of Object.entries(model.data.roleRows)) if (roles.has(role)) found.add(word);
  for (const { row, before, through, times } of edges) {
    if (times > 1) found.add("times");
    if (row.kind === "cut") found.add(before ? "cut" : "untracked-input");
    else if (through.length) found.add("through");
  }
  const rows = /** @type {Array<[string, string]>} */ (
    Object.entries(model.data.legend).filter(([word]) => found.has(word))
  );
  const isWide = edges.some(({ look }) => look.token === "level");
  return scale ? [...rows, ...scale.legend.filter(([word]) => word !== "width" || isWide)] : rows;
}
