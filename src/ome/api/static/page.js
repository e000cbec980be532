// The trading page: asks the service about once a second, while it is seen, and hands the answers to the views.
// The chosen symbol and user are in the address (#symbol=AAPL&user=alice), so that a reload or a link comes back to them.

import * as api from "./page-api.js";
import { createMarketView } from "./page-market.js";
import { createOrdersView, createTicket } from "./page-orders.js";
import { setText } from "./page-view.js";

const POLL_MS = 1_000;
const LEVELS = 20;
const TRADES = 50;

const address = new URLSearchParams(location.hash.slice(1));
let symbol = address.get("symbol") ?? "";
let timer = 0;
let round = 0; // the newest round of questions; answers to older ones are dropped

const ticket = createTicket({ sent: (order) => choose(order.symbol) });
const market = createMarketView({ choose, pick: (price) => (ticket.price = price) });
const orders = createOrdersView({ changed: refresh });

function choose(next) {
  symbol = next;
  ticket.symbol = next;
  remember();
  refresh();
}

function remember() {
  const parts = Object.entries({ symbol, user: ticket.user }).filter(([, value]) => value);
  history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
}

async function showHealth(isCurrent) {
  const [state, text] = await api.health();
  if (!isCurrent()) return;
  document.getElementById("health").dataset.state = state;
  setText(document.getElementById("health-text"), text);
}

async function showMarkets(isCurrent) {
  const list = (await api.markets()).markets;
  if (!isCurrent()) return;
  if (!symbol && list.length) {
    symbol = list[0].symbol;
    ticket.symbol = symbol;
    refresh();
    return;
  }
  market.showMarkets(list, symbol);
}

/** An answer, or `empty` where the symbol isn't listed (yet). */
const orEmpty = (answer, empty) =>
  answer.catch((problem) => {
    if (problem.status === 404) return empty;
    throw problem;
  });

async function showSymbol(isCurrent) {
  if (!symbol) return market.showTrades([]);
  const asked = symbol;
  const [ticker, book, tape] = await Promise.all([
    orEmpty(api.market(asked), null),
    orEmpty(api.depth(asked, LEVELS), { bids: [], asks: [] }),
    orEmpty(api.trades(asked, TRADES), { trades: [] }),
  ]);
  if (!isCurrent()) return;
  market.showTicker(asked, ticker);
  market.showBook(book);
  market.showTrades(tape.trades);
}

async function showOrders(isCurrent) {
  const user = ticket.user;
  try {
    const list = user ? (await api.openOrders(user)).orders : null;
    if (isCurrent()) orders.show(user, list);
  } catch (problem) {
    if (isCurrent() && problem.status) orders.fail(problem);
  }
}

async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  const mine = ++round;
  const isCurrent = () => mine === round;
  // A part that fails keeps what it shows; the light says how the service is.
  await Promise.allSettled([showHealth, showMarkets, showSymbol, showOrders].map((show) => show(isCurrent)));
  if (isCurrent()) timer = setTimeout(refresh, POLL_MS);
}

ticket.user = address.get("user") ?? "";
ticket.symbol = symbol;
ticket.onUser(() => {
  remember();
  refresh();
});
document.getElementById("api-key").addEventListener("change", (event) => {
  api.setApiKey(event.target.value);
  refresh();
});
document.getElementById("key").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("visibilitychange", refresh);
refresh();
