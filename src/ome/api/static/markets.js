// Every symbol at a glance, and the chosen one's figures above the chart. Tickers are heard, day figures read now and then.

import * as api from "./api.js";
import { format, grouped, parse, percentChange, placesOf, short } from "./decimal.js";
import { Rows, find, make, setClass, setText, words } from "./dom.js";
import { painter } from "./frame.js";

const DAY_FIGURES_MS = 5_000;
const TITLE_MS = 1_000; // the window's title is the browser's, and dear
const PAUSE_MS = 100; // between two drawings
const MOST_TICKERS = 300; // symbols whose tickers are heard; those beyond are read with the day's figures

const way = (text) => (text?.startsWith("−") ? "sell-text" : text && text !== "+0.00%" ? "buy-text" : "");

/** What lies between the best prices, as text, or null. */
export function spreadOf(market) {
  const [bid, ask] = [market?.best_bid?.price, market?.best_ask?.price];
  return bid && ask ? format(parse(ask) - parse(bid), Math.max(placesOf(bid), placesOf(ask))) : null;
}

export class Markets {
  /** `choose(symbol)` is called for a row that is clicked and for the first symbol there is, `changed(market)` for the chosen one. */
  constructor(feed, { choose, changed }) {
    Object.assign(this, { feed, choose, changed });
    this.all = new Map();
    this.chosen = "";
    this.paint = painter(() => this.draw(), PAUSE_MS);
    this.rows = new Rows(find("markets"), () => this.row(), (row, market) => this.fill(row, market));
    find("find").addEventListener("input", () => this.paint());
    find("find").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !this.shown().length) return;
      choose(this.shown()[0].symbol);
      event.target.value = "";
      event.target.blur();
      this.paint();
    });
    setInterval(() => document.hidden || this.read(), DAY_FIGURES_MS);
    setInterval(() => this.name(), TITLE_MS);
  }

  async read() {
    try {
      const { markets } = await api.markets();
      for (const market of markets) {
        const known = this.all.get(market.symbol);
        if (!known) this.all.set(market.symbol, market);
        // a ticker may have come since: its sequence tells which of the two is newer
        else Object.assign(known, known.sequence > market.sequence ? dayFigures(market) : market);
        if (!known && this.all.size <= MOST_TICKERS) this.hear(market.symbol);
      }
      if (!this.chosen && markets.length) this.choose(busiest(markets));
      find("markets-empty").hidden = markets.length > 0;
      this.paint();
    } catch {
      // the connection's state says so
    }
  }

  hear(symbol) {
    this.feed.subscribe({ channel: "ticker", symbol }, {
      message: ({ state, best_bid, best_ask, last_price, last_quantity, sequence, auction }) => {
        Object.assign(this.all.get(symbol), { state, best_bid, best_ask, last_price, last_quantity, sequence, auction: auction ?? null });
        this.paint();
      },
    });
  }

  select(symbol) {
    this.chosen = symbol;
    this.paint();
  }

  get(symbol) {
    return this.all.get(symbol);
  }

  list() {
    return [...this.all.values()].sort((left, right) => (left.symbol < right.symbol ? -1 : 1));
  }

  shown() {
    const wanted = find("find").value.trim().toUpperCase();
    return this.list().filter(({ symbol }) => symbol.includes(wanted));
  }

  row() {
    const choose = (event) => this.choose(event.currentTarget.closest("tr").dataset.symbol);
    const row = make("tr", { onclick: choose });
    row.append(make("td", {}, make("button", { type: "button" })), make("td"), make("td"), make("td"));
    return row;
  }

  fill(row, market) {
    const [name, last, change, spread] = row.cells;
    row.dataset.symbol = market.symbol;
    setText(name.firstChild, market.symbol);
    name.firstChild.setAttribute("aria-pressed", String(market.symbol === this.chosen));
    setClass(row, market.symbol === this.chosen ? "chosen" : "");
    setText(last, grouped(market.last_price));
    const percent = percentChange(market.last_price, market.open);
    setText(change, percent);
    setClass(change, way(percent));
    setText(spread, market.state === "OPEN" ? spreadOf(market) : words(market.state));
  }

  draw() {
    this.rows.show(this.shown());
    const market = this.all.get(this.chosen);
    setText(find("symbol"), this.chosen || null);
    const spread = spreadOf(market);
    const percent = percentChange(market?.last_price, market?.open);
    const figures = { last: market?.last_price, high: market?.high, low: market?.low };
    for (const [id, figure] of Object.entries(figures)) setText(find(id), grouped(figure));
    setText(find("spread"), spread);
    setText(find("volume"), short(market?.volume, 2));
    setText(find("change"), percent);
    setClass(find("change"), way(percent));
    setText(find("middle-last"), grouped(market?.last_price));
    setText(find("middle-spread"), spread);
    find("market-state").hidden = !market || market.state === "OPEN";
    setText(find("market-state"), words(market?.state));
    this.drawAuction(market?.auction);
    this.changed(market);
  }

  name() {
    const market = this.all.get(this.chosen);
    const title = market?.last_price ? `${grouped(market.last_price)} ${this.chosen} · OME` : "OME";
    if (document.title !== title) document.title = title;
  }

  drawAuction(auction) {
    find("auction").hidden = !auction;
    if (!auction) return;
    const { indicative_price: price, indicative_volume: volume, imbalance, imbalance_side: side } = auction;
    const rest = side ? `; ${grouped(imbalance)} more to ${words(side)}` : "";
    setText(find("auction"), price ? `Auction: would trade ${grouped(volume)} at ${grouped(price)}${rest}` : `Auction: nothing would trade yet${rest}`);
  }
}

const dayFigures = ({ open, high, low, volume }) => ({ open, high, low, volume });

/** The symbol that a newcomer sees first: the one that trades most often, as far as a list tells. */
function busiest(markets) {
  return markets.reduce((best, market) => (market.sequence > best.sequence ? market : best)).symbol;
}
