/** The one state of the viewer: plain values; and the same as the end of an address. */

/**
 * The choices of the reader. The page is drawn from them and from the data.
 * @typedef {object} State
 * @property {number} frame which moment is shown
 * @property {Set<string>} toggled keys of the groups that are not as in the first picture
 * @property {boolean} bookkeeping whether views and AccumulateGrad nodes are shown
 * @property {boolean} everything whether what the picture left out is shown
 * @property {string} only id of a node; only paths through it are shown; "" for all
 * @property {string} rankdir "TB": the data flows from top to bottom; "LR": from left to right
 * @property {string} color "", "grad_norm", "saved_bytes", "dtype", "device" or "module"
 * @property {string} selected id of a node; "" for none
 * @property {string} tab which page of the panel is open
 * @property {string} theme "auto", "light" or "dark"
 */

const TABS = ["details", "modules", "answers", "memory", "code"];
const COLORS = ["", "grad_norm", "saved_bytes", "dtype", "device", "module"];
const THEMES = ["auto", "light", "dark"];

/** @param {import("./graph.js").Data} data @returns {State} */
export function firstState(data) {
  return {
    frame: 0,
    toggled: new Set(),
    bookkeeping: false,
    everything: false,
    only: "",
    rankdir: data.rankdir,
    color: COLORS.includes(data.color) ? data.color : "",
    selected: "",
    tab: data.answers.some((answer) => !answer.is_fine || data.frames.length === 1) ? "answers" : "details",
    theme: data.theme,
  };
}

/**
 * The state as the end of an address, without values that equal those of the first state.
 * @param {State} state
 * @param {State} first
 */
export function toHash(state, first) {
  const parts = new URLSearchParams();
  if (state.frame !== first.frame) parts.set("frame", String(state.frame + 1));
  if (state.toggled.size) parts.set("toggled", [...state.toggled].sort().join("\n"));
  if (state.bookkeeping) parts.set("bookkeeping", "1");
  if (state.everything) parts.set("everything", "1");
  if (state.only) parts.set("only", state.only);
  if (state.rankdir !== first.rankdir) parts.set("rankdir", state.rankdir);
  if (state.color !== first.color) parts.set("color", state.color);
  if (state.selected) parts.set("selected", state.selected);
  if (state.tab !== first.tab) parts.set("tab", state.tab);
  if (state.theme !== first.theme) parts.set("theme", state.theme);
  const text = parts.toString();
  return text ? `#${text}` : "";
}

/**
 * Read a state from an address; values that do not fit the data are those of the first state.
 * @param {string} hash
 * @param {State} first
 * @param {number} frames
 * @returns {State}
 */
export function fromHash(hash, first, frames) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const frame = Number(parts.get("frame") || first.frame + 1) - 1;
  const old = /^#frame-(\d+)$/.exec(hash);
  const chosen = old ? Number(old[1]) - 1 : frame;
  return {
    frame: Number.isInteger(chosen) && chosen >= 0 && chosen < frames ? chosen : first.frame,
    toggled: new Set((parts.get("toggled") || "").split("\n").filter(Boolean)),
    bookkeeping: parts.get("bookkeeping") === "1",
    everything: parts.get("everything") === "1",
    only: parts.get("only") || "",
    rankdir: oneOf(parts.get("rankdir"), ["TB", "LR"], first.rankdir),
    color: oneOf(parts.get("color"), COLORS, first.color),
    selected: parts.get("selected") || "",
    tab: oneOf(parts.get("tab"), TABS, first.tab),
    theme: oneOf(parts.get("theme"), THEMES, first.theme),
  };
}

/** @param {string | null} value @param {string[]} allowed @param {string} otherwise */
function oneOf(value, allowed, otherwise) {
  return value !== null && allowed.includes(value) ? value : otherwise;
}

/** The end of the address of the page; "" where there is none. */
export function address() {
  try {
    return location.hash;
  } catch {
    return "";
  }
}
