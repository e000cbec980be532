// Calls over HTTP. The API key lives in this module's memory and nowhere else: it is gone with the page.

const READ_TIMEOUT_MS = 5_000;
const WRITE_TIMEOUT_MS = 15_000;

let apiKey = "";

export function setApiKey(key) {
  apiKey = key.trim();
}
export const getApiKey = () => apiKey;

/** A refusal or failure, in the service's own words. `outcome` is "not_executed" or "unknown"; `fields` maps names to complaints. */
export class Problem extends Error {
  constructor({ message, code = "", status = 0, outcome = "unknown", fields = {} }) {
    super(message);
    Object.assign(this, { code, status, outcome, fields });
  }
}

/** The Problem in a problem document, of HTTP or of a WebSocket's answer. */
export function problemFrom(status, body) {
  const errors = Array.isArray(body?.errors) ? body.errors : [];
  const parts = [body?.title ? `${body.title}.` : `The service answered ${status}.`];
  for (const { field, message } of errors) parts.push(`${field} ${message}.`);
  const detail = body?.detail ?? "";
  if (!errors.length && detail && detail !== body.title && detail !== `${body.title}.`) parts.push(detail);
  return new Problem({
    message: parts.join(" "),
    code: body?.code,
    status,
    outcome: body?.outcome,
    fields: Object.fromEntries(errors.map(({ field, message }) => [field, message])),
  });
}

/** The answer's JSON, or its text where it is none. Throws Problem for any status but 2xx and when nothing readable comes back. */
export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (apiKey) headers["X-API-Key"] = apiKey;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(method === "GET" ? READ_TIMEOUT_MS : WRITE_TIMEOUT_MS),
    });
    answer = path === "/metrics" ? await response.text() : await response.json();
  } catch {
    if (response && !response.ok) throw problemFrom(response.status);
    throw new Problem({ message: "The service can't be reached, or did not answer in time." });
  }
  if (!response.ok) throw problemFrom(response.status, answer);
  return answer;
}

const encode = encodeURIComponent;
const OPEN = "PENDING,PARTIALLY_FILLED,PENDING_TRIGGER";

export const markets = () => call("GET", "/market?limit=1000");
export const instruments = () => call("GET", "/instruments?limit=1000");
export const candles = (symbol, interval, limit) => call("GET", `/market/${encode(symbol)}/candles?interval=${interval}&limit=${limit}`);
export const trades = (symbol, limit) => call("GET", `/trades?symbol=${encode(symbol)}&limit=${limit}`);
export const ownTrades = (userId, limit) => call("GET", `/trades?user_id=${encode(userId)}&limit=${limit}`);
export const cancelAll = (userId) => call("DELETE", `/orders?user_id=${encode(userId)}`);
export const explain = (orderId) => call("GET", `/orders/${encode(orderId)}/explain`);
export const recentOrders = (userId, limit) => call("GET", `/orders/user/${encode(userId)}?limit=${limit}`);
export const positions = (userId) => call("GET", `/users/${encode(userId)}/positions`);
export const risk = (userId) => call("GET", `/users/${encode(userId)}/risk`);

/** Every open order of a user, however many pages they take, up to 5,000. */
export async function openOrders(userId) {
  const found = [];
  let cursor = "";
  do {
    const page = await call("GET", `/orders/user/${encode(userId)}?limit=1000&status=${OPEN}${cursor && `&cursor=${encode(cursor)}`}`);
    found.push(...page.orders);
    cursor = page.next_cursor;
  } while (cursor && found.length < 5_000);
  return found;
}
