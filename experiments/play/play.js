// Play: what is chosen, the request for it, and the pictures as they arrive.
const CROSS = "\u2715";
const LIVE_AFTER = 200;  // milliseconds; a quicker image replaces the one before at once, without its noisy steps
const known = JSON.parse(byId("contents").textContent);
const guided = known.classes.length > 0;
const rows = [["image", "image"], ["conditional", guided ? "conditional" : "prediction"]];
if (known.null_condition) rows.push(["unconditional", "unconditional"]);
if (guided) rows.push(["mixed", "mixed"]);
const [slider, weight, method, settings, sampler, steps, seed, several, moment] =
  ["slider", "weight", "method", "settings", "sampler", "steps", "seed", "several", "moment"].map(byId);
const problem = byId("problem"), status = byId("status"), seen = byId("seen");
let latest = 0, sending = null, waiting = false, frames = [], following = true;

// A number field's value; null where it holds none, which the server refuses by name.
function numberIn(input) {
  return Number.isNaN(input.valueAsNumber) ? null : input.valueAsNumber;
}

function chosenClasses() {
  return [...document.querySelectorAll(".names input:checked")].map((input) => input.value);
}

function request() {
  const own = Object.fromEntries([...document.querySelectorAll("#sampler-settings input")].map((input) =>
    [input.name, input.type === "checkbox" ? input.checked : numberIn(input)]));
  const text = settings.value.trim();
  return {
    label_set: chosenClasses(),
    guidance_weight: numberIn(weight),
    method: text ? `${method.value}:${text}` : method.value,
    sampler: { kind: sampler.value, sampling_steps: numberIn(steps), ...own },
    seed: numberIn(seed),
  };
}

// At most one request a frame, however fast the slider is dragged.
function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; sample(); });
}

async function sample() {
  const ticket = ++latest, started = performance.now();
  sending?.abort();
  sending = new AbortController();
  frames = [];
  document.querySelectorAll("#strip canvas").forEach((canvas) => canvas.classList.add("pale"));
  try {
    const answer = await fetch("/sample", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request()), signal: sending.signal,
    });
    for await (const line of linesOf(answer)) {
      if (ticket !== latest) return;
      take(line, started);
    }
  } catch (error) {
    if (ticket === latest && error.name !== "AbortError")
      say("No answer: the command has ended or failed. Start it again, then reload this page.");
  }
}

// The JSON lines of an answer, each as soon as it is whole.
async function* linesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

function say(text) {
  problem.textContent = text ?? "";
  problem.hidden = !text;
}

function take(line, started) {
  if (line.error) {
    say(line.error);
    status.textContent = "";
    return;
  }
  if (line.replaced) {
    status.textContent = "A newer request, from another tab, ended this one. Change anything to sample again.";
    return;
  }
  if (line.finished) finish(line, started);
  else step(line, started);
}

function step(line, started) {
  const of = numberIn(steps);
  if (line.step === 1) {
    say(line.warning);
    layStrip(line.of);
  }
  frames.push(line);
  for (const [name] of rows) draw(document.querySelector(`#strip [data-row="${name}"][data-step="${line.step}"]`), line[name]);
  if (performance.now() - started < LIVE_AFTER) return;
  status.textContent = `step ${line.step} of ${line.of}, ${Math.round(line.milliseconds)} ms`;
  if (following) show(line.step);
}

function finish(line, started) {
  const shown = Math.round(performance.now() - started);
  const count = frames.length === 1 ? "1 step" : `${frames.length} steps`;
  moment.max = frames.length;
  show(following ? frames.length : Math.min(Number(moment.value), frames.length));
  judge(line.seen);
  status.textContent = `${count} in ${line.milliseconds.toFixed(1)} ms; ${shown} ms from the change to the picture`;
  document.body.dataset.finished = String(Number(document.body.dataset.finished ?? 0) + 1);
}

// Show a step large.
function show(number) {
  const frame = frames[number - 1];
  if (!frame) return;
  moment.max = Math.max(frames.length, 1);
  moment.value = number;
  byId("shown-step").textContent = `${number} of ${frame.of}, predicted at t = ${frame.timestep}`;
  moment.setAttribute("aria-valuetext", byId("shown-step").textContent);
  for (const [name] of rows) draw(document.querySelector(`#now [data-row="${name}"]`), frame[name]);
}

function draw(canvas, base64) {
  const { channels, width, height } = known.image, bytes = bytesOf(base64);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pixels = new ImageData(width, height), plane = width * height;
  for (let at = 0; at < plane; at++) {
    for (let colour = 0; colour < 3; colour++)
      pixels.data[4 * at + colour] = bytes[(channels === 1 ? 0 : colour) * plane + at];
    pixels.data[4 * at + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.classList.remove("pale");
}

// A column for each step; the pictures of before stay until the new ones come.
function layStrip(count) {
  const strip = byId("strip");
  if (strip.rows.length && strip.rows[0].cells.length === count + 1) return;
  const numbers = Array.from({ length: count }, (_, at) => at + 1);
  strip.replaceChildren(
    element("thead", {}, element("tr", {}, element("td"), ...numbers.map((number) => element("th", { scope: "col" }, number)))),
    element("tbody", {}, ...rows.map(([name, text]) =>
      element("tr", {}, element("th", { scope: "row" }, text), ...numbers.map((number) =>
        element("td", {}, element("canvas", { "data-row": name, "data-step": number, class: "pale", "aria-hidden": "true", ...known.image })))))),
  );
}

// What the evaluator saw in the finished image: as many classes count as were requested.
function judge(found) {
  if (!found) return;
  const wanted = chosenClasses(), counted = found.slice(0, wanted.length).map(([name]) => name);
  const missed = wanted.filter((name) => !counted.includes(name));
  const verdict = !wanted.length ? element("p", {}, "no class was requested")
    : missed.length ? element("p", { class: "missed" }, `${CROSS} not seen: ${missed.join(", ")}`)
    : element("p", {}, wanted.length > 1 ? "\u2713 all classes seen" : `\u2713 seen: ${wanted[0]}`);
  const shown = found.filter(([name], rank) => rank < wanted.length + 3 || wanted.includes(name));
  seen.replaceChildren(verdict, element("p", { class: "hint" }, "the evaluator's probabilities"),
    element("table", {}, element("tbody", {}, ...shown.map(([name, probability]) => {
      const bar = element("i");
      bar.style.width = `${100 * probability}%`;
      return element("tr", {}, element("td", {}, name), element("td", { class: "bar" }, bar),
        element("td", {}, probability.toFixed(2)), element("td", {}, wanted.includes(name) ? "requested" : ""));
    }))));
}

function showWeight(value) {
  const word = { "-1": "unconditional", 0: "conditional" }[value];
  byId("meaning").textContent = value === null ? ""
    : `w = ${String(value).replace("-", "\u2212")} (guidance scale s = ${Number((1 + value).toPrecision(6))}${word ? `, ${word}` : ""})`;
  slider.setAttribute("aria-valuetext", byId("meaning").textContent);
}

function laySamplerSettings() {
  const { settings: own } = known.samplers.find(({ kind }) => kind === sampler.value);
  byId("sampler-settings").replaceChildren(...Object.entries(own).map(([name, value]) =>
    typeof value === "boolean"
      ? element("label", { class: "check" }, element("input", { type: "checkbox", name, checked: value }), name)
      : element("label", {}, `${name} `, element("input", { type: "number", name, value, step: "any" }))));
}

function layMethodSettings() {
  const { settings: own, given } = known.methods.find(({ name }) => name === method.value);
  byId("settings-label").hidden = !own || !guided;
  settings.value = given;  // what this page's own means need
  settings.placeholder = own;
}

function layClasses() {
  byId("classes").hidden = !known.classes.length;
  several.closest("label").hidden = known.most_classes < 2;
  document.querySelector(".names").replaceChildren(...known.classes.map((name, at) => element("label", {},
    element("input", { type: "radio", name: "class", value: name, checked: at === 0 }), name)));
}

function chooseSeveral() {
  const [first] = chosenClasses();
  for (const input of document.querySelectorAll(".names input")) {
    input.type = several.checked ? "checkbox" : "radio";
    if (!several.checked) input.checked = input.value === (first ?? known.classes[0]);
  }
}

layClasses();
setOptions(method, known.methods.map(({ name }) => [name, name]), known.methods[0].name);
setOptions(sampler, known.samplers.map(({ kind }) => [kind, kind]), known.first.sampler);
steps.value = known.first.sampling_steps;
slider.value = weight.value = known.first.guidance_weight;
document.querySelector(".weight").hidden = !guided;
method.closest("label").hidden = !guided;
byId("now").replaceChildren(...rows.map(([name, text]) => element("figure", {},
  element("canvas", { "data-row": name, role: "img", "aria-label": text, ...known.image }), element("figcaption", {}, text))));
seen.hidden = !known.judged;
laySamplerSettings();
layMethodSettings();
showWeight(numberIn(weight));

slider.addEventListener("input", () => { weight.value = slider.value; });
weight.addEventListener("input", () => { if (numberIn(weight) !== null) slider.value = weight.value; });
method.addEventListener("input", layMethodSettings);
sampler.addEventListener("input", laySamplerSettings);
several.addEventListener("input", chooseSeveral);
byId("next").addEventListener("click", () => { seed.value = (numberIn(seed) ?? -1) + 1; changed(); });
byId("controls").addEventListener("input", () => { showWeight(numberIn(weight)); changed(); });
byId("controls").addEventListener("submit", (event) => event.preventDefault());
moment.addEventListener("input", () => { following = moment.value === moment.max; show(Number(moment.value)); });
sample();
