// Main: the page's state, and what a change of it redraws.
const own = new Report(JSON.parse(byId(CONTENTS).textContent));
const sides = [new Side("A", own, redraw), new Side("B", own, redraw)];
const fileChoice = byId("file"), seedChoice = byId("seed"), comparing = byId("compare"), enlarge = byId("enlarge");
const denoising = new DenoisingView(own);
const ranking = new Ranking(own, showAbove);
const [weightChart, epochChart, coverageChart] = ["weight", "epoch", "coverage"].map((name) => new Chart(byId(`${name}-chart`), showAbove));
const grid = new Grid(byId("grid"), byId("seen"), (place) => {
  const { best } = own;
  if (Number(fileChoice.value) === best.file && Number(seedChoice.value) === 0) denoising.choose(place);
});
let file = own.best.file, seed = own.files[own.best.file].shown_seeds[0], latest = 0;

// Show settings that were chosen in a chart or the table, of this page's own report.
function showAbove(settings) {
  sides[0].report = own;
  sides[0].show(settings);
}

function shownSides() {
  return comparing.checked ? sides : sides.slice(0, 1);
}

async function redraw() {
  const ticket = ++latest, shown = shownSides(), [{ report }] = shown;
  file = Math.min(file, report.files.length - 1);
  const seeds = report.files[file].shown_seeds;
  if (!seeds.includes(seed)) [seed] = seeds;
  setOptions(fileChoice, report.files.map((each, at) => [at, `${each.name}.json`]), file);
  setOptions(seedChoice, seeds.map((each) => [each, each]), seed);
  sides[1].element.hidden = !comparing.checked;
  for (const side of sides) side.legend.textContent = comparing.checked ? `${side.letter}: ${side.name}` : "Settings";
  const cells = shown.map((side) => side.cellFor(report, file));
  byId("scores").replaceChildren(...scores(shown, cells).map((text) => element("span", {}, text)));
  drawCharts(shown);
  grid.build(report, file, shown.length);
  const waiting = shown.map((side, at) => (cells[at]?.sheet && !cells[at].bitmap ? side.report.sheet(cells[at]) : null)).filter(Boolean);
  if (waiting.length) await Promise.all(waiting);
  if (ticket !== latest) return;
  grid.draw(shown.map((side, at) => viewOf(side, cells[at])), seed);
  prepareOthers(shown, report);
}

function viewOf(side, cell) {
  if (cell === undefined) return { absent: "this report has no such label sets or cell" };
  return cell.sheet ? { report: side.report, cell, bitmap: cell.bitmap } : { report: side.report, absent: "not in this file" };
}

// Decode the sheets of the other weights, so that the slider need not wait for them.
function prepareOthers(shown, report) {
  for (const side of shown)
    for (const weight of side.weights) {
      const own = side.fileLike(report, file);
      const cell = own < 0 ? undefined : side.report.cell({ ...side, weight, file: own });
      if (cell?.sheet && !cell.bitmap) side.report.sheet(cell);
    }
}

// The accuracy of each side, and the difference over the same label sets and seeds.
function scores(shown, cells) {
  const lines = shown.map((side, at) => {
    const cell = cells[at], letter = shown.length > 1 ? `${side.letter}: ` : "";
    if (!cell) return `${letter}no cell with these label sets`;
    const images = side.report.correct(cell).length;
    return `${letter}accuracy ${interval(cell.accuracy)}, exact match ${interval(cell.exact_match)}, ` +
      `${images} images of ${side.report.files[cell.file].name}.json; seed ${seed} is shown`;
  });
  if (shown.length < 2 || cells.some((cell) => !cell)) return lines;
  const [a, b] = shown, asked = a.report.files[cells[0].file].label_sets.map((each) => each.length);
  const difference = pairedDifference(a.report.correct(cells[0]), b.report.correct(cells[1]), asked);
  const names = shown.map((side, at) => side.report.files[cells[at].file].name);
  const { width, height, channels } = a.report.image;
  const sameShape = b.report.image.width === width && b.report.image.height === height && b.report.image.channels === channels;
  const noise = sameShape && names[0] === names[1] ? "from the same noise" : "from different noise";
  const { value, low, high, images } = difference;
  const includes = low <= 0 && high >= 0 ? "includes 0" : "does not include 0";
  lines.push(`A \u2212 B: ${signed(value)} (${signed(low)} to ${signed(high)}), paired over ${images} images ${noise}; ` +
    `the 95 % interval ${includes}`);
  return lines;
}

function drawCharts(shown) {
  const [side] = shown, { report } = side;
  drawLegend(byId("legend"), report);
  const where = `${report.checkpoints[side.checkpoint].name}, ${report.files[file].name}.json`;
  byId("weight-figure").hidden = new Set(report.cells.map(({ weight }) => weight)).size < 2;
  byId("weight-caption").textContent = `Accuracy against guidance weight: ${where}`;
  const positions = shown.filter((each) => each.report === report)
    .map((each) => ({ value: each.weight, name: each === sides[1] ? "b" : "a" }));
  weightChart.draw(weightPlot(report, side, file, positions, enlarge.checked));
  byId("epoch-figure").hidden = report.checkpoints.length < 2;
  byId("epoch-caption").textContent = `Accuracy against training: ${weightName(side.weight)}, ${report.files[file].name}.json`;
  epochChart.draw(epochPlot(report, side, file, enlarge.checked));
  const plot = coveragePlot(report, side, file, enlarge.checked);
  byId("coverage-figure").hidden = !report.cells.some((cell) => cell.coverage);
  byId("coverage-caption").textContent = plot
    ? `Accuracy against coverage, the share of real images that have a generated one among their nearest: ${where}`
    : `Coverage was not measured at ${where}.`;
  byId("coverage-chart").hidden = !plot;
  if (plot) coverageChart.draw(plot);
  if (report === own) ranking.mark(side);
}

// Read another report's file and show it as side B.
async function compareWith(chosen) {
  const problem = byId("problem");
  problem.hidden = true;
  try {
    const report = reportFromText(await chosen.text()), [, side] = sides;
    report.name = report.name === own.name ? `${report.name} (${chosen.name})` : report.name;
    for (const each of sides) each.reports.push(report);
    side.take(report);
    side.render();
    sides[0].render();
    comparing.checked = true;
    redraw();
  } catch (error) {
    problem.hidden = false;
    problem.textContent = `${chosen.name} is not a report.html that this page can read: ${error.message}.`;
  }
}

fileChoice.addEventListener("change", () => { file = Number(fileChoice.value); redraw(); });
seedChoice.addEventListener("change", () => { seed = Number(seedChoice.value); redraw(); });
comparing.addEventListener("change", () => {
  const [a, b] = sides;
  // The first comparison is with the weight that does not guide.
  if (comparing.checked && a.report === b.report && a.weight === b.weight && a.method === b.method) {
    b.checkpoint = a.checkpoint;
    b.weight = a.weights.includes(0) && a.weight !== 0 ? 0 : a.weights.find((each) => each !== a.weight) ?? a.weight;
    b.render();
  }
  redraw();
});
enlarge.addEventListener("change", redraw);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("another").addEventListener("change", (event) => event.target.files[0] && compareWith(event.target.files[0]));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) compareWith(event.dataTransfer.files[0]);
});
byId("sides").append(...sides.map((side) => side.element));
for (const side of sides) side.render();
redraw();
