// The tape: the last trades, newest first. What was before the subscription is read once and joined by sequence.

import * as api from "./api.js";
import { grouped } from "./decimal.js";
import { Rows, cellRow, find, setClass, setText, timeOf } from "./dom.js";
import { painter } from "./frame.js";

const SHOWN = 60;

export class Tape {
  constructor(feed) {
    this.feed = feed;
    this.trades = [];
    this.paint = painter(() => this.draw());
    this.rows = new Rows(find("tape"), () => cellRow(["", "", "time"]), (row, trade) => {
      setClass(row.cells[0], trade.taker_side === "SELL" ? "sell-text" : trade.taker_side === "BUY" ? "buy-text" : "");
      setText(row.cells[0], grouped(trade.price));
      setText(row.cells[1], grouped(trade.quantity));
      setText(row.cells[2], timeOf(trade.executed_at));
    });
  }

  show(symbol) {
    this.feed.unsubscribe(this.key);
    this.trades = [];
    this.paint();
    if (!symbol) return;
    this.symbol = symbol;
    let last = 0;
    this.key = this.feed.subscribe({ channel: "trades", symbol }, {
      started: ({ sequence }) => {
        last = sequence;
        this.trades = [];
        this.load(symbol);
      },
      message: (message) => {
        if (message.previous_sequence > last) this.feed.resync(this.key);
        last = message.sequence;
        this.join([message.trade]);
      },
    });
  }

  async load(symbol) {
    try {
      const { trades } = await api.trades(symbol, SHOWN);
      if (symbol === this.symbol) this.join(trades);
    } catch {
      // the next connection asks again
    }
  }

  join(trades) {
    const isSorted = trades.length === 1 && !(this.trades[0]?.sequence >= trades[0].sequence);
    if (isSorted) {
      this.trades.unshift(trades[0]);
    } else {
      const byId = new Map([...this.trades, ...trades].map((trade) => [trade.trade_id, trade]));
      this.trades = [...byId.values()].sort((left, right) => right.sequence - left.sequence);
    }
    if (this.trades.length > SHOWN) this.trades.length = SHOWN;
    this.paint();
  }

  draw() {
    this.rows.show(this.trades);
    find("tape-empty").hidden = this.trades.length > 0;
  }
}
