// Charts: accuracy against guidance weight, against training and against coverage, as SVG.
const MARKS = [
  "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1 -5 0Z", "M-4.5-4.5H4.5V4.5H-4.5Z", "M0-6L5.5 4.5H-5.5Z", "M0-6.5L6 0L0 6.5L-6 0Z",
  "M0 6L5.5-4.5H-5.5Z", "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
  "M-3.5-6L0-2.5L3.5-6L6-3.5L2.5 0L6 3.5L3.5 6L0 2.5L-3.5 6L-6 3.5L-2.5 0L-6-3.5Z",
  "M0-6.5L1.9-2H6.5L2.9.9L4.2 5.5L0 2.8L-4.2 5.5L-2.9.9L-6.5-2H-1.9Z",
];

function seriesClass(number) {
  return `s${number % 8}`;
}

function markShape(number) {
  return svg("path", { class: "mark", d: MARKS[number % MARKS.length] });
}

// The legend: a mark and a name for each method, and the lines.
function drawLegend(list, report) {
  const entries = report.methods.map((name, number) =>
    element("li", { class: seriesClass(number) },
      svg("svg", { width: 18, height: 16, viewBox: "-9 -8 18 16", "aria-hidden": "true" }, markShape(number)), textOf(name)));
  const line = (name, text) => element("li", {},
    svg("svg", { width: 26, height: 12, viewBox: "0 0 26 12", "aria-hidden": "true" },
      svg("line", { class: name, x1: 0, x2: 26, y1: 6, y2: 6 })), text);
  if (report.ceiling) entries.push(line("reference", "real held-out images"));
  entries.push(line("chance", "chance"), line("position", "the slider"));
  list.replaceChildren(...entries);
}

function textOf(name) {
  const span = element("span", {}, name);
  span.style.color = "var(--text)";
  return span;
}

// Round numbers from low to high, about so many.
function ticksBetween(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) ticks.push(Number((at * step).toPrecision(12)));
  return ticks;
}

function padded(values, share, least, most) {
  const low = Math.min(...values), high = Math.max(...values), pad = share * (high - low || 0.1);
  return [Math.max(least, low - pad), Math.min(most, high + pad)];
}

class Chart {
  // chosen is called with a point's settings.
  constructor(container, chosen) {
    Object.assign(this, { container, chosen });
    this.settle = roving(container, ".point");
    container.addEventListener("click", (event) => this.choose(event));
    container.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") this.choose(event);
    });
    new ResizeObserver(() => this.plot && this.redraw()).observe(container);
  }

  choose(event) {
    const at = event.target.closest(".point");
    if (!at) return;
    // Points lie close together, so a click is of the nearest one. A key, and a screen reader's click, is of its own.
    const point = event.detail ? this.nearestTo(event) : at;
    event.preventDefault();
    this.chosen(this.plot.points.find((each) => each.key === point.dataset.key).settings);
  }

  nearestTo({ clientX, clientY }) {
    const distance = (point) => {
      const box = point.querySelector(".mark").getBoundingClientRect();
      return Math.hypot(box.left + box.width / 2 - clientX, box.top + box.height / 2 - clientY);
    };
    return [...this.container.querySelectorAll(".point")].reduce((best, each) => (distance(each) <= distance(best) ? each : best));
  }

  // plot: x and y ranges, xTicks, names, points { key, x, y, series, settings, current, label }, bands, lines.
  draw(plot) {
    this.plot = plot;
    this.redraw();
  }

  redraw() {
    const width = Math.max(260, Math.min(this.container.clientWidth, 700)), height = 300;
    if (!this.container.clientWidth) return;
    const { plot } = this, [left, right, top, bottom] = [52, width - 14, 12, height - 46];
    const x = (value) => left + ((value - plot.x[0]) / (plot.x[1] - plot.x[0])) * (right - left);
    const y = (value) => bottom - ((value - plot.y[0]) / (plot.y[1] - plot.y[0])) * (bottom - top);
    const inside = (value, [low, high]) => value >= low && value <= high;
    const clipped = (value, [low, high]) => Math.min(high, Math.max(low, value));
    const drawn = [];
    const line = (name, x1, y1, x2, y2) => drawn.push(svg("line", { class: name, x1, y1, x2, y2 }));
    for (const value of ticksBetween(...plot.y, 5)) {
      line("grid", left, y(value), right, y(value));
      drawn.push(svg("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    let last = -Infinity;
    for (const value of plot.xTicks.filter((each) => inside(each, plot.x))) {
      if (x(value) - last < 26) continue;
      last = x(value);
      line("grid", last, top, last, bottom);
      drawn.push(svg("text", { x: last, y: bottom + 18, "text-anchor": "middle" }, String(value).replace("-", "\u2212")));
    }
    line("axis", left, bottom, right, bottom);
    drawn.push(svg("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, plot.xName));
    drawn.push(svg("text", { transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "accuracy"));
    for (const { across, values, name } of plot.bands) {
      const range = across ? plot.x : plot.y, [middle, low, high] = values;
      if (high < range[0] || low > range[1]) continue;
      const [from, to] = [clipped(low, range), clipped(high, range)];
      drawn.push(across
        ? svg("rect", { class: "band", x: x(from), y: top, width: Math.max(1, x(to) - x(from)), height: bottom - top })
        : svg("rect", { class: "band", x: left, y: y(to), width: right - left, height: Math.max(1, y(from) - y(to)) }));
      if (!inside(middle, range)) continue;
      if (across) line(name, x(middle), top, x(middle), bottom);
      else line(name, left, y(middle), right, y(middle));
    }
    for (const { value, name } of plot.positions)
      if (inside(value, plot.x)) line(`position ${name}`, x(value), top - 6, x(value), bottom);
    for (const series of new Set(plot.points.map((point) => point.series))) {
      const points = plot.points.filter((point) => point.series === series);
      const curve = points.map((point) => `${x(point.x[0]).toFixed(1)},${y(point.y[0]).toFixed(1)}`).join(" ");
      drawn.push(svg("polyline", { class: `curve ${seriesClass(series)}`, points: curve }));
    }
    for (const point of plot.points) drawn.push(this.pointOf(point, x, y, (value) => clipped(value, plot.x), (value) => clipped(value, plot.y)));
    const focused = this.container.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.container.replaceChildren(svg("svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": plot.name }, ...drawn));
    if (focused) this.container.querySelector(`[data-key="${focused}"]`)?.focus();
    this.settle();
  }

  pointOf({ key, x: across, y: up, series, current, label }, x, y, inX, inY) {
    const bars = [svg("line", { x1: 0, x2: 0, y1: y(inY(up[1])) - y(up[0]), y2: y(inY(up[2])) - y(up[0]) })];
    if (across.length > 1)
      bars.push(svg("line", { y1: 0, y2: 0, x1: x(inX(across[1])) - x(across[0]), x2: x(inX(across[2])) - x(across[0]) }));
    return svg("g", {
      class: `point ${seriesClass(series)}${current ? " current" : ""}`, role: "button", tabindex: -1, "data-key": key,
      "aria-label": label, "aria-pressed": String(Boolean(current)),
      transform: `translate(${x(across[0]).toFixed(1)} ${y(up[0]).toFixed(1)})`,
    }, svg("title", {}, label), svg("circle", { class: "target", r: 13 }), ...bars, svg("circle", { class: "ring", r: 10 }), markShape(series));
  }
}

// The points of a report's cells on a file that share some of the settings.
function pointsOf(report, settings, shared, file, across) {
  const { checkpoint, method, weight } = settings;
  return report.cells
    .filter((cell) => shared.every((name) => cell[name] === settings[name]) && cell.file === file && across(cell))
    .sort((a, b) => a.method - b.method || a.checkpoint - b.checkpoint || a.weight - b.weight)
    .map((cell) => ({
      key: report.key(cell), x: across(cell), y: cell.accuracy, series: cell.method, settings: cell,
      current: cell.checkpoint === checkpoint && cell.method === method && cell.weight === weight,
      label: (shared.includes("checkpoint") ? "" : `${report.checkpoints[cell.checkpoint].name}, `) +
        `${report.methods[cell.method]}, ${weightName(cell.weight)}: accuracy ${interval(cell.accuracy)}` +
        (cell.coverage ? `, coverage ${interval(cell.coverage)}` : ""),
    }));
}

// The bands of chance and of real held-out images.
function referencesOf(report, file) {
  const chance = { across: false, values: Array(3).fill(report.files[file].chance), name: "chance" };
  return report.ceiling ? [chance, { across: false, values: report.ceiling, name: "reference" }] : [chance];
}

// The plot of accuracy against weight. The positions are the weights of the sliders.
function weightPlot(report, settings, file, positions, enlarged) {
  const all = pointsOf(report, settings, ["checkpoint"], file, (cell) => [cell.weight]);
  const above = all.filter((point) => point.x[0] > 0), points = enlarged && above.length ? above : all;
  const weights = [...new Set(points.map((point) => point.x[0]))].sort((a, b) => a - b);
  const x = padded(weights, 0.05, -Infinity, Infinity);
  const ends = points.flatMap((point) => point.y).concat(enlarged ? (report.ceiling ?? []) : []);
  return {
    name: "accuracy against guidance weight", xName: "guidance weight w", x, y: enlarged ? padded(ends, 0.06, 0, 1.01) : [0, 1.03],
    xTicks: weights, points, bands: referencesOf(report, file), positions,
  };
}

// The plot of accuracy against epoch, of the slider's weight.
function epochPlot(report, settings, file, enlarged) {
  // A teacher and rebuilt EMAs are no epochs of this training.
  const epochOf = ({ epoch, of_training }) => (of_training ? [epoch] : null);
  const points = pointsOf(report, settings, ["weight"], file, (cell) => epochOf(report.checkpoints[cell.checkpoint]));
  const epochs = report.checkpoints.flatMap((each) => epochOf(each) ?? []), ends = points.flatMap((point) => point.y).concat(report.ceiling ?? []);
  return {
    name: "accuracy against epoch", xName: "epoch", x: padded(epochs, 0.05, -Infinity, Infinity),
    y: enlarged ? padded(ends, 0.06, 0, 1.01) : [0, 1.03], xTicks: epochs, points, bands: referencesOf(report, file), positions: [],
  };
}

// The plot of accuracy against coverage, or null where it was not measured.
function coveragePlot(report, settings, file, enlarged) {
  const all = pointsOf(report, settings, ["checkpoint"], file, (cell) => cell.coverage);
  const above = all.filter((point) => point.settings.weight > 0), points = enlarged && above.length ? above : all;
  if (!points.length) return null;
  const real = report.real_coverage ?? [];
  const x = padded(points.flatMap((point) => point.x).concat(real), 0.05, 0, 1.01);
  const bands = report.real_coverage ? [{ across: true, values: real, name: "reference" }] : [];
  return {
    name: "accuracy against coverage", xName: "coverage", x, y: padded(points.flatMap((point) => point.y), 0.06, 0, 1.01),
    xTicks: ticksBetween(...x, 6), points, bands: [...bands, ...referencesOf(report, file)], positions: [],
  };
}
