/**
 * Runs clients/conformance: its vectors, and its scenarios on each of their servers. `npm run test:conformance`; needs
 * Python with what the module's own tests need, as server.py there says.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DecodeError } from "../../src/index.js";
import { FaultProxy, Servers, SUBJECTS, VECTORS, type Address, type Json, type Kind } from "../support/conformance.js";
import { codec, Performance } from "../support/scenario.js";

/** Values beyond JSON, as vectors.json writes them. */
function meant(value: Json): unknown {
  if (Array.isArray(value)) return value.map(meant);
  if (typeof value !== "object" || value === null) return value;
  if ("$bytes" in value) return Buffer.from(value.$bytes as string, "hex");
  if ("$zeros" in value) return Buffer.alloc(value.$zeros as number);
  if ("$int" in value) return BigInt(value.$int as string);
  if ("$float" in value) return NaN;
  if ("$timestamp" in value) return new Date(value.$timestamp as string);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, meant(item)]));
}

/** Bytes as Buffers, so that they compare. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, comparable(item)]));
}

describe("vectors", () => {
  it.each(VECTORS.map((vector) => [vector.name, vector] as const))("%s", (_, vector) => {
    const { unit = "", count = 0 } = vector.repeat ?? {};
    const data = Buffer.from(vector.data + unit.repeat(count), "hex");
    const reader = codec(vector.codec);
    if (vector.error !== undefined) {
      const { error } = vector;
      expect(() => reader.decode(vector.key, data)).toThrow(DecodeError);
      expect(() => reader.decode(vector.key, data)).toThrow(expect.objectContaining({ code: error, key: vector.key }));
      return;
    }
    const value = reader.decode(vector.key, data);
    const wanted = meant(vector.value as Json);
    // JSON's numbers are JavaScript's here: an integer beyond 2^53 is the nearest that there is.
    const nearest = vector.needs?.includes("integers") === true && typeof value === "number";
    expect(comparable(value)).toStrictEqual(nearest ? Number(wanted) : wanted);
    if (vector.written === true) expect(Buffer.from(reader.encode(vector.key, value))).toEqual(data);
  });
});

describe("scenarios", () => {
  const servers = new Servers();
  let addresses: Record<Kind, Address>;
  let proxy: FaultProxy;

  beforeAll(async () => {
    addresses = await servers.start();
    proxy = new FaultProxy(addresses.module.nodes[0] as string);
    await proxy.start();
  });
  afterAll(async () => {
    await proxy.stop();
    await servers.stop();
  });

  describe.each(SUBJECTS)("$subject", ({ scenarios }) => {
    const all = scenarios.flatMap((scenario) =>
      scenario.servers.map((kind) => [scenario.name, kind, scenario] as const),
    );
    it.each(all)("%s (%s)", async (_name, kind, scenario) => {
      const performance = new Performance(scenario, addresses[kind], proxy, kind === "cluster");
      try {
        await performance.run();
      } finally {
        await performance.end();
      }
    });
  });
});
