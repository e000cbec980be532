// The price chart: TradingView Lightweight Charts, given what the service's candles say. Its own attribution link would need an
// inline style, which the page's policy forbids; the page shows the link and the notice itself, below the chart.

import { CandlestickSeries, HistogramSeries, createChart } from "./vendor/lightweight-charts.standalone.production.mjs";

import * as api from "./api.js";
import { grouped, placesOf, short } from "./decimal.js";
import { find, make, setText } from "./dom.js";
import { painter } from "./frame.js";

const INTERVALS = ["1s", "1m", "5m", "15m", "1h", "4h", "1d"];
const HISTORY = 500;
const LONGEST = 5_000; // candles that are kept; then the older half goes
const YOUNG = 10; // a market with fewer minutes than this is shown by the second
const PAUSE_MS = 100; // between two drawings: canvases cost most, and a candle is no ladder
const FIRST_SHOWN = 90;

const secondsOf = (time) => Math.floor(Date.parse(time) / 1000);
/** What is kept of a candle: a chart by the second keeps thousands. */
const kept = ({ open_time, open, high, low, close, volume, trades }) => ({ open_time, open, high, low, close, volume, trades });
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  constructor(feed) {
    this.feed = feed;
    this.symbol = "";
    this.interval = "1m";
    this.isChosen = false; // by a person: then it stays as it is
    this.candles = new Map();
    this.last = null;
    this.ownLines = [];
    this.paint = painter(() => this.draw(), PAUSE_MS);
    this.dirty = new Map();
    this.build();
    find("intervals").append(
      ...INTERVALS.map((name) => make("button", { type: "button", "data-interval": name, onclick: () => this.choose(name) }, name)),
    );
    addEventListener("themechange", () => this.colour());
  }

  build() {
    const place = find("candles");
    this.chart = createChart(place, {
      autoSize: true,
      layout: { attributionLogo: false, background: { color: "transparent" }, fontSize: 11 },
      timeScale: { timeVisible: true, secondsVisible: true, rightOffset: 4, borderVisible: false },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.06, bottom: 0.24 } },
      crosshair: { mode: 0 },
    });
    this.prices = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.volumes = this.chart.addSeries(HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
    this.volumes.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.chart.subscribeCrosshairMove(({ time }) => this.legend(this.candles.get(time) ?? this.last));
    this.colour();
  }

  colour() {
    const [up, down, text, line] = [css("--buy"), css("--sell"), css("--muted"), css("--line")];
    this.volumeColours = [css("--buy-bar"), css("--sell-bar")];
    this.chart.applyOptions({
      layout: { textColor: text, fontFamily: css("--font") },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
    });
    this.prices.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    this.reload();
  }

  /** Show another symbol; `tick` is its tick size, as text. */
  show(symbol, tick) {
    if (tick) this.prices.applyOptions({ priceFormat: { type: "price", precision: placesOf(tick), minMove: Number(tick) } });
    if (symbol === this.symbol) return;
    this.symbol = symbol;
    if (!this.isChosen) this.interval = "1m";
    this.begin();
  }

  choose(interval) {
    this.isChosen = true;
    this.interval = interval;
    this.begin();
  }

  begin() {
    this.feed.unsubscribe(this.key);
    this.clear();
    for (const each of find("intervals").children) each.setAttribute("aria-pressed", String(each.dataset.interval === this.interval));
    if (!this.symbol) return;
    const wish = { channel: "candles", symbol: this.symbol, interval: this.interval };
    this.key = this.feed.subscribe(wish, {
      started: () => this.load(wish),
      message: ({ candle }) => candle && this.put(candle),
    });
  }

  /** What was before the running candle. Asked for after each subscription, so that a loss leaves no hole. */
  async load({ symbol, interval }) {
    const isStill = () => symbol === this.symbol && interval === this.interval;
    try {
      const { candles } = await api.candles(symbol, interval, HISTORY);
      if (!isStill()) return;
      if (!this.isChosen && interval === "1m" && candles.length < YOUNG) {
        this.interval = "1s";
        this.begin();
        return;
      }
      for (const candle of candles) {
        const time = secondsOf(candle.open_time);
        if (!(this.candles.get(time)?.trades > candle.trades)) this.candles.set(time, kept(candle));
      }
      this.reload();
      const count = this.candles.size;
      this.chart.timeScale().setVisibleLogicalRange({ from: count - FIRST_SHOWN, to: count + 4 });
    } catch {
      // the next connection asks again; the connection's state says that there is none
    }
  }

  clear() {
    this.candles.clear();
    this.dirty.clear();
    this.last = null;
    this.prices.setData([]);
    this.volumes.setData([]);
    this.legend(null);
  }

  put(told) {
    const time = secondsOf(told.open_time);
    const candle = kept(told);
    this.candles.set(time, candle);
    this.dirty.set(time, candle);
    this.paint();
  }

  draw() {
    for (const [time, candle] of [...this.dirty].sort(([left], [right]) => left - right)) {
      if (this.last && time < secondsOf(this.last.open_time)) {
        this.reload();
        break;
      }
      this.last = candle;
      this.prices.update(this.bar(time, candle));
      this.volumes.update(this.volume(time, candle));
    }
    this.dirty.clear();
    if (this.candles.size > LONGEST) {
      for (const time of [...this.candles.keys()].sort((left, right) => left - right).slice(0, LONGEST / 2)) this.candles.delete(time);
      this.reload();
    }
    this.legend(this.last);
  }

  reload() {
    const all = [...this.candles].sort(([left], [right]) => left - right);
    this.prices.setData(all.map(([time, candle]) => this.bar(time, candle)));
    this.volumes.setData(all.map(([time, candle]) => this.volume(time, candle)));
    this.last = all.at(-1)?.[1] ?? null;
    this.legend(this.last);
  }

  bar(time, candle) {
    return { time, open: Number(candle.open), high: Number(candle.high), low: Number(candle.low), close: Number(candle.close) };
  }

  volume(time, candle) {
    return { time, value: Number(candle.volume), color: this.volumeColours[Number(candle.close) < Number(candle.open) ? 1 : 0] };
  }

  legend(candle) {
    const text = candle
      ? `O ${grouped(candle.open)}  H ${grouped(candle.high)}  L ${grouped(candle.low)}  C ${grouped(candle.close)}  V ${short(candle.volume)}`
      : "No trades yet";
    setText(find("legend"), text);
  }

  /** Lines at one's own resting orders. */
  mark(orders) {
    for (const line of this.ownLines) this.prices.removePriceLine(line);
    this.ownLines = orders
      .filter((order) => order.price)
      .slice(0, 20)
      .map((order) =>
        this.prices.createPriceLine({
          price: Number(order.price),
          color: css(order.side === "BUY" ? "--buy" : "--sell"),
          lineWidth: 1,
          lineStyle: 2,
          axisLabelVisible: false,
          title: `${order.side === "BUY" ? "B" : "S"} ${order.remaining_quantity}`,
        }),
      );
  }
}
