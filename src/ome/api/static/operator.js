// The operator's view: health and throughput, the demo market, instruments and halts, auctions, kill switches, keys, errors, audit.

import { call } from "./api.js";
import { grouped } from "./decimal.js";
import { Rows, button, cellRow, find, make, notify, say, setText, timeOf, words } from "./dom.js";

const REFRESH_MS = 2_000;
const KEPT = 60; // readings of the throughput
const STATES = ["OPEN", "POST_ONLY", "CANCEL_ONLY", "HALTED", "AUCTION"];

/** The fields of a form that aren't empty. */
const filled = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));

export class Operator {
  /** `market(symbol)` is what the tickers say, `sure(question)` asks back. */
  constructor({ market, sure, listed }) {
    Object.assign(this, { market, sure, listed });
    this.isShown = false;
    this.readings = [];
    this.isDemoRunning = false;
    this.instruments = new Rows(find("instruments"), () => this.instrumentRow(), (row, item) => this.fillInstrument(row, item));
    this.keys = new Rows(find("key-list"), () => this.keyRow(), (row, item) => this.fillKey(row, item));
    this.errors = new Rows(find("errors"), () => cellRow(["", ""]), (row, [code, count]) => [words(code), grouped(count)].forEach((text, index) => setText(row.cells[index], text)));
    this.audit = new Rows(find("audit"), () => cellRow(["time", "", ""]), (row, entry) => [timeOf(entry.time, true), words(entry.action), entry.subject].forEach((text, index) => setText(row.cells[index], text)));
    setInterval(() => this.isShown && !document.hidden && this.read(), REFRESH_MS);
    this.onSubmit("instrument", (form) => this.define(form));
    this.onSubmit("keys", (form) => this.makeKey(form));
    this.onSubmit("kill", (form) => this.kill(form));
    this.onSubmit("demo", () => this.toggleDemo());
    find("demo-first").addEventListener("click", () => this.act(() => this.startDemo(), "The demo market starts: it takes a few seconds."));
  }

  onSubmit(id, work) {
    find(id).addEventListener("submit", (event) => {
      event.preventDefault();
      work(event.currentTarget);
    });
  }

  show(isShown) {
    this.isShown = isShown;
    if (isShown) this.read();
  }

  /** Do something that the service may refuse, and say how it went. */
  async act(work, done) {
    try {
      await work();
      notify(done, "good");
      if (this.isShown) await this.read();
    } catch (problem) {
      notify(problem.message, "bad");
    }
  }

  async read() {
    await Promise.all([this.readHealth(), this.readInstruments(), this.readPrivate()]);
  }

  async readHealth() {
    let health;
    let metrics = "";
    try {
      [health, metrics] = await Promise.all([call("GET", "/health"), call("GET", "/metrics")]);
    } catch (problem) {
      health = { status: problem.message };
    }
    this.note(health.position);
    const figure = (name) => sum(metrics, name);
    const tiles = {
      Service: health.status,
      Engine: words(health.state),
      "Commands a second": this.rate === undefined ? "–" : grouped(Math.round(this.rate)),
      "Commands in all": grouped(health.position),
      Waiting: figure("ome_queue_depth") ?? figure("ome_commands_waiting"),
      Durability: health.durability,
      "Up for": health.uptime_seconds === undefined ? null : `${Math.floor(health.uptime_seconds / 60)} min`,
      Version: health.version,
    };
    find("health").replaceChildren(...Object.entries(tiles).map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(text ?? "–")))));
    this.drawThroughput();
  }

  note(position) {
    if (position === undefined) return;
    const now = performance.now();
    const last = this.readings.at(-1);
    if (last && now - last.at < 500) return;
    this.rate = last ? ((position - last.position) * 1000) / (now - last.at) : undefined;
    this.readings.push({ at: now, position, rate: this.rate ?? 0 });
    if (this.readings.length > KEPT) this.readings.shift();
  }

  drawThroughput() {
    const canvas = find("throughput");
    const [width, height] = [(canvas.width = canvas.clientWidth), (canvas.height = canvas.clientHeight)];
    const pen = canvas.getContext("2d");
    const most = Math.max(...this.readings.map(({ rate }) => rate), 1);
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 1.5;
    pen.beginPath();
    this.readings.forEach(({ rate }, index) => pen.lineTo((width * index) / (KEPT - 1), height - 2 - ((height - 6) * rate) / most));
    pen.stroke();
  }

  async readInstruments() {
    try {
      const { instruments } = await call("GET", "/instruments?limit=1000");
      this.listed(instruments);
      this.instruments.show(instruments);
    } catch (problem) {
      say(find("operator-message"), problem.message, "bad");
    }
  }

  async readPrivate() {
    try {
      const [kills, keys, errors, audit, demo] = await Promise.all([
        call("GET", "/admin/kill"), call("GET", "/keys"), call("GET", "/admin/errors"), call("GET", "/admin/audit?limit=30"), call("GET", "/admin/demo"),
      ]);
      say(find("operator-message"), "");
      find("kills").replaceChildren(...kills.kills.map((each) => this.killItem(each)));
      this.keys.show(keys.keys.toReversed());
      this.errors.show(Object.entries(errors.counts).sort(([, left], [, right]) => right - left));
      this.audit.show(audit.entries);
      this.showDemo(demo);
    } catch (problem) {
      say(find("operator-message"), `${problem.message} What follows below needs the operator's key (API key, above).`, "bad");
    }
  }

  instrumentRow() {
    const row = cellRow(["name", "", "", "", "", "", "", "", "", ""]);
    const set = (event) => this.setState(row.dataset.symbol, event.target);
    row.cells[1].append(make("select", { onchange: set }, ...STATES.map((state) => make("option", { value: state }, words(state)))));
    return row;
  }

  fillInstrument(row, item) {
    const select = row.cells[1].firstChild;
    row.dataset.symbol = item.symbol;
    select.setAttribute("aria-label", `State of ${item.symbol}`);
    if (document.activeElement !== select) select.value = item.state;
    const auction = this.market(item.symbol)?.auction;
    const band = item.price_band_percent === null ? "none" : `${item.price_band_percent}%${item.halted_until ? `, halted to ${timeOf(item.halted_until)}` : ""}`;
    const imbalance = auction?.imbalance_side ? `${grouped(auction.imbalance)} to ${words(auction.imbalance_side)}` : null;
    const texts = [item.symbol, null, item.tick_size, item.lot_size, item.max_order_quantity ?? "none", band, grouped(item.last_price), auction && grouped(auction.indicative_price), auction && grouped(auction.indicative_volume), imbalance];
    texts.forEach((text, index) => index === 1 || setText(row.cells[index], text));
  }

  setState(symbol, select) {
    const state = select.value;
    select.blur();
    return this.act(() => call("PUT", `/instruments/${encodeURIComponent(symbol)}`, { state }), `${symbol} is ${words(state)}.`);
  }

  define(form) {
    const { symbol = "", ...rest } = filled(form);
    return this.act(() => call("PUT", `/instruments/${encodeURIComponent(symbol)}`, rest), `${symbol.toUpperCase()} is listed so.`);
  }

  keyRow() {
    const row = cellRow(["name", "", "", "", "acts"]);
    row.cells[4].append(button("Revoke", () => this.revoke(row.dataset.id), { class: "link" }));
    return row;
  }

  fillKey(row, key) {
    row.dataset.id = key.key_id;
    [key.key_id, key.user_id, key.scopes.join(", "), words(key.status)].forEach((text, index) => setText(row.cells[index], text));
    const revoke = row.cells[4].firstChild;
    revoke.hidden = key.status !== "ACTIVE";
    revoke.setAttribute("aria-label", `Revoke key ${key.key_id} of ${key.user_id}`);
  }

  async makeKey(form) {
    const { user_id, scope } = filled(form);
    await this.act(async () => {
      const made = await call("POST", "/keys", { user_id: user_id ?? "", scopes: [scope] });
      find("new-key").hidden = false;
      setText(find("new-key"), `${made.key}: the key of ${made.user_id}, shown this once. Store it now.`);
    }, "The key is made. As soon as there is one, others need theirs.");
  }

  async revoke(id) {
    if (await this.sure(`Revoke the key ${id}? It is refused from now on.`)) await this.act(() => call("DELETE", `/keys/${id}`), `The key ${id} is revoked.`);
  }

  async kill(form) {
    const { scope, id } = filled(form);
    if (!(await this.sure(`Stop trading of ${scope === "all" ? "everybody" : `${scope} ${id ?? ""}`} and cancel what is open?`))) return;
    await this.act(() => call("PUT", "/admin/kill", { scope, id, active: true }), "Trading is stopped.");
  }

  killItem({ scope, id, changed_at }) {
    const lift = () => this.act(() => call("PUT", "/admin/kill", { scope, id: id ?? undefined, active: false }), "Trading goes on.");
    return make("li", {}, `${scope === "all" ? "everybody" : `${scope} ${id}`}, since ${timeOf(changed_at)} `, button("Lift", lift, { class: "link" }));
  }

  startDemo() {
    return call("PUT", "/admin/demo", { active: true, seed: Number(find("demo").elements.seed.value) || 1 });
  }

  toggleDemo() {
    if (this.isDemoRunning) return this.act(() => call("PUT", "/admin/demo", { active: false }), "The demo market is stopped.");
    return this.act(() => this.startDemo(), "The demo market starts.");
  }

  showDemo({ active, seed }) {
    this.isDemoRunning = active;
    setText(find("demo-state"), active ? `running, seed ${seed}` : "not running");
    setText(find("demo-toggle"), active ? "Stop" : "Start");
    find("demo-toggle").className = active ? "danger" : "primary";
    find("demo").elements.seed.disabled = active;
  }
}

/** A metric's value, all its labels together, or undefined where there is none. */
function sum(text, name) {
  const values = text.split("\n").filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)));
  return values.length ? grouped(values.reduce((total, line) => total + Number(line.split(" ").at(-1)), 0)) : undefined;
}
