/**
 * Errors of a cache, known by their names: the cache that an integration is given may come of the package's other module
 * system, whose classes are others.
 */
import type { CacheFlowError } from "../errors.js";

const NAMES: ReadonlySet<string> = new Set([
  "CacheFlowError",
  "CancelledError",
  "ConfigError",
  "DecodeError",
  "EncodeError",
  "InvalidationError",
  "LockError",
  "ServerError",
  "Unavailable",
]);

/** Whether it is one of ours; of that name, where one is given. */
export function isOurs(error: unknown, name?: string): error is CacheFlowError {
  if (!(error instanceof Error) || !("code" in error) || !NAMES.has(error.name)) return false;
  return name === undefined || error.name === name;
}
