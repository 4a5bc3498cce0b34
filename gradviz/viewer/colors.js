/** How much each node has of what the picture is colored by; the rules of gradviz/views/colors.py. */

import { bytesText, countText, dtypeText, isKnown, normOf, numberText } from "./format.js";

/** @typedef {import("./graph.js").Row} Row */
/** @typedef {{share: number, token: string}} Bar */
/**
 * @typedef {object} Scale
 * @property {(row: Row, module: string) => Bar | null} bar
 * @property {(row: Row, module: string) => string} word what it has, in words; "" if not known
 * @property {Array<[string, string]>} legend token and meaning
 * @property {(nodes: ColoredNode[], edges: ColoredEdge[]) => Array<{token: string, line: number} | null>} [edges]
 * color and width of each edge whose gradient is known
 */
/** @typedef {{row: Row, group: number}} ColoredNode */
/** @typedef {{source: number, target: number, output: number, row: import("./graph.js").EdgeRow}} ColoredEdge */

const SHORTEST = 0.06; // share of its track that the shortest bar takes
const COLORS = 7;
const [THIN, THICK] = [1.3, 5.5]; // widths of lines

/**
 * The scale of the values that are shown.
 * @param {string} by
 * @param {Array<{row: Row, module: string}>} seen
 * @returns {Scale | null}
 */
export function scaleOf(by, seen) {
  if (by === "grad_norm") return normScale(seen.map(({ row }) => row));
  if (by === "saved_bytes") return byteScale(seen.map(({ row }) => row));
  if (!by) return null;
  const depth = by === "module" ? commonDepth(seen.map(({ module }) => module)) + 1 : 0;
  const read = (/** @type {Row} */ row, /** @type {string} */ module) =>
    by === "module" ? module.split(".").slice(0, depth).join(".") : (by === "dtype" ? row.dtype : row.device) || "";
  const values = [...new Set(seen.map(({ row, module }) => read(row, module)).filter(Boolean))].sort(byNumber);
  const token = (/** @type {string} */ value) => `value-${Math.min(values.indexOf(value), COLORS - 1)}`;
  return {
    bar: (row, module) => {
      const value = read(row, module);
      return values.includes(value) ? { share: 1, token: token(value) } : null;
    },
    word: (row, module) => {
      const value = read(row, module);
      return by === "dtype" ? dtypeText(value) : value;
    },
    legend: values.length ? grouped(values, token) : [["", `by ${by}: none is known`]],
  };
}

/** In the order of the alphabet, with `h.9` before `h.10`. @param {string} a @param {string} b */
function byNumber(a, b) {
  return a.localeCompare(b, "en", { numeric: true });
}

/** How many parts all paths begin with. @param {string[]} modules */
function commonDepth(modules) {
  const paths = modules.filter(Boolean).map((module) => module.split("."));
  let depth = 0;
  while (paths.length && paths.every((path) => path.length > depth + 1 && path[depth] === paths[0][depth])) depth += 1;
  return depth;
}

/** The values by their color; the last color stands for all that remain. */
/** @param {string[]} values @param {(value: string) => string} token */
function grouped(values, token) {
  /** @type {Map<string, string[]>} */
  const rows = new Map();
  for (const value of values) {
    const known = rows.get(token(value));
    if (known) known.push(value);
    else rows.set(token(value), [value]);
  }
  return [...rows].map(([color, found]) => {
    const more = found.length > 3 ? `, ${countText(found.length - 2)} more` : "";
    return /** @type {[string, string]} */ ([color, found.slice(0, more ? 2 : 3).join(", ") + more]);
  });
}

/** A storage that several operations saved counts for each. @param {Row[]} rows @returns {Scale} */
function byteScale(rows) {
  const total = (/** @type {Row} */ row) => row.saved_total || row.saved_bytes || 0;
  let most = 0;
  for (const row of rows) most = Math.max(most, total(row));
  return {
    bar: (row) =>
      total(row) ? { share: SHORTEST + (1 - SHORTEST) * (total(row) / most), token: "level" } : null,
    word: (row) => {
      const isShared = total(row) > (row.saved_bytes || 0);
      return total(row) ? `${bytesText(total(row))} saved${isShared ? ", shared" : ""}` : "";
    },
    legend: most
      ? [["level", `kept for backward: 0 B to ${bytesText(most)}`]]
      : [["", "nothing is kept for backward here"]],
  };
}

/** The gradient of each edge, where it is known. @param {ColoredNode[]} nodes @param {ColoredEdge[]} edges */
function heldBy(nodes, edges) {
  /** @type {Map<Row, number>} */
  const uses = new Map();
  for (const { source, row } of edges) {
    const start = nodes[source].row;
    if (row.kind !== "cut") uses.set(start, (uses.get(start) || 0) + 1);
  }
  return edges.map(({ source, target, output, row }) => {
    if (row.kind === "cut") return undefined;
    const start = nodes[source].row;
    const isLeaf = start.kind === "leaf" || start.kind === "parameter";
    // The .grad of a leaf is the sum over its uses and passes, not the gradient of one edge.
    if (isLeaf && ((uses.get(start) || 0) > 1 || (start.accumulations || 1) > 1)) return row.grad;
    if (nodes[source].group < 0 && start.grad && isKnown(start.grad) && !output) return start.grad;
    const end = nodes[target].row;
    return end.kind === "result" && end.grad && isKnown(end.grad) ? end.grad : row.grad;
  });
}

/** @param {Row[]} rows @returns {Scale} */
function normScale(rows) {
  const norms = rows
    .map((row) => row.grad)
    .filter((grad) => grad && isKnown(grad) && !grad.nan && !grad.inf)
    .map((grad) => normOf(/** @type {import("./graph.js").Summary} */ (grad)))
    .filter((norm) => norm > 0);
  let high = 0;
  for (const norm of norms) high = Math.max(high, norm);
  let low = high / 10; // small differences are to look small
  for (const norm of norms) low = Math.min(low, norm);
  const levelOf = (/** @type {number} */ norm) => Math.max(0, Math.min(1, Math.log(norm / low) / Math.log(high / low)));
  return {
    edges: (nodes, edges) => heldBy(nodes, edges).map((grad) => {
      if (!grad || !isKnown(grad)) return null;
      if (grad.nan || grad.inf) return { token: "loud", line: THICK / 2 };
      const norm = normOf(grad);
      return norm ? { token: "level", line: THIN + (THICK - THIN) * levelOf(norm) } : { token: "op-edge", line: 0.8 };
    }),
    bar: (row) => {
      const { grad } = row;
      if (!grad || !isKnown(grad)) return null;
      if (grad.nan || grad.inf) return { share: 1, token: "loud" };
      const norm = normOf(grad);
      if (!norm) return null;
      return { share: SHORTEST + (1 - SHORTEST) * levelOf(norm), token: "level" };
    },
    word: (row) => {
      const { grad } = row;
      if (!grad || !isKnown(grad)) return "";
      if (grad.nan || grad.inf) return "not finite";
      return normOf(grad) ? `norm ${numberText(normOf(grad))}` : "zeros";
    },
    legend: high
      ? [
          ["level", `norm of .grad: ${numberText(low)} to ${numberText(high)}, log scale`],
          ["width", "wide line: norm of the gradient along it; thin: not recorded"],
          ["no-bar", "no bar: no gradient recorded"],
        ]
      : [["", "no gradient is recorded here"]],
  };
}
