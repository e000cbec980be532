// Elements and rows. Text goes in as text, never as markup; what already says it isn't touched.

export const find = (id) => document.getElementById(id);
export const words = (code) => String(code ?? "").replaceAll("_", " ").toLowerCase();

export function setText(element, text) {
  const wanted = text === null || text === undefined ? "–" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

/** An element with attributes and children; `onclick` and the like are listeners, `class` and `data-*` as in markup. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A button that does something small. */
export const button = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);

/** Keeps the rows of a table body, or of any list, as many as there are items: rows are used again, never made per message. */
export class Rows {
  /** `create()` makes an empty row, `fill(row, item)` writes an item into one. */
  constructor(body, create, fill) {
    Object.assign(this, { body, create, fill });
    this.rows = [];
  }

  show(items) {
    while (this.rows.length < items.length) {
      const row = this.create();
      this.rows.push(row);
      this.body.append(row);
    }
    while (this.rows.length > items.length) this.rows.pop().remove();
    items.forEach((item, index) => this.fill(this.rows[index], item));
  }
}

/** A table row of `count` cells with these classes. */
export function cellRow(classes) {
  const row = document.createElement("tr");
  for (const name of classes) {
    const cell = row.insertCell();
    if (name) cell.className = name;
  }
  return row;
}

/** "10:15:03" or, with `withDay`, "Nov 22 10:15:03" of an RFC 3339 time; UTC as everywhere on the page. */
export function timeOf(text, withDay = false) {
  const time = String(text ?? "").slice(11, 19);
  return withDay ? `${String(text).slice(5, 10)} ${time}` : time;
}

/** Say something to people and screen readers; `kind` is "", "good" or "bad". */
export function say(element, text, kind = "") {
  setText(element, text);
  element.dataset.kind = kind;
}

let fading = 0;
/** A notice at the edge of the window that goes away by itself. */
export function notify(text, kind = "") {
  const place = find("notice");
  say(place, text, kind);
  place.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (place.hidden = true), kind === "bad" ? 8_000 : 4_000);
}
