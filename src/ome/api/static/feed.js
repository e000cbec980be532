// The page's one WebSocket: subscriptions that are made again after every loss, with growing pauses, and how well it goes; orders go
// the same way, so that what the page shows and what it sends are of one connection.
// Listeners hear `started(reply)` when a subscription was taken, `message(data)`, `lost()` and `refused(problem)`.

import { Problem, getApiKey, problemFrom } from "./api.js";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
const PING_MS = 2_000;
const SILENCE_MS = 8_000;
const ANSWER_MS = 15_000;
const UNAUTHENTICATED = 4001;

const keyOf = ({ channel, symbol = "", interval = "" }) => `${channel}|${symbol}|${interval}`;

export class Feed {
  /** `changed()` is called when `state`, `latency` or `recoveries` has: state is "connecting", "live", "lost" or "refused". */
  constructor(changed) {
    this.changed = changed;
    this.subscriptions = new Map();
    this.asked = new Map();
    this.nextId = 1;
    this.state = "connecting";
    this.latency = null;
    this.recoveries = 0;
    this.messages = 0;
    this.pause = FIRST_PAUSE_MS;
    this.timer = 0;
    this.socket = null;
    setInterval(() => this.ping(), PING_MS);
    addEventListener("online", () => this.reconnect());
  }

  /** Hear a channel from now on; the wish is kept across connections until `unsubscribe`. */
  subscribe(wish, listener) {
    const key = keyOf(wish);
    this.subscriptions.set(key, { wish, listener });
    if (this.socket?.readyState === WebSocket.OPEN) this.ask(key);
    else this.connect();
    return key;
  }

  unsubscribe(key) {
    const found = this.subscriptions.get(key);
    if (!found) return;
    this.subscriptions.delete(key);
    if (this.socket?.readyState === WebSocket.OPEN) this.send({ op: "unsubscribe", ...found.wish });
  }

  /** Ask again for what was missed: a gap, or a checksum that differs. */
  resync(key) {
    this.recoveries += 1;
    this.changed();
    if (this.socket?.readyState === WebSocket.OPEN) this.ask(key);
  }

  /** Leave this connection and make another: after the key has changed, too. */
  reconnect() {
    this.pause = FIRST_PAUSE_MS;
    clearTimeout(this.timer);
    this.timer = 0;
    const old = this.socket;
    this.socket = null;
    old?.close();
    if (old) this.forget();
    this.connect();
  }

  connect() {
    if (this.socket || this.timer || !(this.subscriptions.size || getApiKey())) return;
    const url = new URL("/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    this.heardAt = performance.now();
    const isCurrent = () => this.socket === socket;
    socket.addEventListener("open", () => isCurrent() && this.opened());
    socket.addEventListener("message", (event) => isCurrent() && this.heard(event.data));
    socket.addEventListener("close", (event) => isCurrent() && this.closed(event));
  }

  opened() {
    if (getApiKey()) this.send({ op: "auth", key: getApiKey(), id: "auth" });
    for (const key of this.subscriptions.keys()) this.ask(key);
    this.ping();
  }

  closed(event) {
    this.socket = null;
    this.forget();
    this.state = event.code === UNAUTHENTICATED && getApiKey() ? "refused" : "lost";
    this.changed();
    if (this.state === "refused") return;
    const wait = this.pause * (0.75 + Math.random() / 2);
    this.pause = Math.min(LONGEST_PAUSE_MS, this.pause * 2);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.connect();
    }, wait);
  }

  /** Send an `op` and wait for its answer. Throws Problem: of the service, or of an answer that never came. */
  call(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Problem({ message: "There is no connection to the service; nothing was sent.", outcome: "not_executed" }));
    }
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      const fail = () => reject(new Problem({ message: "The connection was lost before the answer came." }));
      this.asked.set(id, { resolve, reject, fail, timer: setTimeout(fail, ANSWER_MS) });
      this.send({ id, ...message });
    });
  }

  forget() {
    for (const { fail } of this.asked.values()) fail?.();
    this.asked.clear();
    this.latency = null;
    for (const { listener } of this.subscriptions.values()) listener.lost?.();
  }

  ask(key) {
    const { wish } = this.subscriptions.get(key) ?? {};
    if (!wish) return;
    const id = this.nextId++;
    this.asked.set(id, { key });
    this.send({ op: "subscribe", id, ...wish });
  }

  ping() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    if (performance.now() - this.heardAt > SILENCE_MS) {
      this.socket.close();
      this.closed({ code: 0 });
      return;
    }
    const id = this.nextId++;
    this.asked.set(id, { sentAt: performance.now() });
    this.send({ op: "ping", id });
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  heard(text) {
    this.heardAt = performance.now();
    const message = JSON.parse(text);
    if (message.channel) {
      this.messages += 1;
      const key = keyOf({ channel: message.channel, symbol: message.channel === "orders" ? "" : message.symbol, interval: message.interval });
      this.subscriptions.get(key)?.listener.message(message);
    } else if (message.status !== undefined) {
      this.answered(message);
    }
  }

  answered(reply) {
    const { key, sentAt, resolve, reject, timer } = this.asked.get(reply.id) ?? {};
    this.asked.delete(reply.id);
    clearTimeout(timer);
    if (resolve && reply.status < 300) resolve(reply);
    else if (reject) reject(problemFrom(reply.status, reply.problem));
    if (sentAt !== undefined) {
      this.latency = performance.now() - sentAt;
      this.changed();
    }
    if (reply.status < 300) {
      this.pause = FIRST_PAUSE_MS;
      if (this.state !== "live") {
        this.state = "live";
        this.changed();
      }
    }
    if (!key) return;
    const listener = this.subscriptions.get(key)?.listener;
    if (reply.status < 300) listener?.started?.(reply);
    else listener?.refused?.(problemFrom(reply.status, reply.problem));
  }
}
