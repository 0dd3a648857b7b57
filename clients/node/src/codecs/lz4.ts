/**
 * LZ4's frame format, by the package `lz4-napi`: the entry point `cacheflow/lz4`.
 *
 * The library decompresses whatever it is given, to whatever size. So a frame is looked through here first: that it is
 * one and whole, and what it becomes, which its blocks say in the lengths of their sequences.
 */
import { compressFrameSync, decompressFrameSync } from "lz4-napi";
import { DecodeError } from "../errors.js";
import type { Compressor } from "./codec.js";
import { LZ4_ID } from "./frame.js";

const MAGIC = 0x184d2204;
const UNCOMPRESSED = 0x80000000;

function corrupt(why: string, cause?: unknown): DecodeError {
  return new DecodeError("corrupt", `the LZ4 frame: ${why}`, { cause });
}

/** What a block becomes: the sum of its literals and matches. */
function blockSize(data: Buffer, from: number, end: number): number {
  let size = 0;
  let at = from;
  const length = (start: number): number => {
    let sum = start;
    if (start !== 15) return sum;
    for (let byte = 255; byte === 255;) {
      if (at >= end) throw corrupt("a block breaks off");
      byte = data[at++] as number;
      sum += byte;
    }
    return sum;
  };
  while (at < end) {
    const token = data[at++] as number;
    const literals = length(token >> 4);
    size += literals;
    at += literals;
    if (at > end) throw corrupt("a block breaks off");
    if (at === end) break; // the last sequence has no match
    at += 2;
    size += length(token & 15) + 4;
  }
  return size;
}

/** What a frame becomes. @throws DecodeError `corrupt` */
function sizeOf(data: Buffer, limit: number): number {
  const need = (end: number): void => {
    if (end > data.length) throw corrupt("it breaks off");
  };
  need(7);
  if (data.readUInt32LE(0) !== MAGIC) throw corrupt("it is none");
  const flags = data[4] as number;
  let at = 7 + ((flags & 8) !== 0 ? 8 : 0) + ((flags & 1) !== 0 ? 4 : 0);
  let size = 0;
  for (;;) {
    need(at + 4);
    const header = data.readUInt32LE(at);
    at += 4;
    if (header === 0) break;
    const length = header >= UNCOMPRESSED ? header - UNCOMPRESSED : header;
    need(at + length);
    size += header >= UNCOMPRESSED ? length : blockSize(data, at, at + length);
    if (size > limit) return size;
    at += length + ((flags & 16) !== 0 ? 4 : 0);
  }
  at += (flags & 4) !== 0 ? 4 : 0;
  need(at);
  if (at !== data.length) throw corrupt("bytes after its end");
  return size;
}

export function lz4(): Compressor {
  return {
    id: LZ4_ID,
    compress: (body) => compressFrameSync(body),
    decompress: (data, limit) => {
      if (sizeOf(data, limit) > limit) {
        throw new DecodeError("too_large", `decompresses to more than ${String(limit)} bytes`);
      }
      try {
        return decompressFrameSync(data);
      } catch (error) {
        throw corrupt((error as Error).message, error);
      }
    },
  };
}
