import { isUtf8 } from "node:buffer";
import { DecodeError, EncodeError } from "../errors.js";
import type { Serializer } from "./codec.js";
import { JSON_ID, RAW_ID } from "./frame.js";
import { Plain, type Replace } from "./plain.js";

export interface Hooks {
  /**
   * Called with each value that the format has no place for (a Date, a Map, a bigint, an instance of a class), at any
   * depth; returns what to write instead.
   */
  readonly replace?: Replace;
  /** Called with each object read, the innermost first; returns what the caller gets instead. */
  readonly revive?: (read: Record<string, unknown>) => unknown;
}

/** Applies `revive` to every object of what was read. */
export function revived(value: unknown, revive: NonNullable<Hooks["revive"]>): unknown {
  if (Array.isArray(value)) return value.map((item) => revived(item, revive));
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const read = value as Record<string, unknown>;
  for (const name of Object.keys(read)) read[name] = revived(read[name], revive);
  return revive(read);
}

/**
 * JSON text in UTF-8: what every CacheFlow client reads.
 *
 * What comes back as it was: null, booleans, finite numbers, strings, and arrays and plain objects of these. The
 * rest is refused, because it would come back as something else. Integers beyond 2^53 that another language wrote
 * are read as the nearest number there is.
 */
export class JsonSerializer implements Serializer {
  readonly id = JSON_ID;
  readonly #plain: Plain;
  readonly #revive: Hooks["revive"];

  constructor({ replace, revive }: Hooks = {}) {
    this.#plain = new Plain("JSON", replace);
    this.#revive = revive;
  }

  dumps(value: unknown): string {
    return JSON.stringify(this.#plain.check(value));
  }

  loads(data: Buffer): unknown {
    if (!isUtf8(data)) throw new DecodeError("corrupt", "no UTF-8");
    let value: unknown;
    try {
      value = JSON.parse(data.toString());
    } catch (error) {
      // The parser's message quotes the text, which is nobody's business in a log.
      throw new DecodeError("corrupt", "no JSON text", { cause: (error as Error).name });
    }
    return this.#revive === undefined ? value : revived(value, this.#revive);
  }
}

/** Buffers and Uint8Arrays as they are; read as Buffer. */
export class RawSerializer implements Serializer {
  readonly id = RAW_ID;

  dumps(value: unknown): Buffer {
    if (Buffer.isBuffer(value)) return value;
    if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    throw new EncodeError("unsupported_type", `a ${typeof value} is no bytes`);
  }

  loads(data: Buffer): Buffer {
    return Buffer.from(data);
  }
}
