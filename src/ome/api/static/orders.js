// One's own orders: open ones live from the channel `orders`, with cancel, modify in place and an explanation; history and fills.

import * as api from "./api.js";
import { format, grouped, parse, short } from "./decimal.js";
import { Rows, button, cellRow, find, make, notify, setClass, setText, timeOf, words } from "./dom.js";
import { painter, throttled } from "./frame.js";
import { describe } from "./ticket.js";

const OPEN = new Set(["PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER"]);
const LISTED = 200;
const RELOAD_MS = 1_000;
const COLUMNS = {
  open: ["Time", "Symbol", "Side", "Type", "Price", "Quantity", "Filled", "Status", ""],
  history: ["Time", "Symbol", "Side", "Type", "Price", "Quantity", "Filled", "Status", ""],
  fills: ["Time", "Symbol", "Side", "Price", "Quantity", "Trade"],
};
const NOTHING = { open: "No open orders.", history: "No orders yet.", fills: "No trades yet." };

/** The orders of a user, kept as the events say; `changed()` is called whenever one has changed. */
export class OwnOrders {
  constructor(feed, { changed, stopped, named }) {
    Object.assign(this, { feed, changed, stopped, named });
    this.open = new Map();
    this.userId = "";
    this.isLive = false;
    this.early = null; // events that came while the list was being read
  }

  /** Follow another user; "" with a key: the key's own. */
  follow(userId, isKeys) {
    this.feed.unsubscribe(this.key);
    this.open.clear();
    this.userId = userId;
    this.isLive = false;
    this.changed();
    if (!userId && !isKeys) return;
    this.key = this.feed.subscribe(userId ? { channel: "orders", user_id: userId } : { channel: "orders" }, {
      started: ({ subscription }) => this.begin(subscription?.user_id ?? userId),
      message: ({ event }) => this.early?.push(event) ?? this.take(event),
      lost: () => {
        this.isLive = false;
        this.changed();
      },
      refused: (problem) => this.stopped(problem),
    });
  }

  async begin(userId) {
    if (!this.userId) {
      this.userId = userId;
      this.named(userId);
    }
    const early = (this.early = []);
    try {
      const orders = await api.openOrders(userId);
      if (this.early !== early) return;
      this.open = new Map(orders.map((order) => [order.order_id, order]));
      this.early = null;
      early.forEach((event) => this.take(event));
      this.isLive = true;
      this.changed();
    } catch (problem) {
      if (this.early === early) this.early = null;
      this.stopped(problem);
    }
  }

  take(event) {
    const { order } = event;
    if (order) {
      const known = this.open.get(order.order_id);
      const isOld = known && (known.version > order.version || parse(known.filled_quantity) > parse(order.filled_quantity));
      if (OPEN.has(order.status)) {
        if (!isOld) this.open.set(order.order_id, order);
      } else {
        this.open.delete(order.order_id);
      }
    } else if (event.type === "FILLED") {
      this.filled(event);
    }
    this.changed(event);
  }

  /** A maker's trade: the message says how much of the order is filled since. */
  filled({ order_id: id, filled_quantity, remaining_quantity }) {
    const order = this.open.get(id);
    if (!order || filled_quantity === undefined || parse(filled_quantity) < parse(order.filled_quantity)) return;
    if (remaining_quantity === "0") this.open.delete(id);
    else {
      this.open.set(id, { ...order, filled_quantity, remaining_quantity, status: "PARTIALLY_FILLED" });
    }
  }

  of(symbol) {
    return [...this.open.values()].filter((order) => order.symbol === symbol);
  }
}

const typeOf = (order) => `${words(order.type)} ${order.time_in_force}`;
const priceOf = (order) =>
  [order.stop_price && `stop ${grouped(order.stop_price)}`, order.price && grouped(order.price)].filter(Boolean).join(" → ") || "market";

/** The panel with the three lists. */
export class OrdersPanel {
  constructor(own, { symbol, sure }) {
    Object.assign(this, { own, symbol, sure });
    this.list = "open";
    this.past = { history: [], fills: [] };
    this.editing = null; // the id of the order that is being modified in its row
    this.paint = painter(() => this.draw());
    this.reload = throttled(() => this.read(), RELOAD_MS);
    for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => this.show(tab.dataset.list));
    document.querySelector("[role=tablist]").addEventListener("keydown", (event) => this.walk(event));
    find("only-symbol").addEventListener("change", () => this.paint());
    find("cancel-all").addEventListener("click", () => this.cancelAll());
    find("orders").addEventListener("click", (event) => {
      const { act } = event.target.dataset;
      const id = event.target.closest("tr")?.dataset.id;
      if (act) this[act](id);
    });
    find("orders").addEventListener("keydown", (event) => {
      if (!this.editing || event.target.tagName !== "INPUT") return;
      if (event.key === "Enter") this.keep(this.editing);
      if (event.key === "Escape") this.leave();
    });
    this.show("open");
  }

  show(list) {
    this.list = list;
    this.editing = null;
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.setAttribute("aria-selected", String(tab.dataset.list === list));
      tab.tabIndex = tab.dataset.list === list ? 0 : -1;
    }
    find("orders-box").setAttribute("aria-labelledby", `tab-${list}`);
    find("orders-head").replaceChildren(
      ...COLUMNS[list].map((name) => make("th", { scope: "col" }, name || make("span", { class: "hidden" }, "Actions"))),
    );
    find("orders").replaceChildren();
    this.rows = new Rows(find("orders"), () => this.row(), (row, item) => (list === "fills" ? this.fillTrade(row, item) : this.fillOrder(row, item)));
    this.reload();
    this.paint();
  }

  walk(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    const tabs = [...document.querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.findIndex((tab) => tab.dataset.list === this.list) + way + tabs.length) % tabs.length];
    this.show(next.dataset.list);
    next.focus();
  }

  /** Something of one's own has changed. */
  changed() {
    if (this.list !== "open") this.reload();
    this.paint();
  }

  async read() {
    const { list } = this;
    const { userId } = this.own;
    if (list === "open" || !userId) return;
    try {
      if (list === "history") this.past.history = (await api.recentOrders(userId, LISTED)).orders;
      else this.past.fills = (await api.ownTrades(userId, LISTED)).trades;
      this.paint();
    } catch (problem) {
      notify(problem.message, "bad");
    }
  }

  items() {
    const { list } = this;
    const all = list === "open" ? [...this.own.open.values()].sort((left, right) => (left.created_at < right.created_at ? 1 : -1)) : this.own.userId ? this.past[list] : [];
    return find("only-symbol").checked ? all.filter(({ symbol }) => symbol === this.symbol()) : all.slice(0, 500);
  }

  draw() {
    setText(find("open-count"), this.own.open.size);
    find("cancel-all").disabled = this.own.open.size === 0;
    if (this.editing && !this.own.open.has(this.editing)) this.editing = null;
    if (this.editing) return; // a row that is being written in stays where it is
    const items = this.items();
    this.rows.show(items);
    find("orders-empty").hidden = items.length > 0;
    setText(find("orders-empty"), this.own.userId ? NOTHING[this.list] : "Enter a user, or an API key, to see orders.");
  }

  row() {
    if (this.list === "fills") return cellRow(["time", "name", "", "", "", "time"]);
    const row = cellRow(["time", "name", "", "kind", "", "", "", "state", "acts"]);
    if (this.list === "open") {
      row.cells[8].append(
        ...["Modify", "Cancel", "Why?"].map((text) => button(text, null, { class: "link", "data-act": { Modify: "edit", Cancel: "cancel", "Why?": "why" }[text] })),
      );
    } else {
      row.cells[8].append(button("Why?", null, { class: "link", "data-act": "why" }));
    }
    return row;
  }

  fillOrder(row, order) {
    const texts = [timeOf(order.created_at, true), order.symbol, words(order.side), typeOf(order), priceOf(order), grouped(order.quantity)];
    texts.push(`${grouped(order.filled_quantity)}${this.list === "history" && order.average_price ? ` at ${short(order.average_price)}` : ""}`);
    texts.push(order.reason ? `${words(order.status)}: ${words(order.reason)}` : words(order.status));
    row.dataset.id = order.order_id;
    texts.forEach((text, index) => setText(row.cells[index], text));
    setClass(row.cells[2], order.side === "BUY" ? "buy-text" : "sell-text");
    for (const each of row.cells[8].children) each.setAttribute("aria-label", `${each.textContent} order ${order.order_id}`);
  }

  fillTrade(row, trade) {
    const side = this.sideOf(trade);
    const texts = [timeOf(trade.executed_at, true), trade.symbol, side, grouped(trade.price), grouped(trade.quantity), trade.trade_id];
    texts.forEach((text, index) => setText(row.cells[index], text));
    setClass(row.cells[2], side === "buy" ? "buy-text" : side === "sell" ? "sell-text" : "");
  }

  /** Which side of a trade was one's own; the list doesn't say, the known orders do. */
  sideOf(trade) {
    const own = new Set([...this.own.open.keys(), ...this.past.history.map((order) => order.order_id)]);
    if (own.has(trade.buy_order_id)) return own.has(trade.sell_order_id) ? "both" : "buy";
    return own.has(trade.sell_order_id) ? "sell" : "–";
  }

  async cancel(id) {
    try {
      notify(describe((await this.own.feed.call({ op: "cancel", order_id: id })).order), "good");
    } catch (problem) {
      notify(problem.message, "bad");
    }
  }

  async cancelAll() {
    if (!this.own.userId || !(await this.sure(`Cancel all ${this.own.open.size} open orders of ${this.own.userId}?`))) return;
    try {
      const { cancelled } = await api.cancelAll(this.own.userId);
      notify(`${cancelled} ${cancelled === 1 ? "order is" : "orders are"} cancelled.`, "good");
    } catch (problem) {
      notify(problem.message, "bad");
    }
  }

  /** Turn the price and the quantity of a row into fields. */
  edit(id) {
    const order = this.own.open.get(id);
    if (!order || this.editing) return;
    this.editing = id;
    const { cells } = [...find("orders").rows].find((row) => row.dataset.id === id);
    const input = (name, value, label) => make("input", { name, value, inputmode: "decimal", "aria-label": `${label} of order ${id}`, autocomplete: "off" });
    const prices = [order.stop_price && order.type !== "TRAILING_STOP" && input("stop_price", order.stop_price, "Stop price"), order.price && input("price", order.price, "Price")].filter(Boolean);
    if (prices.length) cells[4].replaceChildren(...prices);
    cells[5].replaceChildren(input("quantity", order.quantity, "Quantity"));
    cells[8].replaceChildren(
      button("Keep", null, { class: "link", "data-act": "keep", "aria-label": `Keep the changes of order ${id}` }),
      button("Leave", null, { class: "link", "data-act": "leave", "aria-label": "Leave the order as it is" }),
    );
    (prices.at(-1) ?? cells[5].firstChild).focus();
  }

  async keep(id) {
    const order = this.own.open.get(id);
    const row = [...find("orders").rows].find((each) => each.dataset.id === id);
    const change = {};
    for (const { name, value } of row.querySelectorAll("input")) if (value.trim() !== order[name]) change[name] = value.trim();
    if (!Object.keys(change).length) return this.leave();
    try {
      const { order: changed } = await this.own.feed.call({ op: "modify", order_id: id, ...change, expected_version: order.version });
      notify(describe(changed), "good");
      this.leave();
    } catch (problem) {
      notify(problem.message, "bad");
      if (problem.code === "version_conflict") this.leave();
    }
  }

  leave() {
    this.editing = null;
    this.show(this.list);
  }

  async why(id) {
    try {
      const found = await api.explain(id);
      setText(find("why-title"), found.would_fill_when ? "Why isn't it filled?" : "What became of it");
      const order = this.own.open.get(id);
      setText(find("why-order"), `Order ${id}${order ? `: ${words(order.side)} ${order.quantity} ${order.symbol}, ${priceOf(order)}` : ""}`);
      setText(find("why-text"), explanation(found));
      setText(find("why-rules"), found.rules.length ? `Rules: ${found.rules.join(", ")}` : "");
      find("why-events").replaceChildren(
        ...found.events.slice(-50).map((event) => {
          const row = cellRow(["time", "", ""]);
          [timeOf(event.time, true), eventText(event), `${event.filled_quantity} of ${event.quantity}`].forEach((text, index) => setText(row.cells[index], text));
          return row;
        }),
      );
      find("why").showModal();
    } catch (problem) {
      notify(problem.message, "bad");
    }
  }
}

/** What `explain` says, in a sentence or two. */
function explanation({ status, queue, would_fill_when: when, reason }) {
  if (reason) return `It is ${words(status)}: ${reason.title}. ${reason.advice}`;
  if (!when) return `It is ${words(status)}.`;
  const ahead = queue?.orders_ahead ? `${queue.orders_ahead} ${queue.orders_ahead === 1 ? "order" : "orders"} with ${grouped(queue.quantity_ahead)} in all are ahead of it at its price. ` : queue ? "It is the first in line at its price. " : "";
  return `${ahead}It fills when ${when}.`;
}

function eventText(event) {
  const trade = event.trade ? ` ${event.trade.quantity} at ${event.trade.price}` : "";
  return `${words(event.type)}${trade}${event.reason ? `: ${event.reason.title}` : ""}`;
}

/** What all of a user's positions have won or lost, open and closed, as text. */
export function profitOf(position) {
  return format(parse(position.realised_profit) + (parse(position.unrealised_profit ?? "0") ?? 0n));
}
