import { ConfigError } from "./errors.js";

/** Milliseconds as a number, or text such as `"250ms"`, `"60s"`, `"5m"`, `"1.5h"`, `"7d"`. */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const TEXT = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
/** Texts in a program are few, and parsing one anew for each read would be seen in the figures. */
const known = new Map<string, number>();
const KNOWN = 1000;

/**
 * A duration in whole milliseconds, rounded up, so that nothing above zero becomes zero.
 *
 * @throws ConfigError `bad_duration` where it is negative, not finite, or no duration at all.
 */
export function milliseconds(duration: Duration, what = "duration"): number {
  if (typeof duration === "number") {
    if (duration >= 0 && duration <= Number.MAX_SAFE_INTEGER) return Math.ceil(duration);
  } else {
    const before = known.get(duration);
    if (before !== undefined) return before;
    const match = TEXT.exec(duration);
    if (match !== null) {
      const value = Math.ceil(Number(match[1]) * (UNITS[match[2] as string] as number));
      if (known.size >= KNOWN) known.clear();
      known.set(duration, value);
      return value;
    }
  }
  throw new ConfigError("bad_duration", `${what} is no duration: ${String(duration)}`);
}
