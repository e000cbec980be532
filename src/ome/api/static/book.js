// A symbol's book as the service's, by its own steps (docs/streams.md): a snapshot, then updates in the order of their sequence;
// a gap or a checksum that differs asks for a new snapshot.

import { parse } from "./decimal.js";

const CHECKSUM_LEVELS = 10;
const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** CRC-32 of an ASCII text, as zlib has it. */
export function crc32(text) {
  let value = 0xffffffff;
  for (let index = 0; index < text.length; index += 1) value = TABLE[(value ^ text.charCodeAt(index)) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** One side: levels in the order of their price, the best first. `sign` is 1 for asks, -1 for bids. */
class Side {
  constructor(sign) {
    this.sign = sign;
    this.levels = [];
  }

  load(levels) {
    this.levels = levels.map((level) => ({ ...level, key: parse(level.price), size: parse(level.quantity) }));
  }

  put(level) {
    const key = parse(level.price);
    let [low, high] = [0, this.levels.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const isBefore = this.sign > 0 ? this.levels[middle].key < key : this.levels[middle].key > key;
      if (isBefore) low = middle + 1;
      else high = middle;
    }
    const isThere = this.levels[low]?.key === key;
    if (level.quantity === "0") {
      if (isThere) this.levels.splice(low, 1);
    } else {
      this.levels.splice(low, isThere ? 1 : 0, { ...level, key, size: parse(level.quantity) });
    }
  }

  text() {
    let text = "";
    const count = Math.min(CHECKSUM_LEVELS, this.levels.length);
    for (let index = 0; index < count; index += 1) text += `${this.levels[index].price}:${this.levels[index].quantity};`;
    return text;
  }
}

export class Book {
  constructor(symbol) {
    this.symbol = symbol;
    this.bids = new Side(-1);
    this.asks = new Side(1);
    this.sequence = -1;
    this.timestamp = "";
    this.isWhole = false; // false: no numbers to trust until the next snapshot
  }

  /** Forget everything: the next snapshot begins anew. */
  doubt() {
    this.isWhole = false;
  }

  /** Take a message of the channel `depth`; false where the book must be asked for again. */
  take(message) {
    if (message.type === "snapshot") {
      this.bids.load(message.bids);
      this.asks.load(message.asks);
    } else {
      if (!this.isWhole) return true; // belongs to the subscription before
      if (message.sequence <= this.sequence) return true;
      if (message.previous_sequence > this.sequence) return this.refuse();
      for (const level of message.bids) this.bids.put(level);
      for (const level of message.asks) this.asks.put(level);
    }
    this.sequence = message.sequence;
    this.timestamp = message.timestamp;
    this.isWhole = true;
    return crc32(this.bids.text() + this.asks.text()) === message.checksum || this.refuse();
  }

  refuse() {
    this.doubt();
    return false;
  }
}
