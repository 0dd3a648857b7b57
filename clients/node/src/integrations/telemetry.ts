/** What metrics and traces have in common: one vocabulary for the cache's events, whatever reports them. */
import type { EventName } from "../events.js";
import { isOurs } from "./errors.js";

/** How reads are answered, by event: fresh and stale from Redis, from the level in the process, or not. */
export const RESULTS: Partial<Readonly<Record<EventName, string>>> = {
  hit: "fresh",
  stale: "stale",
  l1_hit: "local",
  l1_stale: "local_stale",
  miss: "miss",
};

/** Events that are no failures of what was asked for, though they say what brought them about. */
export const STATES: ReadonlySet<EventName> = new Set(["breaker", "tracking"]);

/** What to count an error by: the code of ours, the class of what factories throw. */
export function codeOf(error: unknown): string {
  if (isOurs(error)) return error.code;
  return error instanceof Error ? error.constructor.name : typeof error;
}
