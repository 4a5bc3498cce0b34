/** The moments of a recorded run: a strip of the whole, a slider, and what changed in words. */

import { h, button } from "./dom.js";
import { countText, counted, numberText } from "./format.js";
import { svgElement } from "./draw_svg.js";
import { changesText, titleOf } from "./panel.js";

/** @typedef {import("./graph.js").Model} Model */

const WIDTH = 1000;
const HEIGHT = 44;
const MOST_CHANGES = 40;
const MOST_ALIKE = 5; // operations with the same change that are listed one by one

/** @type {Record<string, string>} */
const PHASES = {
  forward: "forward", "after backward": "backward", "failed backward": "backward failed",
  "refused backward": "backward refused",
  "after step": "step", "after gradient change": "gradients changed",
  "after autograd.grad": "autograd.grad", mark: "mark", error: "error", end: "end", snapshot: "snapshot",
};

/** What kind of moment it is, in a word. @param {string} kind */
export function phaseOf(kind) {
  return PHASES[kind] || kind;
}

/** @type {WeakMap<Model, {name: string, names: string[], values: Array<number | null>}>} */
const LOSSES = new WeakMap();

/**
 * The value and the name of the root of each frame, if it is a single scalar; else null and "".
 * `name` is the one that most frames have, the last of several: the line is of it alone.
 * @param {Model} model
 * @returns {{name: string, names: string[], values: Array<number | null>}}
 */
export function lossOf(model) {
  const known = LOSSES.get(model);
  if (known) return known;
  /** @type {string[]} */
  const names = [];
  const values = [];
  for (let number = 0; number < model.count; number += 1) {
    const frame = model.frame(number);
    const roots = frame.keys.flatMap((_, node) => {
      const row = model.row(frame, node);
      return row.root !== undefined ? [row] : [];
    });
    const value = roots.length === 1 && roots[0].value && roots[0].value.values;
    const isScalar = value && value.length === 1 && typeof value[0] === "number";
    values.push(isScalar ? Number(value[0]) : null);
    names.push(isScalar ? roots[0].name || "result" : "");
  }
  const times = (/** @type {string} */ each) => names.filter((other) => other && other === each).length;
  const name = names.reduce((most, each) => times(each) >= times(most) ? each : most, "");
  LOSSES.set(model, { name, names, values });
  return { name, names, values };
}

/**
 * The line of the strip: a value for each frame that has one, and their range; null for no line.
 * @param {Model} model
 */
function lineOf(model) {
  const { name, names, values } = lossOf(model);
  const found = values.map((value, at) => (names[at] === name && Number.isFinite(value) ? value : null));
  const known = found.filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known);
  return known.length > 1 && low < high ? { name, values: found, low, high } : null;
}

/**
 * The whole run as a picture: a mark for each frame by its kind, ticks for events, the loss.
 * @param {Model} model
 * @param {number} current
 * @param {(frame: number) => void} go
 */
export function stripElement(model, current, go) {
  const { count } = model;
  const step = WIDTH / count;
  const root = svgElement("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "strip", "aria-hidden": "true" });
  for (let number = 0; number < count; number += 1) {
    const { kind } = model.data.frames[number];
    const element = svgElement("rect", {
      x: String(number * step + 0.5), y: "18", width: String(Math.max(1, step - 1)), height: "16",
      class: `phase ${kind.replace(/\W+/g, "-")}${number === current ? " current" : ""}`,
    });
    const title = svgElement("title");
    title.textContent = `${number + 1}: ${model.data.frames[number].title || phaseOf(kind)}`;
    element.append(title);
    element.addEventListener("click", () => go(number));
    root.append(element);
  }
  addTicks(model, root, step);
  addLoss(model, root, step);
  return root;
}

/** Cuts and marks of the program, between the frames around them. */
/** @param {Model} model @param {SVGElement} root @param {number} step */
function addTicks(model, root, step) {
  const bounds = model.data.frames.map((frame) => frame.follows);
  for (const event of model.data.events) {
    if (!["cut", "mark", "backward", "step", "error"].includes(event.kind)) continue;
    let frame = bounds.findIndex((follows) => follows >= event.number);
    if (frame < 0) frame = bounds.length - 1;
    const start = frame ? bounds[frame - 1] : -1;
    const share = (event.number - start) / Math.max(1, bounds[frame] - start + 1);
    const x = String((frame + Math.min(1, share)) * step);
    root.append(svgElement("line", { x1: x, x2: x, y1: "36", y2: "43", class: `tick ${event.kind}` }));
  }
}

/** @param {Model} model @param {SVGElement} root @param {number} step */
function addLoss(model, root, step) {
  const line = lineOf(model);
  if (!line) return;
  const { values, low, high } = line;
  const points = values.flatMap((value, at) => (value === null ? [] : [`${(at + 0.5) * step},${16 - ((value - low) / (high - low)) * 14}`]));
  root.append(svgElement("polyline", { points: points.join(" "), class: "loss", "vector-effect": "non-scaling-stroke" }));
}

/**
 * The bar with the buttons, the slider, and the words for the frame.
 * @param {Model} model
 * @param {number} current
 * @param {boolean} isPlaying
 * @param {{go: (frame: number) => void, play: () => void}} act
 */
export function storyElement(model, current, isPlaying, act) {
  const frame = model.data.frames[current];
  const loss = lossOf(model);
  const value = loss.values[current];
  const text = value === null ? "" : `${loss.names[current]} = ${numberText(value)}`;
  const slider = h("input", {
    type: "range", min: 1, max: model.count, value: current + 1, "aria-label": "frame",
    "aria-valuetext": `frame ${current + 1} of ${model.count}: ${frame.title || phaseOf(frame.kind)}`,
    oninput: (/** @type {Event} */ event) => act.go(Number(/** @type {HTMLInputElement} */ (event.target).value) - 1),
  });
  return h("div", { class: "story-bar" },
    h("div", { class: "row" },
      button("◀", "the frame before ([)", () => act.go(current - 1), { "aria-label": "back", ...(current === 0 ? { disabled: true } : {}) }),
      button(isPlaying ? "❚❚" : "▶▶", "play through the frames (space)", act.play, { "aria-label": isPlaying ? "pause" : "play" }),
      button("▶", "the next frame (])", () => act.go(current + 1), { "aria-label": "next", ...(current === model.count - 1 ? { disabled: true } : {}) }),
      slider,
      h("output", {}, `${current + 1} of ${model.count}`)),
    stripElement(model, current, act.go),
    phasesElement(model),
    h("p", { class: "moment" }, h("strong", {}, frame.title || phaseOf(frame.kind)), frame.caption ? ` ${frame.caption}` : "",
      text ? h("span", { class: "muted" }, `  ${text}`) : ""));
}

/** What the colors of the strip mean. @param {Model} model */
function phasesElement(model) {
  const kinds = [...new Set(model.data.frames.map(({ kind }) => kind))];
  const line = lineOf(model);
  const loss = line ? [h("span", {}, `line: ${line.name}`)] : [];
  return h("p", { class: "phases muted" }, ...kinds.map((kind) => {
    const glyph = svgElement("svg", { width: "14", height: "10", "aria-hidden": "true" });
    glyph.append(svgElement("rect", { width: "14", height: "10", class: `phase ${kind.replace(/\W+/g, "-")}` }));
    return h("span", {}, glyph, ` ${phaseOf(kind)}`);
  }), ...loss);
}

/**
 * What changed in a frame, a line for each node, in the words of the recorder.
 * @param {Model} model
 * @param {number} number
 * @param {(id: string) => void} select
 */
export function changesElement(model, number, select) {
  const frame = model.frame(number);
  const shown = new Map(frame.relabel.map(([node, card]) => [node, model.data.cards[card].head[0][0]]));
  const changed = frame.keys.flatMap((key, node) => {
    const row = model.row(frame, node);
    return row.changes ? [{ key, row: shown.has(node) ? { ...row, op: shown.get(node) } : row }] : [];
  });
  if (!changed.length) return null;
  // What happened to many operations alike is one line, after the others: that they were freed.
  /** @type {Map<string, number>} */
  const alike = new Map();
  const textOf = (/** @type {import("./graph.js").Row} */ row) => (row.kind === "operation" ? changesText(row.changes || {}) : "");
  for (const { row } of changed) alike.set(textOf(row), (alike.get(textOf(row)) || 0) + 1);
  const many = [...alike].filter(([text, count]) => text && count > MOST_ALIKE);
  const single = changed.filter(({ row }) => !many.some(([text]) => text === textOf(row)));
  const items = single.slice(0, MOST_CHANGES).map(({ key, row }) => h("li", {},
    button(titleOf(row, key), "select this", () => select(key), { class: "link" }),
    ` ${changesText(row.changes || {})}`));
  for (const [text, count] of many) items.push(h("li", {}, `${counted(count, "operation")}: ${text}`));
  const more = single.length > MOST_CHANGES ? h("p", {}, `and ${countText(single.length - MOST_CHANGES)} more`) : null;
  return h("section", {}, h("h3", {}, `Changed in this frame (${countText(changed.length)})`), h("ul", { class: "plain" }, ...items), more);
}

/**
 * The program beside the run, its current line marked.
 * @param {Model} model
 * @param {number} number
 * @param {string} chosen the line of what is selected: "train.py:12"
 * @param {(source: string) => void} select
 */
export function codeElement(model, number, chosen, select) {
  const files = Object.entries(model.data.files);
  if (!files.length) return h("p", { class: "empty" }, "The lines of the program are not in this page: they are there when the program could be read while it was recorded.");
  const frame = model.frame(number);
  const used = new Set(frame.keys.map((_, node) => model.row(frame, node).source).filter(Boolean));
  const follows = frame.follows;
  let now = "";
  for (const event of model.data.events) if (event.number <= follows && event.source) now = event.source;
  return h("div", { class: "code" }, ...files.map(([file, lines]) => h("section", {},
    h("h2", {}, file),
    h("ol", {}, ...lines.map((text, at) => {
      const source = `${file}:${at + 1}`;
      const marks = [source === now ? "now" : "", source === chosen ? "chosen" : ""].filter(Boolean).join(" ");
      const properties = { "data-line": source, ...(marks ? { class: marks } : {}) };
      const content = used.has(source)
        ? button(text || " ", `select what ${source} made`, () => select(source), { class: "link" })
        : h("span", {}, text || " ");
      return h("li", properties, content);
    })))));
}

/**
 * The answers of `explain`: faults first; those without a fault have no alarm color.
 * @param {Model} model
 * @param {string} selected
 * @param {(answer: import("./graph.js").Answer) => void} select
 */
export function answersElement(model, selected, select) {
  const { answers } = model.data;
  const wrong = answers.filter((answer) => !answer.is_fine);
  const items = [...wrong, ...answers.filter((answer) => answer.is_fine)].map((answer) => {
    const isChosen = (answer.nodes || []).includes(selected) || (answer.culprit && answer.culprit === selected);
    return h("li", { class: `${answer.is_fine ? "answer is-fine" : "answer"}${isChosen ? " chosen" : ""}` },
      button(answer.name, "show the path in question", () => select(answer), { class: "link" }),
      h("span", { class: "state" }, answer.state === answer.verdict ? answer.state : `${answer.state} (${answer.verdict})`),
      h("p", {}, answer.reason),
      answer.fix ? h("p", {}, h("strong", {}, "Fix: "), answer.fix) : null,
      answer.lines && answer.lines.length ? h("p", { class: "muted" }, answer.lines.join(", ")) : null);
  });
  const title = wrong.length ? `${countText(wrong.length)} of ${countText(answers.length)} to look at` : "Nothing to report";
  const when = model.count > 1 ? h("p", { class: "muted" }, "What explain says at the end of the run:") : null;
  return h("section", {}, h("h2", {}, title), when, h("ul", { class: "answers" }, ...items));
}
