/** Makes bytes of values and values of bytes. */
export interface Codec {
  /** The bytes to store under `key`, the full cache key; text stands for its UTF-8. @throws EncodeError */
  encode(key: string, value: unknown): Buffer | string;
  /** The value of bytes that were stored under `key`. @throws DecodeError */
  decode(key: string, data: Buffer): unknown;
}

/** One format of values. Errors are told without the key, which it does not know. */
export interface Serializer {
  /** Bits 0-1 of a frame's flags. */
  readonly id: number;
  /** @throws EncodeError */
  dumps(value: unknown): Buffer | string;
  /** @throws DecodeError */
  loads(data: Buffer): unknown;
}

/** One way of compressing. */
export interface Compressor {
  /** Bits 2-3 of a frame's flags. */
  readonly id: number;
  /** One whole frame of the compression's own. */
  compress(body: Buffer): Buffer;
  /** The body, of `limit` bytes at most. @throws DecodeError `corrupt`, `too_large` */
  decompress(data: Buffer, limit: number): Buffer;
}
