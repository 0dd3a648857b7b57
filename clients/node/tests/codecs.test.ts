/** Codecs beyond clients/conformance's vectors: what they write, what they refuse, and hostile bytes. */
import { randomBytes } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { lz4 } from "../src/codecs/lz4.js";
import { MsgpackCodec, MsgpackSerializer } from "../src/codecs/msgpack.js";
import { zstd } from "../src/codecs/zstd.js";
import { DecodeError, Framed, JsonCodec, KeyRing, RawCodec, type Codec, type Compressor } from "../src/index.js";

const KEY = "shop:k";
const secret = KeyRing.generateKey();
const rows = {
  rows: Array.from({ length: 200 }, (_, id) => ({ id, name: "a name that repeats", of: [1, null, true] })),
};

function bytes(codec: Codec, value: unknown): Buffer {
  return Buffer.from(codec.encode(KEY, value));
}

describe("JSON", () => {
  const codec = new JsonCodec();

  class Row {
    readonly id = 1;
  }

  it.each<[string, unknown]>([
    ["a Date", new Date()],
    ["a Map", new Map()],
    ["a Set within", { a: [new Set()] }],
    ["bytes", Buffer.from("x")],
    ["a bigint", 1n],
    ["a function", () => 1],
    ["a symbol", Symbol("x")],
    ["undefined in an array", [undefined]],
    ["an instance", new Row()],
  ])("refuses %s", (_, value) => {
    expect(() => codec.encode(KEY, value)).toThrow(expect.objectContaining({ code: "unsupported_type", key: KEY }));
  });

  it("refuses what cannot be encoded", () => {
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    for (const value of [NaN, [Infinity], cycle]) {
      expect(() => codec.encode(KEY, value)).toThrow(expect.objectContaining({ code: "not_encodable" }));
    }
  });

  it("leaves out properties that are undefined", () => {
    expect(codec.encode(KEY, { a: undefined, b: 1 })).toBe('{"b":1}');
  });

  it("has hooks for values of other kinds, and copies nothing of the caller's", () => {
    const dated = new JsonCodec({
      replace: (value) => (value instanceof Date ? { $date: value.toISOString() } : undefined),
      revive: (read) => (typeof read.$date === "string" ? new Date(read.$date) : read),
    });
    const value = { at: new Date(0), all: [new Date(1), { deep: new Date(2) }] };
    expect(dated.decode(KEY, bytes(dated, value))).toEqual(value);
    expect(value.at).toBeInstanceOf(Date);
    expect(() => dated.encode(KEY, new Map())).toThrow(expect.objectContaining({ code: "unsupported_type" }));
  });
});

describe("MessagePack", () => {
  it("has bytes, dates, NaN and integers of 64 bits", () => {
    const codec = new MsgpackCodec();
    const value = {
      b: Buffer.from([1, 2]),
      d: new Date(1234),
      n: [NaN, -Infinity],
      i: 2n ** 63n - 1n,
      s: -5,
      x: 2 ** 40,
    };
    expect(codec.decode(KEY, bytes(codec, value))).toEqual(value);
  });
});

describe("raw bytes", () => {
  it("are read back, and nothing else is written", () => {
    const codec = new RawCodec();
    expect(codec.decode(KEY, bytes(codec, new Uint8Array([0xcf, 1])))).toEqual(Buffer.from([0xcf, 1]));
    expect(() => codec.encode(KEY, "text")).toThrow(expect.objectContaining({ code: "unsupported_type" }));
  });
});

describe.each(["zstd", "lz4"] as const)("%s", (name) => {
  let compress: Compressor;
  beforeAll(async () => {
    compress = name === "zstd" ? await zstd() : lz4();
  });

  it("compresses what is large and becomes smaller", () => {
    const codec = new JsonCodec({ compress });
    const packed = bytes(codec, rows);
    expect(packed[0]).toBe(0xcf);
    expect(packed.length).toBeLessThan(JSON.stringify(rows).length / 3);
    expect(codec.decode(KEY, packed)).toEqual(rows);
    expect(bytes(codec, { small: 1 }).toString()).toBe('{"small":1}');
    const noise = randomBytes(3000).toString("base64");
    const raw = new RawCodec({ compress });
    expect(bytes(raw, Buffer.from(noise, "base64"))[2]).toBe(3);
  });

  it("is read by a codec that was given it, and by no other", () => {
    const packed = bytes(new JsonCodec({ compress }), rows);
    expect(new MsgpackCodec({ reads: [compress] }).decode(KEY, packed)).toEqual(rows);
    expect(() => new JsonCodec().decode(KEY, packed)).toThrow(expect.objectContaining({ code: "library_missing" }));
  });

  it("is bounded", () => {
    const zeros = Buffer.alloc(1 << 20);
    const packed = bytes(new RawCodec({ compress }), zeros);
    expect(packed.length).toBeLessThan(10_000);
    expect(zeros.equals(new RawCodec({ compress, maxSize: zeros.length }).decode(KEY, packed) as Buffer)).toBe(true);
    const bounded = new RawCodec({ compress, maxSize: zeros.length - 1 });
    expect(() => bounded.decode(KEY, packed)).toThrow(expect.objectContaining({ code: "too_large" }));
    expect(bytes(bounded, zeros)[2]).toBe(3);
  });
});

describe("encryption", () => {
  const keys = new KeyRing("new", { new: secret, old: KeyRing.generateKey() });

  it("refuses every byte that was changed, and the same bytes under another key", () => {
    const codec = new JsonCodec({ keys });
    const sealed = bytes(codec, { a: 1 });
    expect(codec.decode(KEY, sealed)).toEqual({ a: 1 });
    expect(() => codec.decode("shop:other", sealed)).toThrow(expect.objectContaining({ code: "decryption_failed" }));
    for (let at = 0; at < sealed.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const changed = Buffer.from(sealed);
        changed[at] = (changed[at] as number) ^ (1 << bit);
        expect(() => codec.decode(KEY, changed)).toThrow(DecodeError);
      }
    }
  });

  it("rotates", () => {
    const before = new JsonCodec({ keys: new KeyRing("old", { old: secret }) });
    const after = new JsonCodec({ keys: new KeyRing("new", { new: KeyRing.generateKey(), old: secret }) });
    expect(after.decode(KEY, bytes(before, 1))).toBe(1);
    expect(() => before.decode(KEY, bytes(after, 1))).toThrow(expect.objectContaining({ code: "unknown_key_id" }));
  });

  it("refuses key rings that make no sense", () => {
    expect(() => new KeyRing("a", {})).toThrow(expect.objectContaining({ code: "bad_option" }));
    expect(() => new KeyRing("a", { a: Buffer.alloc(16) })).toThrow(expect.objectContaining({ code: "bad_option" }));
    expect(() => new KeyRing("", { "": secret })).toThrow(expect.objectContaining({ code: "bad_option" }));
  });
});

it("reads hostile bytes as a value or an error of its own", async () => {
  const compressors = [await zstd(), lz4()];
  const codec = new Framed({ reads: [new MsgpackSerializer(), ...compressors], maxSize: 1 << 20 });
  const seeds = compressors.flatMap((compress) => [
    bytes(new JsonCodec({ compress }), rows),
    bytes(new MsgpackCodec({ compress }), rows),
  ]);
  seeds.push(bytes(new MsgpackCodec(), rows), bytes(new JsonCodec(), rows));
  let refused = 0;
  for (let round = 0; round < 3000; round += 1) {
    const data = Buffer.from(seeds[round % seeds.length] as Buffer);
    const flips = 1 + (round % 4);
    for (let flip = 0; flip < flips; flip += 1)
      data[Math.floor(Math.random() * data.length)] = Math.floor(Math.random() * 256);
    const cut = round % 3 === 0 ? data.subarray(0, Math.floor(Math.random() * data.length)) : data;
    try {
      codec.decode(KEY, cut);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw new Error(cut.toString("hex"), { cause: error });
      refused += 1;
    }
  }
  expect(refused).toBeGreaterThan(1000);
});
