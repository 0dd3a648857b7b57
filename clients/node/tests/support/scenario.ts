/** One scenario of clients/conformance, performed: its actors, gates and steps, by the public interface alone. */
import { isDeepStrictEqual } from "node:util";
import { Redis } from "ioredis";
import {
  CacheFlow,
  CacheFlowError,
  DecodeError,
  InvalidationError,
  KeyRing,
  LockError,
  RawCodec,
  JsonCodec,
  type CacheEvent,
  type Codec,
  type Compressor,
  type FramedOptions,
  type LoadContext,
  type Lock,
  type ManyLoader,
} from "../../src/index.js";
import { lz4 } from "../../src/codecs/lz4.js";
import { MsgpackCodec, MsgpackSerializer } from "../../src/codecs/msgpack.js";
import { zstd } from "../../src/codecs/zstd.js";
import { gate, type Gate } from "./caches.js";
import {
  KEYS,
  type Address,
  type CodecSpec,
  type Expectation,
  type FaultProxy,
  type Json,
  type Scenario,
  type Step,
} from "./conformance.js";
import { eventually } from "./servers.js";

const UNTIL = 20_000;
const MISSING = Symbol("missing");
/** What a loader of a scenario throws. */
class LoaderError extends Error {}

const COMPRESSORS: Record<string, Compressor> = { zstd: await zstd(), lz4: lz4() };

/** The codec of a scenario's client or of a vector's reader. */
export function codec(spec: CodecSpec = {}): Codec {
  const ring = spec.keys?.map((id) => [id, Buffer.from(KEYS[id] as string, "hex")] as const);
  const options: Omit<FramedOptions, "serializer"> = {
    ...(spec.compress === undefined ? {} : { compress: COMPRESSORS[spec.compress] as Compressor }),
    ...(spec.min_size === undefined ? {} : { minSize: spec.min_size }),
    ...(spec.max_size === undefined ? {} : { maxSize: spec.max_size }),
    ...(ring === undefined ? {} : { keys: new KeyRing(spec.active as string, Object.fromEntries(ring)) }),
    ...(spec.allow_plain === undefined ? {} : { allowPlain: spec.allow_plain }),
    reads: [new MsgpackSerializer(), ...Object.values(COMPRESSORS)],
  };
  if (spec.serializer === "msgpack") return new MsgpackCodec(options);
  return spec.serializer === "raw" ? new RawCodec(options) : new JsonCodec(options);
}

const SOURCES: Record<string, string> = {
  l1: "l1",
  l1_stale: "l1_stale",
  "redis fresh": "server",
  "redis stale": "stale",
  loader: "load",
};

interface Outcome {
  readonly value?: unknown;
  readonly error?: unknown;
  readonly source?: string | undefined;
}

function check(condition: boolean, what: string, ...seen: unknown[]): asserts condition {
  if (!condition) throw new Error([what, ...seen.map((one) => JSON.stringify({ one }).slice(7, -1))].join(" "));
}

function seconds(value: Json | undefined): number | undefined {
  return typeof value === "number" ? value * 1000 : undefined;
}

/** A reply as text, whatever it is nested in. */
function plain(reply: unknown): unknown {
  if (Buffer.isBuffer(reply)) return reply.toString();
  return Array.isArray(reply) ? reply.map(plain) : reply;
}

function matches(value: unknown, wanted: Json): boolean {
  if (typeof wanted === "object" && wanted !== null && "$between" in wanted) {
    const [least, most] = wanted.$between as [number, number];
    return typeof value === "number" && value >= least && value <= most;
  }
  if (Array.isArray(wanted) && Array.isArray(value)) {
    return isDeepStrictEqual(value.map(String).sort(), wanted.map(String).sort());
  }
  return isDeepStrictEqual(value, wanted);
}

export class Performance {
  readonly #scenario: Scenario;
  readonly #address: Address;
  readonly #proxy: FaultProxy;
  readonly #cluster: boolean;
  readonly #redis: Redis;
  readonly #clients = new Map<string, CacheFlow>();
  readonly #events = new Map<string, CacheEvent[]>();
  readonly #gates = new Map<string, Gate<undefined> & { waiting: number }>();
  readonly #calls = new Map<string, number>();
  readonly #asked = new Map<string, string[][]>();
  readonly #locks = new Map<string, Lock>();
  readonly #begun = new Map<string, Promise<Outcome>[]>();
  /** What a loader found wrong: its own error would be the application's. */
  #complaint: Error | undefined;

  constructor(scenario: Scenario, address: Address, proxy: FaultProxy, cluster: boolean) {
    this.#scenario = scenario;
    this.#address = address;
    this.#proxy = proxy;
    this.#cluster = cluster;
    this.#redis = new Redis(address.url, { protocol: 2 });
  }

  async run(): Promise<void> {
    for (const node of this.#address.nodes) {
      const redis = new Redis(`redis://${node}`);
      await redis.flushall();
      redis.disconnect();
    }
    for (const [at, step] of this.#scenario.steps.entries()) {
      try {
        await this.#step(step);
        if (this.#complaint !== undefined) throw this.#complaint;
      } catch (error) {
        throw new Error(`step ${String(at + 1)}, ${JSON.stringify(step)}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    }
  }

  async end(): Promise<void> {
    for (const one of this.#gates.values()) one.open(undefined);
    await this.#proxy.say("heal");
    await Promise.all([...this.#begun.values()].flat());
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
    this.#redis.disconnect();
  }

  // --- actors --------------------------------------------------------------------------------
  async #client(name: string): Promise<CacheFlow> {
    const made = this.#clients.get(name);
    if (made !== undefined) return made;
    const spec = this.#scenario.clients?.[name] ?? {};
    const proxied = spec.via === "proxy";
    const url = proxied ? `redis://127.0.0.1:${String(this.#proxy.port)}` : this.#address.url;
    const client = new CacheFlow({
      url,
      cluster: this.#cluster,
      namespace: spec.namespace ?? "t",
      local: spec.local ?? false,
      codec: codec(spec.codec),
      timeout: proxied ? "500ms" : "5s",
      wait: "30s",
      breaker: { failures: 3, cooldown: "200ms" },
    });
    const events: CacheEvent[] = [];
    client.on("event", (event) => events.push(event));
    this.#clients.set(name, client);
    this.#events.set(name, events);
    if (!proxied) await client.ready();
    return client;
  }

  #gate(name: string): Gate<undefined> & { waiting: number } {
    let made = this.#gates.get(name);
    if (made === undefined) this.#gates.set(name, (made = { ...gate<undefined>(), waiting: 0 }));
    return made;
  }

  /** A loader's beginning: it counts, and waits at its gate. */
  async #enter(name: string): Promise<NonNullable<Scenario["loaders"]>[string]> {
    const spec = this.#scenario.loaders?.[name];
    check(spec !== undefined, `there is no loader ${name}`);
    this.#calls.set(name, (this.#calls.get(name) ?? 0) + 1);
    if (spec.gate !== undefined) {
      const stop = this.#gate(spec.gate);
      stop.waiting += 1;
      await stop.promise;
      stop.waiting -= 1;
    }
    return spec;
  }

  #loaderOfMany(name: string): ManyLoader<unknown> {
    return async (keys) => {
      this.#asked.set(name, [...(this.#asked.get(name) ?? []), keys.toSorted()]);
      const spec = await this.#enter(name);
      if (spec.raises !== undefined) throw new LoaderError(spec.raises);
      return new Map(Object.entries(spec.returns_each ?? {}).filter(([key]) => keys.includes(key)));
    };
  }

  #loader(name: string): (context: LoadContext) => Promise<unknown> {
    return async (context) => {
      const spec = await this.#enter(name);
      try {
        if (spec.sees_stale !== undefined)
          check(isDeepStrictEqual(context.staleValue, spec.sees_stale), "it sees", context.staleValue);
        if (spec.sees_no_stale === true) check(!context.hasStale, "it sees", context.staleValue);
      } catch (error) {
        this.#complaint = error as Error;
      }
      if (spec.raises !== undefined) throw new LoaderError(spec.raises);
      const { ttl, grace, tags } = spec.sets ?? {};
      if (ttl !== undefined) context.ttl = ttl * 1000;
      if (grace !== undefined) context.grace = grace * 1000;
      if (tags !== undefined) context.tags = tags;
      if (spec.not_modified === true) return context.notModified();
      if (spec.skip === true) context.skip();
      return spec.returns;
    };
  }

  // --- calls ---------------------------------------------------------------------------------
  async #call(step: Step): Promise<Outcome> {
    const client = await this.#client(step.on as string);
    try {
      return await this.#perform(client, step);
    } catch (error) {
      return { error };
    }
  }

  async #perform(client: CacheFlow, step: Step): Promise<Outcome> {
    const { key = "", keys = [], args = {} } = step;
    const times = { ttl: seconds(args.ttl), grace: seconds(args.grace) };
    const tags = args.tags as string[] | undefined;
    const load = {
      ...times,
      tags,
      negativeTtl: seconds(args.negative_ttl),
      maxStale: seconds(args.max_stale),
      lease: seconds(args.lease),
    };
    switch (step.call) {
      case "get_or_set": {
        const entry = await client.getOrSetEntry({ key, factory: this.#loader(step.loader as string), ...load });
        const source = SOURCES[entry.source === "redis" ? `redis ${entry.state}` : entry.source];
        return { value: entry.value, source };
      }
      case "get_or_set_many": {
        const found = await client.getOrSetMany({ keys, loader: this.#loaderOfMany(step.loader as string), ...load });
        return { value: Object.fromEntries(found) };
      }
      case "get": {
        const value = await client.get(key);
        return { value: value === undefined ? MISSING : value };
      }
      case "set":
        return { value: await client.set(key, args.value, { ...times, tags, token: this.#lock(step)?.token }) };
      case "delete":
        return { value: await client.delete(keys) };
      case "get_many":
        return { value: Object.fromEntries(await client.getMany(keys)) };
      case "set_many":
        return { value: await client.setMany(step.values ?? {}, { ...times, tags }) };
      case "touch":
        return { value: await client.touch(key, times) };
      case "incr":
        return { value: await client.incr(key, (args.by as number | undefined) ?? 1) };
      case "invalidate":
        return { value: await client.invalidate(tags ?? [], { soft: args.soft === true }) };
      case "clear":
        return { value: await client.clear() };
      case "meta":
        return { value: (await client.meta(key)) ?? MISSING };
      case "lock": {
        const lock = await client.lock(key, { ttl: times.ttl as number, wait: seconds(args.wait) });
        this.#locks.set(step.lock as string, lock);
        return { value: lock };
      }
      case "unlock":
        if (!(await (this.#lock(step) as Lock).release())) throw new LockError("lost", "it had been lost");
        return {};
      case "extend":
        await this.#lock(step)?.extend(times.ttl as number);
        return {};
      case "capabilities":
        return { value: await client.ready() };
      default:
        throw new Error(`there is no method ${String(step.call)}`);
    }
  }

  #lock(step: Step): Lock | undefined {
    if (step.lock === undefined) return undefined;
    const lock = this.#locks.get(step.lock);
    check(lock !== undefined, `there is no lock ${step.lock}`);
    return lock;
  }

  #expect(outcome: Outcome, expectation: Expectation = {}): void {
    const { value, error, source } = outcome;
    if (expectation.error !== undefined) {
      const right = {
        loader: error instanceof LoaderError,
        decode: error instanceof DecodeError,
        invalidation: error instanceof InvalidationError,
        locked: error instanceof LockError && error.code === "locked",
        lost: error instanceof LockError && error.code === "lost",
      }[expectation.error];
      check(right, `it failed with ${String(error)} and gave`, value);
      if (expectation.message !== undefined) check((error as Error).message === expectation.message, String(error));
      if (expectation.code !== undefined) check((error as CacheFlowError).code === expectation.code, String(error));
      return;
    }
    if (error !== undefined) throw error;
    if (expectation.missing === true) check(value === MISSING, "there is", value);
    if (expectation.value !== undefined) check(isDeepStrictEqual(value, expectation.value), "it gave", value);
    for (const [name, wanted] of Object.entries(expectation.fields ?? {})) {
      const camel = name.replace(/[-_](.)/g, (_, letter: string) => letter.toUpperCase());
      const has = (value as Record<string, unknown>)[camel];
      check(matches(has, wanted), `${name} is`, has);
    }
    if (expectation.source !== undefined) {
      check([expectation.source].flat().includes(source ?? "none"), `it came from ${String(source)}, and is`, value);
    }
  }

  // --- steps ---------------------------------------------------------------------------------
  async #step(step: Step): Promise<void> {
    if (step.until !== true) return this.#once(step);
    let last: unknown;
    await eventually(
      async () => {
        try {
          await this.#once(step);
          return true;
        } catch (error) {
          last = error;
          return false;
        }
      },
      "the expectation",
      UNTIL,
    ).catch((error: unknown) => {
      throw last ?? error;
    });
  }

  async #once(step: Step): Promise<void> {
    if (step.call !== undefined) {
      if (step.as === undefined) {
        this.#expect(await this.#call(step), step.expect);
        return;
      }
      await this.#client(step.on as string);
      const begun = Array.from({ length: step.times ?? 1 }, () => this.#call(step));
      this.#begun.set(step.as, begun);
    } else if (step.join !== undefined) {
      for (const outcome of await Promise.all(this.#begun.get(step.join) ?? [])) this.#expect(outcome, step.expect);
    } else if (step.await !== undefined) {
      const { await: name, loaders = 1 } = step;
      await eventually(() => this.#gate(name).waiting >= loaders, `${String(loaders)} at the gate`, UNTIL);
    } else if (step.open !== undefined) {
      this.#gate(step.open).open(undefined);
    } else if (step.loaded !== undefined) {
      for (const [name, calls] of Object.entries(step.loaded)) {
        check((this.#calls.get(name) ?? 0) === calls, `${name} was called`, this.#calls.get(name) ?? 0);
      }
    } else if (step.asked !== undefined) {
      for (const [name, calls] of Object.entries(step.asked)) {
        const asked = this.#asked.get(name) ?? [];
        const wanted = calls.map((keys) => keys.toSorted());
        check(isDeepStrictEqual(asked, wanted), `${name} was asked for`, asked);
      }
    } else if (step.redis !== undefined) {
      await this.#command(step, step.redis);
    } else if (step.proxy !== undefined) {
      await this.#proxy.say(step.proxy);
    } else if (step.saw !== undefined) {
      const told = (this.#events.get(step.on as string) ?? []).map((event) => `${event.name}_${event.detail}`);
      check(told.includes(step.saw), "it told of", told);
    } else if (step.greater !== undefined) {
      const [greater, lesser] = step.greater.map((name) => this.#locks.get(name)?.token ?? NaN);
      check((greater as number) > (lesser as number), "the tokens are", greater, lesser);
    } else throw new Error("there is no such step");
  }

  async #command(step: Step, words: NonNullable<Step["redis"]>): Promise<void> {
    const [name, ...args] = words.map((word) =>
      typeof word === "object" ? Buffer.from(word.$bytes, "hex") : String(word),
    );
    const reply = await this.#redis.callBuffer(String(name), ...args);
    if (step.reply !== undefined) check(isDeepStrictEqual(plain(reply), step.reply), "it answered", plain(reply));
    if (step.starts !== undefined)
      check((reply as Buffer).toString("hex").startsWith(step.starts), "it is", plain(reply));
    if (step.between !== undefined) {
      const [least, most] = step.between;
      check(Number(reply) >= least && Number(reply) <= most, "it answered", Number(reply));
    }
    if (step.fields !== undefined) {
      const flat = plain(reply) as unknown[];
      for (const [field, wanted] of Object.entries(step.fields)) {
        const value = flat[flat.indexOf(field) + 1];
        check(flat.includes(field) && matches(value, wanted), `${field} is`, value);
      }
    }
  }
}
