/**
 * The frame around a value that is not plain JSON text.
 *
 * ```
 * byte    0      1      2       3 …
 *       +------+------+-------+--------------------------------------------------------+
 *       | 0xCF | 0x01 | flags | body                                       (bit 4 = 0) |
 *       +------+------+-------+-----+--------+------------+----------------------------+
 *       | 0xCF | 0x01 | flags | len | key id | nonce (12) | ciphertext, tag (16)  (= 1) |
 *       +------+------+-------+-----+--------+------------+----------------------------+
 *
 * flags   7  6  5 |     4     | 3   2       | 1   0
 *         0  0  0 | encrypted | compression | serializer
 * ```
 *
 * 0xCF begins no JSON text, so one look at the first byte tells the two apart. The body is serialized, then
 * compressed, then encrypted. Every byte before the nonce is authenticated, and the full cache key.
 */
import { isUtf8 } from "node:buffer";
import { DecodeError } from "../errors.js";

export const MAGIC = 0xcf;
export const VERSION = 0x01;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
const HEADER_BYTES = 3;

export const JSON_ID = 0;
export const MSGPACK_ID = 1;
export const RAW_ID = 3;
export const ZSTD_ID = 1;
export const LZ4_ID = 2;
const ENCRYPTED = 0x10;
const RESERVED = 0xe0;

/** Bytes that a body may decompress to, unless the codec is told otherwise. */
export const MAX_SIZE = 64 * 1024 * 1024;

export interface Header {
  readonly serializer: number;
  readonly compression: number;
  readonly keyId: string | undefined;
  /** Where what follows begins: the nonce if there is a key id, else the body. */
  readonly body: number;
}

/** The bytes before a body, or before its nonce where a key id is given. */
export function begin(serializer: number, compression: number, keyId?: string): Buffer {
  const flags = serializer | (compression << 2);
  if (keyId === undefined) return Buffer.from([MAGIC, VERSION, flags]);
  const name = Buffer.from(keyId);
  return Buffer.concat([Buffer.from([MAGIC, VERSION, flags | ENCRYPTED, name.length]), name]);
}

/** The header of bytes that begin with 0xCF. @throws DecodeError `truncated`, `bad_version`, `bad_flags` */
export function parse(data: Buffer): Header {
  if (data.length < HEADER_BYTES) throw new DecodeError("truncated", `a frame of ${String(data.length)} bytes`);
  if (data[1] !== VERSION) throw new DecodeError("bad_version", `version ${String(data[1])} of the frame`);
  const flags = data[2] as number;
  const [serializer, compression] = [flags & 3, (flags >> 2) & 3];
  if ((flags & RESERVED) !== 0 || compression === 3) {
    throw new DecodeError("bad_flags", `flags 0x${flags.toString(16)}`);
  }
  if ((flags & ENCRYPTED) === 0) return { serializer, compression, keyId: undefined, body: HEADER_BYTES };
  const body = HEADER_BYTES + 1 + (data[HEADER_BYTES] ?? 0);
  if (data.length < body + NONCE_BYTES + TAG_BYTES) {
    throw new DecodeError("truncated", `an encrypted frame of ${String(data.length)} bytes`);
  }
  const name = data.subarray(HEADER_BYTES + 1, body);
  if (!isUtf8(name)) throw new DecodeError("bad_flags", "the key id is not UTF-8");
  return { serializer, compression, keyId: name.toString(), body };
}
