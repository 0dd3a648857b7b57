/**
 * Zstandard (RFC 8878), by the package `@bokuweb/zstd-wasm`: the entry point `cacheflow/zstd`.
 *
 * The library allocates what a frame says that it becomes, and reads several frames in a row. So a frame is looked
 * through here first: that it is one and whole, and what it becomes at the most. That takes a look at each block's
 * header, three bytes of up to 128 KiB.
 */
import { compress, decompress, init } from "@bokuweb/zstd-wasm";
import { ConfigError, DecodeError } from "../errors.js";
import type { Compressor } from "./codec.js";
import { ZSTD_ID } from "./frame.js";

const MAGIC = 0xfd2fb528;
const BLOCK_MAX = 128 * 1024;
/** The library's name for "the output does not fit" (ZSTD_error_dstSize_tooSmall). */
const TOO_SMALL = "-70";

function corrupt(why: string, cause?: unknown): DecodeError {
  return new DecodeError("corrupt", `the zstd frame: ${why}`, { cause });
}

/** What a frame states to become, or what it can become at the most. @throws DecodeError `corrupt` */
function sizeOf(data: Buffer): { size: number; stated: boolean } {
  const need = (end: number): void => {
    if (end > data.length) throw corrupt("it breaks off");
  };
  need(6);
  if (data.readUInt32LE(0) !== MAGIC) throw corrupt("it is none");
  const descriptor = data[4] as number;
  const single = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const dictionary = [0, 1, 2, 4][descriptor & 3] as number;
  let at = 5 + (single ? 0 : 1) + dictionary;
  const width = sizeFlag === 0 ? (single ? 1 : 0) : 1 << sizeFlag;
  need(at + width);
  let stated = -1;
  if (width === 1) stated = data[at] as number;
  else if (width === 2) stated = data.readUInt16LE(at) + 256;
  else if (width === 4) stated = data.readUInt32LE(at);
  else if (width === 8) stated = Number(data.readBigUInt64LE(at));
  at += width;
  let most = 0;
  for (let last = false; !last;) {
    need(at + 3);
    const header = data.readUIntLE(at, 3);
    const size = header >> 3;
    const type = (header >> 1) & 3;
    last = (header & 1) === 1;
    // Raw, run-length (one byte, `size` times), compressed.
    most += type === 2 ? BLOCK_MAX : size;
    at += 3 + (type === 1 ? 1 : size);
    need(at);
  }
  at += (descriptor & 4) !== 0 ? 4 : 0;
  need(at);
  if (at !== data.length) throw corrupt("bytes after its end");
  return stated < 0 ? { size: most, stated: false } : { size: stated, stated: true };
}

/** Level 1 is quick, 3 the default, 19 small and slow. Await it once: the library is WebAssembly. */
export async function zstd({ level = 3 }: { level?: number } = {}): Promise<Compressor> {
  if (!Number.isInteger(level) || level < 1 || level > 22) throw new ConfigError("bad_option", "a level is 1 to 22");
  await init();
  return {
    id: ZSTD_ID,
    compress: (body) => Buffer.from(compress(body, level)),
    decompress: (data, limit) => {
      const { size, stated } = sizeOf(data);
      const tooLarge = new DecodeError("too_large", `decompresses to more than ${String(limit)} bytes`);
      if (stated && size > limit) throw tooLarge;
      try {
        return Buffer.from(decompress(data, { defaultHeapSize: Math.max(1, Math.min(size, limit)) }));
      } catch (error) {
        if (!stated && size > limit && (error as Error).message.includes(TOO_SMALL)) throw tooLarge;
        throw corrupt((error as Error).message, error);
      }
    },
  };
}
