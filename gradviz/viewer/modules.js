/** The tree of modules beside the drawing, and what each keeps for backward. */

import { h, button } from "./dom.js";
import { bytesText, countText } from "./format.js";

/** @typedef {import("./graph.js").Model} Model */
/** @typedef {import("./graph.js").Frame} Frame */
/**
 * @typedef {object} Branch
 * @property {string} path
 * @property {string} name
 * @property {Map<string, Branch>} inside
 * @property {number[]} nodes those that belong to the module itself
 * @property {number} operations in it and below
 * @property {number} bytes kept for backward in it and below
 * @property {number} first number of the first operation in it, in the order of the program
 */

const MOST_BARS = 60;

/** @type {WeakMap<Frame, Branch>} */
const TREES = new WeakMap();

/** The modules of a frame as a tree. @param {Model} model @param {Frame} frame @returns {Branch} */
export function moduleTree(model, frame) {
  const known = TREES.get(frame);
  if (known) return known;
  const root = branch("", "all");
  frame.keys.forEach((_, node) => {
    const row = model.row(frame, node);
    let at = root;
    const passed = [root];
    for (const part of frame.module[node] ? frame.module[node].split(".") : []) {
      const path = at.path ? `${at.path}.${part}` : part;
      const next = at.inside.get(part) || branch(path, part);
      at.inside.set(part, next);
      at = next;
      passed.push(at);
    }
    at.nodes.push(node);
    for (const each of passed) {
      each.operations += Number(row.kind === "operation");
      each.bytes += row.saved_bytes || 0;
      each.first = Math.min(each.first, row.sequence_nr ?? Infinity);
    }
  });
  TREES.set(frame, root);
  return root;
}

/** What is in a module, in the order of the program. @param {Branch} at */
function inOrder(at) {
  return [...at.inside.values()].sort((a, b) => (a.first === b.first ? 0 : a.first - b.first));
}

/** @param {string} path @param {string} name @returns {Branch} */
function branch(path, name) {
  return { path, name, inside: new Map(), nodes: [], operations: 0, bytes: 0, first: Infinity };
}

/** The first node in a module or below it; -1 for none. @param {Branch} at @returns {number} */
export function firstNode(at) {
  if (at.nodes.length) return at.nodes[0];
  for (const inside of at.inside.values()) {
    const found = firstNode(inside);
    if (found >= 0) return found;
  }
  return -1;
}

/**
 * The tree as nested lists that open and close.
 * @param {Branch} root
 * @param {string} chosen path of the module of what is selected
 * @param {(path: string) => void} select
 */
export function treeElement(root, chosen, select) {
  if (!root.inside.size) return h("p", { class: "empty" }, "No module is known here: nothing was recorded in one, and no name is a path.");
  const isSingle = root.inside.size === 1;
  return h("ul", { class: "tree" }, ...inOrder(root).map((each) => treeItem(each, chosen, select, isSingle)));
}

/** @param {Branch} at @param {string} chosen @param {(path: string) => void} select @param {boolean} [isSingle] @returns {HTMLElement} */
function treeItem(at, chosen, select, isSingle) {
  const isChosen = chosen === at.path;
  const name = button(at.name, `select ${at.path}`, () => select(at.path), {
    class: isChosen ? "link chosen" : "link", ...(isChosen ? { "aria-current": "true" } : {}),
  });
  const count = h("span", { class: "muted" }, ` ${countText(at.operations)}`);
  if (!at.inside.size) return h("li", {}, name, count);
  const isOpen = isSingle || chosen === at.path || chosen.startsWith(`${at.path}.`);
  /** @type {HTMLDetailsElement} */
  const details = h("details", isOpen ? { open: true } : {}, h("summary", { "aria-label": `inside ${at.path}` }), h("ul", {}));
  const fill = () => {
    const list = /** @type {HTMLElement} */ (details.lastElementChild);
    if (!list.children.length) list.append(...inOrder(at).map((each) => treeItem(each, chosen, select)));
  };
  if (isOpen) fill();
  details.addEventListener("toggle", fill);
  return h("li", { class: "parent" }, name, count, details);
}

/**
 * The bytes saved for backward, a bar for each module, the largest first.
 * @param {Model} model
 * @param {number} number of the frame
 * @param {(path: string) => void} select
 */
export function memoryElement(model, number, select) {
  const frame = model.frame(number);
  const rows = level(moduleTree(model, frame), (node) => model.row(frame, node).saved_bytes || 0);
  const most = rows.length ? rows[0].bytes : 0;
  const total = rows.reduce((sum, row) => sum + row.bytes, 0);
  if (!total) return h("section", {}, h("h2", {}, "Kept for backward"), h("p", { class: "empty" }, "Nothing is kept for backward here."));
  const more = rows.length > MOST_BARS ? h("p", {}, `and ${countText(rows.length - MOST_BARS)} more`) : null;
  const items = rows.slice(0, MOST_BARS).map(({ path, own, bytes, nodes }) => h("li", {},
    path ? h("span", {}, button(path, `select ${path}`, () => select(path), { class: "link" }), own ? " itself, without its parts" : "") : h("span", {}, "in no module"),
    h("span", { class: "amount" }, bytesText(bytes)),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: `width:${Math.max(1, (bytes / most) * 100)}%` })),
    h("span", { class: "muted" }, freedIn(model, number, nodes))));
  return h("section", {}, h("h2", {}, `Kept for backward: ${bytesText(total)}`), h("ul", { class: "bars" }, ...items), more);
}

/** Modules side by side, and what a module whose parts are listed saved itself. @param {Branch} root @param {(node: number) => number} bytesOf */
function level(root, bytesOf) {
  /** @type {Array<{path: string, own: boolean, bytes: number, nodes: number[]}>} */
  const rows = [];
  const partsOf = (/** @type {Branch} */ { path, nodes, inside }) => {
    rows.push({ path, own: true, bytes: nodes.reduce((sum, node) => sum + bytesOf(node), 0), nodes });
    return [...inside.values()];
  };
  let branches = [root];
  while (branches.length === 1 && branches[0].inside.size) branches = partsOf(branches[0]);
  const isFew = branches.length < 8;
  for (const each of branches.flatMap((branch) => (isFew && branch.inside.size > 1 ? partsOf(branch) : [branch]))) {
    rows.push({ path: each.path, own: false, bytes: each.bytes, nodes: below(each) });
  }
  return rows.filter(({ bytes }) => bytes).sort((a, b) => b.bytes - a.bytes);
}

/** @param {Branch} at @returns {number[]} */
export function below(at) {
  return [...at.nodes, ...[...at.inside.values()].flatMap(below)];
}

/**
 * The first later frame in which all saved tensors of these nodes are freed, in words.
 * @param {Model} model @param {number} number @param {number[]} nodes
 */
function freedIn(model, number, nodes) {
  const frame = model.frame(number);
  const keys = nodes.filter((node) => model.row(frame, node).saved_bytes).map((node) => frame.keys[node]);
  for (let later = number + 1; later < model.count && model.data.frames[later].run === model.data.frames[number].run; later += 1) {
    const other = model.frame(later);
    const isFreed = keys.every((key) => {
      const place = other.place.get(key);
      return place !== undefined && model.row(other, place).buffers === "freed";
    });
    if (isFreed) return `freed in frame ${later + 1}`;
  }
  return "";
}
