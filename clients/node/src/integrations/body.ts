/** Bytes in values that every codec writes: as text where they are UTF-8, which is short and can be read, else base64. */
import { isUtf8 } from "node:buffer";

export type Body = { readonly body: string } | { readonly body64: string };

export function textOf(bytes: Buffer): Body {
  return isUtf8(bytes) ? { body: bytes.toString("utf8") } : { body64: bytes.toString("base64") };
}

/** The bytes again; none where neither is there. */
export function bytesOf({ body, body64 }: { readonly body?: unknown; readonly body64?: unknown }): Buffer {
  if (typeof body === "string") return Buffer.from(body, "utf8");
  return Buffer.from(typeof body64 === "string" ? body64 : "", "base64");
}
