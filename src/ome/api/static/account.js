// Positions and what the limits leave, read again a moment after each of one's own events and now and then, as marks move.

import * as api from "./api.js";
import { grouped, short } from "./decimal.js";
import { Rows, cellRow, find, make, setClass, setText } from "./dom.js";
import { throttled } from "./frame.js";
import { profitOf } from "./orders.js";

const RELOAD_MS = 700;
const MARKS_MS = 5_000;

export class Account {
  constructor(user) {
    this.user = user;
    this.reload = throttled(() => this.read(), RELOAD_MS);
    this.rows = new Rows(find("positions"), () => cellRow(["name", "", "", ""]), (row, position) => {
      const profit = profitOf(position);
      [position.symbol, grouped(position.quantity), short(position.average_price), short(profit, 2)].forEach((text, index) => setText(row.cells[index], text));
      setClass(row.cells[3], profit.startsWith("-") ? "sell-text" : profit === "0" ? "" : "buy-text");
      row.title = `realised ${short(position.realised_profit, 2)}, unrealised ${short(position.unrealised_profit, 2)}, mark ${grouped(position.mark_price)}`;
    });
    setInterval(() => document.hidden || this.read(), MARKS_MS);
  }

  async read() {
    const userId = this.user();
    if (!userId) return this.show([], null);
    try {
      const [{ positions }, risk] = await Promise.all([api.positions(userId), api.risk(userId)]);
      if (userId === this.user()) this.show(positions, risk);
    } catch {
      this.show([], null); // who may not read them is told so beside the orders
    }
  }

  show(positions, risk) {
    this.rows.show(positions);
    find("positions-empty").hidden = positions.length > 0;
    const lines = [];
    if (risk?.killed) lines.push(["Stopped", "only cancels are taken"]);
    if (risk?.cancel_at) lines.push(["Cancelled at", risk.cancel_at.slice(11, 19)]);
    if (risk) lines.push(["Open orders", risk.open_orders_left === null ? `${risk.open_orders}` : `${risk.open_orders}, ${risk.open_orders_left} left`]);
    for (const each of risk?.symbols ?? []) lines.push(...limitsOf(each));
    find("limits").replaceChildren(...lines.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  }
}

function limitsOf(symbol) {
  const name = symbol.symbol;
  const lines = [];
  if (symbol.killed) lines.push([name, "stopped: only cancels"]);
  if (symbol.open_orders_left !== null) lines.push([`${name} orders left`, `${symbol.open_orders_left}`]);
  if (symbol.max_order_quantity !== null) lines.push([`${name} largest order`, grouped(symbol.max_order_quantity)]);
  if (symbol.max_order_notional !== null) lines.push([`${name} largest value`, grouped(symbol.max_order_notional)]);
  if (symbol.buy_quantity_left !== null) lines.push([`${name} may buy`, grouped(symbol.buy_quantity_left)]);
  if (symbol.sell_quantity_left !== null) lines.push([`${name} may sell`, grouped(symbol.sell_quantity_left)]);
  if (symbol.highest_buy_price !== null) lines.push([`${name} buys up to`, grouped(symbol.highest_buy_price)]);
  if (symbol.lowest_sell_price !== null) lines.push([`${name} sells from`, grouped(symbol.lowest_sell_price)]);
  return lines;
}
