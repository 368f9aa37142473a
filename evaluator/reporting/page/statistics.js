// Statistics: differences of accuracy over the same images.
const Z = 1.959963984540054;

// The difference sum(a - b) / sum(asked) with its 95 % interval over images, as evaluator/judging/selection.py has it.
function pairedDifference(a, b, asked) {
  const images = Math.min(a.length, b.length);
  let total = 0, ahead = 0;
  for (let i = 0; i < images; i++) {
    total += asked[i % asked.length];
    ahead += a[i] - b[i];
  }
  const value = ahead / total;
  let squares = 0;
  for (let i = 0; i < images; i++) squares += (a[i] - b[i] - value * asked[i % asked.length]) ** 2;
  const deviation = Math.sqrt((images / Math.max(images - 1, 1)) * squares) / total;
  return { value, low: value - Z * deviation, high: value + Z * deviation, images };
}

function fixed(value) {
  return value.toFixed(3).replace(/^-(0\.0+)$/, "$1").replace("-", "\u2212");
}

function signed(value) {
  const text = fixed(value);
  return text.startsWith("\u2212") ? text : `+${text}`;
}

function interval([value, low, high]) {
  return `${fixed(value)} (${fixed(low)} to ${fixed(high)})`;
}

function weightName(weight) {
  return `w = ${String(weight).replace("-", "\u2212")}`;
}
