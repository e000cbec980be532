// Exact decimals as the service writes them ("150.50"): whole numbers of billionths, in BigInt. Floats are for drawing alone.

const PLACES = 9;
const UNIT = 10n ** BigInt(PLACES);
const SHAPE = /^(-?)(\d{1,30})(?:\.(\d{1,9}))?$/;

/** "150.50" as billionths, or null for what is no such number. */
export function parse(text) {
  const found = SHAPE.exec(String(text ?? "").trim());
  if (!found) return null;
  const units = BigInt(found[2]) * UNIT + BigInt((found[3] ?? "").padEnd(PLACES, "0"));
  return found[1] ? -units : units;
}

/** Billionths as text with at least `places` decimals, and no more zeros than that at the end. */
export function format(units, places = 0) {
  const digits = (units < 0n ? -units : units).toString().padStart(PLACES + 1, "0");
  let fraction = digits.slice(-PLACES).replace(/0+$/, "");
  fraction = fraction.padEnd(places, "0");
  return (units < 0n ? "-" : "") + digits.slice(0, -PLACES) + (fraction ? `.${fraction}` : "");
}

/** Decimals that a text has: 2 for "0.01". */
export function placesOf(text) {
  return (String(text ?? "").split(".")[1] ?? "").length;
}

/** The product of two numbers of billionths, in billionths, cut off. */
export function multiply(left, right) {
  return (left * right) / UNIT;
}

/** `text` moved by `steps` of `tick`, never below one tick. */
export function step(text, tick, steps) {
  const [from, size] = [parse(text) ?? 0n, parse(tick) ?? UNIT / 100n];
  const moved = (from / size + BigInt(steps)) * size;
  return format(moved > size ? moved : size, placesOf(tick));
}

/** Thousands apart, the digits as they are: "12345.50" is "12,345.50". */
export function grouped(text) {
  if (text === null || text === undefined) return "–";
  const [whole, fraction] = String(text).split(".");
  const apart = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? apart : `${apart}.${fraction}`;
}

/** At most `places` decimals of a long figure, cut off; for what is shown and never sent. */
export function short(text, places = 4) {
  if (text === null || text === undefined) return "–";
  const [whole, fraction = ""] = String(text).split(".");
  const kept = fraction.slice(0, places).replace(/0+$/, "");
  return grouped(kept ? `${whole}.${kept}` : whole);
}

/** For drawing: a float. */
export const toFloat = (units) => Number(units) / 1e9;

/** `now` against `then` in percent with two decimals and a sign, or null. */
export function percentChange(now, then) {
  const [to, from] = [parse(now), parse(then)];
  if (to === null || !from) return null;
  const hundredths = ((to - from) * 10_000n) / from;
  return `${hundredths < 0n ? "−" : "+"}${format((hundredths < 0n ? -hundredths : hundredths) * 10_000_000n, 2)}%`;
}
