import { ConfigError, DecodeError, EncodeError } from "../errors.js";
import type { Codec, Compressor, Serializer } from "./codec.js";
import { begin, JSON_ID, MAGIC, MAX_SIZE, parse } from "./frame.js";
import type { KeyRing } from "./keys.js";
import { JsonSerializer, RawSerializer, type Hooks } from "./serializers.js";

export interface FramedOptions {
  /** Writes; JSON unless named. */
  readonly serializer?: Serializer;
  /** From `cacheflow/zstd` or `cacheflow/lz4`. */
  readonly compress?: Compressor;
  /** Bytes of the serialized value from which on it is compressed, where that makes it smaller. 1024 unless named. */
  readonly minSize?: number;
  /** Every value is encrypted, and none is read that is not. */
  readonly keys?: KeyRing;
  /** What else is read: serializers and compressors that other processes write with. JSON and raw bytes always are. */
  readonly reads?: readonly (Serializer | Compressor)[];
  /** Bytes that a value may decompress to; larger ones are not compressed when written. 64 MiB unless named. */
  readonly maxSize?: number;
  /**
   * With keys: read unencrypted values too, for as long as encryption is being introduced. Meanwhile whoever can write
   * to the server can have any value believed.
   */
  readonly allowPlain?: boolean;
}

const SERIALIZERS = ["JSON", "MessagePack", "pickle", "raw bytes"];
const COMPRESSIONS = ["none", "zstd", "LZ4"];
const PICKLE_ID = 2;

function isSerializer(one: Serializer | Compressor): one is Serializer {
  return "dumps" in one;
}

/** A codec: serialized, then compressed, then encrypted. It reads whatever its parts can, however it writes. */
export class Framed implements Codec {
  readonly #serializer: Serializer;
  readonly #compressor: Compressor | undefined;
  readonly #serializers = new Map<number, Serializer>();
  readonly #compressors = new Map<number, Compressor>();
  readonly #keys: KeyRing | undefined;
  readonly #minSize: number;
  readonly #maxSize: number;
  readonly #readsPlain: boolean;

  /** @throws ConfigError `bad_option` */
  constructor(options: FramedOptions = {}) {
    this.#serializer = options.serializer ?? new JsonSerializer();
    this.#compressor = options.compress;
    this.#keys = options.keys;
    this.#minSize = options.minSize ?? 1024;
    this.#maxSize = options.maxSize ?? MAX_SIZE;
    if (this.#minSize < 0 || this.#maxSize < 1) {
      throw new ConfigError("bad_option", "minSize is 0 or more bytes, maxSize 1 or more");
    }
    this.#readsPlain = options.keys === undefined || options.allowPlain === true;
    const parts = [new JsonSerializer(), new RawSerializer(), ...(options.reads ?? []), this.#serializer];
    for (const part of this.#compressor === undefined ? parts : [...parts, this.#compressor]) {
      if (isSerializer(part)) this.#serializers.set(part.id, part);
      else this.#compressors.set(part.id, part);
    }
  }

  encode(key: string, value: unknown): Buffer | string {
    let body: Buffer | string;
    try {
      body = this.#serializer.dumps(value);
    } catch (error) {
      if (error instanceof EncodeError) throw new EncodeError(error.code, error.message, { key, cause: error.cause });
      throw error;
    }
    let compression = 0;
    if (this.#compressor !== undefined) {
      const whole = Buffer.from(body);
      if (whole.length >= this.#minSize && whole.length <= this.#maxSize) {
        const packed = this.#compressor.compress(whole);
        if (packed.length < whole.length) [body, compression] = [packed, this.#compressor.id];
      }
    }
    if (this.#keys !== undefined) return this.#keys.seal(key, this.#serializer.id, compression, body);
    if (this.#serializer.id === JSON_ID && compression === 0) return body;
    return Buffer.concat([begin(this.#serializer.id, compression), Buffer.from(body)]);
  }

  decode(key: string, data: Buffer): unknown {
    try {
      if (data[0] !== MAGIC) {
        if (!this.#readsPlain) throw new DecodeError("not_encrypted", "plain text, and the codec has keys");
        return this.#reader(JSON_ID).loads(data);
      }
      return this.#unframe(key, data);
    } catch (error) {
      if (error instanceof DecodeError) throw new DecodeError(error.code, error.message, { key, cause: error.cause });
      throw error;
    }
  }

  #unframe(key: string, data: Buffer): unknown {
    const header = parse(data);
    let body = data.subarray(header.body);
    if (header.keyId === undefined) {
      if (!this.#readsPlain) throw new DecodeError("not_encrypted", "a frame in the clear, and the codec has keys");
    } else {
      if (this.#keys === undefined) throw new DecodeError("no_keys", `encrypted with key ${header.keyId}`);
      body = this.#keys.open(key, header, data);
    }
    const reader = this.#reader(header.serializer); // first: what may not be read is not decompressed
    if (header.compression !== 0) {
      const compressor = this.#compressors.get(header.compression);
      if (compressor === undefined) {
        const name = COMPRESSIONS[header.compression] as string;
        throw new DecodeError("library_missing", `compressed by ${name}, which the codec was not given`);
      }
      body = compressor.decompress(body, this.#maxSize);
    }
    return reader.loads(body);
  }

  #reader(id: number): Serializer {
    const reader = this.#serializers.get(id);
    if (reader !== undefined) return reader;
    const name = SERIALIZERS[id] as string;
    if (id === PICKLE_ID) throw new DecodeError("bad_serializer", `${name}, which only Python reads`);
    throw new DecodeError("library_missing", `serialized as ${name}, which the codec was not given`);
  }
}

/** The default codec: JSON. Hooks as in {@link Hooks}, the rest as in {@link FramedOptions}. */
export class JsonCodec extends Framed {
  constructor(options: Omit<FramedOptions, "serializer"> & Hooks = {}) {
    super({ ...options, serializer: new JsonSerializer(options) });
  }
}

/** Bytes as they are, in a frame. */
export class RawCodec extends Framed {
  constructor(options: Omit<FramedOptions, "serializer"> = {}) {
    super({ ...options, serializer: new RawSerializer() });
  }
}
