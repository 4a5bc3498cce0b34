/** What each key does, in one table: the list that a reader sees is made from it. */

/** @typedef {{keys: string[], shown: string, what: string, act: () => void}} Key */

/**
 * Whether the focused element handles a key, such as a text field.
 * @param {KeyboardEvent} event
 */
export function isTyping(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (!target || !target.tagName) return false;
  if (target.tagName === "SELECT" || target.tagName === "TEXTAREA") return true;
  if (target.tagName !== "INPUT") return false;
  const { type } = /** @type {HTMLInputElement} */ (target);
  if (type === "checkbox") return event.key === " " || event.key === "Enter";
  return type !== "range" || /^(Arrow|Home|End|Page)/.test(event.key);
}

/**
 * The node that an arrow key selects: the next one along the edges, or beside it.
 * @param {import("./scene.js").Picture} picture
 * @param {string} id
 * @param {string} key
 * @returns {string} "" if there is none
 */
export function nextNode(picture, id, key) {
  const at = picture.place.get(id);
  if (at === undefined) {
    const first = picture.nodes.findIndex((node) => node.row.root !== undefined || node.card.kind === "result");
    return picture.nodes.length ? picture.nodes[Math.max(0, first)].id : "";
  }
  const here = picture.nodes[at];
  /** @type {number[]} */
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
