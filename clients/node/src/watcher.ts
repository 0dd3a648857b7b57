/**
 * Keeps the level in the process right: a connection to every primary that hears of writes to our keys (CLIENT TRACKING
 * in broadcasting mode) and of invalidations (the channels `cache:*`).
 *
 * Broadcasting, because the connection that reads is the application's, and because CACHE.FETCH is remembered by
 * tracking only on the connection that sent it. A tag's invalidation is told on its channel before it is answered; its
 * entries' keys are told of when the sweep reaches them, so that without the channel an entry would live on here.
 *
 * ```
 *  down ── all nodes watched ──▶ up ── one lost, silent for a heartbeat, or the nodes have changed ──▶ down
 * ```
 *
 * While it is down the level serves nothing as fresh. It has one timer, which keeps no process alive.
 */
import type { Events } from "./events.js";
import type { Link, Watch } from "./link/link.js";
import type { Local } from "./local.js";
import { within } from "./timing.js";

const CHANNEL = "cache:".length;
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 1000;

export class Watcher {
  readonly #link: Link;
  readonly #local: Local;
  readonly #events: Events;
  readonly #prefix: string;
  readonly #heartbeat: number;
  readonly #timeout: number;
  #watches: { id: string; watch: Watch }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;
  /** Each attempt has a number: what an earlier one's connections still say is not heard. */
  #attempt = 0;

  constructor(
    link: Link,
    local: Local,
    events: Events,
    options: { prefix: string; heartbeat: number; timeout: number },
  ) {
    this.#link = link;
    this.#local = local;
    this.#events = events;
    this.#prefix = options.prefix;
    this.#heartbeat = options.heartbeat;
    this.#timeout = options.timeout;
  }

  /** Begins to watch; whether that succeeded. It goes on trying by itself. */
  async start(): Promise<boolean> {
    if (this.#closed) return false;
    const attempt = ++this.#attempt;
    try {
      const nodes = await this.#link.nodes();
      if (nodes.length === 0) throw new Error("there is no server to watch");
      const opened = await Promise.allSettled(
        nodes.map(async (node) => {
          const opening = node.watch(this.#prefix, {
            keys: (keys) => {
              if (attempt === this.#attempt) this.#hearKeys(keys);
            },
            message: (channel, message) => {
              if (attempt === this.#attempt) this.#hearMessage(channel, message);
            },
            lost: (reason) => {
              if (attempt === this.#attempt) this.#down(reason);
            },
          });
          // One that opens too late is not needed any more.
          const late = (watch: Watch): void => {
            if (attempt !== this.#attempt) watch.close();
          };
          opening.then(late, () => undefined);
          return { id: node.id, watch: await within(opening, this.#timeout, "watching") };
        }),
      );
      const watches = opened.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      const failed = opened.find((one) => one.status === "rejected");
      if (failed !== undefined || attempt !== this.#attempt) {
        for (const { watch } of watches) watch.close();
        if (attempt !== this.#attempt) return false;
        throw failed?.reason;
      }
      this.#watches = watches;
      this.#failures = 0;
      this.#local.connected();
      this.#events.tell("tracking", "", 0, "up");
      this.#later(this.#heartbeat, () => this.#beat(attempt));
      return true;
    } catch (error) {
      if (attempt === this.#attempt) this.#down(error);
      return false;
    }
  }

  close(): void {
    this.#closed = true;
    this.#down(undefined);
  }

  #later(ms: number, work: () => Promise<unknown>): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void work(), ms).unref();
  }

  #down(reason: unknown): void {
    this.#attempt += 1;
    clearTimeout(this.#timer);
    for (const { watch } of this.#watches) watch.close();
    this.#watches = [];
    if (this.#local.live) {
      this.#local.lost();
      this.#events.tell("tracking", "", 0, "down", reason);
    }
    if (this.#closed) return;
    const pause = Math.min(FIRST_PAUSE * 2 ** this.#failures, LONGEST_PAUSE);
    this.#failures += 1;
    this.#later(pause, () => this.start());
  }

  /** A sign of life of each connection, and whether the nodes are the same still. */
  async #beat(attempt: number): Promise<void> {
    try {
      await within(Promise.all(this.#watches.map(({ watch }) => watch.ping())), this.#heartbeat, "a sign of life");
      if (attempt !== this.#attempt) return;
      const ids = (await this.#link.nodes()).map((node) => node.id).sort();
      const watched = this.#watches.map(({ id }) => id).sort();
      if (attempt !== this.#attempt) return;
      if (ids.join() !== watched.join()) throw new Error("the cluster's nodes have changed");
      this.#later(this.#heartbeat, () => this.#beat(attempt));
    } catch (error) {
      if (attempt === this.#attempt) this.#down(error);
    }
  }

  #hearKeys(keys: readonly Buffer[] | null): void {
    if (keys === null) this.#local.flush();
    else this.#local.drop(keys.map((key) => key.toString()));
  }

  #hearMessage(channel: Buffer, message: Buffer): void {
    this.#local.invalidate(channel.toString("utf8", CHANNEL), message.toString() === "soft");
  }
}
