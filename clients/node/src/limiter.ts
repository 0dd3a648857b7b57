/** What is taken before work begins, and given back after it. */
export interface Places {
  tryAcquire(): boolean;
  acquire(ms?: number): Promise<boolean>;
  release(): void;
}

/** At most so many at once; the others wait in order, for as long as they like to. */
export class Limiter implements Places {
  readonly #limit: number;
  readonly #queue: (() => void)[] = [];
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** Takes a place if one is free. */
  tryAcquire(): boolean {
    if (this.#running >= this.#limit) return false;
    this.#running += 1;
    return true;
  }

  /** Takes a place, waiting up to `ms` for it (for ever without). False: there was none in time. */
  acquire(ms?: number): Promise<boolean> {
    if (this.tryAcquire()) return Promise.resolve(true);
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const served = (): void => {
        clearTimeout(timer);
        resolve(true);
      };
      this.#queue.push(served);
      if (ms !== undefined)
        timer = setTimeout(() => {
          const at = this.#queue.indexOf(served);
          if (at >= 0) this.#queue.splice(at, 1);
          resolve(false);
        }, ms).unref();
    });
  }

  /** Gives a place back: it passes to whoever waits longest. */
  release(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    await this.acquire();
    try {
      return await work();
    } finally {
      this.release();
    }
  }
}
