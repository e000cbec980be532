// The price ladder: a fixed number of rows on each side of the spread, written anew in each frame that has something new.

import { format, grouped, parse } from "./decimal.js";
import { Rows, find, make, setClass, setText } from "./dom.js";
import { painter } from "./frame.js";

const ROW_PX = 20;

export class Ladder {
  /** `pick(price)` is called for a level that is clicked. */
  constructor(pick) {
    this.book = null;
    this.own = { BUY: new Map(), SELL: new Map() };
    this.paint = painter(() => this.draw());
    const fill = (row, item) => this.fill(row, item);
    const create = () => make("button", { type: "button", class: "level", tabindex: "-1" }, ...[0, 1, 2, 3].map(() => make("span")));
    this.sides = ["asks", "bids"].map((name) => ({ name, place: find(name), rows: new Rows(find(name), create, fill) }));
    for (const { place } of this.sides) {
      new ResizeObserver(() => this.paint()).observe(place);
      place.addEventListener("click", (event) => {
        const price = event.target.closest(".level")?.dataset.price;
        if (price) pick(price);
      });
    }
    find("ladder").addEventListener("keydown", (event) => this.walk(event));
  }

  show(book) {
    this.book = book;
    this.paint();
  }

  /** One's own open orders in the symbol. */
  mark(orders) {
    this.own = { BUY: new Map(), SELL: new Map() };
    for (const order of orders) {
      if (!order.price || order.status === "PENDING_TRIGGER") continue;
      const key = parse(order.price);
      this.own[order.side].set(key, (this.own[order.side].get(key) ?? 0n) + parse(order.remaining_quantity));
    }
    this.paint();
  }

  draw() {
    const { book } = this;
    const isWhole = Boolean(book?.isWhole);
    find("ladder").dataset.sequence = isWhole ? book.sequence : "";
    find("ladder").dataset.time = isWhole ? book.timestamp : "";
    setText(find("book-state"), isWhole ? `#${grouped(book.sequence)}` : book ? "catching up" : "");
    find("ladder").classList.toggle("stale", Boolean(book) && !isWhole);
    const shown = this.sides.map(({ name, place }) => {
      const count = Math.max(1, Math.floor(place.clientHeight / ROW_PX));
      const own = this.own[name === "asks" ? "SELL" : "BUY"];
      let total = 0n;
      return (isWhole ? book[name].levels.slice(0, count) : []).map((level) => {
        total += level.size;
        return { level, total, own: own.get(level.key) };
      });
    });
    const largest = Math.max(...shown.map((items) => Number(items.at(-1)?.total ?? 0n)), 1);
    this.sides.forEach(({ name, rows }, index) => {
      const items = shown[index].map((item, place) => ({ ...item, share: Number(item.total) / largest, isBest: place === 0 }));
      rows.show(name === "asks" ? items.reverse() : items);
    });
  }

  fill(row, { level, total, own, share, isBest }) {
    const [mine, price, quantity, sum] = row.children;
    row.dataset.price = level.price;
    row.tabIndex = isBest ? 0 : -1;
    setClass(row, own ? "level own" : "level");
    setText(mine, own ? format(own) : "");
    setText(price, grouped(level.price));
    setText(quantity, grouped(level.quantity));
    setText(sum, grouped(format(total)));
    const width = share.toFixed(3);
    if (row.dataset.share !== width) {
      row.dataset.share = width;
      row.style.setProperty("--share", width);
    }
    const title = `${level.orders} ${level.orders === 1 ? "order" : "orders"} at ${level.price}`;
    if (row.title !== title) row.title = title;
  }

  walk(event) {
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const from = event.target.closest?.(".level");
    if (!way || !from) return;
    const all = [...find("asks").children, ...find("bids").children];
    all[all.indexOf(from) + way]?.focus();
    event.preventDefault();
  }
}
