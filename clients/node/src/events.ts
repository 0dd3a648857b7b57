/**
 * What happens, for whoever wants to know: `cache.on("hit", …)`, or `cache.on("event", …)` for all. A listener is
 * called right after it happened, in the same asynchronous context, so that a tracer finds its caller; it must be
 * quick, and what it throws goes no further than a warning of the process.
 *
 * | name | ms | key | what |
 * | --- | --- | --- | --- |
 * | `l1_hit` | 0 | the full key | answered by the level in the process |
 * | `l1_stale` | | the full key | the same, though Redis could not be asked |
 * | `hit` | asking took | the full key | fresh, from Redis |
 * | `stale` | asking took | the full key | stale, from Redis |
 * | `miss` | asking took | the full key | nothing there; a load follows |
 * | `wait` | waiting took | the full key | somebody else computed it |
 * | `load` | the factory took | the full key | `error` if it threw |
 * | `refresh` | it all took | the full key | a load in the background; `error` if it failed |
 * | `fill` | storing took | the full key | `detail`: stored, touched, refused, skipped, failed |
 * | `degraded` | | the full key | Redis is not used for this call; `error`: why |
 * | `decode` | | the full key | a value that cannot be read; `error` |
 * | `write` | it took | the full key | set, touch, delete, incr; `detail` says which |
 * | `invalidate` | it took | tag, `@namespace` | `detail`: hard, soft; `error` if it failed |
 * | `lock` | waiting took | the lock's name | `detail`: taken, refused, released, lost |
 * | `breaker` | | `""` | `detail`: open, half-open, closed |
 * | `tracking` | | `""` | the connection of the level in the process; `detail`: up, down |
 */
import { EventEmitter } from "node:events";

export const EVENT_NAMES = [
  "l1_hit",
  "l1_stale",
  "hit",
  "stale",
  "miss",
  "wait",
  "load",
  "refresh",
  "fill",
  "degraded",
  "decode",
  "write",
  "invalidate",
  "lock",
  "breaker",
  "tracking",
] as const;

export type EventName = (typeof EVENT_NAMES)[number];

export interface CacheEvent {
  readonly name: EventName;
  /** The full key, tag, `@namespace` or lock; `""` where there is none. */
  readonly key: string;
  readonly ms: number;
  readonly detail: string;
  readonly error: unknown;
}

export type Listener = (event: CacheEvent) => void;

export class Events {
  readonly #emitter = new EventEmitter();
  readonly #counts = new Map<string, number>();
  /** Apart: an L1 hit takes a microsecond or two, and nobody may be listening. */
  l1Hits = 0;
  #listeners = 0;

  on(name: EventName | "event", listener: Listener): void {
    this.#emitter.on(name, listener);
    this.#listeners += 1;
  }

  off(name: EventName | "event", listener: Listener): void {
    const before = this.#emitter.listenerCount(name);
    this.#emitter.off(name, listener);
    this.#listeners -= before - this.#emitter.listenerCount(name);
  }

  l1Hit(key: string): void {
    this.l1Hits += 1;
    if (this.#listeners > 0) this.#emit({ name: "l1_hit", key, ms: 0, detail: "", error: undefined });
  }

  tell(name: EventName, key: string, ms = 0, detail = "", error?: unknown): void {
    const counted = detail === "" ? name : `${name}_${detail}`;
    this.#counts.set(counted, (this.#counts.get(counted) ?? 0) + 1);
    if (error !== undefined) {
      const errors = `${name}_errors`;
      this.#counts.set(errors, (this.#counts.get(errors) ?? 0) + 1);
    }
    if (this.#listeners > 0) this.#emit({ name, key, ms, detail, error });
  }

  #emit(event: CacheEvent): void {
    for (const name of [event.name, "event"]) {
      for (const listener of this.#emitter.listeners(name) as Listener[]) {
        try {
          listener(event);
        } catch (error) {
          process.emitWarning(`a listener of cacheflow failed at ${event.name}: ${String(error)}`, "CacheFlowWarning");
        }
      }
    }
  }

  /** How often each happened, as `name` or `name_detail`; `name_errors` for those with an error. */
  counts(): Record<string, number> {
    return { ...Object.fromEntries(this.#counts), l1_hit: this.l1Hits };
  }
}
