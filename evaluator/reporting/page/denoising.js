// Denoising: the first images of the best row at every moment of sampling.
class DenoisingView {
  constructor(report) {
    this.report = report;
    this.moments = report.denoising;
    byId("denoising-section").hidden = !this.moments;
    if (!this.moments) return;
    this.chosen = 0;
    this.frame = this.moments.steps.length - 1;
    this.build();
    report.sheet(this.moments).then(() => this.render());
  }

  build() {
    const { report, moments } = this, { best } = report;
    const names = Array.from({ length: moments.images }, (_, place) => report.names(best.file, place).join(", "));
    const settings = [report.checkpoints[best.checkpoint].name, report.methods[best.method], weightName(best.weight)];
    byId("denoising-of").textContent =
      `The file has the denoising of the first ${moments.images} images of ${report.files[best.file].name}.json, seed 0, ` +
      `at the best row: ${settings.join(", ")}.`;
    this.large = element("canvas", { class: "large", "aria-hidden": "true" });
    this.output = element("output");
    this.slider = element("input", {
      type: "range", min: 0, max: moments.steps.length - 1, step: 1, value: this.frame, id: "timestep",
      oninput: () => { this.frame = Number(this.slider.value); this.render(); },
    });
    this.thumbs = names.map((name, place) => element("button", {
      type: "button", "aria-label": `denoising of ${name}`, onclick: () => this.choose(place),
    }, element("canvas", { "aria-hidden": "true" }), element("span", {}, name)));
    byId("denoising").replaceChildren(this.large, element("div", { class: "rest" },
      element("label", {}, "moment ", this.output, this.slider),
      element("ul", { class: "thumbs" }, ...this.thumbs.map((thumb) => element("li", {}, thumb)))));
  }

  // Choose an image by its place in the label-set file; other images have no denoising.
  choose(place) {
    if (!this.moments || place >= this.moments.images) return;
    this.chosen = place;
    this.render();
  }

  render() {
    const { moments, frame, report } = this, { bitmap } = moments;
    if (!bitmap) return;
    const t = moments.timesteps[frame], when = t < 0 ? "the finished image" : `x at t = ${t}`;
    this.output.textContent = `after step ${moments.steps[frame]} of ${moments.of_steps}: ${when}`;
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    const draw = (canvas, place) => report.draw(canvas, bitmap, frame * moments.images + place, moments.columns);
    draw(this.large, this.chosen);
    this.thumbs.forEach((thumb, place) => {
      draw(thumb.querySelector("canvas"), place);
      thumb.setAttribute("aria-pressed", String(place === this.chosen));
    });
  }
}
