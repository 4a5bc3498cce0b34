/** The menu that takes what is seen out of the viewer: as a file, a link, a command or views. */

import { button, h } from "./dom.js";
import { svgFile } from "./draw_svg.js";
import { commandOf, isNear, saveFile, toPng, viewsOf } from "./export.js";
import { toHash } from "./state.js";

export class ExportMenu {
  /** @param {import("./app.js").Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    this.shown = h("output", { class: "copied" });
    this.element = h("details", { class: "menu" }, h("summary", {}, "Export"),
      h("div", { class: "items" },
        button("Save as SVG", "the picture as it is now", () => this.saveSvg()),
        button("Save as PNG", "the picture as it is now", () => void this.savePng()),
        button("Copy link", "an address that leads to this view", () => this.copyLink()),
        button("Copy command", "gradviz draw, for the shell", () => this.copy(commandOf(viewer.model, viewer.state), "command")),
        button("Copy views=[…]", "for gradviz.draw in Python", () => this.copy(viewsOf(viewer.model, viewer.state), "views"))),
      this.shown);
    const { element } = this;
    document.addEventListener("pointerdown", (event) => {
      if (!element.contains(/** @type {Node} */ (event.target))) element.open = false;
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") element.open = false;
    });
  }

  /** @param {string} text @param {string} what */
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

  /** A page in a frame is not notified when its sandbox blocks a download. @param {string} name */
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
