/**
 * Callers of one process who want one key share one flight: the first leads it, the others take what it brings, if that
 * was true when they came or later.
 *
 * The leader counts steps: it takes one before each thing that it asks of the world (a FETCH, a factory, a store), and
 * says as of which step its result is known to hold. Who joined after that step might have seen an invalidation answered
 * since, so that the result is too old for him: he flies himself.
 */
let turns = 0;
let turning = false;

/** A number that is the same throughout the code that runs without waiting. */
function turn(): number {
  if (!turning) {
    turning = true;
    turns += 1;
    queueMicrotask(() => (turning = false));
  }
  return turns;
}

export class Flight {
  step = 0;
  trueAt = 0;
  /** Makes the result, anew for each who shares it; undefined until there is one. */
  read: (() => unknown) | undefined;
  failed = false;
  error: unknown;
  /** Callers who still want the result. */
  wanted = 1;
  #turn = -1;
  #abort: AbortController | undefined;
  #done = false;
  #landed: Promise<void> | undefined;
  #land: (() => void) | undefined;

  /** Ends when the leader has landed; never rejects. Made when somebody joins: most fly alone. */
  get landed(): Promise<void> {
    this.#landed ??= this.#done ? Promise.resolve() : new Promise((resolve) => (this.#land = resolve));
    return this.#landed;
  }

  /** Aborted when nobody wants the result any more. Made when it is asked for: few factories do. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.wanted === 0) this.#abort.abort();
    }
    return this.#abort.signal;
  }

  /** Before something is asked of the world: the step that its answer will be true at. */
  asks(): number {
    this.step += 1;
    this.#turn = turn();
    return this.step;
  }

  /** Joins: the step after which a result must be true. Who comes in the turn in which something was asked can have
   * seen nothing that came after it. */
  join(): number {
    this.wanted += 1;
    return this.#turn === turn() ? this.step - 1 : this.step;
  }

  leave(reason: unknown): void {
    this.wanted -= 1;
    if (this.wanted === 0) this.#abort?.abort(reason);
  }

  land(read: () => unknown): void {
    this.read = read;
    this.#end();
  }

  fail(error: unknown): void {
    this.failed = true;
    this.error = error;
    this.#end();
  }

  #end(): void {
    this.#done = true;
    this.#land?.();
  }

  /** Whether the result is good enough for who joined at that step. A failure is everybody's who waited for it. */
  answers(joinedAt: number): boolean {
    return this.failed || this.trueAt > joinedAt;
  }
}

export class Flights {
  readonly #flights = new Map<string, Flight>();

  get size(): number {
    return this.#flights.size;
  }

  /** The flight that one may join. */
  current(key: string): Flight | undefined {
    return this.#flights.get(key);
  }

  begin(key: string): Flight {
    const flight = new Flight();
    this.#flights.set(key, flight);
    return flight;
  }

  end(key: string, flight: Flight): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}
