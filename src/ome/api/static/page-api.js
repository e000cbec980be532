// Calls of the service. The API key lives in this module's memory and nowhere else.

const READ_TIMEOUT_MS = 5_000;
const WRITE_TIMEOUT_MS = 15_000;

let apiKey = "";

export function setApiKey(key) {
  apiKey = key.trim();
}

/** A refusal or failure, in words. `outcome` is "not_executed" or "unknown"; `fields` maps a field's name to its complaint. */
export class Problem extends Error {
  constructor({ message, code = "", status = 0, outcome = "unknown", fields = {} }) {
    super(message);
    Object.assign(this, { code, status, outcome, fields });
  }
}

function problemFrom(status, body) {
  const errors = Array.isArray(body?.errors) ? body.errors : [];
  const lines = [body?.title ?? `The service answered ${status}`];
  if (body?.detail && body.detail !== body.title && !errors.length) lines.push(body.detail);
  for (const { field, message } of errors) lines.push(`${field}: ${message}`);
  return new Problem({
    message: lines.join("\n"),
    code: body?.code,
    status,
    outcome: body?.outcome,
    fields: Object.fromEntries(errors.map(({ field, message }) => [field, message])),
  });
}

/** The answer's JSON. Throws Problem for any status but 2xx and when nothing, or nothing readable, comes back. */
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
    answer = await response.json();
  } catch {
    if (response && !response.ok) throw problemFrom(response.status);
    throw new Problem({ message: "The service can't be reached, or did not answer in time." });
  }
  if (!response.ok) throw problemFrom(response.status, answer);
  return answer;
}

const encode = encodeURIComponent;

export const markets = () => call("GET", "/market?limit=1000");
export const market = (symbol) => call("GET", `/market/${encode(symbol)}`);
export const depth = (symbol, levels) => call("GET", `/market/${encode(symbol)}/depth?levels=${levels}`);
export const trades = (symbol, limit) => call("GET", `/trades?symbol=${encode(symbol)}&limit=${limit}`);
export const submit = (order) => call("POST", "/orders", order);
export const modify = (orderId, change) => call("PUT", `/orders/${encode(orderId)}`, change);
export const cancel = (orderId) => call("DELETE", `/orders/${encode(orderId)}`);

export const openOrders = (userId) => call("GET", `/orders/user/${encode(userId)}?limit=100&status=PENDING,PARTIALLY_FILLED,PENDING_TRIGGER`);

/** [state, words] of the service: "healthy", "busy" (answers, but isn't ready) or "unreachable". */
export async function health() {
  try {
    const answer = await call("GET", "/health");
    return ["healthy", answer.status ?? "healthy"];
  } catch (problem) {
    return problem.status ? ["busy", problem.message.split("\n").join(": ")] : ["unreachable", "not reachable"];
  }
}
