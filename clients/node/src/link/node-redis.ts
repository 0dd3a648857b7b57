/**
 * node-redis (5 and later): one server or a cluster.
 *
 * Nothing is imported from it, so that it need not be installed: what is used is declared here.
 */
import type { EventEmitter } from "node:events";
import calculateSlot from "cluster-key-slot";
import { CHANNELS, type Arg, type Link, type Node, type Reply, type Watch, type WatchEvents } from "./link.js";

interface CommandOptions {
  typeMapping?: Record<number, unknown>;
}

/** What is used of a client of one server. */
export interface NodeRedisClient {
  readonly isOpen: boolean;
  readonly isReady: boolean;
  // Options differ between versions: only passed on.
  readonly options?: unknown;
  sendCommand(args: readonly Arg[], options?: CommandOptions): Promise<unknown>;
  duplicate(overrides?: Record<string, unknown>): NodeRedisClient;
  connect(): Promise<unknown>;
  destroy(): void;
  unref(): void;
  pSubscribe(pattern: string, listener: (message: Buffer, channel: Buffer) => void, bufferMode: true): Promise<unknown>;
}

/** What is used of a cluster. */
export interface NodeRedisCluster {
  readonly isOpen: boolean;
  readonly masters: readonly { readonly address: string }[];
  sendCommand(
    firstKey: string | undefined,
    isReadonly: boolean | undefined,
    args: readonly Arg[],
    options?: CommandOptions,
  ): Promise<unknown>;
  nodeClient(node: { readonly address: string }): NodeRedisClient | Promise<NodeRedisClient>;
  duplicate(overrides?: Record<string, unknown>): NodeRedisCluster;
  connect(): Promise<unknown>;
  destroy(): void;
}

/** RESP's type bytes: simple string, bulk string, verbatim string, map. */
const BYTES: CommandOptions = { typeMapping: { 43: Buffer, 36: Buffer, 61: Buffer, 37: Array } };

function isCluster(client: NodeRedisClient | NodeRedisCluster): client is NodeRedisCluster {
  return "masters" in client;
}

/** Opens connections that were made here; whoever sends finds out if that fails. */
function open<T extends NodeRedisClient | NodeRedisCluster>(client: T): { client: T; opened: Promise<unknown> } {
  (client as unknown as EventEmitter).on("error", () => undefined);
  const opened = client.connect();
  opened.catch(() => undefined);
  return { client, opened };
}

export class NodeRedisLink implements Link {
  readonly cluster: boolean;
  readonly #client: NodeRedisClient | NodeRedisCluster;
  readonly #opened: Promise<unknown> | undefined;

  constructor(client: NodeRedisClient | NodeRedisCluster, opened?: Promise<unknown>) {
    this.#client = client;
    this.#opened = opened;
    this.cluster = isCluster(client);
  }

  usable(): boolean {
    return isCluster(this.#client) ? this.#client.isOpen : this.#client.isReady || this.#opened !== undefined;
  }

  reconnect(): void {
    // It is the application's.
  }

  async send(name: string, key: string, args: readonly Arg[]): Promise<Reply> {
    if (this.#opened !== undefined) await this.#opened;
    // Never a replica, not even for what only reads: FETCH there neither elects nor waits.
    const reply = isCluster(this.#client)
      ? this.#client.sendCommand(key, false, [name, ...args], BYTES)
      : this.#client.sendCommand([name, ...args], BYTES);
    return (await reply) as Reply;
  }

  async nodes(): Promise<Node[]> {
    const client = this.#client;
    if (!isCluster(client)) return [new NodeRedisNode("server", client)];
    return Promise.all(
      client.masters.map(async (node) => new NodeRedisNode(node.address, await client.nodeClient(node))),
    );
  }

  slot(key: string): number {
    return this.cluster ? calculateSlot(key) : 0;
  }

  duplicate(): Link {
    if (isCluster(this.#client)) {
      const { client, opened } = open(this.#client.duplicate());
      return new NodeRedisLink(client, opened);
    }
    const { client, opened } = open(this.#client.duplicate());
    client.unref();
    return new NodeRedisLink(client, opened);
  }

  close(): Promise<void> {
    if (this.#client.isOpen) this.#client.destroy();
    return Promise.resolve();
  }
}

class NodeRedisNode implements Node {
  readonly #client: NodeRedisClient;

  constructor(
    readonly id: string,
    client: NodeRedisClient,
  ) {
    this.#client = client;
  }

  async send(name: string, args: readonly Arg[]): Promise<Reply> {
    return (await this.#client.sendCommand([name, ...args], BYTES)) as Reply;
  }

  async watch(prefix: string, events: WatchEvents): Promise<Watch> {
    const { socket } = (this.#client.options ?? {}) as { socket?: object };
    const client = this.#client.duplicate({
      RESP: 3,
      clientSideCache: undefined,
      emitInvalidate: true,
      socket: { ...socket, reconnectStrategy: false },
    });
    let over = false;
    const close = (): void => {
      over = true;
      if (client.isOpen) client.destroy();
    };
    const end = (reason: Error): void => {
      if (over) return;
      close();
      events.lost(reason);
    };
    const emitter = client as unknown as EventEmitter;
    emitter.on("error", (error: Error) => {
      end(error);
    });
    emitter.on("end", () => {
      end(new Error("the connection was closed"));
    });
    emitter.on("invalidate", (key: Buffer | string | null) => {
      events.keys(key === null ? null : [Buffer.from(key)]);
    });
    try {
      await client.connect();
      client.unref();
      // It has turned tracking on in its own way, which hears only of what was read here.
      await client.sendCommand(["CLIENT", "TRACKING", "OFF"]);
      await client.sendCommand(["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix]);
      await client.pSubscribe(
        CHANNELS,
        (message, channel) => {
          events.message(channel, message);
        },
        true,
      );
    } catch (error) {
      close();
      throw error;
    }
    return {
      ping: async () => {
        await client.sendCommand(["PING"]);
      },
      close,
    };
  }
}
