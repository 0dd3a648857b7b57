/** What the runner of clients/conformance is given: its files, its servers, and its fault proxy. */
import { spawn, type ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";

const DIRECTORY = process.env.CACHEFLOW_CONFORMANCE ?? fileURLToPath(new URL("../../../conformance", import.meta.url));
const PYTHON = process.env.CACHEFLOW_PYTHON ?? fileURLToPath(new URL("../../../../.venv/bin/python", import.meta.url));
const MODULE =
  process.env.CACHEFLOW_MODULE ?? fileURLToPath(new URL("../../../../target/release/libcacheflow.so", import.meta.url));

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface CodecSpec {
  readonly serializer?: string;
  readonly compress?: string;
  readonly min_size?: number;
  readonly max_size?: number;
  readonly keys?: readonly string[];
  readonly active?: string;
  readonly allow_plain?: boolean;
}

export interface Vector {
  readonly name: string;
  readonly key: string;
  readonly data: string;
  readonly value?: Json;
  readonly error?: string;
  readonly codec?: CodecSpec;
  readonly written?: boolean;
  readonly repeat?: { readonly head?: string; readonly unit: string; readonly count: number };
  readonly needs?: readonly string[];
}

export interface Expectation {
  readonly value?: Json;
  readonly missing?: boolean;
  readonly fields?: Readonly<Record<string, Json>>;
  readonly error?: "loader" | "decode" | "invalidation" | "locked" | "lost";
  readonly message?: string;
  readonly code?: string;
  readonly source?: string | readonly string[];
}

export interface LoaderSpec {
  readonly gate?: string;
  readonly returns?: Json;
  readonly returns_each?: Readonly<Record<string, Json>>;
  readonly raises?: string;
  readonly not_modified?: boolean;
  readonly skip?: boolean;
  readonly sets?: { readonly ttl?: number; readonly grace?: number; readonly tags?: string[] };
  readonly sees_stale?: Json;
  readonly sees_no_stale?: boolean;
}

export interface Step {
  readonly call?: string;
  readonly on?: string;
  readonly key?: string;
  readonly keys?: readonly string[];
  readonly values?: Readonly<Record<string, Json>>;
  readonly loader?: string;
  readonly lock?: string;
  readonly args?: Readonly<Record<string, Json>>;
  readonly as?: string;
  readonly times?: number;
  readonly until?: boolean;
  readonly expect?: Expectation;
  readonly join?: string;
  readonly await?: string;
  readonly loaders?: number;
  readonly open?: string;
  readonly loaded?: Readonly<Record<string, number>>;
  readonly asked?: Readonly<Record<string, readonly (readonly string[])[]>>;
  readonly redis?: readonly (string | number | { readonly $bytes: string })[];
  readonly reply?: Json;
  readonly between?: readonly [number, number];
  readonly starts?: string;
  readonly fields?: Readonly<Record<string, Json>>;
  readonly proxy?: string;
  readonly saw?: string;
  readonly greater?: readonly [string, string];
}

export interface ClientSpec {
  readonly namespace?: string;
  readonly via?: "server" | "proxy";
  readonly local?: boolean;
  readonly codec?: CodecSpec;
}

export interface Scenario {
  readonly name: string;
  readonly servers: readonly Kind[];
  readonly clients?: Readonly<Record<string, ClientSpec>>;
  readonly loaders?: Readonly<Record<string, LoaderSpec>>;
  readonly steps: readonly Step[];
}

export type Kind = "module" | "plain" | "cluster";

function read(name: string): unknown {
  return JSON.parse(readFileSync(`${DIRECTORY}/${name}`, "utf8"));
}

export const { keys: KEYS, vectors: VECTORS } = read("vectors.json") as {
  keys: Record<string, string>;
  vectors: Vector[];
};

/** The subjects and their scenarios. */
export const SUBJECTS = readdirSync(`${DIRECTORY}/scenarios`)
  .filter((name) => name.endsWith(".json"))
  .map((name) => ({
    subject: name.slice(0, -".json".length),
    scenarios: (read(`scenarios/${name}`) as { scenarios: Scenario[] }).scenarios,
  }));

/** A program that serves until its input closes, and says where in its first line. */
class Program {
  readonly #child: ChildProcess;
  readonly first: Promise<unknown>;

  constructor(name: string, args: readonly string[]) {
    this.#child = spawn(PYTHON, [`${DIRECTORY}/${name}`, ...args], { stdio: ["pipe", "pipe", "inherit"] });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error("it has no output");
    const lines = createInterface({ input: stdout });
    this.first = new Promise((resolve, reject) => {
      lines.once("line", (line) => {
        resolve(JSON.parse(line));
      });
      this.#child.once("exit", (code) => {
        reject(new Error(`${name} ended with ${String(code)}`));
      });
    });
  }

  /** Closes its input, and waits for its end. @throws where it says that something broke */
  async stop(): Promise<void> {
    const code = await new Promise<number | null>((resolve) => {
      this.#child.once("exit", resolve);
      this.#child.stdin?.end();
    });
    if (code !== 0) throw new Error(`a server broke (${String(code)})`);
  }
}

export interface Address {
  readonly url: string;
  readonly nodes: readonly string[];
}

export class Servers {
  readonly #program = new Program("server.py", ["--module", MODULE, "module", "plain", "cluster"]);

  async start(): Promise<Record<Kind, Address>> {
    return (await this.#program.first) as Record<Kind, Address>;
  }

  stop(): Promise<void> {
    return this.#program.stop();
  }
}

export class FaultProxy {
  readonly #program: Program;
  #socket: Socket | undefined;
  #lines: Interface | undefined;
  port = 0;

  constructor(target: string) {
    this.#program = new Program("fault_proxy.py", ["--target", target]);
  }

  async start(): Promise<void> {
    const { port, control } = (await this.#program.first) as { port: number; control: number };
    this.port = port;
    this.#socket = connect(control, "127.0.0.1");
    this.#lines = createInterface({ input: this.#socket });
  }

  /** Says a line, and waits until it is in force. */
  async say(line: string): Promise<void> {
    const answer = await new Promise<string>((resolve) => {
      this.#lines?.once("line", resolve);
      this.#socket?.write(`${line}\n`);
    });
    if (!answer.startsWith("ok")) throw new Error(`the proxy answers ${answer} to ${line}`);
  }

  async stop(): Promise<void> {
    this.#socket?.destroy();
    await this.#program.stop();
  }
}
