// The depth chart: how much there is up to each price, on a canvas of its own. Floats, as everything that is only drawn.

import { format, short, toFloat } from "./decimal.js";
import { find, setText } from "./dom.js";
import { painter } from "./frame.js";

const PAUSE_MS = 100; // between two drawings
const LEVELS = 80; // of each side that are drawn at most

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** [price, quantity up to it] of a side's best levels. */
function steps(levels) {
  let total = 0;
  return levels.slice(0, LEVELS).map((level) => [toFloat(level.key), (total += toFloat(level.size))]);
}

export class DepthChart {
  constructor() {
    this.canvas = find("depth");
    this.book = null;
    this.pointer = null;
    this.paint = painter(() => this.draw(), PAUSE_MS);
    new ResizeObserver(() => this.paint()).observe(this.canvas);
    addEventListener("themechange", () => this.colour());
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.colour();
  }

  colour() {
    this.colours = Object.fromEntries(["buy", "sell", "buy-fill", "sell-fill", "line", "muted"].map((name) => [name, css(`--${name}`)]));
    this.font = `11px ${css("--font")}`;
    this.paint();
  }

  show(book) {
    this.book = book;
    this.paint();
  }

  point(x) {
    this.pointer = x;
    this.paint();
  }

  draw() {
    const { canvas } = this;
    const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.book?.isWhole) return;
    const [bids, asks] = [steps(this.book.bids.levels), steps(this.book.asks.levels)];
    if (!bids.length && !asks.length) return;
    const middle = ((bids[0] ?? asks[0])[0] + (asks[0] ?? bids[0])[0]) / 2;
    const reach = Math.max(middle - (bids.at(-1)?.[0] ?? middle), (asks.at(-1)?.[0] ?? middle) - middle) || middle * 0.001;
    const most = Math.max(bids.at(-1)?.[1] ?? 0, asks.at(-1)?.[1] ?? 0);
    const floor = height - 16;
    const at = { x: (price) => width * (0.5 + (price - middle) / (2 * reach)), y: (total) => floor - (floor - 6) * (total / most) };
    this.side(pen, at, floor, bids, 0, this.colours.buy, this.colours["buy-fill"]);
    this.side(pen, at, floor, asks, width, this.colours.sell, this.colours["sell-fill"]);
    this.axis(pen, width, height, middle, reach);
    this.legend(pen, width, floor, middle, reach);
  }

  side(pen, at, floor, levels, edge, line, fill) {
    if (!levels.length) return;
    const path = new Path2D();
    const start = at.x(levels[0][0]);
    path.moveTo(start, floor);
    let y = floor;
    for (const [price, total] of levels) {
      path.lineTo(at.x(price), y);
      y = at.y(total);
      path.lineTo(at.x(price), y);
    }
    path.lineTo(edge, y);
    pen.strokeStyle = line;
    pen.lineWidth = 1.5;
    pen.stroke(path);
    path.lineTo(edge, floor);
    path.closePath();
    pen.fillStyle = fill;
    pen.fill(path);
  }

  axis(pen, width, height, middle, reach) {
    pen.font = this.font;
    pen.fillStyle = this.colours.muted;
    const places = this.book.bids.levels[0]?.price.split(".")[1]?.length ?? this.book.asks.levels[0]?.price.split(".")[1]?.length ?? 0;
    for (const [share, align] of [[0, "left"], [0.25, "center"], [0.5, "center"], [0.75, "center"], [1, "right"]]) {
      pen.textAlign = align;
      pen.fillText((middle + reach * (2 * share - 1)).toFixed(places), Math.min(width - 4, Math.max(4, width * share)), height - 4);
    }
  }

  legend(pen, width, floor, middle, reach) {
    if (this.pointer === null) {
      setText(find("depth-legend"), "Depth");
      return;
    }
    const price = middle + reach * ((2 * this.pointer) / width - 1);
    const isBid = price < middle;
    let [total, count] = [0n, 0];
    for (const level of (isBid ? this.book.bids : this.book.asks).levels.slice(0, LEVELS)) {
      if (isBid ? toFloat(level.key) < price : toFloat(level.key) > price) break;
      total += level.size;
      count += 1;
    }
    pen.strokeStyle = this.colours.muted;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(this.pointer, 0);
    pen.lineTo(this.pointer, floor);
    pen.stroke();
    setText(find("depth-legend"), `${isBid ? "Bids" : "Asks"} up to ${price.toFixed(2)}: ${short(format(total))} in ${count} levels`);
  }
}
