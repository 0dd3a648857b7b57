/**
 * Real servers on loopback, with the module or without: started on free ports in directories of their own, and ended by
 * their own process. `CACHEFLOW_SERVER` names another server binary, `CACHEFLOW_MODULE` another module.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";

const BINARY = process.env.CACHEFLOW_SERVER ?? "redis-server";
const MODULE =
  process.env.CACHEFLOW_MODULE ?? fileURLToPath(new URL("../../../../target/release/libcacheflow.so", import.meta.url));
/** A bound for whatever a server must come to, not a measurement. */
const LIMIT = 30_000;

/** Waits until the condition holds; what it answered. */
export async function eventually<T>(condition: () => T | Promise<T>, what: string, limit = LIMIT): Promise<T> {
  const deadline = performance.now() + limit;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`waited ${String(limit)} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const given = new Set<number>();

/** A port below what the kernel gives to outgoing connections, free now and given to nobody else of this process. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    if (given.has(port)) continue;
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once("error", () => {
        resolve(false);
      });
      probe.listen(port, "127.0.0.1", () =>
        probe.close(() => {
          resolve(true);
        }),
      );
    });
    if (!free) continue;
    given.add(port);
    return port;
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => {
      resolve(false);
    });
  });
}

export interface ServerOptions {
  readonly module?: boolean;
  readonly args?: readonly string[];
}

export class TestServer {
  readonly #options: ServerOptions;
  readonly #directory = mkdtempSync(join(tmpdir(), "cacheflow-node-"));
  #process: ChildProcess | undefined;
  #admin: Redis | undefined;
  port = 0;

  constructor(options: ServerOptions = {}) {
    this.#options = options;
  }

  static async start(options: ServerOptions = {}): Promise<TestServer> {
    const server = new TestServer(options);
    await server.start();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${String(this.port)}`;
  }

  get directory(): string {
    return this.#directory;
  }

  /** Starts it, on the port that it had if it had one. */
  async start(): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      if (this.port === 0) this.port = await freePort();
      const args = ["--port", String(this.port), "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes"];
      if (this.#options.module !== false) args.push("--loadmodule", MODULE);
      const child = spawn(BINARY, [...(this.#options.args ?? []), ...args], { cwd: this.#directory, stdio: "ignore" });
      this.#process = child;
      const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
      await eventually(async () => ended() || (await listens(this.port)), "a server");
      if (!ended()) return;
      if (attempt === 3) throw new Error(`${BINARY} does not start in ${this.#directory}`);
      this.port = 0;
    }
  }

  /** A command, by a connection of the tests' own. */
  async command(name: string, ...args: (string | number)[]): Promise<unknown> {
    this.#admin ??= new Redis(this.port, "127.0.0.1", { protocol: 2 });
    return this.#admin.call(name, ...args.map(String));
  }

  #signal(name: NodeJS.Signals): void {
    this.#process?.kill(name);
  }

  /** SIGSTOP: it answers nobody until resume(). */
  pause(): void {
    this.#signal("SIGSTOP");
  }

  resume(): void {
    this.#signal("SIGCONT");
  }

  /** SIGKILL, and waits for its end. */
  async kill(): Promise<void> {
    this.#admin?.disconnect();
    this.#admin = undefined;
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const SLOTS = 16_384;

/** A cluster of primaries. */
export class TestCluster {
  readonly nodes: TestServer[] = [];

  static async start(primaries = 3, options: ServerOptions = {}): Promise<TestCluster> {
    const cluster = new TestCluster();
    for (let i = 0; i < primaries; i += 1) {
      const bus = String(await freePort());
      const args = ["--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000"];
      const node = await TestServer.start({ ...options, args: [...(options.args ?? []), ...args] });
      const first = Math.floor((SLOTS * i) / primaries);
      await node.command("CLUSTER", "ADDSLOTSRANGE", first, Math.floor((SLOTS * (i + 1)) / primaries) - 1);
      await node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1);
      for (const other of cluster.nodes) await other.command("CLUSTER", "MEET", "127.0.0.1", node.port, bus);
      cluster.nodes.push(node);
    }
    await eventually(async () => {
      const infos = await Promise.all(cluster.nodes.map((node) => node.command("CLUSTER", "INFO")));
      return infos.every((info) => {
        const text = String(info);
        return text.includes("cluster_state:ok") && text.includes(`cluster_known_nodes:${String(primaries)}`);
      });
    }, "the cluster");
    return cluster;
  }

  get urls(): string[] {
    return this.nodes.map((node) => node.url);
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }
}

/** A primary, its replica, and a Sentinel that fails over alone. */
export class TestSentinel {
  private constructor(
    readonly primary: TestServer,
    readonly replica: TestServer,
    readonly sentinel: TestServer,
  ) {}

  static async start(): Promise<TestSentinel> {
    const primary = await TestServer.start();
    const replica = await TestServer.start({
      args: ["--replicaof", "127.0.0.1", String(primary.port), "--repl-diskless-sync-delay", "0"],
    });
    await eventually(
      async () => String(await replica.command("INFO", "replication")).includes("master_link_status:up"),
      "the replica",
    );
    const sentinel = new TestServer({ module: false, args: ["sentinel.conf", "--sentinel"] });
    const { writeFileSync } = await import("node:fs");
    writeFileSync(join(sentinel.directory, "sentinel.conf"), "");
    await sentinel.start();
    await sentinel.command("SENTINEL", "MONITOR", "main", "127.0.0.1", primary.port, 1);
    await sentinel.command("SENTINEL", "SET", "main", "down-after-milliseconds", 300, "failover-timeout", 2000);
    await eventually(async () => {
      const replicas = await sentinel.command("SENTINEL", "REPLICAS", "main");
      return Array.isArray(replicas) && replicas.length === 1;
    }, "the Sentinel to know the replica");
    return new TestSentinel(primary, replica, sentinel);
  }

  async stop(): Promise<void> {
    await Promise.all([this.sentinel.stop(), this.replica.stop(), this.primary.stop()]);
  }
}
