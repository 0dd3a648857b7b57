/**
 * The lane of those who wait in the server: a few connections of their own, so that a command that the server holds
 * never stands before others. In a cluster each is one to every node.
 *
 * A connection is used by one command at a time, and stays open when a lease has come over it: the lease would end with
 * it. Whoever gives a wait up leaves the command to end by itself, within a slice, and gives back what it brings.
 */
import { Limiter } from "./limiter.js";
import type { Link } from "./link/link.js";

export class Lane {
  readonly #link: Link;
  readonly #limiter: Limiter;
  readonly #idle: Link[] = [];
  readonly #all = new Set<Link>();

  constructor(link: Link, connections: number) {
    this.#link = link;
    this.#limiter = new Limiter(connections);
  }

  /** Connections that are open. */
  get size(): number {
    return this.#all.size;
  }

  /**
   * Performs work on a connection of the lane; undefined where none came free within `ms`. A connection whose command
   * failed is closed: what it still waits for would be answered to the next.
   */
  async use<T>(ms: number, work: (link: Link) => Promise<T>): Promise<T | undefined> {
    if (!(await this.#limiter.acquire(ms))) return undefined;
    const link = this.#idle.pop() ?? this.#link.duplicate();
    this.#all.add(link);
    try {
      const result = await work(link);
      this.#idle.push(link);
      return result;
    } catch (error) {
      this.#all.delete(link);
      void link.close();
      throw error;
    } finally {
      this.#limiter.release();
    }
  }

  async close(): Promise<void> {
    const links = [...this.#all];
    this.#all.clear();
    this.#idle.length = 0;
    await Promise.all(links.map((link) => link.close()));
  }
}
