/**
 * The key of a request, and tags as header values.
 *
 *     http:GET:https://shop.example/products?page=2&sort=name#<digest>!
 *
 * The digest is of the headers that the response varies by; "!" stands for requests with credentials, which share only
 * what is said to be for everybody. So no request ever finds what was stored for the other kind. Long keys end in a
 * digest of all. Braces are encoded: in a cluster they would choose the slot, and it is clients who write the query.
 */
import { createHash } from "node:crypto";
import { values, type Headers } from "./rules.js";

/** Characters of a key, past which it is a digest. */
const LONGEST = 400;
const LONGEST_PATH = 256;
/** What encodeURIComponent encodes, and a header may have. */
const SAFE = /%(?:23|24|26|2B|2F|3A|3B|3D|3F|40|5B|5D)/g;

/** Where a request is directed, as the framework sees it: behind proxies it trusts what they say. */
export interface Target {
  readonly method: string;
  readonly scheme: string;
  readonly host: string;
  /** Path and query, as the client sent them. */
  readonly url: string;
}

export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 40);
}

/**
 * A tag as it stands in Surrogate-Key and Cache-Tag, and is to be purged by: what separates tags there, and what no
 * header may have, is percent-encoded.
 */
export function surrogateKey(tag: string): string {
  return encodeURIComponent(tag.toWellFormed()).replace(SAFE, (code) => decodeURIComponent(code));
}

/** Tags that the application named in such a header. */
export function surrogateTags(said: readonly string[]): string[] {
  return said
    .join(" ")
    .split(/[\s,]+/)
    .filter((tag) => tag !== "")
    .map((tag) => {
      try {
        return decodeURIComponent(tag);
      } catch {
        return tag; // a bare percent sign: it was not encoded
      }
    });
}

function split(url: string): [path: string, query: string] {
  // A proxy may be asked with the whole address (RFC 9112, 3.2.2).
  const local = url.startsWith("/") ? url : url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?]*/i, "") || "/";
  const at = local.indexOf("?");
  return at < 0 ? [local, ""] : [local.slice(0, at) || "/", local.slice(at + 1)];
}

/** The tag that every stored response of a path has, whatever its query: what unsafe methods invalidate. */
export function uriTag(host: string, path: string): string {
  return `uri:${host.toLowerCase()}${path.length <= LONGEST_PATH ? path : `~${digest(path)}`}`;
}

/** The same, of a request. */
export function tagOf({ host, url }: Target): string {
  return uriTag(host, split(url)[0]);
}

function parameterName(part: string): string {
  const name = (part.split("=", 1)[0] as string).replaceAll("+", " ");
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // nobody can have named it
  }
}

/**
 * The query in the order of its names, those that are wanted alone. Values of one name keep their order, which says
 * something.
 */
export function queryOf(url: string, wanted: ReadonlySet<string> | undefined): string {
  const parts = split(url)[1]
    .split("&")
    .filter((part) => part !== "" && (wanted === undefined || wanted.has(parameterName(part))));
  const name = (part: string): string => part.split("=", 1)[0] as string;
  // By code unit, and stable: the same on every machine.
  return parts.sort((a, b) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0)).join("&");
}

/** Whether a request is of somebody in particular. */
export function bearsCredentials(
  sent: Headers,
  headers: readonly string[],
  cookies: ReadonlySet<string> | undefined,
): boolean {
  if (headers.some((name) => sent[name] !== undefined)) return true;
  const text = values(sent, "cookie").join("; ");
  if (text === "" || cookies === undefined) return text !== "";
  return text.split(/[;,]/).some((pair) => cookies.has((pair.split("=", 1)[0] as string).trim()));
}

/** The cache key of a GET or HEAD. `query` as queryOf gives it, `vary` in lower case. */
export function keyOf(
  target: Target,
  query: string,
  headers: Headers,
  vary: Iterable<string>,
  credentials: boolean,
): string {
  let text = `${target.scheme}://${target.host.toLowerCase()}${split(target.url)[0]}`;
  if (query !== "") text += `?${query}`;
  text = text.replaceAll("{", "%7B").replaceAll("}", "%7D");
  const varied = [...vary].sort();
  if (varied.length > 0) {
    const said = varied.map(
      (name) =>
        `${name}=${values(headers, name)
          .map((value) => value.trim())
          .join(",")}`,
    );
    text += `#${digest(said.join("\0"))}`;
  }
  if (credentials) text += "!";
  if (text.length > LONGEST) text = `${text.slice(0, 100)}~${digest(text)}`;
  return `http:${target.method}:${text}`;
}
