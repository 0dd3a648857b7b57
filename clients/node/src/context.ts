import type { Duration } from "./duration.js";
import { ConfigError } from "./errors.js";
import type { Flight } from "./flights.js";
import type { Ttl } from "./options.js";

/** What becomes of a factory's value. */
export type Outcome = "store" | "touch" | "skip";

/**
 * What a factory is given. `ttl`, `grace` and `tags` begin as the caller named them and may be set while loading: what
 * the value turned out to be made from is known only then. The fence covers tags that are set here too: was one
 * invalidated since loading began, the value is not stored.
 */
export class LoadContext<T = unknown> {
  /** The full cache key. */
  readonly key: string;
  ttl: Ttl | undefined;
  grace: Duration | undefined;
  /** In a list of this load's own. */
  tags: string[];
  /**
   * The fencing token of this load, greater than every earlier one of the key; undefined where nothing is stored (Redis
   * is down, or somebody else holds the lease).
   */
  readonly token: number | undefined;
  /** Whether there is an earlier value, which `staleValue` is. */
  readonly hasStale: boolean;
  /** The value that this load is to replace; undefined where there is none. */
  readonly staleValue: T | undefined;
  readonly #flight: Flight;
  /** @internal */
  outcome: Outcome = "store";

  /** @internal */
  constructor(options: {
    key: string;
    ttl: Ttl | undefined;
    grace: Duration | undefined;
    tags: readonly string[];
    token: number | undefined;
    stale: { readonly value: unknown } | undefined;
    flight: Flight;
  }) {
    this.key = options.key;
    this.ttl = options.ttl;
    this.grace = options.grace;
    this.tags = [...options.tags];
    this.token = options.token;
    this.hasStale = options.stale !== undefined;
    this.staleValue = options.stale?.value as T | undefined;
    this.#flight = options.flight;
  }

  /** Aborted when nobody who asked for the value wants it any more. Never by a refresh in the background. */
  get signal(): AbortSignal {
    return this.#flight.signal;
  }

  /**
   * The origin said that the stale value still holds: `return context.notModified()`. The entry is fresh anew without
   * being sent. @throws ConfigError `no_stale_value` where there is none.
   */
  notModified(): T {
    if (!this.hasStale) throw new ConfigError("no_stale_value", "there is no value that could be unmodified", this);
    this.outcome = "touch";
    return this.staleValue as T;
  }

  /** Give the value to who asked, and do not store it. */
  skip(): void {
    this.outcome = "skip";
  }
}
