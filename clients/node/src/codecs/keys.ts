/**
 * AES-256-GCM with keys that rotate: one writes, several read.
 *
 * To rotate: give every process the new key as readable, then make it the active one, then, when the longest TTL and
 * grace have passed, take the old one away. Nonces are random, 96 bits: with 2^32 values written under one key the
 * chance of a repeated nonce is 2^-33 (NIST SP 800-38D sets that bound), so rotate before.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { ConfigError, DecodeError, EncodeError } from "../errors.js";
import { begin, NONCE_BYTES, TAG_BYTES, type Header } from "./frame.js";

const KEY_BYTES = 32;
const ALGORITHM = "aes-256-gcm";

/** Keys by id. An id is 1 to 255 bytes in UTF-8 and stands, readable, in every value; a key is 32 random bytes. */
export class KeyRing {
  readonly #active: string;
  readonly #keys: ReadonlyMap<string, Buffer>;

  /** @throws ConfigError `bad_option` */
  constructor(active: string, keys: Readonly<Record<string, Uint8Array>>) {
    this.#keys = new Map(Object.entries(keys).map(([id, key]) => [id, Buffer.from(key)]));
    for (const [id, key] of this.#keys) {
      const length = Buffer.byteLength(id);
      if (length < 1 || length > 255) throw new ConfigError("bad_option", `a key id has 1 to 255 bytes: ${id}`);
      if (key.length !== KEY_BYTES) {
        throw new ConfigError("bad_option", `key ${id} has ${String(key.length)} bytes, not ${String(KEY_BYTES)}`);
      }
    }
    if (!this.#keys.has(active)) throw new ConfigError("bad_option", `the active key ${active} is not among the keys`);
    this.#active = active;
  }

  /** 32 bytes from the system's random source. */
  static generateKey(): Buffer {
    return randomBytes(KEY_BYTES);
  }

  /** The whole encrypted frame of a body, bound to the cache key. @throws EncodeError `bad_key` */
  seal(key: string, serializer: number, compression: number, body: Buffer | string): Buffer {
    if (!key.isWellFormed()) throw new EncodeError("bad_key", "a key with lone surrogates has no UTF-8");
    const start = begin(serializer, compression, this.#active);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#keys.get(this.#active) as Buffer, nonce);
    cipher.setAAD(Buffer.concat([start, Buffer.from(key)]));
    const sealed = typeof body === "string" ? cipher.update(body, "utf8") : cipher.update(body);
    return Buffer.concat([start, nonce, sealed, cipher.final(), cipher.getAuthTag()]);
  }

  /** The body of an encrypted frame. @throws DecodeError `unknown_key_id`, `decryption_failed`, `bad_key` */
  open(key: string, header: Header, data: Buffer): Buffer {
    const secret = this.#keys.get(header.keyId as string);
    if (secret === undefined) {
      throw new DecodeError("unknown_key_id", `encrypted with key ${JSON.stringify(header.keyId)}`);
    }
    if (!key.isWellFormed()) throw new DecodeError("bad_key", "a key with lone surrogates has no UTF-8");
    const at = header.body + NONCE_BYTES;
    const end = data.length - TAG_BYTES;
    const cipher = createDecipheriv(ALGORITHM, secret, data.subarray(header.body, at), { authTagLength: TAG_BYTES });
    cipher.setAAD(Buffer.concat([data.subarray(0, header.body), Buffer.from(key)]));
    cipher.setAuthTag(data.subarray(end));
    try {
      return Buffer.concat([cipher.update(data.subarray(at, end)), cipher.final()]);
    } catch (error) {
      throw new DecodeError("decryption_failed", "altered, or written for another cache key", { cause: error });
    }
  }
}
