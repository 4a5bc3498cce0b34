/** From the data and the state to a picture: nodes, edges and frames of open groups in places. */

import { scaleOf } from "./colors.js";
import { isOpen, seenGraph, shownGroups } from "./folding.js";
import { countText } from "./format.js";
import { layOutAlong } from "./layout.js";
import { edgeBoxes } from "./shapes.js";

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
 * @property {Label[]} labels which of several outputs it is, and how many edges it stands for
 */
/** @typedef {{token: string, line: number}} EdgeLook */
/** @typedef {[number, number, number, number]} Rect left, top, right and bottom */
/** @typedef {{text: string, x: number, y: number, width: number}} Label of a line, with the width of the gap in the line, or 0 */
/** @typedef {{key: string, title: import("./graph.js").Span[], at: [number, number], x: number, y: number, width: number, height: number}} Enclosure */
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
const SIDE = 9; // points between a frame and what is in it
const BAND = 23; // for its title
const NUMBERS = 12; // points for the numbers of outputs
const CELL = 24;
const NEAR = 3; // points between a label and the lines of others
const LISTS = ["ModuleList", "ModuleDict"]; // they do not run

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
  const rooms = seen.nodes.map((each) => roomBelow(model, frame, each, state));
  /** @type {DrawnNode[]} */
  const nodes = seen.nodes.map((each, at) => {
    const recorded = each.group >= 0 ? model.groupRow(frame, each.group) : model.row(frame, each.node);
    const isRenamed = each.group < 0 && !each.again && each.card !== frame.card[each.node];
    const row = isRenamed ? { ...recorded, op: model.data.cards[each.card].head[0][0] } : recorded;
    const { x, width, ...spot } = placed.spots[at];
    const height = spot.height - rooms[at];
    const y = spot.y - rooms[at] / 2;
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
  /** @param {number[]} route @param {number} room @returns {number[]} */
  const lengthened = (route, room) => (room ? [route[0], route[1] - room, route[0], route[1] - room, ...route.slice(0, 2), ...route] : route);
  const edges = seen.edges.map((edge, at) => {
    const room = rooms[edge.source];
    const before = placed.befores[at];
    const isHighlighted = model.data.edges[edge.edge].kind === "gradient" && nodes[edge.source].card.highlight && nodes[edge.target].card.highlight;
    return {
      look: isHighlighted ? HIGHLIGHT : (levels && levels[at]) || (before ? CUT : LINE),
      isSideways,
      source: edge.source,
      target: edge.target,
      row: model.data.edges[edge.edge],
      input: edge.input,
      output: edge.output,
      through: edge.through,
      times: edge.times,
      route: before ? placed.routes[at] : lengthened(placed.routes[at], room),
      before: before && lengthened(before, room),
      labels: /** @type {Label[]} */ ([]),
    };
  });
  const occupied = placeLabels(model, nodes, edges);
  const place = new Map(nodes.map((node, at) => [node.id, at]));
  const shownAs = new Map();
  shownGroups(frame, state).forEach((shown, group) => {
    if (shown >= 0) shownAs.set(frame.groups[group].key, `@${frame.groups[shown].key}`);
  });
  return withRoom({
    width: placed.width,
    height: placed.height,
    isSideways,
    nodes,
    edges,
    place,
    enclosures: enclosuresOf(model, frame, state, nodes, edges, occupied),
    legend: legendOf(model, nodes, edges, scale, frame.flow),
    shownAs,
  });
}

/** The picture, moved and widened so that its frames are in it. @param {Picture} picture */
function withRoom(picture) {
  const { nodes, edges, enclosures } = picture;
  const over = (/** @type {"x" | "y"} */ side) => Math.max(0, ...enclosures.map((each) => 2 - each[side]));
  const [dx, dy] = [over("x"), over("y")];
  const end = (/** @type {number} */ size, /** @type {number[]} */ ends) => Math.max(size, ...ends.map((each) => each + 2));
  picture.width = dx + end(picture.width, enclosures.map(({ x, width }) => x + width));
  picture.height = dy + end(picture.height, enclosures.map(({ y, height }) => y + height));
  if (!dx && !dy) return picture;
  const moved = (/** @type {number[]} */ route) => route.map((value, at) => value + (at % 2 ? dy : dx));
  for (const each of [...nodes, ...enclosures, ...edges.flatMap((edge) => edge.labels)]) {
    each.x += dx;
    each.y += dy;
  }
  for (const each of enclosures) each.at = [each.at[0] + dx, each.at[1] + dy];
  for (const edge of edges) {
    edge.route = moved(edge.route);
    edge.before = edge.before && moved(edge.before);
  }
  return picture;
}

/**
 * Where boxes, texts and lines are, in cells, so that only what is near is compared: the rules of
 * `labels_beside` and `frames_of` in gradviz/renderers/.
 */
class Occupied {
  /** @type {Map<string, Rect[]>} */
  rects = new Map();

  /** @type {Map<string, Array<[number, number, number]>>} */
  lines = new Map();

  /** @param {DrawnNode[]} nodes */
  constructor(nodes) {
    for (const node of nodes) this.add(boxOf(node));
  }

  /** @param {Rect} rect */
  cells([left, top, right, bottom]) {
    const found = [];
    for (let x = Math.floor(left / CELL); x <= right / CELL; x += 1) {
      for (let y = Math.floor(top / CELL); y <= bottom / CELL; y += 1) found.push(`${x} ${y}`);
    }
    return found;
  }

  /** @param {Rect} rect */
  add(rect) {
    for (const cell of this.cells(rect)) this.rects.set(cell, [...(this.rects.get(cell) || []), rect]);
  }

  /** @param {number} edge @param {number[]} route */
  addLine(edge, route) {
    for (const [x, y] of pointsOn(route)) {
      const cell = `${Math.floor(x / CELL)} ${Math.floor(y / CELL)}`;
      const list = this.lines.get(cell);
      if (list) list.push([x, y, edge]);
      else this.lines.set(cell, [[x, y, edge]]);
    }
  }

  /** The number of points of lines on a vertical line. @param {number} x @param {number} top @param {number} bottom */
  along(x, top, bottom) {
    const points = this.cells([x - 3, top, x + 3, bottom]).flatMap((cell) => this.lines.get(cell) || []);
    return points.filter(([at, y]) => Math.abs(at - x) < 3 && top < y && y < bottom).length;
  }

  /** 0 if there is room; 1 if only a line is met, but for that of an edge; 2 if a box or text is. */
  /** @param {Rect} rect @param {number} but */
  hits(rect, but) {
    const cells = this.cells(rect);
    if (cells.some((cell) => (this.rects.get(cell) || []).some((other) => meet(rect, other)))) return 2;
    const [left, top, right, bottom] = rect;
    const isMet = (/** @type {[number, number, number]} */ [x, y, edge]) => edge !== but && left < x && x < right && top < y && y < bottom;
    return Number(cells.some((cell) => (this.lines.get(cell) || []).some(isMet)));
  }
}

/** @param {Rect} one @param {Rect} other */
const meet = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

/** @param {DrawnNode} node @returns {Rect} */
const boxOf = ({ x, y, width, height }) => [x - width / 2, y - height / 2, x + width / 2, y + height / 2];

/** Points of a curve, about 4 apart. @param {number[]} route @returns {Array<[number, number]>} */
function pointsOn(route) {
  /** @type {Array<[number, number]>} */
  const found = [];
  for (let at = 0; at + 7 < route.length; at += 6) {
    const [ax, ay, bx, by, cx, cy, dx, dy] = route.slice(at, at + 8);
    const steps = Math.max(1, Math.round((Math.hypot(bx - ax, by - ay) + Math.hypot(cx - bx, cy - by) + Math.hypot(dx - cx, dy - cy)) / 4));
    for (let step = 0; step <= steps; step += 1) {
      const t = step / steps;
      const [a, b, c, d] = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3];
      found.push([a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy]);
    }
  }
  return found;
}

/**
 * Place output numbers and counts beside their lines, on no box, text or other line; where there is
 * no room beside its line, a label stands on it, and the line has a gap there.
 * @param {Model} model @param {DrawnNode[]} nodes @param {DrawnEdge[]} edges
 */
function placeLabels(model, nodes, edges) {
  const isLarge = nodes.length > MOST_ENCLOSED;
  const occupied = new Occupied(isLarge ? [] : nodes);
  const size = model.data.text.fact[1];
  if (!isLarge) {
    edges.forEach((edge, number) => {
      occupied.addLine(number, edge.route);
      if (edge.before) occupied.addLine(number, [...edge.before, ...edge.before.slice(-2), ...edge.route.slice(0, 2), ...edge.route]);
      for (const box of edgeBoxes(edge)) occupied.add(box);
    });
  }
  edges.forEach((edge, number) => {
    const { row, group } = nodes[edge.source];
    const isNumbered = group < 0 && (row.outputs || 1) > 1;
    if (!isNumbered && edge.times < 2) return;
    const points = pointsOn(edge.before || edge.route);
    const middle = Math.floor(points.length / 2);
    /** @param {string} text @param {Array<[number, number]>} wanted @param {number} aside @returns {Label} */
    const place = (text, wanted, aside) => {
      const width = 0.56 * size * text.length;
      const places = wanted.flatMap(([x, y]) => [[x + aside, y + 4], [x - aside - width, y + 4], [x + aside, y + 14],
        [x - aside - width, y + 14], [x + aside, y - 4], [x - aside - width, y - 4]]);
      const on = wanted.map(([x, y]) => [x - width / 2, y + 0.35 * size]);
      let best = { text, x: places[0][0], y: places[0][1], width: 0, hit: 3 };
      for (const [list, gap] of /** @type {Array<[number[][], number]>} */ ([[places, 0], [on, width]])) {
        for (const [x, y] of isLarge ? [] : list) {
          const hit = gap ? 0 : occupied.hits([x, y - 0.8 * size, x + width, y + 0.2 * size], -1);
          const near = occupied.hits([x - NEAR, y - 0.8 * size, x + width + NEAR, y + 0.2 * size], number);
          if (Math.max(hit, near) < best.hit) best = { text, x, y, width: gap, hit: Math.max(hit, near) };
          if (!best.hit) break;
        }
        if (!best.hit) break;
      }
      occupied.add([best.x, best.y - 0.8 * size, best.x + width, best.y + 0.2 * size]);
      return best;
    };
    if (isNumbered) edge.labels.push(place(`[${edge.output}]`, points.slice(2, 14), 4));
    if (edge.times > 1) {
      const around = points.map((_, at) => points[middle + (at % 2 ? 1 : -1) * Math.ceil(at / 2)]).filter(Boolean);
      edge.labels.push(place(`×${countText(edge.times)}`, around, 6));
    }
  });
  return occupied;
}

/** The room under a node of several outputs for their numbers. */
/** @param {Model} model @param {Frame} frame @param {SeenNode} seen @param {State} state */
function roomBelow(model, frame, { node, again }, state) {
  const isNumbered = node >= 0 && !again && (model.row(frame, node).outputs || 1) > 1;
  return isNumbered && !flowsSideways(state) ? NUMBERS : 0;
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
    return { width, height: height + room + roomBelow(model, model.frame(state.frame), node, state) };
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
      const height = card.height + (state.color ? BAR_ROOM : 0) + roomBelow(model, frame, node, state);
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
 * The frames around open groups for which there is room: nothing foreign is in one, its border
 * crosses no text, and its title, in the band at its top, is met by no line.
 * @param {Model} model @param {Frame} frame @param {State} state @param {DrawnNode[]} nodes
 * @param {DrawnEdge[]} edges @param {Occupied} occupied
 * @returns {Enclosure[]}
 */
function enclosuresOf(model, frame, state, nodes, edges, occupied) {
  if (nodes.length > MOST_ENCLOSED) return [];
  /** @type {Map<number, DrawnNode[]>} */
  const inside = new Map();
  for (const node of nodes) {
    let group = node.again ? -1 : node.group >= 0 ? frame.groups[node.group].parent : frame.parent[node.node];
    for (; group >= 0; group = frame.groups[group].parent) inside.set(group, [...(inside.get(group) || []), node]);
  }
  /** @type {Enclosure[]} */
  const found = [];
  const smallestFirst = [...inside].sort((a, b) => a[1].length - b[1].length);
  for (const [group, members] of smallestFirst) {
    const { key, card } = frame.groups[group];
    const { head } = model.data.cards[card];
    const { module_class: word } = model.groupRow(frame, group);
    const steps = members.filter((node) => node.card.kind === "operation" || node.row.members);
    if (steps.length < 2 || !isOpen(frame.groups[group], state) || LISTS.includes(word || "")) continue;
    const nested = found.filter((each) => members.some((node) => meet(boxOf(node), rectOf(each))));
    const within = new Set(members);
    const routes = edges.filter((edge) => within.has(nodes[edge.source]) && within.has(nodes[edge.target])).flatMap(({ route }) => pointsOn(route));
    const boxes = [...members.map(boxOf), ...nested.map(rectOf), ...routes.map(([x, y]) => /** @type {Rect} */ ([x, y, x, y]))];
    const width = (/** @type {import("./graph.js").Span[]} */ spans) => spans.reduce((sum, span) => sum + span[2] + 6, 0);
    const title = head.filter((span, at) => at === 0 || !/ ops?$/.test(span[0]));
    const [left, top, right, bottom] = [0, 1, 2, 3].map((side) => (side < 2 ? Math.min : Math.max)(...boxes.map((box) => box[side])));
    /** @type {Rect} */
    const rect = [left - SIDE, top - BAND, Math.max(right, left + width(title)) + SIDE, bottom + SIDE];
    // No line may run along a side.
    for (const [side, sign] of [[0, -1], [2, 1]]) {
      for (let step = 0; step < 6 && occupied.along(rect[side], rect[1], rect[3]) > 6; step += 1) rect[side] += 5 * sign;
    }
    const isFree = nodes.every((node) => within.has(node) || !meet(boxOf(node), rect)) &&
      found.every((each) => nested.includes(each) || !meet(rectOf(each), rect));
    if (!isFree) continue;
    for (let x = rect[0] + SIDE; x + width(title) <= rect[2]; x += 6) {
      /** @type {Rect} */
      const text = [x - 3, rect[1] + 2, x + width(title), rect[1] + BAND - 2];
      if (occupied.hits(text, -1)) continue;
      occupied.add(text);
      found.push({ key, title, at: [x, rect[1] + 14], x: rect[0], y: rect[1], width: rect[2] - rect[0], height: rect[3] - rect[1] });
      break;
    }
  }
  return found;
}

/** @param {Enclosure} enclosure @returns {Rect} */
const rectOf = ({ x, y, width, height }) => [x, y, x + width, y + height];

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
    found.add(card.again ? (kind === "untracked" ? "untracked-again" : "again") : isDocked ? "leaves" : kind);
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
