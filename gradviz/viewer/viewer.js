// Built by tests/bundle.py (make viewer) from the modules beside it.
(() => {
"use strict";
const $shapes = (() => {


const HEAD = 25;
const ROW = 21;
const SIDE = 11;
const GAP = 6;
const BAR = 4;
const BAR_ROOM = 4;
const BASELINE = 4.6; // from the middle of a line down to its baseline
const ARROW = 8;
const DASHED = ["cut", "alias", "saved"];
const CAUSE_LINE = 14;
const MARK_ROOM = 14;

function lineWidth(line) {
  let width = GAP * Math.max(line.length - 1, 0);
  for (const span of line) width += span[2];
  return width;
}

function setLine(pen, data, line, x, baseline) {
  let left = x;
  for (const [text, role, width] of line) {
    const [color, size, bold] = data.text[data.roles[role]];
    pen.text(text, left, baseline, { color, size, bold });
    left += width + GAP;
  }
}

function drawNode(pen, data, node) {
  const { card, width, height } = node;
  const left = node.x - width / 2;
  const top = node.y - height / 2;
  const look = card.look || data.looks[card.kind];
  pen.box(left, top, width, height, { fill: look.body, radius: look.radius });
  if (look.head !== look.body) {
    pen.box(left, top, width, card.rows.length ? HEAD : height, { fill: look.head });
  }
  const room = height - (node.bar ? BAR_ROOM : 0);
  const shift = look.radius || !card.rows.length ? (room - HEAD - ROW * card.rows.length) / 2 : 0;
  const isAside = card.rows.length > 0 && !look.radius;
  const indent = (line) => (isAside ? SIDE : (width - lineWidth(line)) / 2);
  setLine(pen, data, card.head, left + indent(card.head), top + shift + HEAD / 2 + BASELINE);
  card.rows.forEach((row, number) => {
    const y = top + shift + HEAD + number * ROW;
    const role = Object.keys(data.fills).find((name) => row.some((span) => data.roles[span[1]] === name));
    if (role) pen.box(left + look.radius / 2, y, width - look.radius, ROW - 1, { fill: data.fills[role] });
    setLine(pen, data, row, left + indent(row), y + ROW / 2 - 1 + BASELINE);
  });
  if (look.head !== look.body && card.rows.length) {
    const y = top + HEAD;
    pen.curve([left, y, left + width / 3, y, left + (width * 2) / 3, y, left + width, y], { edge: look.edge, line: 0.6 });
  }
  if (node.bar) drawBar(pen, look.radius, left, top, width, height, node.bar);
  pen.box(left, top, width, height, { edge: look.edge, line: look.line, radius: look.radius, dashed: look.dashed });
}

function drawBar(pen, radius, left, top, width, height, bar) {
  const inset = Math.max(radius * 0.8, 3);
  const y = top + height - BAR - 1.5;
  pen.box(left + inset, y, width - 2 * inset, BAR, { fill: "panel" });
  pen.box(left + inset, y, (width - 2 * inset) * bar.share, BAR, { fill: bar.token });
}

function drawEdge(pen, data, edge) {
  const { route, before, row } = edge;
  const { token, line } = edge.look;
  const isDashed = DASHED.includes(row.kind);
  if (before) {
    pen.curve(before, { edge: token, line: 1.3, dashed: true });
    drawCause(pen, data, before, edge);
  }
  const drawn = withoutTip(route);
  pen.curve(drawn, { edge: token, line, dashed: isDashed });
  pen.polygon(arrowOf(route, ARROW + line - 1.3), token);
  const { x, y, dx, dy } = middleOf(drawn);
  if (row.kind === "cut" && !before) breakMark(pen, x, y, dx, dy, token);
  else if (edge.through.length) {
    pen.box(x - 3.5, y - 3.5, 7, 7, { fill: "page", edge: "line", line: 1.3, radius: 3.5 });
  }
  const fact = styleOf(data, "fact");
  for (const label of edge.labels) {
    if (label.width) pen.box(label.x - 1, label.y - 0.8 * fact.size, label.width + 2, fact.size, { fill: "page" });
    pen.text(label.text, label.x, label.y, fact);
  }
}

function edgeBoxes({ route, before, row, through, isSideways }) {
  const { x, y } = middleOf(withoutTip(route));
  const sign = row.kind === "cut" ? 9 : through.length ? 4 : 0;
  const boxes = sign && !before ? [[x - sign, y - sign, x + sign, y + sign]] : [];
  if (!before) return boxes;
  const [middle, low] = [(before[before.length - 2] + route[0]) / 2, (before[before.length - 1] + route[1]) / 2];
  const lines = row.lines || [];
  const width = Math.max(0, ...lines.map(lineWidth));
  const high = (CAUSE_LINE * lines.length) / 2;
  boxes.push(isSideways
    ? [middle - width / 2, low - 9, middle + width / 2, low + MARK_ROOM + CAUSE_LINE * lines.length]
    : [middle - 9, low - high - 2, middle + MARK_ROOM + width, low + high + 2]);
  return boxes;
}

function styleOf(data, role) {
  const [color, size, bold] = data.text[role];
  return { color, size, bold };
}

function drawCause(pen, data, before, { route, row, isSideways }) {
  const [startX, startY] = before.slice(-2);
  const [endX, endY] = route;
  const x = (startX + endX) / 2;
  const y = (startY + endY) / 2;
  pen.curve([startX, startY, startX, startY, endX, endY, endX, endY], { edge: "cut", line: 1.3, dashed: true });
  const [dx, dy] = unit(startX, startY, endX, endY);
  breakMark(pen, x, y, dx, dy, "cut");
  const lines = row.lines || [];
  const first = isSideways ? y + MARK_ROOM + 6 : y + 4 - (CAUSE_LINE * (lines.length - 1)) / 2;
  lines.forEach((line, at) => setLine(pen, data, line, isSideways ? x - lineWidth(line) / 2 : x + MARK_ROOM, first + CAUSE_LINE * at));
}

function unit(ax, ay, bx, by) {
  const length = Math.hypot(bx - ax, by - ay);
  return length ? [(bx - ax) / length, (by - ay) / length] : [0, 1];
}

function directionAtEnd(route) {
  const [x, y] = route.slice(-2);
  for (let at = route.length - 4; at >= 0; at -= 2) {
    if (Math.hypot(route[at] - x, route[at + 1] - y) > 0.01) return unit(route[at], route[at + 1], x, y);
  }
  return [0, 1];
}

function withoutTip(route) {
  const [dx, dy] = directionAtEnd(route);
  const points = route.slice();
  for (let at = points.length - 4; at < points.length; at += 2) {
    points[at] -= dx * ARROW * 0.7;
    points[at + 1] -= dy * ARROW * 0.7;
  }
  return points;
}

function arrowOf(route, length = ARROW) {
  const [x, y] = route.slice(-2);
  const [dx, dy] = directionAtEnd(route);
  const side = length * 0.42;
  const [baseX, baseY] = [x - dx * length, y - dy * length];
  return [x, y, baseX - dy * side, baseY + dx * side, baseX + dy * side, baseY - dx * side];
}

function middleOf(route) {
  const segments = (route.length / 2 - 1) / 3;
  const start = 6 * Math.floor(segments / 2);
  const [ax, ay, bx, by, cx, cy, ex, ey] = route.slice(start, start + 8);
  if (segments % 2 === 0) {
    const [dx, dy] = unit(route[start - 2], route[start - 1], bx, by);
    return { x: ax, y: ay, dx, dy };
  }
  const [dx, dy] = unit(ax + bx, ay + by, cx + ex, cy + ey);
  return { x: (ax + 3 * bx + 3 * cx + ex) / 8, y: (ay + 3 * by + 3 * cy + ey) / 8, dx, dy };
}

function breakMark(pen, x, y, dx, dy, token) {
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]];
  pen.polygon(corners.flatMap(([a, b]) => [x + a * 3 * dx - b * 5 * dy, y + a * 3 * dy + b * 5 * dx]), "page");
  for (const along of [-3, 3]) {
    const [a, b] = [[-6, 2], [6, -2]].map(([across, lean]) => [
      x + (along + lean) * dx - across * dy,
      y + (along + lean) * dy + across * dx,
    ]);
    pen.curve([...a, ...a, ...b, ...b], { edge: token, line: 1.6 });
  }
}
return { setLine, drawNode, drawEdge, edgeBoxes, styleOf, withoutTip, arrowOf };
})();
const $draw_svg = (() => {

const { withoutTip, drawEdge, drawNode, setLine } = $shapes;


const SVG = "http://www.w3.org/2000/svg";

function n(value) {
  return String(Math.round(value * 100) / 100);
}

function svgElement(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function pathOf(points) {
  let text = `M${n(points[0])},${n(points[1])}`;
  for (let at = 2; at < points.length; at += 2) {
    text += `${at === 2 ? " C" : " "}${n(points[at])},${n(points[at + 1])}`;
  }
  return text;
}

function painted({ fill, edge, line, dashed }) {
  const classes = [fill ? `f-${fill}` : "f-none", edge ? `e-${edge}` : ""].filter(Boolean).join(" ");
  return {
    class: classes,
    ...(edge && line ? { "stroke-width": n(line) } : {}),
    ...(dashed ? { "stroke-dasharray": "5 3" } : {}),
  };
}

class SvgPen {
  constructor(parent) {
    this.parent = parent;
  }

  add(name, attributes) {
    const element = svgElement(name, attributes);
    this.parent.append(element);
    return element;
  }

  box(x, y, width, height, paint) {
    const size = { x: n(x), y: n(y), width: n(Math.max(width, 0)), height: n(height) };
    this.add("rect", { ...size, ...(paint.radius ? { rx: n(paint.radius) } : {}), ...painted(paint) });
  }

  curve(points, paint) {
    this.add("path", { d: pathOf(points), ...painted(paint) });
  }

  polygon(points, fill) {
    const corners = [];
    for (let at = 0; at < points.length; at += 2) corners.push(`${n(points[at])},${n(points[at + 1])}`);
    this.add("polygon", { points: corners.join(" "), class: `f-${fill}` });
  }

  text(text, x, y, { color, size, bold }) {
    const element = this.add("text", {
      x: n(x), y: n(y), "font-size": n(size), class: `f-${color}`, "xml:space": "preserve",
      ...(bold ? { "font-weight": "bold" } : {}),
    });
    element.textContent = text;
  }
}

function fillSvg(root, data, picture, nameOf) {
  const edges = svgElement("g", { class: "edges" });
  const nodes = svgElement("g", { class: "nodes" });
  const enclosures = svgElement("g", { class: "enclosures" });
  for (const each of picture.enclosures) enclosures.append(enclosureOf(data, each));
  picture.edges.forEach((edge, number) => {
    const element = svgElement("g", { class: `edge ${edge.row.kind}`, "data-edge": String(number) });
    const wide = svgElement("path", { class: "wide", d: pathOf(withoutTip(edge.route)) });
    element.append(wide);
    drawEdge(new SvgPen(element), data, edge);
    edges.append(element);
  });
  picture.nodes.forEach((node) => {
    const element = svgElement("g", {
      class: `node ${node.card.kind}`, id: elementId(node.id), "data-id": node.id, role: "img",
      "aria-label": nameOf(node.id),
    });
    drawNode(new SvgPen(element), data, node);
    nodes.append(element);
  });
  root.replaceChildren(enclosures, edges, nodes);
}

function elementId(id) {
  return `gv-${Array.from(id, (c) => (/[a-z0-9]/i.test(c) ? c : `_${c.codePointAt(0)}_`)).join("")}`;
}

function enclosureOf(data, { key, title, at, x, y, width, height }) {
  const element = svgElement("g", { class: "enclosure", "data-group": key });
  const pen = new SvgPen(element);
  pen.box(x, y, width, height, { edge: "module", line: 1.2, radius: 9 });
  setLine(pen, data, title, ...at);
  return element;
}

function svgFile(data, picture, how) {
  const width = picture.width + 36;
  const legend = picture.legend.filter(([, meaning]) => meaning);
  const height = picture.height + 36 + 18 * legend.length + 8;
  const root = svgElement("svg", {
    xmlns: SVG, width: n(width), height: n(height), viewBox: `-18 -18 ${n(width)} ${n(height)}`,
    role: "img", "font-family": how.font,
  });
  const title = svgElement("title");
  title.textContent = how.title;
  const description = svgElement("desc");
  description.textContent = how.description;
  const style = svgElement("style");
  style.textContent = fileStyle(how.colors, how.theme);
  const page = svgElement("rect", { x: "-18", y: "-18", width: n(width), height: n(height), class: "f-page" });
  const body = svgElement("g");
  fillSvg(body, data, picture, () => "");
  for (const wide of body.querySelectorAll(".wide")) wide.remove();
  const rows = svgElement("g");
  legend.forEach(([word, meaning], number) => {
    const y = picture.height + 26 + 18 * number;
    drawGlyph(rows, data, word, 0, y - 4);
    const line = svgElement("text", { x: "28", y: n(y), "font-size": "11", class: "f-muted" });
    line.textContent = meaning;
    rows.append(line);
  });
  root.append(title, description, style, page, body, rows);
  return new XMLSerializer().serializeToString(root);
}

function fileStyle(colors, theme) {
  const rules = (scheme) =>
    Object.entries(colors)
      .map(([token, pair]) => `.f-${token}{fill:${pair[scheme]}}.e-${token}{stroke:${pair[scheme]}}`)
      .join("");
  const dark = theme === "auto" ? `@media (prefers-color-scheme:dark){${rules(1)}}` : "";
  return `.f-none{fill:none}path{fill:none}${rules(theme === "dark" ? 1 : 0)}${dark}`;
}

function drawGlyph(parent, data, word, x, middle) {
  const pen = new SvgPen(parent);
  const line = [x, middle, x + 7, middle, x + 14, middle, x + 22, middle];
  if (word === "cut" || word === "untracked-input") {
    const token = word === "cut" ? "cut" : "line";
    pen.curve(line, { edge: token, line: 1.3, dashed: true });
    for (const at of [9, 14]) {
      const [a, b] = [[x + at + 1.5, middle - 5], [x + at - 1.5, middle + 5]];
      pen.curve([...a, ...a, ...b, ...b], { edge: token, line: 1.6 });
    }
  } else if (word === "through" || word === "flow") {
    pen.curve(line, { edge: "line", line: 1.3 });
    if (word === "through") pen.box(x + 7.5, middle - 3.5, 7, 7, { fill: "page", edge: "line", line: 1.3, radius: 3.5 });
  } else if (word === "width") {
    pen.curve(line, { edge: "level", line: 3.5 });
  } else if (word === "highlight") {
    pen.box(x, middle - 6, 22, 12, { fill: "page", edge: "ink", line: 3.2 });
  } else if (word === "level") {
    [0.2, 0.6, 1].forEach((share, at) => pen.box(x, middle - 6 + at * 4, 22 * share, 3, { fill: "level" }));
  } else if (word.startsWith("value-")) {
    pen.box(x, middle - 6, 22, 11, { fill: word });
  } else if (word in data.roleRows) {
    const role = data.roleRows[word];
    pen.box(x, middle - 6, 22, 12, { fill: data.fills[role] || "page" });
    pen.box(x + 5, middle - 1.5, 12, 3, { fill: data.text[role][0] });
  } else {
    const kind = word === "again" ? "leaf" : word === "untracked-again" ? "untracked" : word;
    const look = data.looks[kind];
    if (!look) return;
    const isAgain = kind !== word;
    pen.box(x, middle - 6, 22, 12, {
      fill: isAgain ? "page" : look.head, edge: look.edge, line: isAgain ? 0.8 : look.line,
      radius: Math.min(look.radius, 6), dashed: look.dashed && !isAgain,
    });
  }
}
return { svgElement, pathOf, fillSvg, elementId, svgFile, drawGlyph };
})();
const $dom = (() => {


function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child || child === "").map((child) => /** @type {any} */ (child)));
  return element;
}

function button(label, title, action, more = {}) {
  return h("button", { type: "button", title, onclick: action, ...more }, label);
}

function check(id, text, title, on, act) {
  return h("label", { title }, h("input", {
    type: "checkbox", id, ...(on ? { checked: true } : {}),
    onchange: (/** @type {Event} */ event) => act(/** @type {HTMLInputElement} */ (event.target).checked),
  }), ` ${text}`);
}
return { h, button, check };
})();
const $export = (() => {


function optionsOf(model, state) {
  const frame = model.frame(state.frame);
  const changed = frame.groups.filter((group) => state.toggled.has(group.key));
  const isOpen = (/** @type {import("./graph.js").Group} */ group) => state.toggled.has(group.key) !== group.isOpen;
  const views = [];
  const flags = [];
  let isNear = false;
  if (state.only) {
    const [view, name] = onlyView(model, state);
    views.push(`${view}(${quoted(name)})`);
    flags.push(`--views ${shell(`${view}:${name},fit_page`)}`);
    views.push("fit_page");
  } else if (changed.length && frame.groups.every(isOpen)) {
    if (!state.bookkeeping) views.push("hide_bookkeeping", "clone_shared_leaves");
    flags.push("--all");
  } else if (changed.length && !frame.groups.some(isOpen)) {
    views.push("hide_bookkeeping", "group_by_module(depth=1)", "clone_shared_leaves");
    flags.push("--depth 1");
  } else {
    const rows = changed.filter((group) => !group.isOpen).map(({ row }) => model.data.rows[row]);
    const module = rows.filter((row) => row.module && row.module === row.name).map((row) => row.module).pop();
    views.push(module ? `focus_on(${quoted(module)})` : "fit_page");
    if (module) flags.push(`--focus ${shell(module)}`);
    isNear = changed.length > 0;
  }
  isNear ||= state.bookkeeping;
  if (["grad_norm", "saved_bytes", "dtype", "device"].includes(state.color)) {
    views.push(`color_by(${quoted(state.color)})`);
    flags.push(`--color-by ${state.color}`);
  }
  if (state.rankdir === "LR") flags.push("--rankdir LR");
  return { views, flags, isNear };
}

function onlyView(model, state) {
  const frame = model.frame(state.frame);
  const node = frame.place.get(state.only);
  const row = node === undefined ? null : model.row(frame, node);
  const name = row && row.name ? row.name : state.only.replace(/^@/, "").replace(/\+.*$/, "");
  const isEnd = row !== null && row.root !== undefined;
  return [isEnd ? "only_reaching" : "only_paths_to", name];
}

function quoted(text) {
  return JSON.stringify(text);
}

function shell(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

function commandOf(model, state) {
  const { target, command } = model.data;
  const [name, given, frames] = command;
  const number = frames ? frames.split(",")[state.frame] : state.frame + 1;
  const frame = frames || model.count > 1 ? [`--frames ${number}`] : [];
  const words = [`gradviz ${name}`, shell(target || "graph.json"), ...optionsOf(model, state).flags, ...frame, "-o graph.svg", given];
  return words.filter(Boolean).join(" ") + (target ? "" : "  # after: gradviz.draw(\u2026).save('graph.json')");
}

function viewsOf(model, state) {
  return `views=[${optionsOf(model, state).views.join(", ")}]`;
}

function isNear(model, state) {
  return optionsOf(model, state).isNear;
}

function saveFile(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function toPng(svg, width, height) {
  const scale = Math.max(0.1, Math.min(2, 16000 / width, 16000 / height, Math.sqrt(1e8 / (width * height))));
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large for a PNG"))));
    };
    image.onerror = () => reject(new Error("the picture could not be drawn"));
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  });
}
return { commandOf, viewsOf, isNear, saveFile, toPng };
})();
const $state = (() => {


const TABS = ["details", "modules", "answers", "memory", "code"];
const COLORS = ["", "grad_norm", "saved_bytes", "dtype", "device", "module"];
const THEMES = ["auto", "light", "dark"];

function firstState(data) {
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

function toHash(state, first) {
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

function fromHash(hash, first, frames) {
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

function oneOf(value, allowed, otherwise) {
  return value !== null && allowed.includes(value) ? value : otherwise;
}

function address() {
  try {
    return location.hash;
  } catch {
    return "";
  }
}
return { firstState, toHash, fromHash, address };
})();
const $export_menu = (() => {

const { button, h } = $dom;
const { svgFile } = $draw_svg;
const { commandOf, isNear, saveFile, toPng, viewsOf } = $export;
const { toHash } = $state;

class ExportMenu {
  constructor(viewer) {
    this.viewer = viewer;
    this.shown = h("output", { class: "copied" });
    this.element = h("details", { class: "menu" }, h("summary", {}, "Export"),
      h("div", { class: "items" },
        button("Save as SVG", "the picture as it is now", () => this.saveSvg()),
        button("Save as PNG", "the picture as it is now", () => void this.savePng()),
        button("Copy link", "an address that leads to this view", () => this.copyLink()),
        button("Copy command", "gradviz draw, for the shell", () => this.copy(commandOf(viewer.model, viewer.state), "command")),
        button("Copy views=[\u2026]", "for gradviz.draw in Python", () => this.copy(viewsOf(viewer.model, viewer.state), "views"))),
      this.shown);
    const { element } = this;
    document.addEventListener("pointerdown", (event) => {
      if (!element.contains(/** @type {Node} */ (event.target))) element.open = false;
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") element.open = false;
    });
  }

  async copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      const about = what !== "link" && isNear(this.viewer.model, this.viewer.state) ? " (not all of this view: without bookkeeping and what was opened or closed by hand)" : "";
      this.shown.textContent = `${what} copied${about}: ${text}`;
    } catch {
      this.shown.textContent = text; // a sandbox may forbid it: the reader can still mark and copy it
    }
    this.viewer.say(this.shown.textContent || "");
  }

  copyLink() {
    const { viewer } = this;
    if (location.protocol !== "about:") return this.copy(location.href.split("#")[0] + toHash(viewer.state, viewer.first), "link");
    this.shown.textContent = "No link: this page has no address. Save it: gradviz.view(loss).save('graph.html')";
    viewer.say(this.shown.textContent);
    return undefined;
  }

  svg() {
    const { data, picture, frame, state, stage } = this.viewer;
    return svgFile(data, picture, {
      title: data.title || "What autograd recorded", description: frame.caption, colors: data.palette,
      theme: state.theme, font: getComputedStyle(stage.element).fontFamily.replaceAll('"', ""),
    });
  }

  sent(name) {
    const more = window.self === window.top ? "" : "; if there is no file, this notebook blocks downloads: use Copy command";
    this.viewer.say(`${name} was given to the browser to save${more}`);
  }

  saveSvg() {
    saveFile("graph.svg", new Blob([this.svg()], { type: "image/svg+xml" }));
    this.sent("graph.svg");
  }

  async savePng() {
    const { picture } = this.viewer;
    const legend = picture.legend.length * 18 + 44;
    try {
      saveFile("graph.png", await toPng(this.svg(), picture.width + 36, picture.height + legend));
      this.sent("graph.png");
    } catch (error) {
      this.viewer.say(String(error));
    }
  }
}
return { ExportMenu };
})();
const $format = (() => {


const SHORT_DTYPE = {
  float64: "f64", float32: "f32", float16: "f16", bfloat16: "bf16", int64: "i64", int32: "i32",
  int16: "i16", int8: "i8", uint8: "u8", bool: "bool", complex64: "c64", complex128: "c128",
};

const UNITS = ["B", "kB", "MB", "GB", "TB"];

const COUNTS = new Intl.NumberFormat("en-US"); // one for all: toLocaleString makes one for each call

function countText(count) {
  return COUNTS.format(count);
}

function dtypeText(dtype) {
  return SHORT_DTYPE[dtype] || dtype;
}

function shapeText(shape, dtype) {
  return `${dtypeText(dtype)}[${shape.map((size) => (size < 0 ? "*" : String(size))).join(",")}]`;
}

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

function numberText(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") {
    return { Infinity: "inf", "-Infinity": "-inf" }[value] || value;
  }
  return significant(value, 4);
}

function bytesText(count) {
  let power = Math.min(Math.floor((String(count).length - 1) / 3), 4);
  let value = Number((count / 1000 ** power).toPrecision(3));
  if (value === 1000 && power < 4) [value, power] = [1, power + 1];
  return `${value} ${UNITS[power]}`;
}

function counted(count, word, plural) {
  return `${countText(count)} ${count === 1 ? word : plural || `${word}s`}`;
}

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

function summaryText(summary) {
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

function isNumber(value) {
  return value !== undefined && value !== null;
}

function normOf(summary) {
  if (typeof summary.norm === "number") return summary.norm;
  const finite = (summary.values || []).map(Number).filter(Number.isFinite);
  return Math.hypot(...finite);
}

function isKnown(summary) {
  if (!summary) return false;
  return isNumber(summary.norm) || Boolean(summary.values) || Boolean(summary.nan || summary.inf);
}
return { countText, dtypeText, shapeText, numberText, bytesText, counted, summaryText, isNumber, normOf, isKnown };
})();
const $graph = (() => {





const COLUMNS = ["keys", "row", "card", "again", "hidden", "relabel", "module", "parent", "groups",
  "source", "target", "input", "output", "edge"];
const SAME = ["keys", "hidden", "parent", "source", "target", "edge"];

class Model {
  constructor(data) {
    this.data = data;
    this.read = new Map();
  }

  get count() {
    return this.data.frames.length;
  }

  frame(number) {
    const known = this.read.get(number);
    if (known) return known;
    const written = this.data.frames[number];
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

  runOf(number) {
    const { run } = this.data.frames[number];
    return this.data.frames.flatMap((frame, at) => (frame.run === run ? [at] : []));
  }

  row(frame, node) {
    return this.data.rows[frame.row[node]];
  }

  groupRow(frame, group) {
    return this.data.rows[frame.groups[group].row];
  }
}

function toGroup([key, row, card, parent, isOpen, again]) {
  return { key, row, card, parent, isOpen: Boolean(isOpen), again };
}

function readIsland(page) {
  const element = page.getElementById("gradviz-data");
  return JSON.parse((element && element.textContent) || "null");
}

function isLeaf(kind) {
  return kind === "leaf" || kind === "parameter";
}

function reach(frame, starts, how) {
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

const LISTS = new WeakMap();

function neighbors(frame, backwards) {
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
return { Model, readIsland, isLeaf, reach, neighbors };
})();
const $folding = (() => {

const { neighbors, reach } = $graph;


/** @typedef {{nodes: SeenNode[], edges: SeenEdge[], isTurned: boolean}} Seen */ // with the gradient

const MOST_PARALLEL = 3; // edges of one look between two nodes that are drawn one by one
const TENSORS = ["leaf", "parameter", "untracked", "saved"]; // to a group, one line whatever uses it
const TANGLE = 12; // rows that the edges of a leaf may cross before it is drawn once more

function groupId(key) {
  return `@${key}`;
}

function shownGroups(frame, state) {
  const shown = new Int32Array(frame.groups.length);
  frame.groups.forEach((group, number) => {
    const around = group.parent >= 0 ? shown[group.parent] : -1;
    shown[number] = around >= 0 ? around : isOpen(group, state) ? -1 : number;
  });
  return shown;
}

function isOpen(group, state) {
  return state.toggled.has(group.key) !== group.isOpen;
}

function seenGraph(model, frame, state) {
  const count = frame.keys.length;
  const shown = shownGroups(frame, state);
  const isHidden = new Uint8Array(count);
  if (!state.bookkeeping) for (const node of frame.hidden) isHidden[node] = 1;
  const kept = state.only ? onlyPaths(model, frame, state.only) : null;
  const cards = frame.card.slice();
  const weights = new Map();
  if (!state.bookkeeping) {
    for (const [node, card, input] of frame.relabel) {
      cards[node] = card;
      if (input >= 0) weights.set(node, input);
    }
  }
  const nodes = [];
  const place = new Int32Array(count).fill(-1);
  const groups = new Int32Array(frame.groups.length).fill(-1);
  for (let node = 0; node < count; node += 1) {
    const parent = frame.parent[node];
    if (isHidden[node] || (parent === -2 && !state.everything)) continue;
    if (kept && !kept.has(node)) continue;
    const group = parent >= 0 ? shown[parent] : -1;
    if (group < 0) {
      place[node] = nodes.length;
      nodes.push({ id: frame.keys[node], node, group: -1, card: cards[node], again: false });
      continue;
    }
    if (groups[group] < 0) {
      groups[group] = nodes.length;
      const { key, card } = frame.groups[group];
      nodes.push({ id: groupId(key), node: -1, group, card, again: false });
    }
    place[node] = groups[group];
  }
  const edges = seenEdges(model, frame, { place, isHidden, nodes, weights });
  const seen = cloneLeaves(frame, { nodes, edges, isTurned: false });
  if (frame.flow !== "gradient") return seen;
  const turned = seen.edges.map((edge) => ({ ...edge, source: edge.target, target: edge.source }));
  return { nodes: seen.nodes, edges: turned, isTurned: true };
}

function onlyPaths(model, frame, id) {
  const starts = nodesOf(frame, id);
  if (!starts.length) return null;
  const kinds = (/** @type {number} */ edge) => {
    const { kind } = model.data.edges[frame.edge[edge]];
    return kind === "gradient" || kind === "cut";
  };
  const found = reach(frame, starts, { backwards: true, kinds });
  for (const node of reach(frame, starts, { backwards: false, kinds })) found.add(node);
  return found;
}

function nodesOf(frame, id) {
  const node = frame.place.get(id);
  if (node !== undefined) return [node];
  const group = id.startsWith("@") ? frame.groupPlace.get(id.slice(1)) : undefined;
  if (group === undefined) return [];
  const within = new Uint8Array(frame.groups.length);
  frame.groups.forEach(({ parent }, number) => {
    within[number] = Number(number === group || (parent >= 0 && within[parent] === 1));
  });
  return frame.parent.flatMap((parent, at) => (parent >= 0 && within[parent] ? [at] : []));
}

function seenEdges(model, frame, { place, isHidden, nodes, weights }) {
  const incoming = neighbors(frame, true);
  const origin = (edge) => {
    const words = [];
    let first = edge;
    let node = frame.source[edge];
    while (isHidden[node] && incoming.begins[node] < incoming.begins[node + 1]) {
      const { kind, op } = model.row(frame, node);
      if (kind !== "accumulate" && op && words.length < 6) words.unshift(op);
      first = incoming.edges[incoming.begins[node]];
      node = frame.source[first];
    }
    return { node, output: frame.output[first], words };
  };
  const merged = new Map();
  const all = [];
  const alike = new Map();
  for (let edge = 0; edge < frame.source.length; edge += 1) {
    const user = frame.target[edge];
    const target = place[user];
    if (isHidden[user] || target < 0) continue;
    const from = isHidden[frame.source[edge]] ? origin(edge) : null;
    const first = from ? from.node : frame.source[edge];
    const source = place[first];
    if (source < 0 || source === target) continue;
    const input = frame.input[edge];
    const row = frame.edge[edge];
    const given = model.data.edges[row].through || [];
    let through = from ? [...from.words, ...given] : given;
    if (weights.get(user) === input) through = [];
    const inGroup = nodes[source].group >= 0 || nodes[target].group >= 0;
    const output = nodes[source].group >= 0 ? 0 : from ? from.output : frame.output[edge];
    const seen = { source, target, edge: row, input, output, through, times: 1 };
    if (inGroup) {
      const key = `${source} ${target} ${model.data.edges[row].kind}`;
      const known = merged.get(key);
      if (known) {
        if (nodes[source].group >= 0 || !TENSORS.includes(model.row(frame, frame.source[edge]).kind)) known.times += 1;
        if (through.join() !== known.through.join()) known.through = [];
        continue;
      }
      merged.set(key, seen);
      all.push(seen);
      continue;
    }
    const key = `${source} ${target} ${row} ${output} ${through.join()}`;
    const same = alike.get(key);
    if (same) same.push(seen);
    else alike.set(key, [seen]);
  }
  for (const same of alike.values()) {
    if (same.length > MOST_PARALLEL) all.push({ ...same[0], times: same.length });
    else all.push(...same);
  }
  return all.sort((a, b) => a.input - b.input);
}

function cloneLeaves(frame, seen) {
  const { nodes, edges } = seen;
  const rank = lateRanks(nodes.length, edges);
  const uses = new Map();
  for (const edge of edges) {
    if (cardAgain(frame, nodes[edge.source]) < 0) continue;
    const users = uses.get(edge.source) || new Map();
    uses.set(edge.source, users);
    const list = users.get(edge.target);
    if (list) list.push(edge);
    else users.set(edge.target, [edge]);
  }
  for (const [leaf, users] of uses) {
    if (users.size < 2) continue;
    const order = [...users.keys()].sort((a, b) => rank[a] - rank[b]);
    let span = 0;
    for (const user of order) span += rank[user] - rank[order[0]];
    if (span < TANGLE) continue;
    const { node, group, id } = nodes[leaf];
    const card = cardAgain(frame, nodes[leaf]);
    order.slice(1).forEach((user, number) => {
      const again = nodes.length;
      nodes.push({ id: `${id}~${number + 1}`, node, group, card, again: true });
      for (const edge of /** @type {SeenEdge[]} */ (users.get(user))) edge.source = again;
    });
  }
  return seen;
}

function cardAgain(frame, { node, group }) {
  return group >= 0 ? frame.groups[group].again : frame.again[node];
}

function lateRanks(count, edges) {
  const waiting = new Int32Array(count);
  const sources = Array.from({ length: count }, () => []);
  for (const { source, target } of edges) {
    waiting[source] += 1;
    sources[target].push(source);
  }
  const order = [];
  for (let node = 0; node < count; node += 1) if (!waiting[node]) order.push(node);
  const rank = new Int32Array(count);
  for (let at = 0; at < order.length; at += 1) {
    const node = order[at];
    for (const source of sources[node]) {
      rank[source] = Math.min(rank[source], rank[node] - 1);
      waiting[source] -= 1;
      if (!waiting[source]) order.push(source);
    }
  }
  return rank;
}
return { groupId, shownGroups, isOpen, seenGraph, nodesOf };
})();
const $keys = (() => {


function isTyping(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (!target || !target.tagName) return false;
  if (target.tagName === "SELECT" || target.tagName === "TEXTAREA") return true;
  if (target.tagName !== "INPUT") return false;
  const { type } = /** @type {HTMLInputElement} */ (target);
  if (type === "checkbox") return event.key === " " || event.key === "Enter";
  return type !== "range" || /^(Arrow|Home|End|Page)/.test(event.key);
}

function nextNode(picture, id, key) {
  const at = picture.place.get(id);
  if (at === undefined) {
    const first = picture.nodes.findIndex((node) => node.row.root !== undefined || node.card.kind === "result");
    return picture.nodes.length ? picture.nodes[Math.max(0, first)].id : "";
  }
  const here = picture.nodes[at];
  let others = [];
  const [before, after, left, right] = picture.isSideways
    ? ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]
    : ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];
  if (key === before) others = picture.edges.filter((edge) => edge.target === at).map((edge) => edge.source);
  if (key === after) others = picture.edges.filter((edge) => edge.source === at).map((edge) => edge.target);
  if (key === left || key === right) {
    const sign = key === left ? -1 : 1;
    const [across, along] = picture.isSideways ? /** @type {const} */ (["y", "x"]) : /** @type {const} */ (["x", "y"]);
    others = picture.nodes.flatMap((node, number) =>
      number !== at && Math.abs(node[along] - here[along]) < 40 && (node[across] - here[across]) * sign > 1 ? [number] : []);
  }
  let best = "";
  let least = Infinity;
  for (const number of others) {
    const node = picture.nodes[number];
    const far = Math.hypot(node.x - here.x, node.y - here.y);
    if (far < least) [best, least] = [node.id, far];
  }
  return best;
}
return { isTyping, nextNode };
})();
const $modules = (() => {

const { h, button } = $dom;
const { bytesText, countText } = $format;


const MOST_BARS = 60;

const TREES = new WeakMap();

function moduleTree(model, frame) {
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

function inOrder(at) {
  return [...at.inside.values()].sort((a, b) => (a.first === b.first ? 0 : a.first - b.first));
}

function branch(path, name) {
  return { path, name, inside: new Map(), nodes: [], operations: 0, bytes: 0, first: Infinity };
}

function firstNode(at) {
  if (at.nodes.length) return at.nodes[0];
  for (const inside of at.inside.values()) {
    const found = firstNode(inside);
    if (found >= 0) return found;
  }
  return -1;
}

function treeElement(root, chosen, select) {
  if (!root.inside.size) return h("p", { class: "empty" }, "No module is known here: nothing was recorded in one, and no name is a path.");
  const isSingle = root.inside.size === 1;
  return h("ul", { class: "tree" }, ...inOrder(root).map((each) => treeItem(each, chosen, select, isSingle)));
}

function treeItem(at, chosen, select, isSingle) {
  const isChosen = chosen === at.path;
  const name = button(at.name, `select ${at.path}`, () => select(at.path), {
    class: isChosen ? "link chosen" : "link", ...(isChosen ? { "aria-current": "true" } : {}),
  });
  const count = h("span", { class: "muted" }, ` ${countText(at.operations)}`);
  if (!at.inside.size) return h("li", {}, name, count);
  const isOpen = isSingle || chosen === at.path || chosen.startsWith(`${at.path}.`);
  const details = h("details", isOpen ? { open: true } : {}, h("summary", { "aria-label": `inside ${at.path}` }), h("ul", {}));
  const fill = () => {
    const list = /** @type {HTMLElement} */ (details.lastElementChild);
    if (!list.children.length) list.append(...inOrder(at).map((each) => treeItem(each, chosen, select)));
  };
  if (isOpen) fill();
  details.addEventListener("toggle", fill);
  return h("li", { class: "parent" }, name, count, details);
}

function memoryElement(model, number, select) {
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

function level(root, bytesOf) {
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

function below(at) {
  return [...at.nodes, ...[...at.inside.values()].flatMap(below)];
}

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
return { moduleTree, firstNode, treeElement, memoryElement, below };
})();
const $panel = (() => {

const { h, button } = $dom;
const { bytesText, countText, counted, isKnown, numberText, shapeText, summaryText } = $format;
const { isLeaf } = $graph;


const KINDS = {
  parameter: "parameter: a leaf of a module", leaf: "leaf that requires grad", operation: "operation",
  accumulate: "AccumulateGrad: adds to a leaf's .grad", result: "result", group: "group of operations",
  untracked: "not tracked: gets no gradient", saved: "saved for backward",
};

function titleOf(row, id) {
  const times = (row.repeat || 1) > 1 ? ` \u00d7${countText(row.repeat || 1)}` : "";
  const name = row.kind === "operation" ? row.op || row.name : row.name || row.op;
  const kind = row.kind === "untracked" ? "tensor that is not tracked" : row.kind || id;
  return (name || kind) + times;
}

const CHANGED = { node: "", grad: ".grad ", buffers: "saved tensors " };

function changesText(changes) {
  return Object.entries(changes).map(([name, text]) => (CHANGED[name] ?? `${name} `) + text).join(", ");
}

function isBoxOfLeaves(row) {
  return row.kind === "group" && !row.members && "grad" in row;
}

function summaryOf(row, id) {
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

function factsOf(row, module) {
  const facts = [["kind", isBoxOfLeaves(row) ? "leaves drawn as one" : KINDS[row.kind] || row.kind]];
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

function savedTable(saved) {
  const rows = saved.map(([argument, , shape, dtype, , bytes]) =>
    h("li", {}, `${argument}  ${shapeText(shape, dtype)}  ${bytesText(bytes)}`));
  return h("ul", { class: "plain" }, ...rows);
}

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

function finite(summary) {
  return (summary.values || []).map(Number).filter(Number.isFinite);
}

function binsOf(summary) {
  const values = finite(summary);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (values.length < 4 || low === high) return null;
  const bins = new Array(values.length).fill(0);
  for (const value of values) bins[Math.min(values.length - 1, Math.floor(((value - low) / (high - low)) * values.length))] += 1;
  return bins;
}

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

function detailsOf(what, act) {
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

function answerBlock(answer) {
  return h("div", { class: answer.is_fine ? "answer is-fine" : "answer" },
    h("p", {}, h("strong", {}, answer.state), answer.state === answer.verdict ? "" : ` (${answer.verdict})`),
    answer.reason && h("p", {}, answer.reason),
    answer.fix && h("p", {}, h("strong", {}, "Fix: "), answer.fix));
}

const MOST = 30;

function links(heading, found, select) {
  if (!found.length) return null;
  const items = found.slice(0, MOST).map(({ id, text, how }) =>
    h("li", {}, button(text, "select this", () => select(id), { class: "link" }), how ? ` ${how}` : ""));
  const more = found.length > MOST ? h("p", {}, `and ${countText(found.length - MOST)} more`) : null;
  return h("div", {}, h("h3", {}, `${heading} (${countText(found.length)})`), h("ul", { class: "plain" }, ...items), more);
}
return { titleOf, changesText, summaryOf, factsOf, detailsOf, answerBlock };
})();
const $colors = (() => {

const { bytesText, countText, dtypeText, isKnown, normOf, numberText } = $format;


const SHORTEST = 0.06; // share of its track that the shortest bar takes
const COLORS = 7;
const [THIN, THICK] = [1.3, 5.5]; // widths of lines

function scaleOf(by, seen) {
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

function byNumber(a, b) {
  return a.localeCompare(b, "en", { numeric: true });
}

function commonDepth(modules) {
  const paths = modules.filter(Boolean).map((module) => module.split("."));
  let depth = 0;
  while (paths.length && paths.every((path) => path.length > depth + 1 && path[depth] === paths[0][depth])) depth += 1;
  return depth;
}

function grouped(values, token) {
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

function heldBy(nodes, edges) {
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
return { scaleOf };
})();
const $layout_places = (() => {


const GAPS = [22, 14, 11]; // between boxes, between a box and a bend, between bends
const FOUR = 30000; // Boxes and bends up to which there is time for all four corners, not two.

function placeInRows(rows, widths) {
  const count = widths.length;
  const gaps = gapsOf(rows, widths);
  const { upper, lower } = straight(rows);
  const four = [[true, true], [true, false], [false, true], [false, false]];
  const corners = count > FOUR ? [four[0], four[3]] : four;
  const found = corners.map(([downwards, rightwards]) =>
    packBlocks(rows, align(rows, downwards ? upper : lower, downwards, rightwards), gaps, rightwards),
  );
  const lefts = found.map((xs) => leftEdge(xs, widths));
  const rights = found.map((xs) => rightEdge(xs, widths));
  let narrowest = 0;
  for (let at = 1; at < found.length; at += 1) {
    if (rights[at] - lefts[at] < rights[narrowest] - lefts[narrowest]) narrowest = at;
  }
  corners.forEach(([, rightwards], number) => {
    const edges = rightwards ? lefts : rights;
    const shift = edges[narrowest] - edges[number];
    const xs = found[number];
    for (let at = 0; at < count; at += 1) xs[at] += shift;
  });
  const middle = new Float64Array(count);
  for (let at = 0; at < count; at += 1) {
    const sorted = found.map((xs) => xs[at]).sort((a, b) => a - b);
    middle[at] = (sorted[corners.length / 2 - 1] + sorted[corners.length / 2]) / 2;
  }
  centreFree(rows, upper, lower, middle, gaps);
  const left = leftEdge(middle, widths);
  return Array.from(middle, (x) => x - left);
}

function leftEdge(xs, widths) {
  let edge = Infinity;
  for (let at = 0; at < xs.length; at += 1) edge = Math.min(edge, xs[at] - widths[at] / 2);
  return edge;
}

function rightEdge(xs, widths) {
  let edge = -Infinity;
  for (let at = 0; at < xs.length; at += 1) edge = Math.max(edge, xs[at] + widths[at] / 2);
  return edge;
}

function gapsOf(rows, widths) {
  const gaps = new Float64Array(widths.length);
  for (const row of rows.rows) {
    for (let at = 1; at < row.length; at += 1) {
      const left = row[at - 1];
      const right = row[at];
      const bends = Number(left >= rows.boxes) + Number(right >= rows.boxes);
      gaps[right] = (widths[left] + widths[right]) / 2 + GAPS[bends];
    }
  }
  return gaps;
}

function straight(rows) {
  const count = rows.rank.length;
  const place = new Int32Array(count);
  for (const row of rows.rows) row.forEach((vertex, at) => (place[vertex] = at));
  const behind = chainLengths(rows, rows.rows, rows.up);
  const ahead = chainLengths(rows, rows.rows.slice().reverse(), rows.down);
  const upwards = new Set();
  for (let v = 0; v < count; v += 1) {
    for (const up of preferred(rows, v, rows.up, behind)) upwards.add(up * count + v);
  }
  const upper = Array.from({ length: count }, () => []);
  const lower = Array.from({ length: count }, () => []);
  for (let v = 0; v < count; v += 1) {
    for (const down of preferred(rows, v, rows.down, ahead)) {
      if (!upwards.has(v * count + down)) continue;
      if (rows.up[v].length || middleInput(rows, down, place) === v) {
        lower[v].push(down);
        upper[down].push(v);
      }
    }
  }
  for (const chosen of [upper, lower]) {
    for (const near of chosen) if (near.length > 1) near.sort((a, b) => place[a] - place[b]);
    for (const row of rows.rows) giveWay(rows, row, chosen, place);
  }
  return { upper, lower };
}

function chainLengths(rows, order, neighbors) {
  const lengths = new Int32Array(rows.rank.length);
  for (const row of order) {
    for (const vertex of row) {
      let longest = 0;
      for (const other of neighbors[vertex]) if (lengths[other] > longest) longest = lengths[other];
      lengths[vertex] = longest + Number(vertex < rows.boxes);
    }
  }
  return lengths;
}

function preferred(rows, vertex, neighbors, lengths) {
  const near = neighbors[vertex];
  if (near.length < 2) return near;
  if (vertex >= rows.boxes) {
    const bends = near.filter((other) => other >= rows.boxes);
    return bends.length ? bends : near;
  }
  let longest = 0;
  for (const other of near) if (lengths[other] > longest) longest = lengths[other];
  return near.filter((other) => lengths[other] === longest);
}

function middleInput(rows, target, place) {
  const above = rows.up[target];
  if (!above.length || above.some((vertex) => rows.up[vertex].length)) return null;
  const sorted = above.slice().sort((a, b) => place[a] - place[b]);
  return sorted[(sorted.length - 1) >> 1];
}

function giveWay(rows, row, chosen, place) {
  if (row.length === 1) return;
  const none = -2;
  let any = false;
  const ends = row.map((vertex) => {
    const first = vertex >= rows.boxes && chosen[vertex].length ? chosen[vertex][0] : -1;
    if (first < rows.boxes) return none;
    any = true;
    return place[first];
  });
  if (!any) return;
  const after = new Int32Array(row.length);
  let lowest = place.length;
  for (let at = row.length - 1; at >= 0; at -= 1) {
    after[at] = lowest;
    if (ends[at] !== none) lowest = Math.min(lowest, ends[at]);
  }
  let highest = -1; // the rightmost end of the trunks to the left
  row.forEach((vertex, at) => {
    if (ends[at] !== none) highest = Math.max(highest, ends[at]);
    else if (chosen[vertex].length) {
      const before = highest;
      chosen[vertex] = chosen[vertex].filter((n) => before < place[n] && place[n] < after[at]);
    }
  });
}

function align(rows, chosen, downwards, rightwards) {
  const count = rows.rank.length;
  const root = new Int32Array(count);
  const place = new Int32Array(count);
  for (let at = 0; at < count; at += 1) root[at] = at;
  for (const row of rows.rows) row.forEach((v, at) => (place[v] = rightwards ? at : -at));
  const total = rows.rows.length;
  for (let step = 0; step < total; step += 1) {
    const row = rows.rows[downwards ? step : total - 1 - step];
    let taken = -count - 1;
    for (let index = 0; index < row.length; index += 1) {
      const vertex = row[rightwards ? index : row.length - 1 - index];
      const near = chosen[vertex];
      if (!near.length) continue;
      const low = near[(near.length - 1) >> 1];
      const high = near[near.length >> 1];
      for (const other of rightwards ? [low, high] : [high, low]) {
        if (taken < place[other]) {
          root[vertex] = root[other];
          taken = place[other];
          break;
        }
      }
    }
  }
  return root;
}

function packBlocks(rows, root, gaps, rightwards) {
  const count = root.length;
  const begins = new Int32Array(count + 1);
  const waiting = new Int32Array(count);
  for (const row of rows.rows) {
    for (let at = 1; at < row.length; at += 1) {
      const [first, second] = rightwards ? [row[at - 1], row[at]] : [row[at], row[at - 1]];
      begins[root[first] + 1] += 1;
      waiting[root[second]] += 1;
    }
  }
  for (let at = 0; at < count; at += 1) begins[at + 1] += begins[at];
  const fill = begins.slice();
  const others = new Int32Array(begins[count]);
  const distances = new Float64Array(begins[count]);
  for (const row of rows.rows) {
    for (let at = 1; at < row.length; at += 1) {
      const [first, second] = rightwards ? [row[at - 1], row[at]] : [row[at], row[at - 1]];
      const slot = fill[root[first]];
      others[slot] = root[second];
      distances[slot] = gaps[row[at]];
      fill[root[first]] += 1;
    }
  }
  const order = [];
  for (let v = 0; v < count; v += 1) if (root[v] === v && !waiting[v]) order.push(v);
  const xs = new Float64Array(count);
  for (let at = 0; at < order.length; at += 1) {
    const block = order[at];
    for (let slot = begins[block]; slot < begins[block + 1]; slot += 1) {
      const other = others[slot];
      xs[other] = Math.max(xs[other], xs[block] + distances[slot]);
      waiting[other] -= 1;
      if (!waiting[other]) order.push(other);
    }
  }
  for (let at = order.length - 1; at >= 0; at -= 1) {
    const block = order[at];
    if (begins[block] === begins[block + 1]) continue;
    let least = Infinity;
    for (let slot = begins[block]; slot < begins[block + 1]; slot += 1) {
      least = Math.min(least, xs[others[slot]] - distances[slot]);
    }
    xs[block] = Math.max(xs[block], least);
  }
  const placed = new Float64Array(count);
  for (let v = 0; v < count; v += 1) placed[v] = rightwards ? xs[root[v]] : -xs[root[v]];
  return placed;
}

function centreFree(rows, upper, lower, xs, gaps) {
  for (const row of rows.rows) {
    row.forEach((vertex, at) => {
      const count = rows.up[vertex].length + rows.down[vertex].length;
      if (upper[vertex].length || lower[vertex].length || !count) return;
      let wish = 0;
      for (const other of rows.up[vertex]) wish += xs[other];
      for (const other of rows.down[vertex]) wish += xs[other];
      wish /= count;
      if (at) wish = Math.max(wish, xs[row[at - 1]] + gaps[vertex]);
      if (at + 1 < row.length) wish = Math.min(wish, xs[row[at + 1]] - gaps[row[at + 1]]);
      xs[vertex] = wish;
    });
  }
}
return { placeInRows };
})();
const $layout_rows = (() => {

const MERGE = 8; // A target with more long links than this gathers them in a trunk.
const ENOUGH = 30000; // Bends that are always allowed; and one more for two boxes.
const LANE_GAP = 7; // Points between lanes.
const MOST_LANES = 200; // The outermost is shared by all that find no place in the others.
const CAREFUL = 6000; // Boxes and bends (or half the links) with time for the careful order.
const WORK = 500000; // How many of them may be looked at above that, in all sweeps together.



function pairKey(source, target) {
  return source * 0x4000000 + target;
}

function emptyLists(count) {
  const lists = new Array(count);
  for (let at = 0; at < count; at += 1) lists[at] = [];
  return lists;
}

function targetLists(count, pairs) {
  const lists = emptyLists(count);
  for (const [source, target] of pairs) lists[source].push(target);
  return lists;
}

function topological(count, pairs, targets) {
  const waiting = new Int32Array(count);
  for (const [, target] of pairs) waiting[target] += 1;
  const order = [];
  for (let node = 0; node < count; node += 1) if (!waiting[node]) order.push(node);
  for (let at = 0; at < order.length; at += 1) {
    for (const target of targets[order[at]]) {
      waiting[target] -= 1;
      if (!waiting[target]) order.push(target);
    }
  }
  return order;
}

function acyclic(count, pairs) {
  if (topological(count, pairs, targetLists(count, pairs)).length === count) return pairs.slice();
  const outgoing = emptyLists(count);
  pairs.forEach(([source], index) => outgoing[source].push(index));
  const state = new Uint8Array(count); // 0: not seen, 1: on the path from the root, 2: done
  const turned = pairs.slice();
  for (let root = 0; root < count; root += 1) {
    const stack = state[root] === 0 ? [root] : [];
    while (stack.length) {
      const node = stack[stack.length - 1];
      state[node] = 1;
      let entered = false;
      while (outgoing[node].length && !entered) {
        const index = /** @type {number} */ (outgoing[node].pop());
        const target = pairs[index][1];
        if (state[target] === 1) turned[index] = [target, node];
        else if (state[target] === 0) {
          stack.push(target);
          entered = true;
        }
      }
      if (!entered) {
        state[node] = 2;
        stack.pop();
      }
    }
  }
  return turned;
}

function spanOf(ranks, pairs) {
  let total = 0;
  for (const [source, target] of pairs) total += ranks[target] - ranks[source];
  return total;
}

function rankNodes(count, pairs) {
  const targets = targetLists(count, pairs);
  const order = topological(count, pairs, targets);
  const early = new Int32Array(count);
  let deepest = 0;
  for (const node of order) {
    const below = early[node] + 1;
    for (const target of targets[node]) if (early[target] < below) early[target] = below;
    if (early[node] > deepest) deepest = early[node];
  }
  const late = new Int32Array(count).fill(deepest);
  const pulled = early.slice();
  const incoming = new Int32Array(count);
  for (const [, target] of pairs) incoming[target] += 1;
  for (let at = order.length - 1; at >= 0; at -= 1) {
    const node = order[at];
    const below = targets[node];
    if (below.length) late[node] = lowest(below, late) - 1;
    if (below.length >= Math.max(1, incoming[node])) pulled[node] = lowest(below, pulled) - 1;
  }
  let best = pulled;
  let least = spanOf(pulled, pairs);
  for (const other of [early, late]) {
    const length = spanOf(other, pairs);
    if (length < least) [best, least] = [other, length];
  }
  let top = count ? best[0] : 0;
  for (const row of best) if (row < top) top = row;
  return Array.from(best, (row) => row - top);
}

function lowest(nodes, ranks) {
  let found = ranks[nodes[0]];
  for (const node of nodes) if (ranks[node] < found) found = ranks[node];
  return found;
}

function cutIntoRows(ranks, pairs) {
  const { keys, ends } = trunksOf(ranks, pairs);
  let allowed = ENOUGH + Math.floor(ranks.length / 2);
  const rank = ranks.slice();
  const bends = new Map();
  const shortest = [...ends].sort((a, b) => a[1][1] - a[1][0] - (b[1][1] - b[1][0]));
  for (const [key, [start, stop]] of shortest) {
    allowed -= stop - start;
    if (allowed < 0) continue;
    const trunk = [];
    for (let row = start; row < stop; row += 1) {
      trunk.push(rank.length);
      rank.push(row);
    }
    bends.set(key, trunk);
  }
  const rows = {
    boxes: ranks.length,
    rank,
    up: emptyLists(rank.length),
    down: emptyLists(rank.length),
    trunks: new Map(),
    lanes: new Map(),
    rows: [],
  };
  const steps = new Set();
  const step = (above, below) => {
    const key = pairKey(above, below);
    if (steps.has(key)) return;
    steps.add(key);
    rows.down[above].push(below);
    rows.up[below].push(above);
  };
  for (const [source, target] of pairs) {
    const pair = pairKey(source, target);
    const key = keys.get(pair);
    if (key === undefined) {
      step(source, target);
      continue;
    }
    const trunk = bends.get(key);
    if (!trunk) {
      rows.lanes.set(pair, key);
      continue;
    }
    const [start] = /** @type {Pair} */ (ends.get(key));
    const first = ranks[source] + 1 - start;
    const stop = ranks[target] - start;
    rows.trunks.set(pair, { bends: trunk, first, stop });
    step(source, trunk[first]);
    step(trunk[stop - 1], target);
  }
  for (const trunk of bends.values()) {
    for (let at = 1; at < trunk.length; at += 1) step(trunk[at - 1], trunk[at]);
  }
  return rows;
}

function trunksOf(ranks, pairs) {
  const long = pairs.filter(([source, target]) => ranks[target] - ranks[source] > 1);
  const gathers = new Map();
  for (const [, target] of long) gathers.set(target, (gathers.get(target) || 0) + 1);
  const keys = new Map();
  const ends = new Map();
  for (const [source, target] of long) {
    const key = gathers.get(target) > MERGE ? target * 2 + 1 : source * 2;
    keys.set(pairKey(source, target), key);
    const known = ends.get(key);
    const start = ranks[source] + 1;
    const stop = ranks[target];
    ends.set(key, known ? [Math.min(known[0], start), Math.max(known[1], stop)] : [start, stop]);
  }
  return { keys, ends };
}

function addLanes(rows, xs) {
  const used = new Map();
  for (const [pair, key] of rows.lanes) {
    const ends = /** @type {Pair} */ ([Math.floor(pair / 0x4000000), pair % 0x4000000]);
    const list = used.get(key);
    if (list) list.push(ends);
    else used.set(key, [ends]);
  }
  const spans = [...used].map(([key, pairs]) => [
    Math.max(...pairs.map(([, target]) => rows.rank[target])),
    Math.min(...pairs.map(([source]) => rows.rank[source])),
    key,
  ]);
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  const busy = []; // per lane, the row where its last trunk ends
  for (const [stop, start, key] of spans) {
    let lane = busy.findIndex((end) => end <= start);
    lane = Math.min(lane < 0 ? busy.length : lane, MOST_LANES - 1);
    busy[lane] = stop;
    const vertex = rows.rank.length;
    const pairs = /** @type {Pair[]} */ (used.get(key));
    rows.rank.push(start + 1);
    xs.push(-LANE_GAP * (lane + 2));
    rows.up.push(pairs.map(([source]) => source));
    rows.down.push(pairs.map(([, target]) => target));
    for (const [source, target] of pairs) {
      rows.trunks.set(pairKey(source, target), { bends: [vertex], first: 0, stop: 1 });
      if (rows.down[source].at(-1) !== vertex) rows.down[source].push(vertex);
      if (rows.up[target].at(-1) !== vertex) rows.up[target].push(vertex);
    }
  }
}

function orderRows(rows) {
  let links = 0;
  for (const below of rows.down) links += below.length;
  const size = Math.max(rows.rank.length, Math.floor(links / 2));
  const careful = size <= CAREFUL;
  const sweeps = careful ? 24 : Math.min(4, Math.floor(WORK / size));
  rows.rows = walkUp(rows);
  const crossings = sweeps ? improve(rows, sweeps, careful) : 0;
  if (crossings && sweeps > 3) {
    const best = rows.rows;
    rows.rows = walkDown(rows);
    if (improve(rows, sweeps, careful) >= crossings) rows.rows = best;
  }
}

function walkUp(rows) {
  const results = [];
  rows.down.forEach((below, vertex) => {
    if (!below.length) results.push(vertex);
  });
  results.sort((a, b) => rows.rank[b] - rows.rank[a]);
  return walk(rows, results, rows.up);
}

function walkDown(rows) {
  const sources = [];
  rows.up.forEach((above, vertex) => {
    if (!above.length) sources.push(vertex);
  });
  sources.sort((a, b) => rows.rank[a] - rows.rank[b]);
  const neighbors = rows.down.map((below) => [
    ...below.filter((vertex) => vertex >= rows.boxes),
    ...below.filter((vertex) => vertex < rows.boxes),
  ]);
  return walk(rows, sources, neighbors);
}

function walk(rows, starts, neighbors) {
  let deepest = -1;
  for (const row of rows.rank) if (row > deepest) deepest = row;
  const order = emptyLists(deepest + 1);
  const seen = new Uint8Array(rows.rank.length);
  for (const start of starts) {
    const stack = [start];
    while (stack.length) {
      const vertex = /** @type {number} */ (stack.pop());
      if (seen[vertex]) continue;
      seen[vertex] = 1;
      order[rows.rank[vertex]].push(vertex);
      const near = neighbors[vertex];
      for (let at = near.length - 1; at >= 0; at -= 1) stack.push(near[at]);
    }
  }
  return order;
}

function improve(rows, sweeps, careful) {
  const place = new Int32Array(rows.rank.length);
  for (const row of rows.rows) numberRow(row, place);
  let best = rows.rows.map((row) => row.slice());
  let fewest = countCrossings(rows, place);
  let idle = 0;
  for (let sweep = 0; sweep < sweeps && fewest && idle <= 6; sweep += 1) {
    sweepRows(rows, place, sweep % 2 === 1);
    if (careful) swapNeighbours(rows, place);
    const crossings = countCrossings(rows, place);
    idle += 1;
    if (crossings < fewest) {
      best = rows.rows.map((row) => row.slice());
      fewest = crossings;
      idle = 0;
    }
  }
  rows.rows = best;
  return fewest;
}

function countCrossings(rows, place) {
  let total = 0;
  const sums = new Int32Array(rows.rank.length + 2);
  const ends = [];
  for (let index = 0; index + 1 < rows.rows.length; index += 1) {
    const width = rows.rows[index + 1].length;
    sums.fill(0, 0, width + 2);
    let before = 0;
    for (const vertex of rows.rows[index]) {
      ends.length = 0;
      for (const below of rows.down[vertex]) ends.push(place[below]);
      for (const end of ends) {
        let notRight = 0;
        for (let at = end + 1; at > 0; at -= at & -at) notRight += sums[at];
        total += before - notRight;
      }
      for (const end of ends) {
        for (let at = end + 1; at <= width; at += at & -at) sums[at] += 1;
      }
      before += ends.length;
    }
  }
  return total;
}

function sweepRows(rows, place, downwards) {
  const neighbors = downwards ? rows.up : rows.down;
  const mean = new Float64Array(rows.rank.length);
  const count = rows.rows.length;
  for (let step = 0; step < count; step += 1) {
    const row = rows.rows[downwards ? step : count - 1 - step];
    const moved = [];
    for (const vertex of row) {
      const near = neighbors[vertex];
      if (!near.length) continue;
      let sum = 0;
      for (const other of near) sum += place[other];
      mean[vertex] = sum / near.length;
      moved.push(vertex);
    }
    if (moved.length > 1) {
      moved.sort((a, b) => mean[a] - mean[b]);
      let next = 0;
      for (let at = 0; at < row.length; at += 1) {
        if (neighbors[row[at]].length) {
          row[at] = moved[next];
          next += 1;
        }
      }
    }
    numberRow(row, place);
  }
}

function swapNeighbours(rows, place) {
  for (let round = 0; round < 4; round += 1) {
    let swapped = false;
    for (const row of rows.rows) {
      for (let at = 0; at + 1 < row.length; at += 1) {
        const left = row[at];
        const right = row[at + 1];
        const won = gain(rows.up, left, right, place) + gain(rows.down, left, right, place);
        if (won > 0) {
          row[at] = right;
          row[at + 1] = left;
          place[right] = at;
          place[left] = at + 1;
          swapped = true;
        }
      }
    }
    if (!swapped) break;
  }
}

function gain(near, left, right, place) {
  const mine = near[left];
  const others = near[right];
  let won = 0;
  for (const vertex of mine) {
    const at = place[vertex];
    for (const other of others) won += Math.sign(at - place[other]);
  }
  return won;
}

function numberRow(row, place) {
  for (let at = 0; at < row.length; at += 1) place[row[at]] = at;
}
return { pairKey, acyclic, rankNodes, cutIntoRows, addLanes, orderRows };
})();
const $layout_routes = (() => {

const { pairKey } = $layout_rows;


const PARALLEL = 14; // Points between links side by side.
const STEP = 10; // Points between links that touch a box side by side.
const CORNER = 8; // Points that links keep from the corners of a box.
const MOST = 60; // Bows to one side in one gap; more of them would overlap.

class Router {
  constructor(rows, boxes, xs, bands, copies) {
    this.rows = rows;
    this.boxes = boxes;
    this.xs = xs;
    this.bands = bands;
    this.strands = new Map();
    for (const [pair, many] of copies) {
      if (many === 1) continue;
      const [source, target] = [Math.floor(pair / 0x4000000), pair % 0x4000000];
      for (const [from, to] of this.hopsOf(source, target)) {
        const hop = pairKey(from, to);
        this.strands.set(hop, Math.max(this.strands.get(hop) || 1, many));
      }
    }
    this.leavesAt = new Map();
    this.arrivesAt = new Map();
    for (let box = 0; box < rows.boxes; box += 1) {
      this.setPorts(box, rows.down[box], this.leavesAt, true);
      this.setPorts(box, rows.up[box], this.arrivesAt, false);
    }
    this.straighten();
    this.turns = new Map();
  }

  runs(pair, copy, copies) {
    const [source, target] = pair;
    const [first, last] = this.hopsOf(source, target);
    const shift = (copy - (copies - 1) / 2) * PARALLEL;
    const leaves = /** @type {number} */ (this.leavesAt.get(pairKey(first[0], first[1])));
    const arrives = /** @type {number} */ (this.arrivesAt.get(pairKey(last[1], last[0])));
    const runs = [this.runOfBox(source, leaves + shift, true)];
    this.addBends(source, target, shift, runs);
    runs.push(this.runOfBox(target, arrives + shift, false));
    return runs;
  }

  hopsOf(source, target) {
    const trunk = this.rows.trunks.get(pairKey(source, target));
    if (!trunk) return [[source, target], [source, target]];
    return [[source, trunk.bends[trunk.first]], [trunk.bends[trunk.stop - 1], target]];
  }

  runOfBox(box, x, below) {
    const [top, bottom] = this.bands[this.rows.rank[box]];
    const middle = (top + bottom) / 2;
    const half = this.boxes[box].height / 2;
    const reach = Math.max(0, this.boxes[box].width / 2 - 1);
    const at = Math.min(Math.max(x, this.xs[box] - reach), this.xs[box] + reach);
    return below ? [at, middle + half, bottom] : [at, top, middle - half];
  }

  addBends(source, target, shift, runs) {
    const pair = pairKey(source, target);
    const used = this.rows.trunks.get(pair);
    if (!used) return;
    const { bends, stop } = used;
    const { rank } = this.rows;
    if (this.rows.lanes.has(pair)) {
      const top = this.bands[rank[source] + 1][0];
      runs.push([this.xs[bends[0]] + shift, top, this.bands[rank[target] - 1][1]]);
      return;
    }
    let turns = this.turns.get(bends[0]);
    if (!turns) {
      turns = [];
      for (let at = 1; at < bends.length; at += 1) {
        if (Math.abs(this.xs[bends[at - 1]] - this.xs[bends[at]]) > 0.5) turns.push(at);
      }
      this.turns.set(bends[0], turns);
    }
    let first = used.first;
    let at = turns.findIndex((turn) => turn > first);
    if (at < 0) at = turns.length;
    while (first < stop) {
      const end = at < turns.length ? Math.min(stop, turns[at]) : stop;
      const top = this.bands[rank[bends[first]]][0];
      runs.push([this.xs[bends[first]] + shift, top, this.bands[rank[bends[end - 1]]][1]]);
      first = end;
      at += 1;
    }
  }

  setPorts(box, near, ports, downwards) {
    if (!near.length) return;
    const { xs } = this;
    const middle = xs[box];
    const reach = Math.max(0, this.boxes[box].width / 2 - CORNER);
    const order = near.length > 1 ? near.slice().sort((a, b) => xs[a] - xs[b]) : near;
    const places = order.map((other) => this.wish(box, other));
    const many = order.map(
      (other) => this.strands.get(downwards ? pairKey(box, other) : pairKey(other, box)) || 1,
    );
    let total = 0;
    let most = 0;
    for (const count of many) {
      total += count;
      most = Math.max(most, count);
    }
    const step = Math.min(most > 1 ? PARALLEL : STEP, (2 * reach) / Math.max(1, total - 1));
    for (let i = 0; i < places.length; i += 1) {
      const low = i ? places[i - 1] + (step * (many[i - 1] + many[i])) / 2 : -1e9;
      places[i] = Math.max(places[i], low, middle - reach + (step * (many[i] - 1)) / 2);
    }
    for (let i = places.length - 1; i >= 0; i -= 1) {
      const last = i + 1 >= many.length;
      const high = last ? 1e9 : places[i + 1] - (step * (many[i] + many[i + 1])) / 2;
      places[i] = Math.min(places[i], high, middle + reach - (step * (many[i] - 1)) / 2);
    }
    order.forEach((other, i) => ports.set(pairKey(box, other), places[i]));
  }

  straighten() {
    for (const [key, x] of this.leavesAt) {
      const box = Math.floor(key / 0x4000000);
      const other = key % 0x4000000;
      const end = this.arrivesAt.get(pairKey(other, box)) ?? this.xs[other];
      const apart = Math.abs(x - end);
      if (!(apart > 0 && apart <= STEP) || (this.strands.get(key) || 1) > 1) continue;
      if (this.rows.down[box].length === 1 && this.reaches(box, end)) {
        this.leavesAt.set(key, end);
      } else if (this.rows.up[other].length === 1 && this.reaches(other, x)) {
        this.arrivesAt.set(pairKey(other, box), x);
      }
    }
  }

  reaches(vertex, x) {
    if (vertex >= this.rows.boxes) return false;
    return Math.abs(x - this.xs[vertex]) <= this.boxes[vertex].width / 2 - CORNER;
  }

  wish(box, other) {
    const x = this.xs[box];
    const reach = Math.max(0, this.boxes[box].width / 2 - CORNER);
    const otherX = this.xs[other];
    const isBox = other < this.rows.boxes;
    const otherReach = isBox ? Math.max(0, this.boxes[other].width / 2 - CORNER) : 0;
    const low = Math.max(x - reach, otherX - otherReach);
    const high = Math.min(x + reach, otherX + otherReach);
    if (low <= high) return Math.min(Math.max((x + otherX) / 2, low), high);
    return x + (otherX > x ? 0.5 : -0.5) * reach;
  }
}

function tracks(found) {
  const numbers = new Map();
  const unique = new Map(found.map((hop) => [hopKey(hop), hop]));
  for (const sign of [1, -1]) {
    const side = [...unique.values()]
      .map(([above, below]) => /** @type {Hop} */ ([sign * above, sign * below]))
      .filter(([above, below]) => above < below)
      .sort((a, b) => b[0] - a[0] || b[1] - a[1]);
    if (side.length > MOST) continue;
    side.forEach(([begin, end], at) => {
      let number = 0;
      for (const [a, b] of side.slice(0, at)) {
        const before = /** @type {number} */ (numbers.get(hopKey([sign * a, sign * b])));
        if (a <= end) number = Math.max(number, before + 1);
      }
      numbers.set(hopKey([sign * begin, sign * end]), number);
    });
  }
  return numbers;
}

function hopKey([above, below]) {
  return `${above} ${below}`;
}

function turningHeights(links) {
  const gaps = new Map();
  for (const runs of links) {
    const parts = joined(runs);
    for (let at = 1; at < parts.length; at += 1) {
      const [above, , begin] = parts[at - 1];
      const [below, top] = parts[at];
      const key = hopKey([begin, top]);
      const known = gaps.get(key);
      if (known) known.found.push([above, below]);
      else gaps.set(key, { gap: [begin, top], found: [[above, below]] });
    }
  }
  const heights = new Map();
  for (const [key, { gap, found }] of gaps) {
    const numbers = tracks(found);
    const count = Math.max(0, ...numbers.values()) + 1;
    for (const [hop, number] of numbers) {
      heights.set(`${key} ${hop}`, gap[0] + ((gap[1] - gap[0]) * (number + 1)) / (count + 1));
    }
  }
  return heights;
}

function curve(runs, heights) {
  const parts = joined(runs);
  const points = [parts[0][0], parts[0][1]];
  parts.forEach(([x, top, bottom], at) => {
    if (at) {
      const [above, , begin] = parts[at - 1];
      const known = heights && heights.get(`${begin} ${top} ${above} ${x}`);
      const height = known ?? (begin + top) / 2;
      points.push(above, height, x, height, x, top);
    }
    if (bottom - top > 0.01) {
      const third = (bottom - top) / 3;
      points.push(x, top + third, x, bottom - third, x, bottom);
    }
  });
  return points;
}

function joined(runs) {
  const found = [runs[0]];
  for (let at = 1; at < runs.length; at += 1) {
    const last = found[found.length - 1];
    const run = runs[at];
    if (Math.abs(run[0] - last[0]) < 0.5) found[found.length - 1] = [last[0], last[1], run[2]];
    else found.push(run);
  }
  return found;
}

function selfLoop(box, x, y) {
  const right = x + box.width / 2;
  const quarter = box.height / 4;
  return [right, y + quarter, right + 24, y + 2 * quarter, right + 24, y - 2 * quarter, right,
    y - quarter];
}

function reversed(points) {
  const turned = [];
  for (let at = points.length - 2; at >= 0; at -= 2) turned.push(points[at], points[at + 1]);
  return turned;
}
return { PARALLEL, Router, tracks, turningHeights, curve, selfLoop, reversed };
})();
const $layout = (() => {

const { placeInRows } = $layout_places;
const { PARALLEL, Router, curve, reversed, selfLoop, tracks, turningHeights } = $layout_routes;
const { acyclic, addLanes, cutIntoRows, orderRows, pairKey, rankNodes } = $layout_rows;



const ROW_GAP = 28; // Points between rows; the more, the farther links go.
const MORE_ROW_GAP = 20;
const TRACK = 6;
const MOST_ROW_GAP = 60; // And the more, the more of them go the same way.
const SEPARATE = 5000; // Up to this number of links, parallel ones are drawn separately.
const BETWEEN = 24;
const ASPECT = 1.6;

function layOut(boxes, links) {
  const xs = new Float64Array(boxes.length);
  const ys = new Float64Array(boxes.length);
  const isJoined = new Uint8Array(boxes.length);
  for (const [source, target] of links) isJoined[source] = isJoined[target] = 1;
  const joined = [];
  const single = [];
  for (let box = 0; box < boxes.length; box += 1) (isJoined[box] ? joined : single).push(box);
  const place = new Int32Array(boxes.length);
  joined.forEach((box, at) => (place[box] = at));
  const inner = links.map(([a, b]) => /** @type {Pair} */ ([place[a], place[b]]));
  const sheet = layered(joined.map((box) => boxes[box]), inner);
  joined.forEach((box, at) => {
    xs[box] = sheet.xs[at];
    ys[box] = sheet.ys[at];
  });
  const sizes = single.map((box) => [boxes[box].width, boxes[box].height]);
  if (joined.length) sizes.unshift(extent(boxes, joined, xs, ys, sheet.routes));
  const corners = pack(sizes).slice(sizes.length - single.length);
  single.forEach((box, at) => {
    xs[box] = round(corners[at][0] + boxes[box].width / 2);
    ys[box] = round(corners[at][1] + boxes[box].height / 2);
  });
  const all = boxes.map((_, box) => box);
  const [width, height] = extent(boxes, all, xs, ys, sheet.routes);
  return { width, height, xs, ys, routes: sheet.routes };
}

function layOutAlong(boxes, links, isSideways) {
  if (!isSideways) return layOut(boxes, links);
  const turned = layOut(boxes.map(({ width, height }) => ({ width: height, height: width })), links);
  for (const route of turned.routes) {
    for (let at = 0; at < route.length; at += 2) [route[at], route[at + 1]] = [route[at + 1], route[at]];
  }
  return { width: turned.height, height: turned.width, xs: turned.ys, ys: turned.xs, routes: turned.routes };
}

function extent(boxes, chosen, xs, ys, routes) {
  let width = 0;
  let height = 0;
  for (const box of chosen) {
    width = Math.max(width, xs[box] + boxes[box].width / 2);
    height = Math.max(height, ys[box] + boxes[box].height / 2);
  }
  for (const route of routes) {
    for (let at = 0; at < route.length; at += 2) {
      if (route[at] > width) width = route[at];
      if (route[at + 1] > height) height = route[at + 1];
    }
  }
  return [round(width), round(height)];
}

function round(value) {
  return Math.round(value * 100) / 100;
}

function layered(boxes, links) {
  const xs = new Float64Array(boxes.length);
  const ys = new Float64Array(boxes.length);
  const routes = new Array(links.length);
  const parts = components(boxes.length, links);
  const sheets = parts.map((part) => component(part.nodes.map((node) => boxes[node]), part.pairs));
  const corners = pack(sheets.map((sheet) => [sheet.width, sheet.height]));
  parts.forEach((part, number) => {
    const [left, top] = corners[number];
    const sheet = sheets[number];
    part.nodes.forEach((node, at) => {
      xs[node] = round(sheet.xs[at] + left);
      ys[node] = round(sheet.ys[at] + top);
    });
    part.links.forEach((link, at) => {
      const route = sheet.routes[at];
      for (let i = 0; i < route.length; i += 2) {
        route[i] = round(route[i] + left);
        route[i + 1] = round(route[i + 1] + top);
      }
      routes[link] = route;
    });
  });
  return { xs, ys, routes };
}

function component(boxes, pairs) {
  const turned = acyclic(boxes.length, pairs.filter(([source, target]) => source !== target));
  let next = 0;
  const downward = pairs.map((pair) => (pair[0] === pair[1] ? pair : turned[next++]));
  const copies = new Map();
  const unique = [];
  for (const [source, target] of turned) {
    const key = pairKey(source, target);
    const many = copies.get(key);
    if (!many) unique.push([source, target]);
    copies.set(key, (many || 0) + 1);
  }
  const rows = cutIntoRows(rankNodes(boxes.length, unique), unique);
  orderRows(rows);
  const widths = vertexWidths(rows, boxes, copies);
  let xs = placeInRows(rows, widths);
  let width = 0;
  xs.forEach((x, at) => (width = Math.max(width, x + widths[at] / 2)));
  addLanes(rows, xs);
  let left = 0;
  for (let at = widths.length; at < xs.length; at += 1) left = Math.min(left, xs[at]);
  if (left) xs = xs.map((x) => x - left);
  const bands = rowBands(rows, boxes, xs);
  const ys = boxes.map((_, box) => {
    const [top, bottom] = bands[rows.rank[box]];
    return (top + bottom) / 2;
  });
  const router = new Router(rows, boxes, xs, bands, copies);
  const upright = uprightRuns(router, turned, copies);
  const heights = pairs.length <= SEPARATE ? turningHeights(upright) : null;
  next = 0;
  const routes = pairs.map((given, at) => {
    const [source, target] = downward[at];
    if (source === target) return selfLoop(boxes[source], xs[source], ys[source]);
    const points = curve(upright[next++], heights);
    return source === given[0] ? points : reversed(points);
  });
  return { width: width - left, height: bands[bands.length - 1][1], xs, ys, routes };
}

function uprightRuns(router, pairs, copies) {
  const drawn = new Map();
  return pairs.map((pair) => {
    const key = pairKey(pair[0], pair[1]);
    const many = copies.get(key) || 1;
    const copy = drawn.get(key) || 0;
    if (many > 1) drawn.set(key, copy + 1);
    return router.runs(pair, copy, many);
  });
}

function vertexWidths(rows, boxes, copies) {
  const widths = new Array(rows.rank.length).fill(0);
  boxes.forEach((box, at) => (widths[at] = box.width));
  for (const [pair, many] of copies) {
    const trunk = many > 1 ? rows.trunks.get(pair) : undefined;
    if (!trunk) continue;
    for (let at = trunk.first; at < trunk.stop; at += 1) {
      const bend = trunk.bends[at];
      widths[bend] = Math.max(widths[bend], (many - 1) * PARALLEL);
    }
  }
  return widths;
}

function rowBands(rows, boxes, xs) {
  const bands = [];
  let top = 0;
  for (const row of rows.rows) {
    let highest = 0;
    let far = 0;
    for (const v of row) {
      if (v < rows.boxes) highest = Math.max(highest, boxes[v].height);
      for (const below of rows.down[v]) far = Math.max(far, Math.abs(xs[v] - xs[below]));
    }
    const bottom = top + highest;
    bands.push([top, bottom]);
    let more = Math.min(MORE_ROW_GAP, Math.max(0, far - 60) * 0.1);
    if (far > 60 && rows.rank.length <= SEPARATE) {
      const hops = row.flatMap((v) => rows.down[v].map((below) => /** @type {Pair} */ ([xs[v], xs[below]])));
      more += TRACK * Math.max(0, ...tracks(hops).values());
    }
    top = bottom + ROW_GAP + Math.min(more, MOST_ROW_GAP);
  }
  return bands;
}


function components(count, pairs) {
  const leader = new Int32Array(count);
  for (let node = 0; node < count; node += 1) leader[node] = node;
  const find = (node) => {
    while (leader[node] !== node) {
      leader[node] = leader[leader[node]];
      node = leader[node];
    }
    return node;
  };
  for (const [source, target] of pairs) {
    const a = find(source);
    const b = find(target);
    leader[Math.max(a, b)] = Math.min(a, b);
  }
  const parts = new Map();
  const place = new Int32Array(count);
  for (let node = 0; node < count; node += 1) {
    const root = find(node);
    let part = parts.get(root);
    if (!part) parts.set(root, (part = { nodes: [], links: [], pairs: [] }));
    place[node] = part.nodes.length;
    part.nodes.push(node);
  }
  pairs.forEach(([source, target], index) => {
    const part = /** @type {Part} */ (parts.get(find(source)));
    part.links.push(index);
    part.pairs.push([place[source], place[target]]);
  });
  return [...parts.values()];
}

function pack(sizes) {
  let area = 0;
  let highest = 0;
  for (const [width, height] of sizes) {
    area += (width + BETWEEN) * (height + BETWEEN);
    highest = Math.max(highest, height);
  }
  const limit = Math.max(Math.sqrt(area / ASPECT), highest);
  const corners = [];
  let [left, top, widest] = [0, 0, 0];
  for (const [width, height] of sizes) {
    if (top > 0 && top + height > limit) [left, top, widest] = [left + widest + BETWEEN, 0, 0];
    corners.push([left, top]);
    top += height + BETWEEN;
    widest = Math.max(widest, width);
  }
  return corners;
}
return { layOut, layOutAlong, layered, pack };
})();
const $scene = (() => {

const { scaleOf } = $colors;
const { isOpen, seenGraph, shownGroups } = $folding;
const { countText } = $format;
const { layOutAlong } = $layout;
const { edgeBoxes } = $shapes;



const LINE = { token: "line", line: 1.3 };
const CUT = { token: "cut", line: 1.3 };
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

const PLACES = new Map(); // layouts that were made before; the latest few are kept
const MOST_PLACES = 12;

const flowsSideways = (state) => state.rankdir === "LR";

function pictureOf(model, state) {
  const frame = model.frame(state.frame);
  const seen = seenGraph(model, frame, state);
  const placed = placesOf(model, state, seen);
  const rooms = seen.nodes.map((each) => roomBelow(model, frame, each, state));
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

class Occupied {
  rects = new Map();

  lines = new Map();

  constructor(nodes) {
    for (const node of nodes) this.add(boxOf(node));
  }

  cells([left, top, right, bottom]) {
    const found = [];
    for (let x = Math.floor(left / CELL); x <= right / CELL; x += 1) {
      for (let y = Math.floor(top / CELL); y <= bottom / CELL; y += 1) found.push(`${x} ${y}`);
    }
    return found;
  }

  add(rect) {
    for (const cell of this.cells(rect)) this.rects.set(cell, [...(this.rects.get(cell) || []), rect]);
  }

  addLine(edge, route) {
    for (const [x, y] of pointsOn(route)) {
      const cell = `${Math.floor(x / CELL)} ${Math.floor(y / CELL)}`;
      const list = this.lines.get(cell);
      if (list) list.push([x, y, edge]);
      else this.lines.set(cell, [[x, y, edge]]);
    }
  }

  along(x, top, bottom) {
    const points = this.cells([x - 3, top, x + 3, bottom]).flatMap((cell) => this.lines.get(cell) || []);
    return points.filter(([at, y]) => Math.abs(at - x) < 3 && top < y && y < bottom).length;
  }

  hits(rect, but) {
    const cells = this.cells(rect);
    if (cells.some((cell) => (this.rects.get(cell) || []).some((other) => meet(rect, other)))) return 2;
    const [left, top, right, bottom] = rect;
    const isMet = (/** @type {[number, number, number]} */ [x, y, edge]) => edge !== but && left < x && x < right && top < y && y < bottom;
    return Number(cells.some((cell) => (this.lines.get(cell) || []).some(isMet)));
  }
}

const meet = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

const boxOf = ({ x, y, width, height }) => [x - width / 2, y - height / 2, x + width / 2, y + height / 2];

function pointsOn(route) {
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
      edge.labels.push(place(`\u00d7${countText(edge.times)}`, around, 6));
    }
  });
  return occupied;
}

function roomBelow(model, frame, { node, again }, state) {
  const isNumbered = node >= 0 && !again && (model.row(frame, node).outputs || 1) > 1;
  return isNumbered && !flowsSideways(state) ? NUMBERS : 0;
}

function edgeKey(seen, edge) {
  const { source, target, input, output, edge: row } = edge;
  return `${seen.nodes[source].id} ${seen.nodes[target].id} ${input} ${output} ${row} ${edge.through.join()}`;
}


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

function placesOfOne(model, state, seen) {
  const room = state.color ? BAR_ROOM : 0;
  const sizes = seen.nodes.map((node) => {
    const { width, height } = model.data.cards[node.card];
    return { width, height: height + room + roomBelow(model, model.frame(state.frame), node, state) };
  });
  const cuts = causesShown(model, seen);
  const pairs = [];
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

function causeSize(model, edge, isSideways) {
  const lines = model.data.edges[edge.edge].lines || [];
  const widths = lines.map((line) => line.reduce((sum, span) => sum + span[2], 0));
  if (isSideways) return { width: Math.max(...widths) + 2 * MARK_ROOM, height: 2 * (MARK_ROOM + CAUSE_LINE * lines.length) };
  return { width: 2 * (Math.max(...widths) + MARK_ROOM), height: 6 + CAUSE_LINE * lines.length };
}

function placesOfRun(model, state, seen, numbers) {
  const boxes = new Map();
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
  const pairs = [...links.values()].map(([a, b]) => [Number(at.get(a)), Number(at.get(b))]);
  const sizes = [...boxes.values()];
  const layout = layOutAlong(sizes, pairs, flowsSideways(state));
  const routes = new Map([...links.keys()].map((key, index) => [key, layout.routes[index]]));
  const spots = new Map(ids.map((id, place) => [id, { x: layout.xs[place], y: layout.ys[place], ...sizes[place] }]));
  return { width: layout.width, height: layout.height, boxes: spots, routes };
}

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

function causesShown(model, seen) {
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

function enclosuresOf(model, frame, state, nodes, edges, occupied) {
  if (nodes.length > MOST_ENCLOSED) return [];
  const inside = new Map();
  for (const node of nodes) {
    let group = node.again ? -1 : node.group >= 0 ? frame.groups[node.group].parent : frame.parent[node.node];
    for (; group >= 0; group = frame.groups[group].parent) inside.set(group, [...(inside.get(group) || []), node]);
  }
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
    const rect = [left - SIDE, top - BAND, Math.max(right, left + width(title)) + SIDE, bottom + SIDE];
    // No line may run along a side.
    for (const [side, sign] of [[0, -1], [2, 1]]) {
      for (let step = 0; step < 6 && occupied.along(rect[side], rect[1], rect[3]) > 6; step += 1) rect[side] += 5 * sign;
    }
    const isFree = nodes.every((node) => within.has(node) || !meet(boxOf(node), rect)) &&
      found.every((each) => nested.includes(each) || !meet(rectOf(each), rect));
    if (!isFree) continue;
    for (let x = rect[0] + SIDE; x + width(title) <= rect[2]; x += 6) {
      const text = [x - 3, rect[1] + 2, x + width(title), rect[1] + BAND - 2];
      if (occupied.hits(text, -1)) continue;
      occupied.add(text);
      found.push({ key, title, at: [x, rect[1] + 14], x: rect[0], y: rect[1], width: rect[2] - rect[0], height: rect[3] - rect[1] });
      break;
    }
  }
  return found;
}

const rectOf = ({ x, y, width, height }) => [x, y, x + width, y + height];

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
return { pictureOf };
})();
const $search = (() => {

const { shapeText } = $format;


function search(model, frame, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
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
return { search };
})();
const $search_box = (() => {

const { h } = $dom;
const { countText } = $format;
const { summaryOf } = $panel;


const MOST_FOUND = 50;

class SearchBox {
  hits = [];

  hit = -1;

  constructor(act) {
    this.act = act;
    this.found = h("ul", { class: "found", role: "listbox", id: "found", "aria-label": "found", hidden: true });
    this.field = h("input", {
      type: "search", placeholder: "Search  ( / )", "aria-label": "search by name, operation, module, shape or line", role: "combobox",
      "aria-expanded": "false", "aria-controls": "found", autocomplete: "off", spellcheck: "false",
      oninput: () => this.lookUp(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
      onblur: () => setTimeout(() => this.hide(), 150), onfocus: () => this.lookUp(),
    });
    this.element = h("div", { class: "search" }, this.field, this.found);
  }

  lookUp() {
    const text = this.field.value;
    const all = this.act.find(text);
    this.hits = all.slice(0, MOST_FOUND);
    this.hit = this.hits.length ? 0 : -1;
    this.found.hidden = !text.trim();
    this.field.setAttribute("aria-expanded", String(!this.found.hidden));
    const items = this.hits.map(({ id, row, module }, number) => h("li", {
      role: "option", id: `hit-${number}`, "aria-selected": String(number === this.hit),
      onpointerdown: (/** @type {Event} */ event) => {
        event.preventDefault();
        this.take(number);
      },
    }, h("span", {}, summaryOf(row, id)), h("small", { class: "muted" }, [module, row.source].filter(Boolean).join("  "))));
    const more = all.length > MOST_FOUND ? `the first ${MOST_FOUND} of ${countText(all.length)}` : "";
    const none = text.trim() && !all.length ? "nothing is found" : "";
    const note = more || none ? [h("li", { class: "muted", role: "option", "aria-disabled": "true", "aria-selected": "false" }, more || none)] : [];
    this.found.replaceChildren(...items, ...note);
    this.mark();
    this.act.say(text.trim() ? `${countText(all.length)} found` : "");
  }

  mark() {
    [...this.found.children].forEach((each, number) => each.setAttribute("aria-selected", String(number === this.hit)));
    if (this.hit >= 0) this.field.setAttribute("aria-activedescendant", `hit-${this.hit}`);
    else this.field.removeAttribute("aria-activedescendant");
    this.found.children[this.hit]?.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.hits.length) {
      event.preventDefault();
      this.hit = (this.hit + step + this.hits.length) % this.hits.length;
      this.mark();
    } else if (event.key === "Enter" && this.hit >= 0) this.take(this.hit);
    else if (event.key === "Escape") {
      this.hide();
      this.act.leave();
    }
  }

  take(number) {
    const { id } = this.hits[number];
    this.hide();
    this.act.take(id);
  }

  hide() {
    this.found.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
  }
}
return { SearchBox };
})();
const $draw_canvas = (() => {

const { drawEdge, drawNode } = $shapes;


const CELL = 800; // points
const READABLE = 0.34; // scale from which on text is drawn
const COARSE = 0.12; // scale below which boxes are plain and curves are straight

class Grid {
  constructor(picture) {
    this.picture = picture;
    this.columns = Math.max(1, Math.ceil(picture.width / CELL));
    this.rows = Math.max(1, Math.ceil(picture.height / CELL));
    this.nodes = Array.from({ length: this.columns * this.rows }, () => []);
    this.edges = Array.from({ length: this.columns * this.rows }, () => []);
    this.long = [];
    picture.nodes.forEach((node, at) => {
      const span = [node.x - node.width / 2, node.y - node.height / 2, node.x + node.width / 2, node.y + node.height / 2];
      for (const cell of this.cells(span[0], span[1], span[2], span[3])) this.nodes[cell].push(at);
    });
    picture.edges.forEach(({ route, before }, at) => {
      let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
      for (const points of before ? [route, before] : [route]) {
        for (let i = 0; i < points.length; i += 2) {
          left = Math.min(left, points[i]);
          right = Math.max(right, points[i]);
          top = Math.min(top, points[i + 1]);
          bottom = Math.max(bottom, points[i + 1]);
        }
      }
      const cells = this.cells(left, top, right, bottom);
      if (cells.length > 40) this.long.push(at);
      else for (const cell of cells) this.edges[cell].push(at);
    });
  }

  cells(left, top, right, bottom) {
    const clamp = (/** @type {number} */ value, /** @type {number} */ most) => Math.max(0, Math.min(most - 1, Math.floor(value / CELL)));
    const found = [];
    for (let row = clamp(top, this.rows); row <= clamp(bottom, this.rows); row += 1) {
      for (let column = clamp(left, this.columns); column <= clamp(right, this.columns); column += 1) {
        found.push(row * this.columns + column);
      }
    }
    return found;
  }

  within(left, top, right, bottom) {
    const nodes = new Set();
    const edges = new Set(this.long);
    for (const cell of this.cells(left, top, right, bottom)) {
      for (const node of this.nodes[cell]) nodes.add(node);
      for (const edge of this.edges[cell]) edges.add(edge);
    }
    return { nodes, edges };
  }

  at(x, y) {
    for (const cell of this.cells(x, y, x, y)) {
      for (const number of this.nodes[cell]) {
        const node = this.picture.nodes[number];
        if (Math.abs(node.x - x) <= node.width / 2 && Math.abs(node.y - y) <= node.height / 2) return number;
      }
    }
    return -1;
  }
}

class CanvasPen {
  constructor(context, colors, font) {
    this.context = context;
    this.colors = colors;
    this.font = font;
  }

  paint({ fill, edge, line, dashed }) {
    const { context, colors } = this;
    if (fill) {
      context.fillStyle = colors[fill];
      context.fill();
    }
    if (edge) {
      context.strokeStyle = colors[edge];
      context.lineWidth = line || 1;
      context.setLineDash(dashed ? [5, 3] : []);
      context.stroke();
    }
  }

  box(x, y, width, height, paint) {
    this.context.beginPath();
    const radius = Math.min(paint.radius || 0, width / 2, height / 2);
    if (radius > 0) this.context.roundRect(x, y, width, height, radius);
    else this.context.rect(x, y, width, height);
    this.paint(paint);
  }

  curve(points, paint) {
    this.context.beginPath();
    trace(this.context, points);
    this.paint({ ...paint, fill: undefined });
  }

  polygon(points, fill) {
    this.context.beginPath();
    this.context.moveTo(points[0], points[1]);
    for (let at = 2; at < points.length; at += 2) this.context.lineTo(points[at], points[at + 1]);
    this.context.closePath();
    this.paint({ fill });
  }

  text(text, x, y, { color, size, bold }) {
    this.context.font = `${bold ? "bold " : ""}${size}px ${this.font}`;
    this.context.fillStyle = this.colors[color];
    this.context.fillText(text, x, y);
  }
}

function trace(context, points) {
  context.moveTo(points[0], points[1]);
  for (let at = 2; at + 5 < points.length; at += 6) {
    context.bezierCurveTo(points[at], points[at + 1], points[at + 2], points[at + 3], points[at + 4], points[at + 5]);
  }
}

function drawCanvas(context, data, grid, camera, view) {
  const { picture } = grid;
  const { scale } = camera;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = view.colors.page;
  context.fillRect(0, 0, view.width * view.ratio, view.height * view.ratio);
  const zoom = scale * view.ratio;
  context.setTransform(zoom, 0, 0, zoom, -camera.x * zoom, -camera.y * zoom);
  const right = camera.x + view.width / scale;
  const bottom = camera.y + view.height / scale;
  const seen = grid.within(camera.x, camera.y, right, bottom);
  if (scale < READABLE) drawCoarse(context, data, picture, seen, scale, view.colors);
  else {
    const pen = new CanvasPen(context, view.colors, view.font);
    for (const number of seen.edges) drawEdge(pen, data, picture.edges[number]);
    for (const number of seen.nodes) drawNode(pen, data, picture.nodes[number]);
  }
  const chosen = picture.place.get(view.selected);
  if (chosen !== undefined) outline(context, picture.nodes[chosen], view.colors["leaf-edge"], 3 / scale);
  if (view.lit) for (const number of view.lit) outline(context, picture.nodes[number], view.colors.level, 1.5 / scale);
}

function outline(context, node, color, line) {
  context.setLineDash([]);
  context.strokeStyle = color;
  context.lineWidth = line;
  context.strokeRect(node.x - node.width / 2 - 3, node.y - node.height / 2 - 3, node.width + 6, node.height + 6);
}

function drawCoarse(context, data, picture, seen, scale, colors) {
  context.setLineDash([]);
  for (const isCut of [false, true]) {
    context.beginPath();
    for (const number of seen.edges) {
      const { route, row } = picture.edges[number];
      if ((row.kind === "cut") !== isCut) continue;
      if (scale < COARSE) {
        context.moveTo(route[0], route[1]);
        for (let at = 6; at < route.length; at += 6) context.lineTo(route[at], route[at + 1]);
      } else trace(context, route);
    }
    context.strokeStyle = colors[isCut ? "cut" : "line"];
    context.lineWidth = Math.max(1.3, 0.6 / scale);
    context.stroke();
  }
  const byColor = new Map();
  for (const number of seen.nodes) {
    const node = picture.nodes[number];
    const look = node.card.look || data.looks[node.card.kind];
    const token = node.bar ? node.bar.token : scale < COARSE ? look.edge : look.head === "page" ? look.body : look.head;
    const list = byColor.get(token);
    if (list) list.push(number);
    else byColor.set(token, [number]);
  }
  for (const [token, numbers] of byColor) {
    context.beginPath();
    for (const number of numbers) {
      const { x, y, width, height } = picture.nodes[number];
      context.rect(x - width / 2, y - height / 2, width, height);
    }
    context.fillStyle = colors[token];
    context.fill();
    if (scale < COARSE) continue;
    context.strokeStyle = colors["op-edge"];
    context.lineWidth = 1.2;
    context.stroke();
  }
}
return { Grid, drawCanvas };
})();
const $stage = (() => {

const { Grid, drawCanvas } = $draw_canvas;
const { elementId, fillSvg, svgElement } = $draw_svg;
const { h } = $dom;


const MOST_IN_SVG = 3000; // nodes that are drawn as elements
const LEAST = 0.0005;
const MOST = 4;
const NEARLY = 0.9; // part of a picture in view from which on no small picture of the whole covers it
const MARGIN = 28; // pixels around a picture that fits
const LARGEST = 1.25; // scale at which a small picture is fitted
const WHOLE = 0.66; // a first picture that needs no smaller scale is shown as a whole
const SMALLEST = 0.82; // scale of a first picture that is larger than the stage: text of 9 pixels
const NARROW = 820; // on a narrower stage a picture of text of 7 pixels is better than one cut at its sides

const DARK = matchMedia("(prefers-color-scheme: dark)");

class Stage {
  constructor(data, act) {
    this.data = data;
    this.act = act;
    this.picture = null;
    this.camera = { x: 0, y: 0, scale: 1 };
    this.selected = "";
    this.lit = null;
    this.grid = null;
    this.palettes = [0, 1].map((scheme) => Object.fromEntries(Object.entries(data.palette).map(([token, pair]) => [token, pair[scheme]])));
    this.scene = svgElement("g");
    this.svg = svgElement("svg", { class: "drawing" });
    this.svg.append(this.scene);
    this.canvas = h("canvas", { class: "drawing", hidden: true });
    this.map = h("canvas", { class: "minimap", hidden: true, "aria-hidden": "true" });
    this.element = h("div", {
      class: "stage", tabindex: "0", role: "application", "aria-label": act.label,
      "aria-roledescription": "graph",
    }, this.svg, this.canvas, this.map);
    this.fingers = new Map();
    this.moved = 0;
    this.frame = 0;
    this.listen();
  }

  get size() {
    if (!this.known) this.known = { width: this.element.clientWidth || 800, height: this.element.clientHeight || 600 };
    return this.known;
  }

  known = null;

  get isCanvas() {
    return this.picture !== null && this.picture.nodes.length > MOST_IN_SVG;
  }

  show(picture, how = {}) {
    const before = this.picture;
    this.picture = picture;
    this.lit = null;
    this.hovered = "";
    this.svg.classList.remove("lighting");
    const { anchor } = how;
    const now = anchor && picture.place.get(anchor.id);
    if (anchor && now !== undefined) {
      const node = picture.nodes[now];
      this.camera.x += node.x - anchor.x;
      this.camera.y += node.y - anchor.y;
    }
    this.grid = null;
    this.canvas.hidden = !this.isCanvas;
    this.svg.toggleAttribute("hidden", this.isCanvas);
    if (this.isCanvas) this.scene.replaceChildren();
    else {
      fillSvg(this.scene, this.data, picture, this.act.nameOf);
      if (before && how.animate) this.slide(before, picture, anchor && now !== undefined ? { x: picture.nodes[now].x - anchor.x, y: picture.nodes[now].y - anchor.y } : { x: 0, y: 0 });
    }
    this.mark(this.selected);
    this.redraw();
  }

  slide(before, now, shift) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || now.nodes.length > 600) return;
    for (const element of this.scene.querySelectorAll(".node")) {
      const id = element.getAttribute("data-id") || "";
      const old = before.place.get(id);
      const node = now.nodes[/** @type {number} */ (now.place.get(id))];
      if (old === undefined) {
        element.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 160 });
        continue;
      }
      const dx = before.nodes[old].x - node.x + shift.x;
      const dy = before.nodes[old].y - node.y + shift.y;
      if (Math.hypot(dx, dy) < 1) continue;
      element.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: 160, easing: "ease-out" });
    }
    for (const element of this.scene.querySelectorAll(".edges, .enclosures")) {
      element.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 180 });
    }
  }

  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    const { x, y, scale } = this.camera;
    this.scene.setAttribute("transform", `scale(${scale}) translate(${-x} ${-y})`);
    if (this.isCanvas && this.picture) {
      if (!this.grid) this.grid = new Grid(this.picture);
      const ratio = window.devicePixelRatio || 1;
      const { width, height } = this.size;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
      }
      const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
      drawCanvas(context, this.data, this.grid, this.camera, {
        width, height, ratio, colors: this.colors(), font: getComputedStyle(this.element).fontFamily,
        selected: this.selected, lit: this.lit,
      });
    }
    this.drawMap();
  }

  colors() {
    const { theme } = document.documentElement.dataset;
    const isDark = theme === "dark" || (theme === "auto" && DARK.matches);
    return this.palettes[Number(isDark)];
  }

  drawMap() {
    const { picture } = this;
    const { width, height } = this.size;
    if (!picture) return;
    const { x, y, scale } = this.camera;
    const inView = (/** @type {number} */ from, /** @type {number} */ length, /** @type {number} */ all) =>
      (Math.min(all, from + length) - Math.max(0, from)) / Math.max(1, all);
    const isWhole = Math.min(inView(x, width / scale, picture.width), inView(y, height / scale, picture.height)) > NEARLY;
    this.map.hidden = isWhole || width < 260 || height < 150;
    if (this.map.hidden) return;
    const ratio = Math.min(Math.min(150, width / 5) / picture.width, Math.min(120, height / 4) / picture.height);
    const [mapWidth, mapHeight] = [Math.max(24, picture.width * ratio), Math.max(24, picture.height * ratio)];
    this.map.width = Math.round(mapWidth);
    this.map.height = Math.round(mapHeight);
    const context = /** @type {CanvasRenderingContext2D} */ (this.map.getContext("2d"));
    const colors = this.colors();
    context.fillStyle = colors.page;
    context.fillRect(0, 0, mapWidth, mapHeight);
    const every = Math.ceil(picture.nodes.length / 4000);
    for (let at = 0; at < picture.nodes.length; at += every) {
      const node = picture.nodes[at];
      context.fillStyle = colors[(node.card.look || this.data.looks[node.card.kind]).edge];
      context.fillRect((node.x - node.width / 2) * ratio, (node.y - node.height / 2) * ratio, Math.max(1, node.width * ratio), Math.max(1, node.height * ratio));
    }
    context.strokeStyle = colors.ink;
    context.lineWidth = 1.5;
    context.strokeRect(x * ratio + 0.5, y * ratio + 0.5, (width / scale) * ratio, (height / scale) * ratio);
  }

  fit(isFirst) {
    const { picture } = this;
    if (!picture) return;
    this.isReadable = Boolean(isFirst);
    const { width, height } = this.size;
    const wide = (width - 2 * MARGIN) / Math.max(1, picture.width);
    const high = (height - 2 * MARGIN) / Math.max(1, picture.height);
    const whole = Math.min(wide, high);
    const isWidthShown = width < NARROW && !picture.isSideways && wide >= WHOLE;
    const inPart = isWidthShown ? Math.min(wide, SMALLEST) : SMALLEST;
    const scale = Math.max(LEAST, Math.min(LARGEST, isFirst && whole < WHOLE ? inPart : whole));
    const at = picture.place.get(this.start.id);
    const node = at === undefined ? { x: picture.width / 2, y: picture.height / 2 } : picture.nodes[at];
    const pad = MARGIN / scale;
    const begin = (middle, shown, all, isAlong) => {
      if (all + 2 * pad <= shown + 1) return all / 2 - shown / 2;
      return isAlong && !this.start.isMiddle ? -pad : Math.max(-pad, Math.min(all + pad - shown, middle - shown / 2));
    };
    this.camera = {
      x: begin(node.x, width / scale, picture.width, picture.isSideways),
      y: begin(node.y, height / scale, picture.height, !picture.isSideways),
      scale,
    };
    this.redraw();
  }

  start = { id: "", isMiddle: false };

  isReadable = true;

  isTouched = false;

  zoom(factor, left, top) {
    this.isTouched = true;
    const { width, height } = this.size;
    const [px, py] = [left ?? width / 2, top ?? height / 2];
    const { x, y, scale } = this.camera;
    const next = Math.max(LEAST, Math.min(MOST, scale * factor));
    this.camera = { x: x + px / scale - px / next, y: y + py / scale - py / next, scale: next };
    this.redraw();
  }

  pan(dx, dy) {
    this.isTouched = true;
    this.camera.x += dx / this.camera.scale;
    this.camera.y += dy / this.camera.scale;
    this.redraw();
  }

  reveal(id, center) {
    const at = this.picture ? this.picture.place.get(id) : undefined;
    if (at === undefined || !this.picture) return;
    this.isTouched = true;
    const node = this.picture.nodes[at];
    const { width, height } = this.size;
    if (center && this.camera.scale < 0.4) this.camera.scale = 0.8;
    const { scale } = this.camera;
    const [w, hh] = [width / scale, height / scale];
    const pad = 24 / scale;
    if (center) {
      this.camera.x = node.x - w / 2;
      this.camera.y = node.y - hh / 2;
    } else {
      this.camera.x = Math.min(Math.max(this.camera.x, node.x + node.width / 2 + pad - w), node.x - node.width / 2 - pad);
      this.camera.y = Math.min(Math.max(this.camera.y, node.y + node.height / 2 + pad - hh), node.y - node.height / 2 - pad);
    }
    this.redraw();
  }

  mark(id) {
    this.selected = id;
    for (const element of this.scene.querySelectorAll(".node.selected")) element.classList.remove("selected");
    const picture = this.picture;
    if (!picture) return;
    for (const node of picture.nodes) {
      const isSame = node.id === id || (node.again && id !== "" && node.id.startsWith(`${id}~`));
      if (isSame && !this.isCanvas) {
        const element = this.scene.querySelector(`#${elementId(node.id)}`);
        if (element) element.classList.add("selected");
      }
    }
    const isThere = picture.place.has(id) && !this.isCanvas;
    if (isThere) this.element.setAttribute("aria-activedescendant", elementId(id));
    else this.element.removeAttribute("aria-activedescendant");
    this.redraw();
  }

  light(id) {
    const { picture } = this;
    const at = picture && id ? picture.place.get(id) : undefined;
    if (!picture || at === undefined) {
      this.svg.classList.remove("lighting");
      if (this.lit) {
        this.lit = null;
        this.redraw();
      }
      return;
    }
    const { nodes, edges } = pathThrough(picture, at);
    if (this.isCanvas) {
      this.lit = nodes;
      this.redraw();
      return;
    }
    this.svg.classList.add("lighting");
    this.scene.querySelectorAll(".node").forEach((element, number) => element.classList.toggle("lit", nodes.has(number)));
    this.scene.querySelectorAll(".edge").forEach((element, number) => element.classList.toggle("lit", edges.has(number)));
  }

  idAt(event) {
    if (!this.isCanvas || !this.grid || !this.picture) {
      const target = /** @type {Element} */ (event.target);
      const element = target.closest("[data-id]");
      return element ? element.getAttribute("data-id") || "" : "";
    }
    const box = this.element.getBoundingClientRect();
    const { x, y, scale } = this.camera;
    const at = this.grid.at(x + (event.clientX - box.left) / scale, y + (event.clientY - box.top) / scale);
    return at < 0 ? "" : this.picture.nodes[at].id;
  }

  listen() {
    const { element } = this;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      const unit = event.deltaMode === 1 ? 16 : 1;
      if (event.ctrlKey || event.metaKey || (event.deltaX === 0 && Math.abs(event.deltaY * unit) >= 80)) {
        const factor = Math.exp(-Math.max(-240, Math.min(240, event.deltaY * unit)) * (event.ctrlKey ? 0.01 : 0.0018));
        this.zoom(factor, event.clientX - box.left, event.clientY - box.top);
      } else this.pan(event.deltaX * unit, event.deltaY * unit);
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      if (event.target === this.map) return;
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.moved = 0;
    });
    element.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      element.addEventListener(name, (event) => this.fingers.delete(/** @type {PointerEvent} */ (event).pointerId));
    }
    element.addEventListener("click", (event) => {
      if (event.target === this.map || this.moved > 4) return;
      this.act.select(this.idAt(event));
    });
    element.addEventListener("dblclick", (event) => {
      const id = this.idAt(event);
      if (id) this.act.open(id);
    });
    element.addEventListener("pointerleave", () => this.light(""));
    this.map.addEventListener("pointerdown", (event) => this.jump(event));
    this.map.addEventListener("pointermove", (event) => {
      if (event.buttons) this.jump(event);
    });
    // A page that was hidden at first has a size only now.
    new ResizeObserver(() => {
      this.known = null;
      if (this.isTouched) this.redraw();
      else this.fit(this.isReadable);
    }).observe(element);
  }

  drag(event) {
    const finger = this.fingers.get(event.pointerId);
    if (!finger) {
      if (event.pointerType === "mouse") this.hover(this.idAt(event));
      return;
    }
    const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y];
    const others = [...this.fingers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    if (others.length) {
      const [other] = others;
      const before = Math.hypot(finger.x - other.x, finger.y - other.y);
      const now = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      const box = this.element.getBoundingClientRect();
      if (before > 10) this.zoom(now / before, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
      this.pan(-dx / 2, -dy / 2);
    } else this.pan(-dx, -dy);
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.moved > 4) {
      this.element.setPointerCapture(event.pointerId);
      this.element.classList.add("dragging");
      setTimeout(() => this.element.classList.remove("dragging"), 300);
    }
    finger.x = event.clientX;
    finger.y = event.clientY;
  }

  hovered = "";

  hover(id) {
    if (id === this.hovered) return;
    this.hovered = id;
    this.light(id);
  }

  jump(event) {
    const { picture } = this;
    if (!picture) return;
    const box = this.map.getBoundingClientRect();
    const { width, height } = this.size;
    this.camera.x = ((event.clientX - box.left) / box.width) * picture.width - width / 2 / this.camera.scale;
    this.camera.y = ((event.clientY - box.top) / box.height) * picture.height - height / 2 / this.camera.scale;
    this.redraw();
  }
}

function pathThrough(picture, start) {
  const nodes = new Set([start]);
  const edges = new Set();
  for (const isBack of [true, false]) {
    const lists = new Map();
    picture.edges.forEach((edge, number) => {
      if (edge.row.kind !== "gradient") return;
      const from = isBack ? edge.target : edge.source;
      const list = lists.get(from);
      if (list) list.push(number);
      else lists.set(from, [number]);
    });
    const seen = new Set([start]);
    const stack = [start];
    while (stack.length) {
      const node = /** @type {number} */ (stack.pop());
      for (const number of lists.get(node) || []) {
        edges.add(number);
        const next = isBack ? picture.edges[number].source : picture.edges[number].target;
        if (seen.has(next)) continue;
        seen.add(next);
        nodes.add(next);
        stack.push(next);
      }
    }
  }
  return { nodes, edges };
}
return { MOST_IN_SVG, Stage, pathThrough };
})();
const $story = (() => {

const { h, button } = $dom;
const { countText, counted, numberText } = $format;
const { svgElement } = $draw_svg;
const { changesText, titleOf } = $panel;


const WIDTH = 1000;
const HEIGHT = 44;
const MOST_CHANGES = 40;
const MOST_ALIKE = 5; // operations with the same change that are listed one by one

const PHASES = {
  forward: "forward", "after backward": "backward", "failed backward": "backward failed",
  "refused backward": "backward refused",
  "after step": "step", "after gradient change": "gradients changed",
  "after autograd.grad": "autograd.grad", mark: "mark", error: "error", end: "end", snapshot: "snapshot",
};

function phaseOf(kind) {
  return PHASES[kind] || kind;
}

const LOSSES = new WeakMap();

function lossOf(model) {
  const known = LOSSES.get(model);
  if (known) return known;
  const names = [], values = [];
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

function lineOf(model) {
  const { name, names, values } = lossOf(model);
  const found = values.map((value, at) => (names[at] === name && Number.isFinite(value) ? value : null));
  const known = found.filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known);
  return known.length > 1 && low < high ? { name, values: found, low, high } : null;
}

function stripElement(model, current, go) {
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

function addLoss(model, root, step) {
  const line = lineOf(model);
  if (!line) return;
  const { values, low, high } = line;
  const points = values.flatMap((value, at) => (value === null ? [] : [`${(at + 0.5) * step},${16 - ((value - low) / (high - low)) * 14}`]));
  root.append(svgElement("polyline", { points: points.join(" "), class: "loss", "vector-effect": "non-scaling-stroke" }));
}

function storyElement(model, current, isPlaying, act) {
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
      button("\u25c0", "the frame before ([)", () => act.go(current - 1), { "aria-label": "back", ...(current === 0 ? { disabled: true } : {}) }),
      button(isPlaying ? "\u275a\u275a" : "\u25b6\u25b6", "play through the frames (space)", act.play, { "aria-label": isPlaying ? "pause" : "play" }),
      button("\u25b6", "the next frame (])", () => act.go(current + 1), { "aria-label": "next", ...(current === model.count - 1 ? { disabled: true } : {}) }),
      slider,
      h("output", {}, `${current + 1} of ${model.count}`)),
    stripElement(model, current, act.go),
    phasesElement(model),
    h("p", { class: "moment" }, h("strong", {}, frame.title || phaseOf(frame.kind)), frame.caption ? ` ${frame.caption}` : "",
      text ? h("span", { class: "muted" }, `  ${text}`) : ""));
}

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

function changesElement(model, number, select) {
  const frame = model.frame(number);
  const shown = new Map(frame.relabel.map(([node, card]) => [node, model.data.cards[card].head[0][0]]));
  const changed = frame.keys.flatMap((key, node) => {
    const row = model.row(frame, node);
    return row.changes ? [{ key, row: shown.has(node) ? { ...row, op: shown.get(node) } : row }] : [];
  });
  if (!changed.length) return null;
  // What happened to many operations alike is one line, after the others: that they were freed.
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

function codeElement(model, number, chosen, select) {
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

function answersElement(model, selected, select) {
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
return { phaseOf, lossOf, stripElement, storyElement, changesElement, codeElement, answersElement };
})();
const $app = (() => {

const { drawGlyph, svgElement } = $draw_svg;
const { button, check, h } = $dom;
const { ExportMenu } = $export_menu;
const { countText } = $format;
const { groupId, isOpen, nodesOf, seenGraph } = $folding;
const { Model, readIsland } = $graph;
const { isTyping, nextNode } = $keys;
const { below, memoryElement, moduleTree, treeElement } = $modules;
const { detailsOf, summaryOf } = $panel;
const { pictureOf } = $scene;
const { search } = $search;
const { SearchBox } = $search_box;
const { Stage } = $stage;
const { address, firstState, fromHash, toHash } = $state;
const { answersElement, changesElement, codeElement, storyElement } = $story;


const PLAY = 900; // milliseconds a frame is shown when they are played
const COLORS = [["", "nothing"], ["grad_norm", "gradient norm"], ["saved_bytes", "saved bytes"],
  ["dtype", "dtype"], ["device", "device"], ["module", "module"]];
const TABS = { details: "Details", modules: "Modules", answers: "Explain", memory: "Memory", code: "Code" };

class Viewer {
  constructor(data, root) {
    this.data = data;
    this.model = new Model(data);
    this.first = firstState(data);
    this.state = fromHash(address(), this.first, this.model.count);
    this.playing = 0;
    this.root = root;
    this.picture = pictureOf(this.model, this.state);
    this.stage = new Stage(data, {
      select: (id) => this.select(id),
      open: (id) => this.toggle(id),
      nameOf: (id) => this.summary(id),
      label: `graph of ${data.title || "what autograd recorded"}: arrow keys go along its edges, Enter opens a group, ? lists the keys`,
    });
    this.build();
    this.apply();
    this.stage.start = this.startOf();
    this.stage.show(this.picture);
    this.stage.fit(true);
    if (this.state.selected) this.stage.reveal(this.state.selected, true);
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("hashchange", () => this.change(fromHash(address(), this.first, this.model.count), {}));
  }

  get frame() {
    return this.model.frame(this.state.frame);
  }

  build() {
    const { data } = this;
    this.search = new SearchBox({
      find: (text) => search(this.model, this.frame, text),
      take: (id) => this.takeFound(id),
      leave: () => this.stage.element.focus(),
      say: (text) => this.say(text),
    });
    this.themeButton = button("\u25d0", "light, dark, or as the system", () => this.nextTheme());
    this.said = h("p", { class: "visually-hidden", role: "status", "aria-live": "polite" });
    this.toolbar = h("div", { class: "toolbar", role: "toolbar", "aria-label": "what is drawn" });
    this.legend = h("ul", { class: "legend", "aria-label": "legend", tabindex: "0" });
    this.notes = h("div", { class: "notes", tabindex: "0", role: "region", "aria-label": "notes" });
    this.tree = h("nav", { class: "modules", "aria-label": "modules" });
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "pages of the panel" });
    this.page = h("div", { class: "page", role: "tabpanel", id: "panel-page", tabindex: "0" });
    this.story = h("footer", { class: "story" });
    this.help = h("dialog", { class: "help", "aria-label": "keys" });
    const zoom = h("div", { class: "zoom", role: "group", "aria-label": "zoom" },
      button("+", "closer (+)", () => this.stage.zoom(1.3), { "aria-label": "closer" }),
      button("\u2212", "farther (-)", () => this.stage.zoom(1 / 1.3), { "aria-label": "farther" }),
      button("Fit", "the whole picture (f)", () => this.stage.fit()));
    this.root.replaceChildren(
      h("header", {},
        h("h1", {}, data.title || data.target || "What autograd recorded"),
        this.search.element,
        new ExportMenu(this).element, this.themeButton, button("?", "the keys", () => this.showHelp(), { "aria-label": "help" })),
      h("div", { class: "columns" }, this.tree,
        h("main", { class: "center" }, this.toolbar, h("div", { class: "frame" }, this.stage.element, zoom), this.legend, this.notes),
        h("aside", { class: "panel", "aria-label": "panel" }, this.tabs, this.page)),
      this.story, this.said, this.help);
  }

  summary(id) {
    const at = this.picture.place.get(id);
    return at === undefined ? id : summaryOf(this.picture.nodes[at].row, id);
  }

  say(text) {
    if (this.said) this.said.textContent = text;
  }

  change(changes, how) {
    const before = this.state;
    this.state = { ...before, ...changes };
    const names = /** @type {Array<keyof State>} */ (["frame", "toggled", "bookkeeping", "everything", "only", "color", "rankdir"]);
    if (names.some((name) => before[name] !== this.state[name])) {
      const anchor = this.anchorOf(how.anchor || this.state.selected);
      this.picture = pictureOf(this.model, this.state);
      if (how.choose) this.state.selected = how.choose();
      const isSteady = before.frame !== this.state.frame;
      this.stage.selected = this.state.selected;
      this.stage.start = this.startOf();
      this.stage.show(this.picture, { anchor: this.kept(anchor), animate: !isSteady });
      const { frames } = this.data;
      const isOther = frames[before.frame].run !== frames[this.state.frame].run;
      if (how.fit || isOther || before.rankdir !== this.state.rankdir) this.stage.fit(true);
      else this.stage.isTouched = true;
    }
    this.apply();
    if (how.reveal) this.stage.reveal(how.reveal, how.center);
  }

  startOf() {
    const wrong = this.model.count > 1 ? [] : this.data.answers.filter((answer) => !answer.is_fine);
    const ids = wrong.flatMap(({ culprit, nodes }) => [culprit || "", ...(nodes || [])]).map((id) => this.shownAs(id));
    const found = ids.find((id) => this.picture.place.has(id));
    const result = this.picture.nodes.find((node) => node.row.root !== undefined);
    return found ? { id: found, isMiddle: true } : { id: result ? result.id : "", isMiddle: false };
  }

  anchorOf(id) {
    const at = this.picture.place.get(id);
    if (at !== undefined) return [{ id, x: this.picture.nodes[at].x, y: this.picture.nodes[at].y }];
    const { camera, size } = this.stage;
    const [x, y] = [camera.x + size.width / 2 / camera.scale, camera.y + size.height / 2 / camera.scale];
    return this.picture.nodes
      .map((node) => ({ id: node.id, x: node.x, y: node.y, far: Math.hypot(node.x - x, node.y - y) }))
      .sort((a, b) => a.far - b.far).slice(0, 30);
  }

  kept(anchors) {
    for (const anchor of anchors) {
      if (this.picture.place.has(anchor.id)) return anchor;
      const inside = nodesOf(this.frame, anchor.id).map((node) => this.frame.keys[node]);
      const seen = inside.map((key) => this.shownAs(key)).find((id) => this.picture.place.has(id));
      if (seen) return { ...anchor, id: seen };
    }
    return undefined;
  }

  shownAs(key) {
    if (this.picture.place.has(key)) return key;
    const node = this.frame.place.get(key);
    const parent = node === undefined ? -1 : this.frame.parent[node];
    return parent >= 0 ? this.picture.shownAs.get(this.frame.groups[parent].key) || key : key;
  }

  select(id) {
    const plain = id.replace(/~\d+$/, "");
    const chosen = this.picture.place.has(id) && !this.picture.place.has(plain) ? id : plain;
    const isTold = this.state.tab === "answers" || this.state.tab === "code" || this.state.tab === "memory";
    this.change({ selected: chosen, ...(isTold || !chosen ? {} : { tab: this.state.tab === "modules" ? "modules" : "details" }) }, {});
    if (chosen) this.say(this.summary(chosen));
  }

  goTo(id) {
    const toggled = new Set(this.state.toggled);
    const { groups } = this.frame;
    const group = id.startsWith("@") ? this.frame.groupPlace.get(id.slice(1)) : undefined;
    const node = this.frame.place.get(id);
    for (const around of this.aroundOf(id)) {
      const each = groups[around];
      if (toggled.has(each.key) === each.isOpen) toggleIn(toggled, each.key);
    }
    if (group !== undefined && toggled.has(groups[group].key) !== groups[group].isOpen) toggleIn(toggled, groups[group].key);
    const isLeftOut = node !== undefined && this.frame.parent[node] === -2;
    const isHidden = node !== undefined && this.frame.hidden.includes(node);
    const isSame = toggled.size === this.state.toggled.size && [...toggled].every((key) => this.state.toggled.has(key));
    const isOnly = Boolean(this.state.only) && this.state.only !== id;
    this.change({
      selected: id,
      toggled: isSame ? this.state.toggled : toggled,
      bookkeeping: this.state.bookkeeping || isHidden,
      everything: this.state.everything || isLeftOut,
      only: isOnly ? "" : this.state.only,
    }, { reveal: id, center: true });
    this.say(this.summary(id));
  }

  toggle(id) {
    if (!id.startsWith("@")) return;
    const key = id.slice(1);
    const group = this.frame.groupPlace.get(key);
    if (group === undefined) return;
    const toggled = new Set(this.state.toggled);
    toggleIn(toggled, key);
    const choose = () => {
      const inside = this.picture.nodes.filter((node) => this.aroundOf(node.id).includes(group));
      const [first] = inside.sort((a, b) => a.y - b.y);
      return this.picture.place.has(id) || !first ? id : first.id;
    };
    this.change({ toggled, selected: id }, { anchor: id, choose });
    this.stage.reveal(this.state.selected);
    this.say(`opened: ${countText(this.picture.nodes.length)} nodes are drawn`);
  }

  aroundOf(id) {
    const plain = id.replace(/~\d+$/, "");
    const { groups } = this.frame;
    const group = plain.startsWith("@") ? this.frame.groupPlace.get(plain.slice(1)) : undefined;
    const node = this.frame.place.get(plain);
    const found = [];
    let parent = group !== undefined ? groups[group].parent : node !== undefined ? this.frame.parent[node] : -1;
    for (; parent >= 0; parent = groups[parent].parent) found.push(parent);
    return found;
  }

  close() {
    const [group] = this.aroundOf(this.state.selected);
    if (group === undefined) return;
    const { key } = this.frame.groups[group];
    const toggled = new Set(this.state.toggled);
    toggleIn(toggled, key);
    const id = groupId(key);
    this.change({ toggled, selected: id }, { anchor: this.state.selected });
    if (this.picture.place.has(id)) this.stage.reveal(id);
    this.say(`closed: ${this.summary(id)}`);
  }

  openAll(id) {
    const group = this.frame.groupPlace.get(id.slice(1));
    if (group === undefined) return;
    const like = (/** @type {number} */ number) => {
      const row = this.model.groupRow(this.frame, number);
      return `${(row.name || row.op || "").replace(/\d+/g, "#")} ${row.members || 0}`;
    };
    const wanted = like(group);
    const toggled = new Set(this.state.toggled);
    this.frame.groups.forEach((each, number) => {
      if (like(number) === wanted && !isOpen(each, this.state)) toggleIn(toggled, each.key);
    });
    this.change({ toggled }, { anchor: id });
  }

  setAll(open) {
    const toggled = new Set();
    for (const group of this.frame.groups) if (group.isOpen !== open) toggled.add(group.key);
    const state = { ...this.state, toggled };
    const count = open ? seenGraph(this.model, this.frame, state).nodes.length : 0;
    if (count > 20000 && !confirm(`${countText(count)} nodes will be drawn, which takes some seconds.`)) return;
    this.change({ toggled }, { fit: true });
  }

  selectModule(path) {
    const root = moduleTree(this.model, this.frame);
    let at = root;
    for (const part of path.split(".")) at = at.inside.get(part) || at;
    const nodes = new Set(below(at));
    const named = this.frame.groups.findIndex((_, number) => this.model.groupRow(this.frame, number).module === path);
    const isClosed = named >= 0 && this.picture.place.has(groupId(this.frame.groups[named].key));
    if (isClosed) {
      this.change({ selected: groupId(this.frame.groups[named].key) }, { reveal: groupId(this.frame.groups[named].key), center: true });
      return;
    }
    const seen = [...nodes].filter((node) => !this.frame.hidden.includes(node)).map((node) => this.shownAs(this.frame.keys[node]));
    const id = seen.find((each) => this.picture.place.has(each));
    if (id) this.change({ selected: id }, { reveal: id, center: true });
    else if (nodes.size) this.goTo(this.frame.keys[[...nodes][0]]);
  }

  get module() {
    const at = this.picture.place.get(this.state.selected);
    if (at !== undefined) return this.picture.nodes[at].module;
    const node = this.frame.place.get(this.state.selected);
    return node === undefined ? "" : this.frame.module[node];
  }

  selectLine(source) {
    const node = this.frame.keys.findIndex((_, each) => this.model.row(this.frame, each).source === source);
    if (node < 0) return;
    const seen = this.shownAs(this.frame.keys[node]);
    if (this.picture.place.has(seen)) this.change({ selected: seen }, { reveal: seen, center: true });
    else this.goTo(this.frame.keys[node]);
  }

  go(frame) {
    if (frame < 0 || frame >= this.model.count || frame === this.state.frame) return;
    this.change({ frame }, {});
    const { title, caption, kind } = this.model.data.frames[frame];
    this.say(`frame ${frame + 1} of ${this.model.count}: ${title || kind}. ${caption}`);
  }

  play() {
    if (this.playing) {
      clearInterval(this.playing);
      this.playing = 0;
    } else {
      if (this.state.frame === this.model.count - 1) this.go(0);
      this.playing = window.setInterval(() => {
        if (this.state.frame === this.model.count - 1) this.play();
        else this.go(this.state.frame + 1);
      }, PLAY);
    }
    this.apply();
  }

  nextTheme() {
    const order = ["auto", "light", "dark"];
    this.change({ theme: order[(order.indexOf(this.state.theme) + 1) % 3] }, {});
    this.stage.redraw();
    this.say(`theme: ${this.state.theme}`);
  }

  apply() {
    const { state, model } = this;
    document.documentElement.dataset.theme = state.theme;
    if (this.themeButton) this.themeButton.setAttribute("aria-label", `theme: ${state.theme}`);
    this.stage.mark(state.selected);
    this.applyToolbar();
    this.applyLegend();
    this.applyPanel();
    if (this.story && model.count > 1) {
      const focused = document.activeElement && this.story.contains(document.activeElement) ? document.activeElement.tagName : "";
      const label = document.activeElement && document.activeElement.getAttribute("aria-label");
      this.story.replaceChildren(storyElement(model, state.frame, Boolean(this.playing), { go: (frame) => this.go(frame), play: () => this.play() }));
      if (focused) {
        const again = [...this.story.querySelectorAll("button, input")].find((each) => each.getAttribute("aria-label") === label);
        if (again) /** @type {HTMLElement} */ (again).focus();
      }
    }
    try {
      const hash = toHash(state, this.first);
      if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
    } catch {
      // a page without an address of its own, such as one in a sandbox
    }
  }

  applyToolbar() {
    const { state, frame } = this;
    const focused = document.activeElement && document.activeElement.id;
    const closed = frame.groups.some((group) => !isOpen(group, state));
    const opened = frame.groups.some((group) => isOpen(group, state));
    const options = COLORS.map(([value, text]) => h("option", { value, selected: value === state.color }, text));
    const children = [
      h("label", {}, "Color by ", h("select", {
        id: "color-by", onchange: (/** @type {Event} */ event) => this.change({ color: /** @type {HTMLSelectElement} */ (event.target).value }, {}),
      }, ...options)),
      frame.hidden.length ? check("bookkeeping", "Bookkeeping", "views, transposes and AccumulateGrad nodes", state.bookkeeping, (on) => this.change({ bookkeeping: on }, {})) : null,
      frame.parent.some((parent, node) => parent === -2 && !frame.hidden.includes(node))
        ? check("everything", "What is left out", "nodes that this picture does not show", state.everything, (on) => this.change({ everything: on }, {})) : null,
      check("sideways", "Left to right", "the data flows from left to right, not from top to bottom", state.rankdir === "LR", (on) => this.change({ rankdir: on ? "LR" : "TB" }, {})),
      closed ? button("Open all", "show everything, each operation as a box", () => this.setAll(true)) : null,
      opened ? button("Close all", "draw groups as boxes", () => this.setAll(false)) : null,
      state.toggled.size ? button("Reset", "the groups as in the first picture", () => this.change({ toggled: new Set() }, { fit: true })) : null,
      state.only ? button(`Only paths through ${this.shortName(state.only)} \u2715`, "show everything again", () => this.change({ only: "" }, { reveal: state.only })) : null,
    ];
    if (!this.toolbar) return;
    this.toolbar.replaceChildren(...children.filter((child) => child !== null));
    const again = focused ? document.getElementById(focused) : null;
    if (again && this.toolbar.contains(again)) again.focus();
  }

  shortName(id) {
    const node = this.frame.place.get(id);
    const group = this.frame.groupPlace.get(id.slice(1));
    const row = node !== undefined ? this.model.row(this.frame, node) : group !== undefined ? this.model.groupRow(this.frame, group) : null;
    return row ? row.name || row.op || id : id;
  }

  applyLegend() {
    const rows = this.picture.legend.map(([word, meaning]) => {
      const glyph = svgElement("svg", { width: "24", height: "16", viewBox: "-1 0 24 16", "aria-hidden": "true" });
      drawGlyph(glyph, this.data, word, 0, 8);
      return h("li", {}, glyph.childElementCount ? glyph : "", meaning);
    });
    if (this.legend) {
      this.legend.replaceChildren(...rows);
      this.legend.hidden = !this.data.hasLegend;
    }
    const caption = this.model.count === 1 && this.frame.caption ? [h("p", {}, this.frame.caption)] : [];
    const isFirst = !this.state.toggled.size && !this.state.only && !this.state.bookkeeping && !this.state.everything;
    const notes = [...(isFirst ? this.frame.notes : []), ...this.data.notes].map((note) => h("p", { class: "muted" }, note));
    if (this.notes) this.notes.replaceChildren(...caption, ...notes);
  }

  applyPanel() {
    const { state, model, data } = this;
    const module = this.module;
    const isWide = matchMedia("(min-width: 1180px)").matches;
    const tree = () => treeElement(moduleTree(model, this.frame), module, (path) => this.selectModule(path));
    if (this.tree) {
      this.tree.hidden = !isWide || !this.frame.module.some(Boolean);
      if (!this.tree.hidden) this.tree.replaceChildren(h("h2", {}, "Modules"), tree());
    }
    const names = Object.keys(TABS).filter((name) =>
      name === "answers" ? data.answers.length : name === "code" ? Object.keys(data.files).length : name === "modules" ? this.frame.module.some(Boolean) && (!this.tree || this.tree.hidden) : true);
    const tab = names.includes(state.tab) ? state.tab : "details";
    if (!this.tabs || !this.page) return;
    const hadFocus = this.tabs.contains(document.activeElement);
    this.tabs.replaceChildren(...names.map((name) => button(TABS[name], "", () => this.change({ tab: name }, {}), {
      role: "tab", id: `tab-${name}`, "aria-selected": String(name === tab), "aria-controls": "panel-page", tabindex: name === tab ? "0" : "-1", title: false,
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step) this.change({ tab: names[(names.indexOf(tab) + step + names.length) % names.length] }, {});
      },
    })));
    if (hadFocus) document.getElementById(`tab-${tab}`)?.focus();
    this.page.setAttribute("aria-labelledby", `tab-${tab}`);
    const pages = /** @type {Record<string, () => Element>} */ ({
      details: () => this.details(),
      modules: tree,
      answers: () => answersElement(model, state.selected, (answer) => this.answer(answer)),
      memory: () => memoryElement(model, state.frame, (path) => this.selectModule(path)),
      code: () => codeElement(model, state.frame, this.line, (source) => this.selectLine(source)),
    });
    this.page.replaceChildren(pages[tab]());
    const line = this.page.querySelector(".chosen, .now");
    if (tab === "code" && line) line.scrollIntoView({ block: "nearest" });
  }

  get line() {
    const node = this.frame.place.get(this.state.selected);
    return (node !== undefined && this.model.row(this.frame, node).source) || "";
  }

  answer(answer) {
    const ids = [answer.culprit || "", ...(answer.nodes || [])].filter((id) => this.frame.place.has(id));
    if (!ids.length) {
      this.say("what this is about is not in the picture");
      return;
    }
    this.goTo(ids[0]);
  }

  details() {
    const { selected } = this.state;
    const at = this.picture.place.get(selected);
    const changes = this.model.count > 1 ? changesElement(this.model, this.state.frame, (id) => this.goTo(id)) : null;
    if (at === undefined) {
      return h("section", {}, h("h2", {}, "Nothing is selected"),
        h("p", {}, "Click a box to see what is known of it; double-click a group, or press Enter, to open it. Point at a box to see the way of the gradient."),
        changes || "");
    }
    const node = this.picture.nodes[at];
    const [around] = this.aroundOf(selected);
    const row = around === undefined ? null : this.model.groupRow(this.frame, around);
    const name = node.row.name;
    const answer = this.data.answers.find((each) => (each.nodes || [])[0] === selected || (name && each.name === name));
    const isTurned = this.frame.flow === "gradient";
    const ends = (/** @type {boolean} */ isInput) => this.picture.edges
      .filter((edge) => (isInput !== isTurned ? edge.target : edge.source) === at)
      .map((edge) => {
        const other = this.picture.nodes[isInput !== isTurned ? edge.source : edge.target];
        const how = edge.row.kind === "cut" ? `no gradient flows back (${[edge.row.cause === "not recorded" || !edge.row.cause ? "cause not recorded" : edge.row.cause, edge.row.source].filter(Boolean).join(", ")})` : edge.through.length ? `by way of ${edge.through.join(" \u2192 ")}` : "";
        return { id: other.id, text: summaryOf(other.row, other.id), how };
      });
    const element = detailsOf({
      row: node.row, id: selected, module: node.module, isClosed: node.group >= 0,
      around: row ? row.name || row.op || "group" : "", isOnly: this.state.only === selected, answer,
      inputs: ends(true), outputs: ends(false),
    }, {
      open: () => this.toggle(selected), openAll: () => this.openAll(selected), close: () => this.close(), only: () => this.togglePaths(),
      select: (id) => this.change({ selected: id.replace(/~\d+$/, "") }, { reveal: id }),
      line: () => this.change({ tab: "code" }, {}),
    });
    if (changes) element.append(changes);
    return element;
  }

  togglePaths() {
    const { selected, only } = this.state;
    this.change({ only: only === selected ? "" : selected }, { reveal: selected });
  }

  takeFound(id) {
    this.change({ tab: "details" }, {});
    this.goTo(id);
    this.stage.element.focus({ preventScroll: true });
  }

  keys() {
    const { state } = this;
    return [
      { keys: ["/"], shown: "/", what: "search", act: () => this.search?.field.focus() },
      { keys: ["f", "0"], shown: "f", what: "the whole picture", act: () => this.stage.fit() },
      { keys: ["+", "="], shown: "+", what: "closer", act: () => this.stage.zoom(1.3) },
      { keys: ["-"], shown: "-", what: "farther", act: () => this.stage.zoom(1 / 1.3) },
      { keys: ["p"], shown: "p", what: "only paths through what is selected", act: () => state.selected && this.togglePaths() },
      { keys: ["b"], shown: "b", what: "bookkeeping on and off", act: () => this.change({ bookkeeping: !state.bookkeeping }, {}) },
      { keys: ["Backspace", "c"], shown: "Backspace", what: "close the group around what is selected", act: () => this.close() },
      { keys: ["["], shown: "[", what: "the frame before", act: () => this.go(state.frame - 1) },
      { keys: ["]"], shown: "]", what: "the next frame", act: () => this.go(state.frame + 1) },
      { keys: ["t"], shown: "t", what: "light, dark, or as the system", act: () => this.nextTheme() },
      { keys: ["?"], shown: "?", what: "this list", act: () => this.showHelp() },
      { keys: ["Escape"], shown: "Esc", what: "select nothing", act: () => this.change({ selected: "" }, {}) },
    ];
  }

  stageKey(event) {
    const { selected } = this.state;
    if (event.key === "Enter") {
      this.toggle(selected);
      return true;
    }
    if (event.key === " ") {
      if (this.model.count > 1) this.play();
      return true;
    }
    const sides = /** @type {Record<string, [number, number]>} */ ({ ArrowUp: [0, -60], ArrowDown: [0, 60], ArrowLeft: [-60, 0], ArrowRight: [60, 0] });
    const side = sides[event.key];
    if (!side) return false;
    if (event.shiftKey) this.stage.pan(side[0], side[1]);
    else {
      const next = nextNode(this.picture, selected, event.key);
      if (next) {
        this.change({ selected: next }, { reveal: next });
        this.say(this.summary(next));
      }
    }
    return true;
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || isTyping(event)) return;
    const isAtStage = document.activeElement === this.stage.element || document.activeElement === document.body;
    if (isAtStage && this.stageKey(event)) {
      event.preventDefault();
      return;
    }
    if (this.help && this.help.open && event.key !== "?") return;
    const found = this.keys().find(({ keys }) => keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.act();
  }

  showHelp() {
    if (!this.help) return;
    const more = [["arrow keys", "along the edges, and to the left and right"], ["shift + arrow keys", "move the picture"],
      ["Enter, double click", "open a group"], ["space", "play through the frames"]];
    const rows = [...more, ...this.keys().map(({ shown, what }) => [shown, what])];
    const close = button("Close", "", () => this.help?.close(), { title: false });
    this.help.replaceChildren(h("h2", {}, "Keys"), h("dl", {}, ...rows.flatMap(([shown, what]) => [h("dt", {}, h("kbd", {}, shown)), h("dd", {}, what)])), close);
    this.help.showModal();
  }
}

function toggleIn(set, key) {
  if (!set.delete(key)) set.add(key);
}

function start(page) {
  const root = page.getElementById("gradviz-viewer");
  const data = readIsland(page);
  if (!root || !data || !data.frames.length) return null;
  page.documentElement.classList.add("has-viewer");
  root.hidden = false;
  const viewer = new Viewer(data, root);
  /** @type {any} */ (window).gradvizViewer = viewer;
  return viewer;
}
return { Viewer, start };
})();
const $main = (() => {

const { start } = $app;

start(document);
return {  };
})();
})();
