/** A picture as SVG elements: for up to a few thousand nodes, and for a file to be saved. */

import { withoutTip, drawEdge, drawNode, setLine } from "./shapes.js";

/** @typedef {import("./scene.js").Picture} Picture */
/** @typedef {import("./shapes.js").Paint} Paint */
/** @typedef {import("./shapes.js").Pen} Pen */
/** @typedef {import("./graph.js").Data} Data */

const SVG = "http://www.w3.org/2000/svg";

/** @param {number} value */
function n(value) {
  return String(Math.round(value * 100) / 100);
}

/** @param {string} name @param {Record<string, string>} attributes @returns {SVGElement} */
export function svgElement(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** The `d` of a path along Bezier curves. @param {number[]} points */
export function pathOf(points) {
  let text = `M${n(points[0])},${n(points[1])}`;
  for (let at = 2; at < points.length; at += 2) {
    text += `${at === 2 ? " C" : " "}${n(points[at])},${n(points[at + 1])}`;
  }
  return text;
}

/** @param {Paint} paint @returns {Record<string, string>} */
function painted({ fill, edge, line, dashed }) {
  const classes = [fill ? `f-${fill}` : "f-none", edge ? `e-${edge}` : ""].filter(Boolean).join(" ");
  return {
    class: classes,
    ...(edge && line ? { "stroke-width": n(line) } : {}),
    ...(dashed ? { "stroke-dasharray": "5 3" } : {}),
  };
}

/** Draws shapes as elements. @implements {Pen} */
class SvgPen {
  /** @param {Element} parent */
  constructor(parent) {
    this.parent = parent;
  }

  /** @param {string} name @param {Record<string, string>} attributes */
  add(name, attributes) {
    const element = svgElement(name, attributes);
    this.parent.append(element);
    return element;
  }

  /** @param {number} x @param {number} y @param {number} width @param {number} height @param {Paint} paint */
  box(x, y, width, height, paint) {
    const size = { x: n(x), y: n(y), width: n(Math.max(width, 0)), height: n(height) };
    this.add("rect", { ...size, ...(paint.radius ? { rx: n(paint.radius) } : {}), ...painted(paint) });
  }

  /** @param {number[]} points @param {Paint} paint */
  curve(points, paint) {
    this.add("path", { d: pathOf(points), ...painted(paint) });
  }

  /** @param {number[]} points @param {string} fill */
  polygon(points, fill) {
    const corners = [];
    for (let at = 0; at < points.length; at += 2) corners.push(`${n(points[at])},${n(points[at + 1])}`);
    this.add("polygon", { points: corners.join(" "), class: `f-${fill}` });
  }

  /** @param {string} text @param {number} x @param {number} y @param {import("./shapes.js").TextStyle} style */
  text(text, x, y, { color, size, bold }) {
    const element = this.add("text", {
      x: n(x), y: n(y), "font-size": n(size), class: `f-${color}`, "xml:space": "preserve",
      ...(bold ? { "font-weight": "bold" } : {}),
    });
    element.textContent = text;
  }
}

/**
 * Fill a group element with a picture.
 * @param {Element} root emptied first
 * @param {Data} data
 * @param {Picture} picture
 * @param {(id: string) => string} nameOf what a screen reader says of a node
 */
export function fillSvg(root, data, picture, nameOf) {
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

/** The id of an element that shows a node: made of letters and digits alone. @param {string} id */
export function elementId(id) {
  return `gv-${Array.from(id, (c) => (/[a-z0-9]/i.test(c) ? c : `_${c.codePointAt(0)}_`)).join("")}`;
}

/** @param {Data} data @param {import("./scene.js").Enclosure} enclosure */
function enclosureOf(data, { key, title, at, x, y, width, height }) {
  const element = svgElement("g", { class: "enclosure", "data-group": key });
  const pen = new SvgPen(element);
  pen.box(x, y, width, height, { edge: "module", line: 1.2, radius: 9 });
  setLine(pen, data, title, ...at);
  return element;
}

/**
 * The picture as the text of an SVG file that follows the reader's color scheme.
 * @param {Data} data
 * @param {Picture} picture
 * @param {{title: string, description: string, colors: Record<string, [string, string]>, theme: string, font: string}} how
 */
export function svgFile(data, picture, how) {
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

/** @param {Record<string, [string, string]>} colors @param {string} theme */
function fileStyle(colors, theme) {
  /** @param {number} scheme */
  const rules = (scheme) =>
    Object.entries(colors)
      .map(([token, pair]) => `.f-${token}{fill:${pair[scheme]}}.e-${token}{stroke:${pair[scheme]}}`)
      .join("");
  const dark = theme === "auto" ? `@media (prefers-color-scheme:dark){${rules(1)}}` : "";
  return `.f-none{fill:none}path{fill:none}${rules(theme === "dark" ? 1 : 0)}${dark}`;
}

/**
 * The small picture beside a row of the legend.
 * @param {Element} parent @param {Data} data @param {string} word @param {number} x @param {number} middle
 */
export function drawGlyph(parent, data, word, x, middle) {
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
