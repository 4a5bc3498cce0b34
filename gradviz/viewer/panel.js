/** What is known of a node or group, in words; the words of gradviz/renderers/labels.py. */

import { h, button } from "./dom.js";
import { bytesText, countText, counted, isKnown, numberText, shapeText, summaryText } from "./format.js";
import { isLeaf } from "./graph.js";

/** @typedef {import("./graph.js").Row} Row */
/** @typedef {import("./graph.js").Summary} Summary */
/** @typedef {import("./scene.js").DrawnNode} DrawnNode */
/** @typedef {[string, string | Node]} Fact heading and text */

/** @type {Record<string, string>} */
const KINDS = {
  parameter: "parameter: a leaf of a module", leaf: "leaf that requires grad", operation: "operation",
  accumulate: "AccumulateGrad: adds to a leaf's .grad", result: "result", group: "group of operations",
  untracked: "not tracked: gets no gradient", saved: "saved for backward",
};

/** What a node is called. @param {Row} row @param {string} id */
export function titleOf(row, id) {
  const times = (row.repeat || 1) > 1 ? ` ×${countText(row.repeat || 1)}` : "";
  const name = row.kind === "operation" ? row.op || row.name : row.name || row.op;
  const kind = row.kind === "untracked" ? "tensor that is not tracked" : row.kind || id;
  return (name || kind) + times;
}

/** @type {Record<string, string>} */
const CHANGED = { node: "", grad: ".grad ", buffers: "saved tensors " };

/** What changed in a node against the frame before, in words. @param {Record<string, string>} changes */
export function changesText(changes) {
  return Object.entries(changes).map(([name, text]) => (CHANGED[name] ?? `${name} `) + text).join(", ");
}

/** @param {Row} row */
function isBoxOfLeaves(row) {
  return row.kind === "group" && !row.members && "grad" in row;
}

/** One line for lists and screen readers. @param {Row} row @param {string} id */
export function summaryOf(row, id) {
  const parts = [titleOf(row, id)];
  if (row.kind === "operation" && row.op && row.name) parts.push(`makes ${row.name}`);
  else if (row.name && row.op && row.kind !== "group") parts.push(row.op);
  if (row.shape) parts.push(shapeText(row.shape, row.dtype || ""));
  if (row.kind === "group") parts.push(isBoxOfLeaves(row) ? "leaves" : counted(row.members || 0, "operation"));
  else if (row.kind === "untracked") parts.push("not tracked");
  else if (row.kind !== "operation" && row.kind !== parts[0]) parts.push(row.kind);
  if (row.verdict) parts.push(row.verdict);
  return parts.join(", ");
}

/**
 * The facts about a node, each with its heading.
 * @param {Row} row
 * @param {string} module where it ran, also where that was inferred
 * @returns {Fact[]}
 */
export function factsOf(row, module) {
  /** @type {Fact[]} */
  const facts = [["kind", isBoxOfLeaves(row) ? "leaves drawn as one" : KINDS[row.kind] || row.kind]];
  /** @param {string} heading @param {string | Node | undefined | false | null | 0} text */
  const add = (heading, text) => {
    if (text) facts.push([heading, text]);
  };
  add("verdict", row.verdict);
  add("operation", row.op && (row.grad_fn ? `${row.op} (${row.grad_fn})` : row.op));
  add("makes", row.kind === "operation" && row.op && row.name);
  add("names", row.aliases && [row.name, ...row.aliases].filter(Boolean).join(", "));
  add("shape", row.shape && `${shapeText(row.shape, row.dtype || "")}, ${row.device || "cpu"}`);
  add("options", row.options && Object.entries(row.options).map(([k, v]) => `${k}=${v}`).join(", "));
  add("opaque", row.opaque && `its inside cannot be seen: ${row.opaque}`);
  add("value", row.value && (summaryText(row.value) || "not read"));
  if (row.grad !== undefined) add(".grad", row.grad ? summaryText(row.grad) || "not read" : "None");
  const shown = row.grad || row.value;
  if (shown && isKnown(shown)) add("", histogram(shown));
  add("accumulated", row.accumulations && `gradient added ${counted(row.accumulations, "time")}`);
  add("changed", row.changes && changesText(row.changes));
  add("inside", row.members && counted(row.members, "operation"));
  add("contents", row.contents && row.contents.join(", "));
  add("parameters", row.parameters && `${countText(row.parameters)} elements`);
  add("frozen", row.frozen && `${countText(row.frozen)} elements of parameters`);
  add("not in the graph", row.unreached && `${countText(row.unreached)} elements of parameters`);
  add("other leaves", row.leaf_elements && `${countText(row.leaf_elements)} elements`);
  add("outputs", (row.outputs || 1) > 1 && counted(row.outputs || 1, "output"));
  add("constants", row.untracked_inputs && `${counted(row.untracked_inputs, "input")} about which only this is known: no gradient goes to ${row.untracked_inputs === 1 ? "it" : "them"}`);
  add("saved tensors", row.buffers);
  add("kept for backward", row.saved_bytes && bytesText(row.saved_bytes));
  if (row.saved && row.saved.length) add("saved", savedTable(row.saved));
  add("version", row.version && `${row.version}: changed in place ${counted(row.version, "time")}`);
  add("changed since", row.stale && "changed in place after an operation used it");
  add("hooks", row.hooks && counted(row.hooks, "hook"));
  add("retains grad", row.retains_grad && "yes: retain_grad() was called");
  add("module", module && (row.module === undefined || row.inferred ? `${module} (inferred from names and order)` : module));
  add("line", row.source);
  add("sequence number", row.sequence_nr !== undefined && String(row.sequence_nr));
  return facts;
}

/** @param {Array<[string, number, number[], string, number, number]>} saved */
function savedTable(saved) {
  const rows = saved.map(([argument, , shape, dtype, , bytes]) =>
    h("li", {}, `${argument}  ${shapeText(shape, dtype)}  ${bytesText(bytes)}`));
  return h("ul", { class: "plain" }, ...rows);
}

/** A small picture of the values: how many lie where, and mean and deviation, as far as they are known. @param {Summary} summary */
function histogram(summary) {
  const bins = summary.bins || binsOf(summary);
  const range = rangeOf(summary);
  if (!bins) return range;
  const most = Math.max(...bins);
  const seen = bins.reduce((sum, bin) => sum + bin, 0);
  const all = summary.shape.reduce((product, size) => product * size, 1);
  const text = `histogram of ${seen < all ? `${countText(seen)} of ${counted(all, "value")}` : counted(all, "value")}`;
  const bars = bins.map((bin) => h("span", { class: "bin", style: `height:${Math.round((bin / most) * 100)}%` }));
  return h("div", {},
    h("figure", { class: "histogram", role: "img", "aria-label": text, title: text }, h("div", { class: "bins", "aria-hidden": "true" }, ...bars)),
    range);
}

/** The values that are kept, as far as they are finite numbers. @param {Summary} summary */
function finite(summary) {
  return (summary.values || []).map(Number).filter(Number.isFinite);
}

/** How many of the few values that are kept lie in equal intervals. @param {Summary} summary */
function binsOf(summary) {
  const values = finite(summary);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (values.length < 4 || low === high) return null;
  const bins = new Array(values.length).fill(0);
  for (const value of values) bins[Math.min(values.length - 1, Math.floor(((value - low) / (high - low)) * values.length))] += 1;
  return bins;
}

/** Mean and deviation on the line from the least to the greatest value. @param {Summary} summary */
function rangeOf(summary) {
  const values = finite(summary);
  const mean = summary.mean ?? values.reduce((sum, value) => sum + value, 0) / values.length;
  const min = summary.min ?? Math.min(...values);
  const max = summary.max ?? Math.max(...values);
  if (!(min < max)) return null;
  const at = (/** @type {number} */ value) => Math.max(0, Math.min(100, ((value - min) / (max - min)) * 100));
  const spread = summary.std || 0;
  const range = `${numberText(min)} to ${numberText(max)}`;
  const deviation = spread ? `, standard deviation ${numberText(spread)}` : "";
  return h("figure", { class: "range", role: "img", "aria-label": `mean ${numberText(mean)}${deviation}, ${range}` },
    h("div", { class: "track", "aria-hidden": "true" },
      h("span", { class: "spread", style: `left:${at(mean - spread)}%;width:${at(mean + spread) - at(mean - spread)}%` }),
      h("span", { class: "mean", style: `left:${at(mean)}%` })),
    h("figcaption", { "aria-hidden": "true" }, range + deviation));
}

/**
 * The page of the panel about the selected node.
 * @param {object} what
 * @param {Row} what.row
 * @param {string} what.id
 * @param {string} what.module
 * @param {boolean} what.isClosed whether it is a group that can be opened
 * @param {string} what.around name of the open group around it, "" for none
 * @param {boolean} what.isOnly whether only paths through it are shown
 * @param {import("./graph.js").Answer | undefined} what.answer
 * @param {Array<{id: string, text: string, how: string}>} what.inputs
 * @param {Array<{id: string, text: string, how: string}>} what.outputs
 * @param {{open: () => void, openAll: () => void, close: () => void, only: () => void, select: (id: string) => void, line: (source: string) => void}} act
 * @returns {HTMLElement}
 */
export function detailsOf(what, act) {
  const { row, id, answer } = what;
  const facts = factsOf(row, what.module);
  const list = h("dl", {}, ...facts.flatMap(([heading, text]) => {
    const isLine = heading === "line" && typeof text === "string";
    const shown = isLine ? button(text, "show this line of the program", () => act.line(String(text)), { class: "link" }) : text;
    return [h("dt", {}, heading), h("dd", {}, shown)];
  }));
  const actions = h("p", { class: "actions" },
    what.isClosed && button("Open", "show what is in this group (Enter)", act.open),
    what.isClosed && button("Open all like this", "open every group of this name and kind", act.openAll),
    what.around && button(`Close ${what.around}`, "draw the group around this as one box (Backspace)", act.close),
    button(what.isOnly ? "Show all paths" : "Only paths through this", "hide all that is on no path to or from this (p)", act.only, { "aria-pressed": String(what.isOnly) }));
  return h("section", { class: "details" },
    h("h2", {}, titleOf(row, id)),
    answer && answerBlock(answer),
    actions,
    list,
    links("Computed from", what.inputs, act.select),
    links(isLeaf(row.kind) ? "Used by" : "Goes to", what.outputs, act.select),
    h("p", { class: "key" }, id.replace(/^@/, "group ")));
}

/** @param {import("./graph.js").Answer} answer */
export function answerBlock(answer) {
  return h("div", { class: answer.is_fine ? "answer is-fine" : "answer" },
    h("p", {}, h("strong", {}, answer.state), answer.state === answer.verdict ? "" : ` (${answer.verdict})`),
    answer.reason && h("p", {}, answer.reason),
    answer.fix && h("p", {}, h("strong", {}, "Fix: "), answer.fix));
}

const MOST = 30;

/** @param {string} heading @param {Array<{id: string, text: string, how: string}>} found @param {(id: string) => void} select */
function links(heading, found, select) {
  if (!found.length) return null;
  const items = found.slice(0, MOST).map(({ id, text, how }) =>
    h("li", {}, button(text, "select this", () => select(id), { class: "link" }), how ? ` ${how}` : ""));
  const more = found.length > MOST ? h("p", {}, `and ${countText(found.length - MOST)} more`) : null;
  return h("div", {}, h("h3", {}, `${heading} (${countText(found.length)})`), h("ul", { class: "plain" }, ...items), more);
}
