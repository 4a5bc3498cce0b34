/** Elements without a framework. Text is always set as text: no name of a user becomes markup. */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [properties] attributes; those that begin with "on" are listeners
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child || child === "").map((child) => /** @type {any} */ (child)));
  return element;
}

/** @param {string} label @param {string} title @param {() => void} action @param {Record<string, any>} [more] */
export function button(label, title, action, more = {}) {
  return h("button", { type: "button", title, onclick: action, ...more }, label);
}

/** A box to tick, with its text. */
/** @param {string} id @param {string} text @param {string} title @param {boolean} on @param {(on: boolean) => void} act */
export function check(id, text, title, on, act) {
  return h("label", { title }, h("input", {
    type: "checkbox", id, ...(on ? { checked: true } : {}),
    onchange: (/** @type {Event} */ event) => act(/** @type {HTMLInputElement} */ (event.target).checked),
  }), ` ${text}`);
}
