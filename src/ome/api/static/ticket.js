// The order ticket: shows the fields that apply to the type and time in force, asks by a dry run what an order would do, sends it.

import { format, grouped, parse, short, step } from "./decimal.js";
import { find, notify, say, setText, words } from "./dom.js";
import { debounced } from "./frame.js";

const PREVIEW_MS = 250;
const REFRESH_MS = 1_500; // a preview is of one moment: while the market moves it is asked for again
const LIMITED = new Set(["LIMIT", "STOP_LIMIT"]);
const RESTING = new Set(["GTC", "GTD", "DAY"]);
const OPTIONAL = new Set(["limit_offset", "display_quantity", "min_quantity", "max_slippage_bps"]);

/** 32 hex digits; unlike crypto.randomUUID it is there on plain http too. */
function newClientOrderId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An order in a sentence: what became of it. */
export function describe(order) {
  const why = order.reason ? ` (${words(order.reason)})` : "";
  const price = order.average_price ? ` at ${grouped(order.average_price)}` : "";
  return `Order ${order.order_id} is ${words(order.status)}${why}: ${order.filled_quantity} of ${order.quantity} filled${price}.`;
}

export class Ticket {
  /** `user()` is whose order it will be, `market(symbol)` and `tick(symbol)` what is known of a symbol, `sent(order)` hears of one that was taken. */
  constructor(feed, { user, market, tick, sent, refused }) {
    Object.assign(this, { feed, user, market, tick, sent, refused });
    this.form = find("ticket");
    this.unanswered = { body: "", id: "" }; // an order whose answer never came keeps its id: sent again it can't be a second order
    this.soon = debounced(() => this.preview(), PREVIEW_MS);
    this.previewed = 0;
    this.form.addEventListener("input", () => this.edited());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.form.addEventListener("keydown", (event) => this.nudge(event));
    setInterval(() => document.hidden || !this.isWhole() || this.preview(), REFRESH_MS);
    this.edited();
  }

  field(name) {
    return this.form.elements[name];
  }

  value(name) {
    return this.field(name).value.trim();
  }

  /** Which fields apply now: those of the service's own rules. */
  applies() {
    const [type, force] = [this.value("type"), this.value("time_in_force")];
    const isTrailing = type === "TRAILING_STOP";
    const isLimited = LIMITED.has(type) || (isTrailing && this.value("limit_offset") !== "");
    const canRest = isLimited && RESTING.has(force);
    return {
      price: LIMITED.has(type),
      stop_price: type === "STOP" || type === "STOP_LIMIT",
      trail: isTrailing,
      limit_offset: isTrailing,
      time_in_force: isLimited,
      expires_at: isLimited && force === "GTD",
      post_only: canRest && this.value("min_quantity") === "",
      display_quantity: canRest,
      min_quantity: (LIMITED.has(type) || type === "MARKET") && !this.field("post_only").checked,
      max_slippage_bps: !isLimited,
    };
  }

  edited() {
    const applies = this.applies();
    for (const label of this.form.querySelectorAll("[data-field]")) label.hidden = !applies[label.dataset.field];
    const side = this.value("side");
    setText(find("send"), `${side === "BUY" ? "Buy" : "Sell"} ${this.value("symbol").toUpperCase()}`.trim());
    this.form.dataset.side = side;
    this.mark({});
    this.soon();
  }

  /** The order as it stands in the form. */
  order() {
    const applies = this.applies();
    const order = {
      user_id: this.user() || undefined,
      symbol: this.value("symbol"),
      side: this.value("side"),
      type: this.value("type"),
      quantity: this.value("quantity"),
      self_trade_prevention: this.value("self_trade_prevention"),
    };
    for (const name of ["price", "stop_price", "limit_offset", "display_quantity", "min_quantity"]) {
      const text = this.value(name);
      if (applies[name] && !(OPTIONAL.has(name) && text === "")) order[name] = text;
    }
    if (applies.trail) order[this.value("trail_kind")] = this.value("trail");
    if (applies.time_in_force) order.time_in_force = this.value("time_in_force");
    if (applies.post_only && this.field("post_only").checked) order.post_only = true;
    const slippage = this.value("max_slippage_bps");
    if (applies.max_slippage_bps && slippage) order.max_slippage_bps = /^\d+$/.test(slippage) ? Number(slippage) : slippage;
    if (applies.expires_at) {
      const moment = new Date(this.value("expires_at"));
      order.expires_at = Number.isNaN(moment.getTime()) ? "" : moment.toISOString();
    }
    return order;
  }

  /** Whether there is enough in the form to ask about. */
  isWhole() {
    const order = this.order();
    const needed = ["symbol", "quantity", ...["price", "stop_price"].filter((name) => name in order)];
    if ("expires_at" in order) needed.push("expires_at");
    return needed.every((name) => order[name]) && !("trail" in this.applies() && this.applies().trail && !this.value("trail"));
  }

  async preview() {
    const turn = ++this.previewed;
    if (!this.isWhole()) {
      say(find("preview"), "Fill in the order to see what it would do.");
      return;
    }
    let [text, kind, fields] = ["", "", {}];
    const order = this.order();
    try {
      [text, kind] = this.outcome((await this.feed.call({ op: "submit", ...order, dry_run: true })).order);
    } catch (problem) {
      [text, kind, fields] = [problem.message, "bad", problem.fields ?? {}];
    }
    if (turn !== this.previewed) return;
    say(find("preview"), text, kind);
    this.mark(fields);
  }

  /** What a dry run's answer says, in words. */
  outcome(order) {
    const trades = order.executed_trades;
    if (order.status === "PENDING_TRIGGER") return [`Would wait until the last price reaches ${grouped(order.stop_price)}.`, "good"];
    const parts = [];
    if (trades.length) {
      const prices = new Set(trades.map(({ price }) => price));
      const fills = trades.length === 1 ? "one trade" : `${trades.length} trades`;
      const at = prices.size === 1 ? `at ${grouped(trades[0].price)}` : `at ${short(order.average_price, 6)} on average, ${grouped(trades[0].price)} to ${grouped(trades.at(-1).price)}`;
      parts.push(`Would fill ${grouped(order.filled_quantity)} of ${grouped(order.quantity)} ${at} in ${fills}${this.slippage(order)}.`);
    } else if (!order.reason) {
      parts.push("Would fill nothing at once.");
    }
    if (order.remaining_quantity !== "0") parts.push(`${grouped(order.remaining_quantity)} would rest at ${grouped(order.price)}.`);
    if (order.status === "CANCELLED" || order.status === "EXPIRED") parts.push(`The rest would be cancelled: ${words(order.reason)}.`);
    return [parts.join(" "), order.filled_quantity === "0" && order.status === "CANCELLED" ? "bad" : "good"];
  }

  /** How far the average is from the best price, in hundredths of a percent. */
  slippage(order) {
    const [average, best] = [parse(order.average_price), parse(order.executed_trades[0].price)];
    if (!average || !best) return "";
    const gap = average > best ? average - best : best - average;
    const tenths = (gap * 100_000n) / best;
    return tenths ? `, slippage ${format(tenths * 100_000_000n, 1)} bps` : ", no slippage";
  }

  async send() {
    const order = this.order();
    const body = JSON.stringify(order);
    const id = body === this.unanswered.body ? this.unanswered.id : newClientOrderId();
    this.unanswered = { body, id };
    find("send").disabled = true;
    try {
      const { order: taken } = await this.feed.call({ op: "submit", ...order, client_order_id: id });
      this.unanswered = { body: "", id: "" };
      say(find("ticket-message"), describe(taken), "good");
      this.mark({});
      this.sent(taken);
    } catch (problem) {
      if (problem.outcome !== "unknown") this.unanswered = { body: "", id: "" };
      const again = problem.outcome === "unknown" ? " Whether it was taken isn't known; sending it again can't make a second order." : "";
      say(find("ticket-message"), problem.message + again, "bad");
      this.mark(problem.fields ?? {});
      this.refused(problem);
    } finally {
      find("send").disabled = false;
      this.soon();
    }
  }

  /** Point out the fields that a refusal is about. */
  mark(fields) {
    const names = new Set(Object.keys(fields).flatMap((name) => (name.startsWith("trail_") ? ["trail"] : [name])));
    for (const input of this.form.elements) {
      if (input.name && input.type !== "radio") input.toggleAttribute("aria-invalid", names.has(input.name));
      if (input.hasAttribute?.("aria-invalid")) input.setAttribute("aria-invalid", "true");
    }
  }

  /** Arrow keys in a price move it by a tick, with Shift by ten; in the quantity by a lot. */
  nudge(event) {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const name = event.target.name;
    if (!way || !["price", "stop_price", "quantity"].includes(name)) return;
    const { tick, lot } = this.tick(this.value("symbol").toUpperCase());
    const market = this.market(this.value("symbol").toUpperCase());
    const start = event.target.value || (name === "quantity" ? "0" : market?.last_price ?? "0");
    event.target.value = step(start, name === "quantity" ? lot : tick, way * (event.shiftKey ? 10 : 1));
    event.preventDefault();
    this.edited();
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) this.field(name).value = value;
    this.edited();
  }

  /** A price that was clicked: goes to where the type has one. */
  pick(price) {
    const applies = this.applies();
    if (!applies.price && !applies.stop_price) this.field("type").value = "LIMIT";
    this.set({ [this.applies().price ? "price" : "stop_price"]: price });
    notify(`Price ${grouped(price)} is in the ticket.`);
  }
}
