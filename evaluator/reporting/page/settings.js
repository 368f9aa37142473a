// Settings: one side of the comparison, with its slider and choices.
class Side {
  constructor(letter, report, changed) {
    Object.assign(this, { letter, changed });
    this.reports = [report];
    this.take(report);
    this.build();
  }

  take(report) {
    this.report = report;
    const { checkpoint, method, weight } = report.best;
    Object.assign(this, { checkpoint, method, weight });
  }

  build() {
    const choice = (name, set) =>
      element("select", { "data-choice": name, onchange: (event) => { set(event.target.value); this.settle(); } });
    this.ofReport = choice("report", (value) => this.take(this.reports[value]));
    this.ofCheckpoint = choice("checkpoint", (value) => (this.checkpoint = Number(value)));
    this.ofMethod = choice("method", (value) => (this.method = Number(value)));
    this.slider = element("input", {
      type: "range", min: 0, step: 1, "data-choice": "weight",
      oninput: () => { this.weight = this.weights[Number(this.slider.value)]; this.settle(); },
    });
    this.output = element("output");
    this.ticks = element("div", { class: "ticks", "aria-hidden": "true" });
    this.legend = element("legend");
    this.compared = element("span");
    this.element = element(
      "fieldset", { "data-side": this.letter }, this.legend,
      element("div", { class: "choices" },
        element("label", {}, "report ", this.ofReport),
        element("label", {}, "checkpoint ", this.ofCheckpoint),
        element("label", {}, this.compared, " ", this.ofMethod)),
      element("label", { class: "weight" }, "guidance weight ", this.output, this.slider),
      this.ticks,
    );
  }

  // Show settings that were chosen elsewhere on the page.
  show({ checkpoint, method, weight }) {
    Object.assign(this, { checkpoint, method, weight });
    this.settle();
  }

  settle() {
    this.render();
    this.changed();
  }

  // Fill the choices; checkpoint and weight become the nearest ones that were swept with this method.
  render() {
    const { report } = this, { epoch } = report.checkpoints[this.checkpoint];
    const away = (checkpoint) => Math.abs(report.checkpoints[checkpoint].epoch - epoch);
    const swept = report.checkpointsOf(this.method);
    if (!swept.includes(this.checkpoint)) this.checkpoint = swept.reduce((best, each) => (away(each) < away(best) ? each : best));
    this.weights = report.weights(this.checkpoint, this.method);
    const distance = (weight) => Math.abs(weight - this.weight);
    this.weight = this.weights.reduce((best, each) => (distance(each) < distance(best) ? each : best));
    this.compared.textContent = report.compared;
    setOptions(this.ofReport, this.reports.map((each, at) => [at, each.name]), this.reports.indexOf(report));
    setOptions(this.ofCheckpoint, report.checkpoints.map((each, at) => [at, each.name]), this.checkpoint);
    setOptions(this.ofMethod, report.methods.map((name, at) => [at, this.methodName(name, at)]), this.method);
    this.slider.max = this.weights.length - 1;
    this.slider.value = this.weights.indexOf(this.weight);
    const scale = `guidance scale s = ${Number((1 + this.weight).toPrecision(6))}`;
    const word = { "-1": ", unconditional", 0: ", conditional" }[this.weight] ?? "";
    this.output.textContent = `${weightName(this.weight)} (${scale}${word})`;
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    const every = Math.ceil(this.weights.length / 12);
    this.ticks.replaceChildren(...this.weights.map((weight, at) =>
      element("span", {}, at % every ? "" : String(weight).replace("-", "\u2212"))));
  }

  // A method by name, with its settings where the name does not say them.
  methodName(name, method) {
    const settings = this.report.cells.find((cell) => cell.method === method)?.settings;
    return settings && !name.includes("=") ? `${name} (${settings})` : name;
  }

  // The number of the label-set file of this side's report that has the label sets of another's, or -1.
  fileLike(other, file) {
    if (other === this.report) return file;
    const wanted = JSON.stringify(other.files[file].label_sets.map((_, place) => other.names(file, place)));
    const same = this.report.files.map((each, at) => at).filter((at) =>
      JSON.stringify(this.report.files[at].label_sets.map((_, place) => this.report.names(at, place))) === wanted);
    return same.find((at) => this.report.files[at].name === other.files[file].name) ?? same[0] ?? -1;
  }

  cellFor(other, file) {
    const own = this.fileLike(other, file);
    return own < 0 ? undefined : this.report.cell({ ...this, file: own });
  }

  get name() {
    const { report } = this;
    const parts = [report.checkpoints[this.checkpoint].name];
    if (this.reports.length > 1) parts.unshift(report.name);
    if (report.methods.length > 1) parts.push(report.methods[this.method]);
    return [...parts, weightName(this.weight)].join(", ");
  }
}
