// Reading: a report's contents, its cells and their images.
const FORMAT = 1;
const CONTENTS = "contents";

class Report {
  constructor(contents) {
    if (contents?.format !== FORMAT) throw new Error(`its format is not ${FORMAT}`);
    Object.assign(this, { compared: "method" }, contents);  // pages from before have no such word
    this.wide = this.classes.length > 256;
    this.byKey = new Map(this.cells.map((cell) => [this.key(cell), cell]));
    this.cache = new Map();
  }

  key({ checkpoint, method, file, weight }) {
    return `${checkpoint}/${method}/${file}/${weight}`;
  }

  // The cell with these settings, or undefined.
  cell(settings) {
    return this.byKey.get(this.key(settings));
  }

  // The weights that were swept at a checkpoint with a method, in rising order.
  weights(checkpoint, method) {
    const found = this.cells.filter((cell) => cell.checkpoint === checkpoint && cell.method === method);
    return [...new Set(found.map((cell) => cell.weight))].sort((a, b) => a - b);
  }

  // The checkpoints that were swept with a method.
  checkpointsOf(method) {
    return this.checkpoints.map((_, at) => at).filter((at) => this.weights(at, method).length);
  }

  names(file, place) {
    return this.files[file].label_sets[place].map((index) => this.classes[index]);
  }

  // The place of an image in its cell's sheet, or -1 if the file does not have it.
  placeInSheet(cell, seed, place) {
    const { shown_seeds: seeds, shown_label_sets: shown } = this.files[cell.file];
    const row = seeds.indexOf(seed), column = shown.indexOf(place);
    return cell.sheet && row >= 0 && column >= 0 ? row * shown.length + column : -1;
  }

  decoded(cell, part) {
    const key = `${this.key(cell)}/${part}`;
    if (!this.cache.has(key)) this.cache.set(key, bytesOf(cell[part]));
    return this.cache.get(key);
  }

  // The number of correct labels of every image of a cell, ordered by seed.
  correct(cell) {
    return this.decoded(cell, "correct");
  }

  // What the evaluator saw in an image of the sheet: its likeliest classes in order, and which of them count.
  seen(cell, index, asked) {
    const classes = this.decoded(cell, "seen"), probabilities = this.decoded(cell, "probabilities");
    const count = this.classes_shown;
    return Array.from({ length: count }, (_, rank) => {
      const at = index * count + rank;
      const number = this.wide ? classes[2 * at] + 256 * classes[2 * at + 1] : classes[at];
      return {
        number,
        name: this.classes[number],
        probability: probabilities[at] / 255,
        counts: rank < asked.length,
        asked: asked.includes(number),
      };
    });
  }

  // Decode a sheet; calls after the first return the same promise.
  sheet(holder) {
    if (!holder.decoding) {
      const blob = new Blob([bytesOf(holder.sheet)], { type: "image/png" });
      holder.decoding = createImageBitmap(blob).then((bitmap) => (holder.bitmap = bitmap));
    }
    return holder.decoding;
  }

  // Draw an image of a decoded sheet on a canvas, a pixel a pixel; CSS enlarges it.
  draw(canvas, bitmap, index, columns) {
    const { width, height } = this.image;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const left = (index % columns) * width, top = Math.floor(index / columns) * height;
    context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
  }

  columns(bitmap) {
    return Math.round(bitmap.width / this.image.width);
  }
}

// Read the contents out of the text of a page, without running or fetching anything of it.
function reportFromText(text) {
  const found = new DOMParser().parseFromString(text, "text/html").getElementById(CONTENTS);
  if (!found) throw new Error("it has no contents");
  return new Report(JSON.parse(found.textContent));
}
