// The public part of the page: markets, the book's ladder and the tape.

import { Rows, cells, setText, timeOfDay, withTotals } from "./page-view.js";

const find = (id) => document.getElementById(id);
const NOTHING = "–";

/** `choose(symbol)` is called for a market that is clicked, `pick(price)` for a level of the book. */
export function createMarketView({ choose, pick }) {
  let chosen = "";
  const markets = new Rows(find("markets"), (row, item) => {
    if (!row.cells.length) row.insertCell().append(document.createElement("button"));
    const button = row.cells[0].firstChild;
    button.type = "button";
    setText(button, item.symbol);
    button.setAttribute("aria-pressed", String(item.symbol === chosen));
    row.dataset.symbol = item.symbol;
    row.classList.toggle("chosen", item.symbol === chosen);
    [item.best_bid?.price, item.best_ask?.price, item.last_price].forEach((text, index) => {
      setText(row.cells[index + 1] ?? row.insertCell(), text ?? NOTHING);
    });
  });
  const level = (row, item) => {
    row.dataset.price = item.price;
    row.title = `${item.orders} ${item.orders === 1 ? "order" : "orders"}`;
    row.style.setProperty("--share", `${item.share.toFixed(1)}%`);
    cells(row, [item.price, item.quantity, item.total]);
  };
  const asks = new Rows(find("asks"), level);
  const bids = new Rows(find("bids"), level);
  const tape = new Rows(find("tape"), (row, trade) => {
    cells(row, [timeOfDay(trade.executed_at), trade.taker_side ?? "auction", trade.price, trade.quantity]);
    row.cells[1].className = trade.taker_side === "SELL" ? "sell-text" : "buy-text";
  });

  find("markets").addEventListener("click", (event) => {
    const symbol = event.target.closest("tr")?.dataset.symbol;
    if (symbol) choose(symbol);
  });
  for (const side of ["asks", "bids"]) {
    find(side).addEventListener("click", (event) => {
      const price = event.target.closest("tr")?.dataset.price;
      if (price) pick(price);
    });
  }

  return {
    showMarkets(list, symbol) {
      chosen = symbol;
      markets.show(list, (item) => item.symbol);
      find("markets-empty").hidden = list.length > 0;
    },

    showBook(book) {
      const sides = [withTotals(book.asks), withTotals(book.bids)];
      const largest = Math.max(...sides.map((side) => Number(side.at(-1)?.total ?? 0)));
      const [shownAsks, shownBids] = sides.map((side) => side.map((item) => ({ ...item, share: (100 * Number(item.total)) / largest })));
      asks.show(shownAsks.reverse(), (item) => item.price);
      bids.show(shownBids, (item) => item.price);
    },

    showTicker(symbol, ticker) {
      setText(find("book-title"), symbol ? `Book of ${symbol}` : "Book");
      setText(find("book-state"), ticker && ticker.state !== "OPEN" ? ticker.state.toLowerCase().replace("_", " ") : "");
      setText(find("last"), ticker?.last_price ?? NOTHING);
      setText(find("spread"), ticker?.spread ?? NOTHING);
      document.title = ticker?.last_price ? `${ticker.last_price} ${symbol} · OME` : "OME";
    },

    showTrades(list) {
      tape.show(list, (trade) => trade.trade_id);
      find("tape-empty").hidden = list.length > 0;
    },
  };
}
