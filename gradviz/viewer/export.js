/** What was found by hand, to be used elsewhere: a file, a link, a command, a list of views. */

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./graph.js").Model} Model */

/** What a reader sees as options of `draw`; `isNear` where they cannot say which groups are open. */
/** @param {Model} model @param {State} state @returns {{views: string[], flags: string[], isNear: boolean}} */
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

/** Whether what is copied draws other groups open than those that are. @param {Model} model @param {State} state */
export function isNear(model, state) {
  return optionsOf(model, state).isNear;
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
