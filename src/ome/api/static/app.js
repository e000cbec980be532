// The trading page: makes the parts and tells each what it must know of the others. Settings of the address:
// #symbol=AAPL&user=alice.

import { Account } from "./account.js";
import * as api from "./api.js";
import { Book } from "./book.js";
import { Chart } from "./chart.js";
import { DepthChart } from "./depth.js";
import { find, notify, say, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { listen } from "./keyboard.js";
import { Ladder } from "./ladder.js";
import { Markets } from "./markets.js";
import { Operator } from "./operator.js";
import { OrdersPanel, OwnOrders } from "./orders.js";
import { Tape } from "./tape.js";
import { Ticket } from "./ticket.js";

const DEFAULT_USER = "trader";
const STATE_WORDS = { connecting: "Connecting", live: "Live", lost: "Connection lost, trying again", refused: "The key is refused" };

const settings = new URLSearchParams(location.hash.slice(1));
const state = { symbol: "", user: settings.get("user") ?? DEFAULT_USER, instruments: new Map(), book: null, bookKey: "" };

const feed = new Feed(showConnection);
const chart = new Chart(feed);
const depth = new DepthChart();
const ladder = new Ladder((price) => ticket.pick(price));
const tape = new Tape(feed);
const markets = new Markets(feed, { choose, changed: () => showQuote() });
const own = new OwnOrders(feed, { changed: ownChanged, stopped: askForKey, named: nameUser });
const orders = new OrdersPanel(own, { symbol: () => state.symbol, sure });
const account = new Account(() => (own.isLive ? own.userId : ""));
const terms = (symbol) => ({ tick: state.instruments.get(symbol)?.tick_size ?? "0.01", lot: state.instruments.get(symbol)?.lot_size ?? "1" });
const ticket = new Ticket(feed, { user: () => (find("user").disabled ? "" : find("user").value.trim()), market: (symbol) => markets.get(symbol), tick: terms, sent, refused: (problem) => askForKey(problem) });
const operator = new Operator({ market: (symbol) => markets.get(symbol), sure, listed: remember });

function remember(instruments) {
  for (const each of instruments) state.instruments.set(each.symbol, each);
}

/** Show a symbol in every part of the page. */
async function choose(symbol) {
  if (symbol === state.symbol) return;
  state.symbol = symbol;
  markets.select(symbol);
  ticket.set({ symbol, price: "", stop_price: "" });
  followBook(symbol);
  tape.show(symbol);
  chart.show(symbol);
  ownChanged();
  if (document.body.dataset.tab === "markets") showTab("chart");
  try {
    if (!state.instruments.has(symbol)) remember((await api.instruments()).instruments);
    if (symbol === state.symbol) chart.show(symbol, state.instruments.get(symbol)?.tick_size);
  } catch {
    // the default of two decimals does
  }
}

function followBook(symbol) {
  feed.unsubscribe(state.bookKey);
  const book = (state.book = new Book(symbol));
  const draw = () => {
    ladder.show(book);
    depth.show(book);
  };
  state.bookKey = feed.subscribe({ channel: "depth", symbol }, {
    message: (message) => {
      if (!book.take(message)) feed.resync(state.bookKey);
      draw();
    },
    lost: () => {
      book.doubt();
      draw();
    },
  });
  draw();
}

function ownChanged() {
  const here = own.of(state.symbol);
  ladder.mark(here);
  chart.mark(here);
  orders.changed();
  account.reload();
}

function showQuote() {
  const market = markets.get(state.symbol);
  setText(find("ticket-quote"), market?.best_bid || market?.best_ask ? `${market.best_bid?.price ?? "–"} / ${market.best_ask?.price ?? "–"}` : "");
}

function sent(order) {
  if (!markets.get(order.symbol)) markets.read();
  account.reload();
}

function showConnection() {
  const place = find("connection");
  place.dataset.state = feed.state;
  setText(find("connection-text"), STATE_WORDS[feed.state]);
  setText(find("latency"), feed.latency === null ? "– ms" : `${feed.latency < 10 ? feed.latency.toFixed(1) : Math.round(feed.latency)} ms`);
  setText(find("recoveries"), `${feed.recoveries} ${feed.recoveries === 1 ? "gap" : "gaps"}`);
  const warning = find("warning");
  warning.hidden = feed.state === "live" || feed.state === "connecting";
  setText(warning, feed.state === "refused" ? "The API key is refused. Enter another one, or none." : "The connection is lost: what is shown may be old. Trying again.");
  if (feed.state === "live" && !markets.all.size) markets.read();
}

/** A user of one's own is known by the key. */
function nameUser(userId) {
  find("user").value = userId;
  find("user").disabled = true;
  ownChanged();
}

function askForKey(problem) {
  if (!own.userId && problem.fields?.user_id && find("user").value.trim()) {
    own.follow(find("user").value.trim(), false);
    return;
  }
  if (problem.status !== 401 && problem.status !== 403) {
    if (problem.status) notify(problem.message, "bad");
    return;
  }
  say(find("key-message"), problem.message, "bad");
  if (!find("key-dialog").open && document.body.dataset.view === "trade" && problem.status === 401) find("key-dialog").showModal();
}

/** Go on with the key that is in the field: as its user where it has one, else, the operator's, as the user in the field. */
function useKey() {
  api.setApiKey(find("api-key").value);
  find("api-key").value = "";
  find("user").disabled = false;
  say(find("key-message"), "");
  find("key-dialog").close();
  setText(find("key-open"), api.getApiKey() ? "API key ✓" : "API key");
  feed.reconnect();
  followOwn();
  ticket.edited();
  if (document.body.dataset.view === "operator") operator.show(true);
}

/** With a key ask for the orders of its own user first: an operator's has none, and means the one in the field. */
function followOwn() {
  const isAsking = Boolean(api.getApiKey());
  own.follow(isAsking ? "" : find("user").value.trim(), isAsking);
}

/** Ask back; true for yes. */
function sure(question) {
  const dialog = find("sure");
  setText(find("sure-text"), question);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

function showView(view) {
  document.body.dataset.view = view;
  for (const each of document.querySelectorAll(".views button")) each.setAttribute("aria-pressed", String(each.dataset.view === view));
  find("trade").hidden = view !== "trade";
  find("operator").hidden = view !== "operator";
  operator.show(view === "operator");
}

function showTab(tab) {
  document.body.dataset.tab = tab;
  for (const each of find("tabbar").children) each.setAttribute("aria-pressed", String(each.dataset.tab === tab));
}

function neighbour(way) {
  const all = markets.list().map(({ symbol }) => symbol);
  const next = all[(all.indexOf(state.symbol) + way + all.length) % all.length];
  if (next) choose(next);
}

function focusField(name) {
  showTab("ticket");
  const field = ticket.field(name);
  field.focus();
  field.select?.();
}

function wire() {
  for (const each of document.querySelectorAll(".views button")) each.addEventListener("click", () => showView(each.dataset.view));
  for (const each of find("tabbar").children) each.addEventListener("click", () => showTab(each.dataset.tab));
  for (const each of document.querySelectorAll("[data-close]")) each.addEventListener("click", () => each.closest("dialog").close());
  find("sure-yes").addEventListener("click", () => find("sure").close("yes"));
  find("key-open").addEventListener("click", () => find("key-dialog").showModal());
  find("help-open").addEventListener("click", () => find("help").showModal());
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey();
  });
  find("user").value = state.user;
  find("user").addEventListener("change", () => own.follow(find("user").value.trim(), false));
  const side = (value) => () => ticket.set({ side: value });
  listen({
    b: ["Buy", side("BUY")],
    s: ["Sell", side("SELL")],
    q: ["To the quantity", () => focusField("quantity")],
    p: ["To the price", () => focusField("price")],
    t: ["To the type", () => focusField("type")],
    "/": ["Find a symbol", () => find("find").focus()],
    "[": ["The symbol before", () => neighbour(-1)],
    "]": ["The next symbol", () => neighbour(1)],
    l: ["To the book's best level", () => document.querySelector(".level[tabindex='0']")?.focus()],
    o: ["Open orders", () => orders.show("open")],
    x: ["Cancel all", () => orders.cancelAll()],
    "?": ["This list", () => find("help").showModal()],
  });
}

let heard = 0;
setInterval(() => {
  setText(find("clock"), `${new Date().toISOString().slice(11, 19)} UTC`);
  setText(find("rate"), `${feed.messages - heard}/s`);
  heard = feed.messages;
}, 1_000);

wire();
showConnection();
own.follow(state.user, false);
const wanted = settings.get("symbol")?.toUpperCase();
await markets.read();
if (wanted && markets.get(wanted)) choose(wanted);
document.documentElement.dataset.ready = "true";
