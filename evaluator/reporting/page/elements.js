// Elements: HTML and SVG, made of text and never of markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

// Fill a select with [value, text] pairs, and hide it with its label where there is nothing to choose.
function setOptions(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  select.value = String(chosen);
  select.closest("label").hidden = pairs.length < 2;
}

// Let one of the elements take part in Tab, and the arrow keys move between them.
function roving(container, selector) {
  const all = () => [...container.querySelectorAll(selector)];
  const take = (chosen) => all().forEach((each) => each.setAttribute("tabindex", each === chosen ? 0 : -1));
  container.addEventListener("focusin", (event) => {
    const chosen = event.target.closest(selector);
    if (chosen) take(chosen);
  });
  container.addEventListener("keydown", (event) => {
    const chosen = event.target.closest(selector), elements = all(), at = elements.indexOf(chosen);
    if (at < 0) return;
    const next = neighbour(elements, at, event.key);
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  });
  return () => {
    const elements = all();
    if (!elements.some((each) => each.getAttribute("tabindex") === "0")) take(elements[0]);
  };
}

function neighbour(elements, at, key) {
  switch (key) {
    case "ArrowLeft": return elements[Math.max(0, at - 1)];
    case "ArrowRight": return elements[Math.min(elements.length - 1, at + 1)];
    case "Home": return elements[0];
    case "End": return elements.at(-1);
    case "ArrowUp": return nearest(elements, at, -1);
    case "ArrowDown": return nearest(elements, at, 1);
    default: return undefined;
  }
}

// The nearest element whose middle lies above (-1) or below (1), or the same one.
function nearest(elements, at, direction) {
  const middle = (each) => {
    const box = each.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const [x, y] = middle(elements[at]);
  let best = elements[at], least = Infinity;
  for (const each of elements) {
    const [left, top] = middle(each), down = direction * (top - y);
    const distance = Math.abs(left - x) + 3 * down;
    if (down > 4 && distance < least) [best, least] = [each, distance];
  }
  return best;
}
