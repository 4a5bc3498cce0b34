/** Tensors, sizes and bytes as a few words of text: the words of gradviz/graph/text.py. */

/** @typedef {import("./graph.js").Summary} Summary */

/** @type {Record<string, string>} */
const SHORT_DTYPE = {
  float64: "f64", float32: "f32", float16: "f16", bfloat16: "bf16", int64: "i64", int32: "i32",
  int16: "i16", int8: "i8", uint8: "u8", bool: "bool", complex64: "c64", complex128: "c128",
};

const UNITS = ["B", "kB", "MB", "GB", "TB"];

const COUNTS = new Intl.NumberFormat("en-US"); // one for all: toLocaleString makes one for each call

/** 12,345. @param {number} count */
export function countText(count) {
  return COUNTS.format(count);
}

/** @param {string} dtype */
export function dtypeText(dtype) {
  return SHORT_DTYPE[dtype] || dtype;
}

/** @param {number[]} shape @param {string} dtype */
export function shapeText(shape, dtype) {
  return `${dtypeText(dtype)}[${shape.map((size) => (size < 0 ? "*" : String(size))).join(",")}]`;
}

/** A number to so many significant digits, as Python's `g` writes it. */
/** @param {number} value @param {number} digits */
function significant(value, digits) {
  if (value === 0) return "0";
  const power = Number(value.toExponential(digits - 1).split("e")[1]);
  if (power < -4 || power >= digits) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    const sign = exponent[0] === "-" ? "-" : "+";
    const plain = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    return `${plain}e${sign}${exponent.replace(/^[+-]/, "").padStart(2, "0")}`;
  }
  const fixed = value.toFixed(Math.max(0, digits - 1 - power));
  return fixed.includes(".") ? fixed.replace(/\.?0+$/, "") : fixed;
}

/** One number to four significant digits. @param {number | string | boolean} value */
export function numberText(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") {
    return { Infinity: "inf", "-Infinity": "-inf" }[value] || value;
  }
  return significant(value, 4);
}

/** @param {number} count */
export function bytesText(count) {
  let power = Math.min(Math.floor((String(count).length - 1) / 3), 4);
  let value = Number((count / 1000 ** power).toPrecision(3));
  if (value === 1000 && power < 4) [value, power] = [1, power + 1];
  return `${value} ${UNITS[power]}`;
}

/** @param {number} count @param {string} word @param {string} [plural] */
export function counted(count, word, plural) {
  return `${countText(count)} ${count === 1 ? word : plural || `${word}s`}`;
}

/** The values of a small tensor, brackets only where there are rows. */
/** @param {Array<number | string | boolean>} values @param {number[]} shape */
function numbersText(values, shape) {
  if (!values.length) return "no elements";
  let words = values.map(numberText);
  for (const size of shape.slice(1).reverse()) {
    const rows = [];
    for (let at = 0; at < words.length; at += Math.max(size, 1)) {
      rows.push(`[${words.slice(at, at + size).join(" ")}]`);
    }
    words = rows;
  }
  return words.join(" ");
}

/** What is in a tensor: its values when there are few, else norm, mean and range. */
/** @param {Summary} summary */
export function summaryText(summary) {
  const note = summary.note || "";
  if (summary.values) {
    const text = numbersText(summary.values, summary.shape);
    return note ? `${text} (${note})` : text;
  }
  const parts = [];
  if (summary.nan) parts.push(`${countText(summary.nan)} NaN`);
  if (summary.inf) parts.push(`${countText(summary.inf)} infinite`);
  const count = summary.shape.reduce((product, size) => product * size, 1);
  const rest = count - (summary.nan || 0) - (summary.inf || 0);
  if (summary.norm === 0 && rest) parts.push(parts.length ? "the rest zeros" : "all zeros");
  else if (summary.norm !== undefined && summary.norm !== null && !summary.nan) {
    parts.push(`norm ${numberText(summary.norm)}`);
    if (isNumber(summary.mean)) parts.push(`mean ${numberText(summary.mean)}`);
    if (isNumber(summary.min) && isNumber(summary.max)) {
      parts.push(`${numberText(summary.min)} to ${numberText(summary.max)}`);
    }
  }
  if (note) parts.push(note);
  return parts.join(", ");
}

/** @param {unknown} value @returns {value is number} */
export function isNumber(value) {
  return value !== undefined && value !== null;
}

/** Euclidean norm of the finite elements, as far as it is known. @param {Summary} summary */
export function normOf(summary) {
  if (typeof summary.norm === "number") return summary.norm;
  const finite = (summary.values || []).map(Number).filter(Number.isFinite);
  return Math.hypot(...finite);
}

/** Whether anything was read of the values. @param {Summary | null | undefined} summary */
export function isKnown(summary) {
  if (!summary) return false;
  return isNumber(summary.norm) || Boolean(summary.values) || Boolean(summary.nan || summary.inf);
}
