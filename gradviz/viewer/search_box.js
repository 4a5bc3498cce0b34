/** The search field, and the list of what it found. */

import { h } from "./dom.js";
import { countText } from "./format.js";
import { summaryOf } from "./panel.js";

/** @typedef {import("./search.js").Found} Found */

const MOST_FOUND = 50;

export class SearchBox {
  /** @type {Found[]} */
  hits = [];

  hit = -1;

  /** @param {{find: (text: string) => Found[], take: (id: string) => void, leave: () => void, say: (text: string) => void}} act */
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

  /** @param {KeyboardEvent} event */
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

  /** @param {number} number */
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
