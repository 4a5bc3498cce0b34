/** What was found by hand, to be used elsewhere: a file, a link, a command, a list of views. */

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./graph.js").Model} Model */

/** What a reader sees as options of `draw`, as far as they can say it. */
/** @param {Model} model @param {State} state @returns {{views: string[], flags: string[], isAll: boolean}} */
function optionsOf(model, state) {
  const frame = model.frame(state.frame);
  const closed = frame.groups.filter((group) => state.toggled.has(group.key) === group.isOpen);
  const opened = frame.groups.filter((group) => !group.isOpen && state.toggled.has(group.key));
  const views = [];
  const flags = [];
  let isAll = false;
  if (state.only) {
    const [view, name] = onlyView(model, state);
    views.push(`${view}(${quoted(name)})`);
    flags.push(`--views ${shell(`${view}:${name},fit_page`)}`);
    views.push("fit_page");
  } else if (frame.groups.length && !closed.length) {
    isAll = true;
    if (!state.bookkeeping) views.push("hide_bookkeeping", "clone_shared_leaves");
    flags.push("--all");
  } else if (opened.length) {
    const row = model.data.rows[opened[opened.length - 1].row];
    const name = row.module || row.name || "";
    views.push(name ? `focus_on(${quoted(name)})` : "fit_page");
    if (name) flags.push(`--focus ${shell(name)}`);
  } else views.push("fit_page");
  if (["grad_norm", "saved_bytes", "dtype", "device"].includes(state.color)) {
    views.push(`color_by(${quoted(state.color)})`);
    flags.push(`--color-by ${state.color}`);
  }
  if (state.rankdir === "LR") flags.push("--rankdir LR");
  return { views, flags, isAll };
}

/** The view that keeps the paths of a node: from a leaf to the results, or to a result. */
/** @param {Model} model @param {State} state @returns {[string, string]} */
function onlyView(model, state) {
  const frame = model.frame(state.frame);
  const node = frame.place.get(state.only);
  const row = node === undefined ? null : model.row(frame, node);
  const name = row && row.name ? row.name : state.only.replace(/^@/, "").replace(/\+.*$/, "");
  const isEnd = row !== null && row.root !== undefined;
  return [isEnd ? "only_reaching" : "only_paths_to", name];
}

/** A Python string. @param {string} text */
function quoted(text) {
  return JSON.stringify(text);
}

/** A word for the shell. @param {string} text */
function shell(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

/** The same picture by the command line. @param {Model} model @param {State} state */
export function commandOf(model, state) {
  const { target, command } = model.data;
  const [name, given, frames] = command;
  const number = frames ? frames.split(",")[state.frame] : state.frame + 1;
  const frame = frames || model.count > 1 ? [`--frames ${number}`] : [];
  const words = [`gradviz ${name}`, shell(target || "graph.json"), ...optionsOf(model, state).flags, ...frame, "-o graph.svg", given];
  return words.filter(Boolean).join(" ") + (target ? "" : "  # after: gradviz.draw(…).save('graph.json')");
}

/** The same picture by Python. @param {Model} model @param {State} state */
export function viewsOf(model, state) {
  return `views=[${optionsOf(model, state).views.join(", ")}]`;
}

/** Give the reader a file. @param {string} name @param {Blob} blob */
export function saveFile(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** An SVG as a PNG, two pixels a point or as many as a canvas can hold. */
/** @param {string} svg @param {number} width @param {number} height @returns {Promise<Blob>} */
export function toPng(svg, width, height) {
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
