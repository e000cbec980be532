// What the views share: exact decimals, times, and tables that change only where their data does. Text goes in as textContent alone.

const DECIMALS = 9; // as many as the service ever gives

function units(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(DECIMALS, "0"));
}

/** The exact sum of two decimals given as text, with as many decimals as the longer one. */
export function add(one, other) {
  const decimals = Math.max(...[one, other].map((text) => text.split(".")[1]?.length ?? 0));
  const digits = (units(one) + units(other)).toString().padStart(DECIMALS + 1, "0");
  const whole = digits.slice(0, -DECIMALS);
  return decimals ? `${whole}.${digits.slice(-DECIMALS).slice(0, decimals)}` : whole;
}

/** Each level with `total`: the exact quantity from the best level up to it. */
export function withTotals(levels) {
  let total = "0";
  return levels.map((level) => ({ ...level, total: (total = add(total, level.quantity)) }));
}

export function timeOfDay(text) {
  return new Date(text).toLocaleTimeString([], { hourCycle: "h23" });
}

/** A moment in local time, with its date unless that is today's. */
export function momentText(text) {
  const date = new Date(text).toLocaleDateString();
  return date === new Date().toLocaleDateString() ? timeOfDay(text) : `${date} ${timeOfDay(text)}`;
}

/** A moment as an <input type="datetime-local"> wants it: local, to the second. */
export function localInput(text) {
  const moment = new Date(text);
  return new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

export function say(element, text, kind = "") {
  setText(element, text);
  element.dataset.kind = kind;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function cells(row, texts) {
  texts.forEach((text, index) => setText(row.cells[index] ?? row.insertCell(), text));
}

/**
 * A table body that keeps one row per key: a row that stays is the same element, so that focus, selection and a click that has
 * begun stay with what they were meant for. `fill(row, item)` writes an item into its row.
 */
export class Rows {
  #body;
  #fill;
  #rows = new Map();

  constructor(body, fill) {
    this.#body = body;
    this.#fill = fill;
  }

  show(items, keyOf) {
    const old = this.#rows;
    this.#rows = new Map();
    let place = this.#body.firstChild;
    for (const item of items) {
      const key = keyOf(item);
      const row = old.get(key) ?? document.createElement("tr");
      old.delete(key);
      this.#rows.set(key, row);
      this.#fill(row, item);
      if (row === place) place = place.nextSibling;
      else this.#body.insertBefore(row, place);
    }
    for (const row of old.values()) row.remove();
  }
}
