// Grid: every label set's image, and what the evaluator saw in the one that is looked at.
const CROSS = "\u2715";

class Grid {
  constructor(list, panel, chosen) {
    Object.assign(this, { list, panel, chosen, tiles: [], looked: null });
    this.settle = roving(list, "button");
    const look = (event) => {
      const button = event.target.closest("button");
      if (button) this.look(button.tile, button.side);
    };
    list.addEventListener("pointerover", look);
    list.addEventListener("focusin", look);
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.choose(button);
    });
  }

  // Make a tile for each label set, with a button for each side.
  build(report, file, sides) {
    const key = `${report.name}/${file}/${sides}`;
    if (key === this.built) return;
    this.built = key;
    this.looked = null;
    const { shown_label_sets: places } = report.files[file];
    const longest = Math.max(...places.flatMap((place) => report.names(file, place)).map((name) => name.length));
    const tile = Math.min(150, Math.max(66, 8 * longest + 12)) * (sides > 1 ? 2 : 1);
    this.list.style.setProperty("--tile", `${tile}px`);
    this.tiles = places.map((place) => {
      const buttons = Array.from({ length: sides }, (_, side) => {
        const made = element("button", { type: "button", tabindex: -1, "aria-pressed": "false", "data-place": place },
          element("canvas", { width: 1, height: 1, "aria-hidden": "true" }), element("span", { class: "asked" }));
        return Object.assign(made, { side });
      });
      const made = { place, buttons, shown: [] };
      buttons.forEach((button) => (button.tile = made));
      return made;
    });
    this.list.replaceChildren(...this.tiles.map(({ buttons }) => element("li", {}, ...buttons)));
    this.settle();
  }

  // Draw what each side has: { report, cell, bitmap } or { absent: a reason }.
  draw(views, seed) {
    this.views = views;
    this.seed = seed;
    for (const tile of this.tiles) views.forEach((view, side) => this.drawOne(tile, side, view, seed));
    if (this.looked) this.look(this.looked.tile, this.looked.side);
    else this.panel.replaceChildren(element("p", { class: "hint empty" }, "Point at an image, or move to it with the keyboard."));
  }

  drawOne(tile, side, view, seed) {
    const button = tile.buttons[side], canvas = button.querySelector("canvas"), asked = button.querySelector(".asked");
    const { report, cell } = view;
    const index = cell ? report.placeInSheet(cell, seed, tile.place) : -1;
    canvas.hidden = index < 0;
    if (index < 0) {
      tile.shown[side] = null;
      button.classList.remove("wrong");
      asked.replaceChildren(element("span", { class: "absent" }, view.absent ?? "not in this file"));
      return;
    }
    report.draw(canvas, view.bitmap, index, report.columns(view.bitmap));
    const labels = report.files[cell.file].label_sets[tile.place];
    const seen = report.seen(cell, index, labels);
    const counted = seen.filter((each) => each.counts).map((each) => each.number);
    const missed = labels.filter((label) => !counted.includes(label));
    tile.shown[side] = { labels, seen, missed, index };
    button.classList.toggle("wrong", missed.length > 0);
    asked.replaceChildren(...labels.map((label) => {
      const wrong = missed.includes(label), name = report.classes[label];
      return element("span", { class: wrong ? "missed" : null }, wrong ? `${CROSS} ${name}` : name);
    }));
    const sawWords = seen.filter((each) => each.counts).map((each) => each.name).join(", ");
    button.setAttribute("aria-label",
      `requested ${labels.map((label) => report.classes[label]).join(", ")}; seen ${sawWords}; ` +
      (missed.length ? "wrong" : "right"));
  }

  choose(button) {
    for (const { buttons } of this.tiles)
      buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    this.chosen(button.tile.place);
  }

  // Tell what the evaluator saw in an image.
  look(tile, side) {
    this.looked = { tile, side };
    const shown = tile.shown[side], view = this.views[side];
    if (!shown) {
      this.panel.replaceChildren(element("p", { class: "empty" }, view.absent ?? "This file does not have the image."));
      return;
    }
    const { report, cell } = view, canvas = element("canvas", { "aria-hidden": "true" });
    report.draw(canvas, view.bitmap, shown.index, report.columns(view.bitmap));
    const name = (label) => report.classes[label];
    const verdict = shown.missed.length
      ? element("p", { class: "missed" }, `${CROSS} not seen: ${shown.missed.map(name).join(", ")}`)
      : element("p", {}, "all labels seen");
    const rows = shown.seen.map((each) => {
      const bar = element("i");
      bar.style.width = `${100 * each.probability}%`;
      return element("tr", {},
        element("td", {}, each.name),
        element("td", { class: "bar" }, bar),
        element("td", {}, each.probability.toFixed(2)),
        element("td", {}, each.counts ? (each.asked ? "\u2713" : CROSS) : each.asked ? "requested" : ""));
    });
    this.panel.replaceChildren(canvas,
      element("p", {}, element("strong", {}, `requested: ${shown.labels.map(name).join(", ")}`)), verdict,
      element("p", { class: "hint" }, `label set ${tile.place}, seed ${this.seed}; the evaluator's probabilities`),
      element("table", {}, element("tbody", {}, ...rows)));
  }
}
