/** Reading the data of the page: frames with their nodes, edges and groups, from shared columns. */

/**
 * A tensor as facts, as gradviz saves it.
 * @typedef {object} Summary
 * @property {number[]} shape
 * @property {string} dtype
 * @property {string} device
 * @property {Array<number | string | boolean>} [values]
 * @property {number} [norm]
 * @property {number} [mean]
 * @property {number} [std]
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [nan]
 * @property {number} [inf]
 * @property {string} [note]
 * @property {number[]} [bins] how many elements of a sample lie in equal intervals from min to max
 */

/**
 * The attributes of a node or group, as gradviz saves them (NodeData in gradviz/graph/schema.py).
 * @typedef {object} Row
 * @property {string} kind
 * @property {string} [op]
 * @property {string} [grad_fn]
 * @property {Record<string, string>} [options]
 * @property {string} [opaque]
 * @property {string} [name]
 * @property {string[]} [aliases]
 * @property {number[]} [shape]
 * @property {string} [dtype]
 * @property {string} [device]
 * @property {number} [outputs]
 * @property {number} [untracked_inputs]
 * @property {number} [root]
 * @property {Summary} [value]
 * @property {Summary | null} [grad]
 * @property {number} [accumulations]
 * @property {boolean} [requires_grad]
 * @property {boolean} [retains_grad]
 * @property {number} [version]
 * @property {boolean} [stale]
 * @property {number} [hooks]
 * @property {string} [buffers]
 * @property {number} [saved_bytes]
 * @property {number} [saved_total] with what other operations saved first, where that is more
 * @property {Array<[string, number, number[], string, number, number]>} [saved]
 * @property {number} [sequence_nr]
 * @property {string} [module]
 * @property {string} [module_class]
 * @property {boolean} [inferred]
 * @property {string} [source]
 * @property {number} [members]
 * @property {number} [repeat]
 * @property {number} [parameters]
 * @property {number} [leaf_elements]
 * @property {number} [frozen]
 * @property {number} [unreached]
 * @property {string[]} [contents]
 * @property {Record<string, string>} [changes]
 * @property {string} [verdict]
 */

/** @typedef {[string, number, number]} Span text, number of its role, width in points */
/**
 * @typedef {object} Card a node as it is drawn
 * @property {string} kind
 * @property {number} width
 * @property {number} height
 * @property {Span[]} head
 * @property {Span[][]} rows
 * @property {boolean} [again]
 * @property {boolean} [highlight]
 * @property {Look} [look] where it is not that of its kind
 */
/**
 * @typedef {object} EdgeRow what edges have in common
 * @property {string} kind
 * @property {string} [cause]
 * @property {string[]} [through]
 * @property {string} [source]
 * @property {Summary} [grad] the gradient along it, where it was recorded
 * @property {Span[][]} [lines] the cause of a cut, as it is written on the edge
 */
/**
 * @typedef {object} Group
 * @property {string} key
 * @property {number} row
 * @property {number} card
 * @property {number} parent number of the group around it, or -1
 * @property {boolean} isOpen in the picture that the page opens with
 * @property {number} again card of a box of leaves that is drawn once more, or -1
 */
/**
 * @typedef {object} Frame
 * @property {string} title
 * @property {string} caption
 * @property {string} kind
 * @property {number} pass
 * @property {number} follows number of the latest event before it
 * @property {string[]} notes
 * @property {string} flow "data", or "gradient" if the arrows run with the gradient
 * @property {number} run frames of one run show the same graph, in the same places
 * @property {string[]} keys
 * @property {number[]} row
 * @property {number[]} card
 * @property {number[]} again card of a leaf that is drawn once more, or -1
 * @property {number[]} hidden places of what is bookkeeping
 * @property {Array<[number, number, number]>} relabel place, card and weight input without it
 * @property {string[]} module
 * @property {number[]} parent number of the group around each node, -1, or -2 if left out
 * @property {Group[]} groups
 * @property {number[]} source
 * @property {number[]} target
 * @property {number[]} input
 * @property {number[]} output
 * @property {number[]} edge
 * @property {Map<string, number>} place
 * @property {Map<string, number>} groupPlace
 * @property {string} signature the same for frames whose nodes, edges and groups are the same
 */
/** @typedef {{name: string, verdict: string, state: string, reason: string, fix?: string, nodes?: string[], culprit?: string, lines?: string[], is_fine?: boolean}} Answer */
/** @typedef {{number: number, kind: string, word: string, name: string, source: string, detail: string, nodes: string[]}} StoryEvent */
/** @typedef {{head: string, body: string, edge: string, radius: number, line: number, dashed: boolean}} Look */

/**
 * @typedef {object} Data
 * @property {string} title
 * @property {string[]} notes
 * @property {string} theme
 * @property {string} target
 * @property {[string, string, string]} command of gradviz, which makes the picture of the target; arguments of that; frames
 * @property {string} color
 * @property {string} rankdir "TB" or "LR"
 * @property {boolean} hasLegend whether there is a legend
 * @property {Record<string, Look>} looks
 * @property {Record<string, [string, number, boolean]>} text
 * @property {string[]} roles
 * @property {Record<string, string>} legend
 * @property {Record<string, string>} roleRows the role of text that a row of the legend explains
 * @property {Record<string, string>} fills what lies behind a row with text of a role
 * @property {Record<string, [string, string]>} palette colors by token, light and dark
 * @property {Row[]} rows
 * @property {Card[]} cards
 * @property {EdgeRow[]} edges
 * @property {any[]} columns
 * @property {any[]} frames
 * @property {StoryEvent[]} events
 * @property {Answer[]} answers
 * @property {Record<string, string[]>} files
 */

const COLUMNS = ["keys", "row", "card", "again", "hidden", "relabel", "module", "parent", "groups",
  "source", "target", "input", "output", "edge"];
const SAME = ["keys", "hidden", "parent", "source", "target", "edge"];

/** The data of the page; frames are read when they are first asked for. */
export class Model {
  /** @param {Data} data */
  constructor(data) {
    this.data = data;
    /** @type {Map<number, Frame>} */
    this.read = new Map();
  }

  get count() {
    return this.data.frames.length;
  }

  /** @param {number} number @returns {Frame} */
  frame(number) {
    const known = this.read.get(number);
    if (known) return known;
    const written = this.data.frames[number];
    /** @type {any} */
    const frame = { ...written };
    for (const name of COLUMNS) frame[name] = this.data.columns[written[name]];
    frame.groups = frame.groups.map(toGroup);
    frame.place = new Map(frame.keys.map((/** @type {string} */ key, /** @type {number} */ at) => [key, at]));
    frame.groupPlace = new Map(frame.groups.map((/** @type {Group} */ group, /** @type {number} */ at) => [group.key, at]));
    const structure = frame.groups.map((/** @type {Group} */ g) => `${g.key}<${g.parent}`).join();
    frame.signature = `${SAME.map((name) => written[name]).join()};${structure}`;
    this.read.set(number, frame);
    return frame;
  }

  /** The frames that show the same graph as one of them. @param {number} number */
  runOf(number) {
    const { run } = this.data.frames[number];
    return this.data.frames.flatMap((frame, at) => (frame.run === run ? [at] : []));
  }

  /** @param {Frame} frame @param {number} node @returns {Row} */
  row(frame, node) {
    return this.data.rows[frame.row[node]];
  }

  /** @param {Frame} frame @param {number} group @returns {Row} */
  groupRow(frame, group) {
    return this.data.rows[frame.groups[group].row];
  }
}

/** @param {[string, number, number, number, number, number]} written @returns {Group} */
function toGroup([key, row, card, parent, isOpen, again]) {
  return { key, row, card, parent, isOpen: Boolean(isOpen), again };
}

/** Read the data out of the page. @param {Document} page @returns {Data} */
export function readIsland(page) {
  const element = page.getElementById("gradviz-data");
  return JSON.parse((element && element.textContent) || "null");
}

/** Whether a kind is that of a leaf. @param {string} kind */
export function isLeaf(kind) {
  return kind === "leaf" || kind === "parameter";
}

/**
 * The nodes that are reachable from some nodes, including those.
 * @param {Frame} frame
 * @param {number[]} starts
 * @param {{backwards: boolean, kinds: (edge: number) => boolean}} how
 * @returns {Set<number>}
 */
export function reach(frame, starts, how) {
  const lists = neighbors(frame, how.backwards);
  const [from, to] = how.backwards ? [frame.target, frame.source] : [frame.source, frame.target];
  void from;
  const seen = new Set(starts);
  const stack = [...starts];
  while (stack.length) {
    const node = /** @type {number} */ (stack.pop());
    for (let slot = lists.begins[node]; slot < lists.begins[node + 1]; slot += 1) {
      const edge = lists.edges[slot];
      if (seen.has(to[edge]) || !how.kinds(edge)) continue;
      seen.add(to[edge]);
      stack.push(to[edge]);
    }
  }
  return seen;
}

/** @type {WeakMap<Frame, Record<string, {begins: Int32Array, edges: Int32Array}>>} */
const LISTS = new WeakMap();

/** The edges of each node, by where they begin or end. */
/** @param {Frame} frame @param {boolean} backwards */
export function neighbors(frame, backwards) {
  const known = LISTS.get(frame) || {};
  LISTS.set(frame, known);
  const name = backwards ? "in" : "out";
  if (known[name]) return known[name];
  const ends = backwards ? frame.target : frame.source;
  const begins = new Int32Array(frame.keys.length + 1);
  for (const end of ends) begins[end + 1] += 1;
  for (let at = 0; at < frame.keys.length; at += 1) begins[at + 1] += begins[at];
  const fill = begins.slice();
  const edges = new Int32Array(ends.length);
  ends.forEach((end, edge) => {
    edges[fill[end]] = edge;
    fill[end] += 1;
  });
  known[name] = { begins, edges };
  return known[name];
}
