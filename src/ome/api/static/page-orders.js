// The private part of the page: the order ticket, one's open orders, cancel and modify.

import * as api from "./page-api.js";
import { Rows, cells, localInput, momentText, say } from "./page-view.js";

const find = (id) => document.getElementById(id);
const words = (code) => code.replaceAll("_", " ");

/** 32 hex digits; unlike crypto.randomUUID it is there on plain http too. */
function newClientOrderId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An order in a sentence: what became of it. */
export function describe(order) {
  const why = order.reason ? ` (${words(order.reason)})` : "";
  const price = order.average_price ? ` at ${order.average_price}` : "";
  return `Order ${order.order_id} is ${words(order.status.toLowerCase())}${why}: ${order.filled_quantity} of ${order.quantity} filled${price}.`;
}

function markFields(form, fields) {
  for (const input of form.elements) {
    if (!input.name || input.type === "radio") continue;
    if (Object.hasOwn(fields, input.name)) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

function deadline(input) {
  const moment = new Date(input.value);
  return Number.isNaN(moment.getTime()) ? undefined : moment.toISOString();
}

/** The order form. `sent(order)` is called after an order was taken. */
export function createTicket({ sent }) {
  const form = find("ticket");
  const field = (name) => form.elements[name];
  // The id of an order whose answer never came is kept, so that sending the same again can't make a second order.
  let unanswered = { body: "", id: "" };

  function showWhatApplies() {
    const limit = field("type").value === "LIMIT";
    form.querySelector("[data-field=price]").hidden = !limit;
    form.querySelector("[data-field=time_in_force]").hidden = !limit;
    form.querySelector("[data-field=expires_at]").hidden = !limit || field("time_in_force").value !== "GTD";
    form.dataset.side = field("side").value;
    find("send").textContent = field("side").value === "BUY" ? "Buy" : "Sell";
  }

  function read() {
    const order = Object.fromEntries(
      ["user_id", "symbol", "side", "type", "quantity"].map((name) => [name, field(name).value.trim() || undefined]),
    );
    if (order.type === "LIMIT") {
      order.price = field("price").value.trim() || undefined;
      order.time_in_force = field("time_in_force").value;
      if (order.time_in_force === "GTD") order.expires_at = deadline(field("expires_at"));
    }
    return order;
  }

  async function send() {
    const order = read();
    const body = JSON.stringify(order);
    if (unanswered.body !== body) unanswered = { body, id: newClientOrderId() };
    find("send").disabled = true;
    try {
      const answer = await api.submit({ ...order, client_order_id: unanswered.id });
      unanswered = { body: "", id: "" };
      markFields(form, {});
      say(find("ticket-message"), describe(answer), "good");
      sent(answer);
    } catch (problem) {
      if (problem.outcome === "not_executed") unanswered = { body: "", id: "" };
      const retry = problem.outcome === "unknown" ? "\nIt may have been taken all the same: sending the same order again can't double it." : "";
      markFields(form, problem.fields ?? {});
      say(find("ticket-message"), problem.message + retry, "bad");
    } finally {
      find("send").disabled = false;
    }
  }

  form.addEventListener("input", showWhatApplies);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  field("expires_at").value = localInput(new Date(Date.now() + 3_600_000));
  showWhatApplies();
  return {
    get user() {
      return field("user_id").value.trim();
    },
    set user(name) {
      field("user_id").value = name;
    },
    set symbol(symbol) {
      field("symbol").value = symbol;
    },
    set price(price) {
      field("type").value = "LIMIT";
      field("price").value = price;
      showWhatApplies();
    },
    onUser(listener) {
      field("user_id").addEventListener("change", listener);
    },
  };
}

function createChangeDialog({ changed }) {
  const dialog = find("change");
  const form = find("change-form");
  const field = (name) => form.elements[name];
  let order = null;

  async function send() {
    const change = { expected_version: order.version };
    for (const name of ["quantity", "price"]) {
      const value = field(name).value.trim();
      if (value !== (order[name] ?? "")) change[name] = value;
    }
    if (order.expires_at && field("expires_at").value !== localInput(order.expires_at)) change.expires_at = deadline(field("expires_at"));
    try {
      changed(await api.modify(order.order_id, change));
      dialog.close();
    } catch (problem) {
      markFields(form, problem.fields ?? {});
      say(find("change-message"), problem.message, "bad");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  find("change-close").addEventListener("click", () => dialog.close());
  return (chosen) => {
    order = chosen;
    find("change-order").textContent = `${order.side} ${order.symbol}, order ${order.order_id}, ${order.filled_quantity} filled`;
    field("quantity").value = order.quantity;
    field("price").value = order.price ?? "";
    field("price").disabled = order.price === null;
    form.querySelector("[data-field=expires_at]").hidden = !order.expires_at;
    field("expires_at").value = order.expires_at ? localInput(order.expires_at) : "";
    markFields(form, {});
    say(find("change-message"), "");
    dialog.showModal();
    field("quantity").select();
  };
}

/** The table of open orders. `changed()` is called after one was cancelled or modified. */
export function createOrdersView({ changed }) {
  const shown = new Map();
  const message = find("orders-message");
  const openChange = createChangeDialog({
    changed(order) {
      say(message, `Modified. ${describe(order)}`, "good");
      changed();
    },
  });

  async function cancel(orderId, button) {
    button.disabled = true;
    try {
      say(message, describe(await api.cancel(orderId)), "good");
    } catch (problem) {
      say(message, problem.message, "bad");
    }
    button.disabled = false;
    changed();
  }

  function addButtons(row, orderId) {
    const place = row.insertCell();
    for (const [label, act] of [
      ["Modify", () => openChange(shown.get(orderId))],
      ["Cancel", (button) => cancel(orderId, button)],
    ]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.setAttribute("aria-label", `${label} order ${orderId}`);
      button.addEventListener("click", () => act(button));
      place.append(button);
    }
  }

  const rows = new Rows(find("orders"), (row, order) => {
    const stays = order.expires_at ? `until ${momentText(order.expires_at)}` : order.time_in_force;
    const price = order.status === "PENDING_TRIGGER" ? `stop ${order.stop_price ?? "–"}` : order.price;
    cells(row, [order.symbol, order.side, price, order.quantity, order.filled_quantity, words(order.status.toLowerCase()), stays]);
    row.cells[1].className = order.side === "BUY" ? "buy-text" : "sell-text";
    if (row.cells.length === 7) addButtons(row, order.order_id);
  });

  return {
    /** `orders` is null where nobody is named. */
    show(user, orders) {
      shown.clear();
      for (const order of orders ?? []) shown.set(order.order_id, order);
      find("orders-title").textContent = user ? `Open orders of ${user}` : "Open orders";
      find("orders-empty").textContent = orders ? "None." : "Enter a user to see their open orders.";
      find("orders-empty").hidden = Boolean(orders?.length);
      rows.show(orders ?? [], (order) => order.order_id);
    },
    fail(problem) {
      say(message, problem.message, "bad");
    },
  };
}
