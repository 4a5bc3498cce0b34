/** The viewer: one state, from which the whole page follows. */

import { drawGlyph, svgElement } from "./draw_svg.js";
import { button, check, h } from "./dom.js";
import { ExportMenu } from "./export_menu.js";
import { countText } from "./format.js";
import { groupId, isOpen, nodesOf, seenGraph } from "./folding.js";
import { Model, readIsland } from "./graph.js";
import { isTyping, nextNode } from "./keys.js";
import { below, memoryElement, moduleTree, treeElement } from "./modules.js";
import { detailsOf, summaryOf } from "./panel.js";
import { pictureOf } from "./scene.js";
import { search } from "./search.js";
import { SearchBox } from "./search_box.js";
import { Stage } from "./stage.js";
import { address, firstState, fromHash, toHash } from "./state.js";
import { answersElement, changesElement, codeElement, storyElement } from "./story.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./scene.js").Picture} Picture */

const PLAY = 900; // milliseconds a frame is shown when they are played
/** @type {Array<[string, string]>} */
const COLORS = [["", "nothing"], ["grad_norm", "gradient norm"], ["saved_bytes", "saved bytes"],
  ["dtype", "dtype"], ["device", "device"], ["module", "module"]];
/** @type {Record<string, string>} */
const TABS = { details: "Details", modules: "Modules", answers: "Explain", memory: "Memory", code: "Code" };

export class Viewer {
  /** @param {import("./graph.js").Data} data @param {HTMLElement} root */
  constructor(data, root) {
    this.data = data;
    this.model = new Model(data);
    this.first = firstState(data);
    this.state = fromHash(address(), this.first, this.model.count);
    this.playing = 0;
    this.root = root;
    /** @type {Picture} */
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
    this.themeButton = button("◐", "light, dark, or as the system", () => this.nextTheme());
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
      button("−", "farther (-)", () => this.stage.zoom(1 / 1.3), { "aria-label": "farther" }),
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

  /** What a screen reader says of a node. @param {string} id */
  summary(id) {
    const at = this.picture.place.get(id);
    return at === undefined ? id : summaryOf(this.picture.nodes[at].row, id);
  }

  /** @param {string} text */
  say(text) {
    if (this.said) this.said.textContent = text;
  }

  /**
   * Change the state; the page is drawn again.
   * @param {Partial<State>} changes
   * @param {{anchor?: string, reveal?: string, center?: boolean, fit?: boolean, choose?: () => string}} how
   */
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

  /** Where a picture that is larger than the stage begins: at what is wrong, or above the result. */
  startOf() {
    const wrong = this.model.count > 1 ? [] : this.data.answers.filter((answer) => !answer.is_fine);
    const ids = wrong.flatMap(({ culprit, nodes }) => [culprit || "", ...(nodes || [])]).map((id) => this.shownAs(id));
    const found = ids.find((id) => this.picture.place.has(id));
    const result = this.picture.nodes.find((node) => node.row.root !== undefined);
    return found ? { id: found, isMiddle: true } : { id: result ? result.id : "", isMiddle: false };
  }

  /** Where a node is, so that it can stay there. @param {string} id */
  anchorOf(id) {
    const at = this.picture.place.get(id);
    if (at !== undefined) return [{ id, x: this.picture.nodes[at].x, y: this.picture.nodes[at].y }];
    const { camera, size } = this.stage;
    const [x, y] = [camera.x + size.width / 2 / camera.scale, camera.y + size.height / 2 / camera.scale];
    return this.picture.nodes
      .map((node) => ({ id: node.id, x: node.x, y: node.y, far: Math.hypot(node.x - x, node.y - y) }))
      .sort((a, b) => a.far - b.far).slice(0, 30);
  }

  /** The first of several nodes that is still in the picture, or what stands for it now. */
  /** @param {Array<{id: string, x: number, y: number}>} anchors */
  kept(anchors) {
    for (const anchor of anchors) {
      if (this.picture.place.has(anchor.id)) return anchor;
      const inside = nodesOf(this.frame, anchor.id).map((node) => this.frame.keys[node]);
      const seen = inside.map((key) => this.shownAs(key)).find((id) => this.picture.place.has(id));
      if (seen) return { ...anchor, id: seen };
    }
    return undefined;
  }

  /** What stands for a recorded node in the picture: itself, or the group that it is in. @param {string} key */
  shownAs(key) {
    if (this.picture.place.has(key)) return key;
    const node = this.frame.place.get(key);
    const parent = node === undefined ? -1 : this.frame.parent[node];
    return parent >= 0 ? this.picture.shownAs.get(this.frame.groups[parent].key) || key : key;
  }

  /** @param {string} id */
  select(id) {
    const plain = id.replace(/~\d+$/, "");
    const chosen = this.picture.place.has(id) && !this.picture.place.has(plain) ? id : plain;
    const isTold = this.state.tab === "answers" || this.state.tab === "code" || this.state.tab === "memory";
    this.change({ selected: chosen, ...(isTold || !chosen ? {} : { tab: this.state.tab === "modules" ? "modules" : "details" }) }, {});
    if (chosen) this.say(this.summary(chosen));
  }

  /** Select a recorded node wherever it is: groups around it are opened. @param {string} id */
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

  /** Open a closed group; of a node, close the group around it. @param {string} id */
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

  /** The groups around something that is seen, the innermost first. @param {string} id */
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

  /** Close the group around what is selected. */
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

  /** Open every closed group of the same name, but for numbers, and of the same operations. @param {string} id */
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

  /** @param {boolean} open */
  setAll(open) {
    const toggled = new Set();
    for (const group of this.frame.groups) if (group.isOpen !== open) toggled.add(group.key);
    const state = { ...this.state, toggled };
    const count = open ? seenGraph(this.model, this.frame, state).nodes.length : 0;
    if (count > 20000 && !confirm(`${countText(count)} nodes will be drawn, which takes some seconds.`)) return;
    this.change({ toggled }, { fit: true });
  }

  /** @param {string} path of a module */
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

  /** The path of the module of what is selected. */
  get module() {
    const at = this.picture.place.get(this.state.selected);
    if (at !== undefined) return this.picture.nodes[at].module;
    const node = this.frame.place.get(this.state.selected);
    return node === undefined ? "" : this.frame.module[node];
  }

  /** @param {string} source "train.py:12" */
  selectLine(source) {
    const node = this.frame.keys.findIndex((_, each) => this.model.row(this.frame, each).source === source);
    if (node < 0) return;
    const seen = this.shownAs(this.frame.keys[node]);
    if (this.picture.place.has(seen)) this.change({ selected: seen }, { reveal: seen, center: true });
    else this.goTo(this.frame.keys[node]);
  }

  /** @param {number} frame */
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

  /** Let the page around the drawing follow the state. */
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
      state.only ? button(`Only paths through ${this.shortName(state.only)} ✕`, "show everything again", () => this.change({ only: "" }, { reveal: state.only })) : null,
    ];
    if (!this.toolbar) return;
    this.toolbar.replaceChildren(...children.filter((child) => child !== null));
    const again = focused ? document.getElementById(focused) : null;
    if (again && this.toolbar.contains(again)) again.focus();
  }

  /** @param {string} id */
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

  /** The line of what is selected: "train.py:12". */
  get line() {
    const node = this.frame.place.get(this.state.selected);
    return (node !== undefined && this.model.row(this.frame, node).source) || "";
  }

  /** @param {import("./graph.js").Answer} answer */
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
        const how = edge.row.kind === "cut" ? `no gradient flows back (${[edge.row.cause === "not recorded" || !edge.row.cause ? "cause not recorded" : edge.row.cause, edge.row.source].filter(Boolean).join(", ")})` : edge.through.length ? `by way of ${edge.through.join(" → ")}` : "";
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

  /** @param {string} id */
  takeFound(id) {
    this.change({ tab: "details" }, {});
    this.goTo(id);
    this.stage.element.focus({ preventScroll: true });
  }

  /** @returns {import("./keys.js").Key[]} */
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

  /** Keys that belong to the drawing when it has the focus. @param {KeyboardEvent} event */
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

  /** @param {KeyboardEvent} event */
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

/** @param {Set<string>} set @param {string} key */
function toggleIn(set, key) {
  if (!set.delete(key)) set.add(key);
}

/** Start on a page that has the data. @param {Document} page @returns {Viewer | null} */
export function start(page) {
  const root = page.getElementById("gradviz-viewer");
  const data = readIsland(page);
  if (!root || !data || !data.frames.length) return null;
  page.documentElement.classList.add("has-viewer");
  root.hidden = false;
  const viewer = new Viewer(data, root);
  /** @type {any} */ (window).gradvizViewer = viewer;
  return viewer;
}
