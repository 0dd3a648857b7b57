/** MessagePack, by the package `@msgpack/msgpack`: the entry point `cacheflow/msgpack`. */
import { decode, encode, ExtensionCodec } from "@msgpack/msgpack";
import { DecodeError } from "../errors.js";
import type { Serializer } from "./codec.js";
import { MSGPACK_ID } from "./frame.js";
import { Framed, type FramedOptions } from "./framed.js";
import { Plain } from "./plain.js";
import { revived, type Hooks } from "./serializers.js";

const EXTENSIONS = new ExtensionCodec();
const TIMESTAMP = -1;
const known = EXTENSIONS.decode.bind(EXTENSIONS);
EXTENSIONS.decode = (data, type, context) => {
  if (type !== TIMESTAMP) throw new DecodeError("corrupt", `a MessagePack extension of type ${String(type)}`);
  return known(data, type, context);
};

function isAtom(value: unknown): boolean {
  return typeof value === "number" || typeof value === "bigint" || value instanceof Uint8Array || value instanceof Date;
}

/**
 * What the library reads, made ours at whatever depth. Integers of 64 bits are bigint: those that a number can be become
 * one. Bytes are a view of what came from the socket: they become a copy, which nobody else has.
 */
function narrowed(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (typeof value === "bigint") {
    return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }
  if (Array.isArray(value)) {
    value.forEach((item, at) => (value[at] = narrowed(item)));
  } else if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
    const read = value as Record<string, unknown>;
    for (const name of Object.keys(read)) read[name] = narrowed(read[name]);
  }
  return value;
}

/** What comes back as it was: what JSON has, and bytes (as Buffer), Date, NaN, the infinities, and bigint of 64 bits. */
export class MsgpackSerializer implements Serializer {
  readonly id = MSGPACK_ID;
  readonly #plain: Plain;
  readonly #revive: Hooks["revive"];

  constructor({ replace, revive }: Hooks = {}) {
    this.#plain = new Plain("MessagePack", replace, isAtom);
    this.#revive = revive;
  }

  dumps(value: unknown): Buffer {
    const data = encode(this.#plain.check(value), { ignoreUndefined: true, useBigInt64: true, maxDepth: 1100 });
    return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  }

  loads(data: Buffer): unknown {
    let value: unknown;
    try {
      // No array or map has more elements than there are bytes: else a few bytes could ask for gigabytes.
      const most = data.length;
      const bounds = { maxArrayLength: most, maxMapLength: most, maxStrLength: most, maxBinLength: most };
      value = decode(data, { extensionCodec: EXTENSIONS, useBigInt64: true, ...bounds });
    } catch (error) {
      if (error instanceof DecodeError) throw error;
      throw new DecodeError("corrupt", `no MessagePack: ${(error as Error).message}`, { cause: error });
    }
    value = narrowed(value);
    return this.#revive === undefined ? value : revived(value, this.#revive);
  }
}

/** MessagePack. Hooks as in {@link Hooks}, the rest as in {@link FramedOptions}. */
export class MsgpackCodec extends Framed {
  constructor(options: Omit<FramedOptions, "serializer"> & Hooks = {}) {
    super({ ...options, serializer: new MsgpackSerializer(options) });
  }
}
