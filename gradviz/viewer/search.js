/** Finding nodes by name, operation, module, shape and line. */

import { shapeText } from "./format.js";

/** @typedef {import("./graph.js").Model} Model */
/** @typedef {import("./graph.js").Frame} Frame */
/** @typedef {{id: string, row: import("./graph.js").Row, module: string, rank: number}} Found */

/**
 * The nodes and groups that match all words, best first.
 * @param {Model} model
 * @param {Frame} frame
 * @param {string} text
 * @returns {Found[]}
 */
export function search(model, frame, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  /** @type {Found[]} */
  const found = [];
  frame.groups.forEach((group, number) => {
    const row = model.groupRow(frame, number);
    const rank = rankOf(words, row, row.module || "", "");
    if (rank) found.push({ id: `@${group.key}`, row, module: row.module || "", rank: rank - 0.5 });
  });
  const shown = new Map(frame.relabel.map(([node, card]) => [node, model.data.cards[card].head[0][0]]));
  frame.keys.forEach((key, node) => {
    const row = model.row(frame, node);
    const rank = rankOf(words, row, frame.module[node], shown.get(node) || "");
    if (rank) found.push({ id: key, row: shown.has(node) ? { ...row, op: shown.get(node) } : row, module: frame.module[node], rank });
  });
  return found.sort((a, b) => b.rank - a.rank);
}

/**
 * How well a node matches; 0 if it does not.
 * @param {string[]} words @param {import("./graph.js").Row} row @param {string} module
 * @param {string} shown what it is called where bookkeeping is hidden: `linear`
 */
function rankOf(words, row, module, shown) {
  const names = [row.name || "", ...(row.aliases || []), row.op || "", row.grad_fn || "", shown].map((name) => name.toLowerCase());
  const shape = row.shape ? shapeText(row.shape, row.dtype || "").toLowerCase() : "";
  const rest = `${module} ${shape} ${row.source || ""} ${row.kind} ${row.verdict || ""}`.toLowerCase();
  let rank = 0;
  for (const word of words) {
    if (names.includes(word)) rank += 4;
    else if (names.some((name) => name.startsWith(word))) rank += 3;
    else if (names.some((name) => name.includes(word))) rank += 2;
    else if (rest.includes(word)) rank += 1;
    else return 0;
  }
  return rank;
}
