/**
 * What this package needs of a Redis client library, and all that it knows of it.
 *
 * An adapter routes by key, answers bytes as Buffer, integers as number, nil as null, and maps as flat arrays,
 * whatever the protocol. It adds no timeout and no retry of its own: those are decided above.
 */
export type Arg = string | Buffer;
export type Reply = Buffer | string | number | null | Reply[];

/** What a watching connection hears. */
export interface WatchEvents {
  /** Keys that were written, or null: everything may have been. */
  keys(keys: readonly Buffer[] | null): void;
  /** A message on one of the `cache:*` channels. */
  message(channel: Buffer, message: Buffer): void;
  /** The connection is lost. Told once, not after close(). */
  lost(reason: Error): void;
}

export interface Watch {
  ping(): Promise<void>;
  close(): void;
}

/** One server, for what speaks to a server rather than to a key. */
export interface Node {
  /** Its address: the same as long as it is the same server. */
  readonly id: string;
  send(name: string, args: readonly Arg[]): Promise<Reply>;
  /** Opens a connection of its own that hears of writes to keys with this prefix and of `cache:*`. */
  watch(prefix: string, events: WatchEvents): Promise<Watch>;
}

export interface Link {
  readonly cluster: boolean;
  /** False while the client waits to connect anew: a command would be sent later than now, if ever. */
  usable(): boolean;
  /** Ends connections that answer nobody, for new ones. Only where the client is ours: else it does nothing. */
  reconnect(): void;
  /** Sends a command to the server that has `key`. `args` are all of its arguments, the key too. */
  send(name: string, key: string, args: readonly Arg[]): Promise<Reply>;
  /** Every primary: one, where there is no cluster. */
  nodes(): Node[] | Promise<Node[]>;
  /** The hash slot of a key; 0 where there is no cluster. */
  slot(key: string): number;
  /** Other connections to the same place, for commands that block. They keep no process alive. */
  duplicate(): Link;
  /** Ends the connections, at once: replies under way are lost. */
  close(): Promise<void>;
}

export const CHANNELS = "cache:*";
export const TRACKED = "__redis__:invalidate";
