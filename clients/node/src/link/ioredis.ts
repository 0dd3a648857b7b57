/**
 * ioredis: one server, Sentinel, or a cluster.
 *
 * ioredis does not know which argument of a module's command is its key, and would send it to a random node of a
 * cluster: the command is built by hand and told its keys.
 */
import type { EventEmitter } from "node:events";
import type { Writable } from "node:stream";
import { Cluster, Command, Redis, type RedisOptions } from "ioredis";
import calculateSlot from "cluster-key-slot";
import { CHANNELS, TRACKED, type Arg, type Link, type Node, type Reply, type Watch, type WatchEvents } from "./link.js";

/** What is used of an ioredis client, so that another copy or version of ioredis serves as well. */
export interface IoredisClient {
  readonly status: string;
  readonly isCluster: boolean;
  sendCommand(command: unknown): unknown;
  duplicate(...args: never[]): unknown;
  disconnect(): void;
}

const WAITING = new Set(["reconnecting", "close", "end", "disconnecting"]);
/** What is used of ioredis' Command; its types keep the keys private. */
interface Routed {
  keys: readonly string[];
  readonly promise: Promise<Reply>;
}

/** How many commands went to a socket in this turn of the event loop; beyond the first they wait for its end. */
const sent = new WeakMap<Writable, number>();

/**
 * ioredis writes to its socket once a command. The first of a turn goes out at once, so that the server works on it
 * while we go on; those after it go out in one piece.
 */
function gather(client: IoredisClient): void {
  const { stream } = client as { readonly stream?: Writable | null };
  if (stream === undefined || stream === null) return;
  const before = sent.get(stream) ?? 0;
  sent.set(stream, before + 1);
  if (before === 1) stream.cork();
  if (before > 0) return;
  process.nextTick(() => {
    if ((sent.get(stream) ?? 0) > 1) stream.uncork();
    sent.set(stream, 0);
  });
}

function deliver(client: IoredisClient, name: string, args: readonly Arg[], key?: string): Promise<Reply> {
  gather(client);
  const command = new Command(name, args as Arg[], { replyEncoding: null }) as unknown as Routed;
  command.keys = key === undefined ? [] : [key];
  client.sendCommand(command);
  return command.promise;
}

/** Connections that are opened here report trouble by the commands that fail; the event needs a listener. */
function quiet(client: IoredisClient): void {
  (client as unknown as EventEmitter).on("error", () => undefined);
}

/** A socket that is only listened to must not keep the process alive. */
function unref(client: Redis): void {
  const release = (): void => {
    (client as unknown as { stream?: { unref?: () => void } }).stream?.unref?.();
  };
  client.on("connect", release);
  release();
}

export class IoredisLink implements Link {
  readonly cluster: boolean;
  readonly #client: IoredisClient;

  readonly #owned: boolean;

  constructor(client: IoredisClient, owned = false) {
    this.#client = client;
    this.#owned = owned;
    this.cluster = client.isCluster;
  }

  /** Makes the client too. `nodes` are URLs; more than one, or `cluster`, makes a cluster. */
  static connect(nodes: readonly string[], cluster: boolean, options: Partial<RedisOptions>): IoredisLink {
    // What waits for a connection waits for one attempt, the first of which comes at once; what was under way when one
    // broke is decided above. And an outage should be over for us soon after it is over, whatever its length.
    const redisOptions: Omit<RedisOptions, "replyMapping"> & { replyMapping: "legacy" } = {
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      retryStrategy: (attempt: number) => Math.min(10 * 2 ** Math.min(attempt, 6), 500) * (0.75 + Math.random() / 2),
      ...options,
      replyMapping: "legacy",
    };
    const url = nodes[0];
    const client = cluster
      ? new Cluster([...nodes], { redisOptions, clusterRetryStrategy: () => 200 })
      : url === undefined
        ? new Redis(redisOptions)
        : new Redis(url, redisOptions);
    quiet(client);
    return new IoredisLink(client, true);
  }

  usable(): boolean {
    return !WAITING.has(this.#client.status);
  }

  reconnect(): void {
    if (this.#owned) (this.#client as unknown as Redis | Cluster).disconnect(true);
  }

  send(name: string, key: string, args: readonly Arg[]): Promise<Reply> {
    return deliver(this.#client, name, args, key);
  }

  nodes(): Node[] {
    if (!this.cluster) return [new IoredisNode(this.#client as unknown as Redis)];
    return (this.#client as unknown as Cluster).nodes("master").map((node) => new IoredisNode(node));
  }

  slot(key: string): number {
    return this.cluster ? calculateSlot(key) : 0;
  }

  duplicate(): Link {
    if (this.cluster) {
      const copy = (this.#client as unknown as Cluster).duplicate();
      quiet(copy);
      copy.on("+node", unref);
      copy.nodes().forEach(unref);
      return new IoredisLink(copy);
    }
    const copy = (this.#client as unknown as Redis).duplicate({ autoResendUnfulfilledCommands: false });
    quiet(copy);
    unref(copy);
    return new IoredisLink(copy);
  }

  close(): Promise<void> {
    this.#client.disconnect();
    return Promise.resolve();
  }
}

class IoredisNode implements Node {
  readonly id: string;
  readonly #client: Redis;

  constructor(client: Redis) {
    this.#client = client;
    const { host, port, path, sentinels, name } = client.options;
    this.id = sentinels ? `sentinel:${String(name)}` : (path ?? `${String(host)}:${String(port)}`);
  }

  send(name: string, args: readonly Arg[]): Promise<Reply> {
    return deliver(this.#client, name, args);
  }

  async watch(prefix: string, events: WatchEvents): Promise<Watch> {
    // RESP2: there, messages about keys come as messages of a channel, which ioredis passes on; of RESP3's pushes it
    // does not. A connection may redirect them to itself.
    const client = this.#client.duplicate({
      protocol: 2,
      lazyConnect: true,
      retryStrategy: () => null,
      autoResubscribe: false,
      enableOfflineQueue: true,
      readOnly: false,
    });
    let over = false;
    const end = (reason: Error): void => {
      if (over) return;
      over = true;
      client.disconnect();
      events.lost(reason);
    };
    let trouble: Error | undefined;
    client.on("error", (error: Error) => (trouble = error));
    client.on("close", () => {
      end(trouble ?? new Error("the connection was closed"));
    });
    client.on("messageBuffer", (channel: Buffer, message: unknown) => {
      if (channel.toString() === TRACKED) events.keys(message as Buffer[] | null);
    });
    client.on("pmessageBuffer", (_pattern: unknown, channel: Buffer, message: Buffer) => {
      events.message(channel, message);
    });
    try {
      await client.connect();
      unref(client);
      const id = String(await client.call("CLIENT", "ID"));
      await client.call("CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", "PREFIX", prefix);
      await client.subscribe(TRACKED);
      await client.psubscribe(CHANNELS);
    } catch (error) {
      over = true;
      client.disconnect();
      throw error;
    }
    return {
      ping: async () => {
        await client.ping();
      },
      close: () => {
        over = true;
        client.disconnect();
      },
    };
  }
}
