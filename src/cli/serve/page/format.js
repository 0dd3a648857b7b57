// Figures for the eye. What is not known is a dash, never a zero.

const DASH = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

// Three digits that count, and not one more.
function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function scaled(value, base, steps) {
  let step = 0;
  while (Math.abs(value) >= base * 0.9995 && step < steps.length - 1) {
    value /= base;
    step += 1;
  }
  return [value, steps[step]];
}

/** 1234567 → "1.23 M". */
export function count(value) {
  if (!known(value)) return DASH;
  if (Math.abs(value) < 10_000 && Number.isInteger(value)) return value.toLocaleString("en");
  const [size, step] = scaled(value, 1000, ["", " k", " M", " G", " T"]);
  return digits(size) + step;
}

/** 1234567 → "1,234,567". */
export const exact = (value) => (known(value) ? Math.round(value).toLocaleString("en") : DASH);

/** By the second. */
export function rate(value) {
  if (!known(value)) return DASH;
  return value > 0 && value < 0.01 ? "<0.01" : count(Math.abs(value) >= 100 ? Math.round(value) : value);
}

/** Of the server's bytes, in steps of 1024. */
export function bytes(value) {
  if (!known(value)) return DASH;
  const [size, step] = scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  return `${digits(step === "B" ? Math.round(size) : size)} ${step}`;
}

/** A share of one, in percent. */
export function percent(value) {
  if (!known(value)) return DASH;
  const shown = value * 100;
  // What is not all is not shown as all.
  if (shown > 99.9 && shown < 100) return "99.9 %";
  return `${shown >= 100 || shown === 0 ? shown.toFixed(0) : shown.toFixed(1)} %`;
}

/** A length of time in seconds, in the unit that fits. */
export function time(seconds) {
  if (!known(seconds)) return DASH;
  if (seconds === 0) return "0 s";
  const size = Math.abs(seconds);
  if (size < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (size < 1) return `${digits(seconds * 1e3)} ms`;
  if (size < 120) return `${digits(seconds)} s`;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => size >= length);
  const [[length, unit], next] = [parts[first], parts[first + 1]];
  const rest = Math.floor((size % length) / next[0]);
  return `${Math.floor(size / length)} ${unit}` + (rest > 0 ? ` ${rest} ${next[1]}` : "");
}

/** Seconds by the second: of work that is done, or was saved. */
export const load = (value) => (known(value) ? `${rate(value)} s` : DASH);

/** When something was, of the day alone if that is today. */
export function moment(ms) {
  const at = new Date(ms);
  const clock = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? clock : `${at.toISOString().slice(5, 10)} ${clock}`;
}

/** So many of something: "1 entry", "2 entries". */
export const plural = (n, one, many) => `${exact(n)} ${n === 1 ? one : many}`;
