/**
 * One run of the application, whose response is held until it is known what becomes of it.
 *
 *     Content-Length within the bound, or the first bytes are all ──▶ complete, once the last byte is there
 *          a stream (no length and more to come), or too long     ──▶ passing: it goes to the client as it comes
 *
 * Held are the calls that send: writeHead, write, end, flushHeaders of the very response that the application has. What
 * other middleware put upon them, before or after, goes on to work, for the calls are never put back: released, they do
 * what they did before.
 */
import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Response } from "./stored.js";
import * as rules from "./rules.js";

type Callback = (error?: Error | null) => void;
type Encoding = BufferEncoding | Callback | null;

/** After the client has left, the application may take so long, in ms: what it computes is wanted by the next one. */
const LEFT = 30_000;

/** The client left, and with it the response that others waited for too. */
export class Left extends Error {
  override readonly name = "Left";
}

/** Sends a response, over the headers that are there. */
export function deliver(response: ServerResponse, { status, headers, body }: Response): void {
  const named = new Map<string, string[]>();
  for (const [name, value] of headers) named.set(name, [...(named.get(name) ?? []), value]);
  for (const [name, list] of named) response.setHeader(name, list.length === 1 ? (list[0] as string) : list);
  response.statusCode = status;
  // HTTP/2 has none, and warns of those who set it.
  if (response.statusMessage) response.statusMessage = "";
  response.end(body);
}

function bytes(chunk: unknown, encoding: Encoding | undefined): Buffer {
  if (typeof chunk === "string") return Buffer.from(chunk, typeof encoding === "string" ? encoding : "utf8");
  return Buffer.from(chunk as Uint8Array);
}

export class Run {
  /** Rejects with {@link Left}. */
  readonly decided: Promise<void>;
  status = 0;
  /** All that the response has. */
  headers: rules.Headers = {};
  body: Buffer = Buffer.alloc(0);
  passing = false;
  complete = false;
  readonly #response: ServerResponse;
  readonly #method: string;
  readonly #most: number;
  /** Headers that the response had before the application ran. */
  readonly #before: OutgoingHttpHeaders;
  readonly #chunks: { readonly chunk: Buffer; readonly callback: Callback | undefined }[] = [];
  #size = 0;
  #length: number | undefined;
  #started = false;
  #released = false;
  #flush = false;
  #drain = false;
  #decide!: () => void;
  #fail!: (error: Left) => void;

  /** @param most bytes of a body that is held; 0: every response is passing once its headers are there */
  constructor(request: IncomingMessage, response: ServerResponse, before: OutgoingHttpHeaders, most: number) {
    this.#response = response;
    this.#method = request.method ?? "GET";
    this.#most = most;
    this.#before = before;
    this.decided = new Promise((resolve, reject) => {
      this.#decide = resolve;
      this.#fail = reject;
    });
    this.#hold();
    response.once("close", () => {
      this.#left();
    });
  }

  #left(): void {
    if (this.complete || this.passing) return;
    const fail = (): void => {
      this.#fail(new Left("the client left before the response was there"));
    };
    // What streams into a closed response has been told so, and ends.
    if (this.#started) fail();
    else setTimeout(fail, LEFT).unref();
  }

  // --- holding -------------------------------------------------------------------------------
  #hold(): void {
    const response = this.#response;
    const writeHead = response.writeHead.bind(response) as (...args: readonly unknown[]) => ServerResponse;
    const write = response.write.bind(response) as (...args: readonly unknown[]) => boolean;
    const end = response.end.bind(response) as (...args: readonly unknown[]) => ServerResponse;
    const flushHeaders = response.flushHeaders.bind(response);
    const state = { configurable: true, enumerable: false };
    Object.defineProperties(response, {
      headersSent: { ...state, get: () => this.#started },
      writableEnded: { ...state, get: () => this.complete },
    });
    response.writeHead = (...args: readonly unknown[]): ServerResponse => {
      if (this.#released) return writeHead(...args);
      this.#head(args);
      return response;
    };
    response.flushHeaders = () => {
      if (!this.#released) {
        this.#begin();
        this.#flush = true;
        this.#pass();
        return;
      }
      flushHeaders();
    };
    response.write = (chunk: unknown, encoding?: Encoding, callback?: Callback): boolean => {
      if (this.#released) return write(chunk, encoding, callback);
      this.#write(chunk, encoding, typeof encoding === "function" ? encoding : callback);
      this.#drain = this.passing;
      return !this.passing;
    };
    response.end = (chunk?: unknown, encoding?: Encoding, callback?: Callback): ServerResponse => {
      if (this.#released) return end(chunk, encoding, callback);
      const done = [chunk, encoding, callback].find((argument) => typeof argument === "function");
      if (done !== undefined) response.once("finish", done as () => void);
      this.#finish(typeof chunk === "function" ? undefined : chunk, encoding);
      return response;
    };
  }

  /** Of writeHead(status[, message][, headers]); headers are a mapping or a flat list. */
  #head([status, ...rest]: readonly unknown[]): void {
    if (this.#started) return;
    const response = this.#response;
    response.statusCode = Number(status);
    const [message] = rest;
    if (typeof message === "string") response.statusMessage = message;
    const headers = typeof message === "string" ? rest[1] : message;
    if (Array.isArray(headers)) {
      const flat = headers as readonly OutgoingHttpHeader[];
      for (let at = 0; at + 1 < flat.length; at += 2) response.removeHeader(String(flat[at]));
      for (let at = 0; at + 1 < flat.length; at += 2) {
        response.appendHeader(String(flat[at]), flat[at + 1] as string | readonly string[]);
      }
    } else if (typeof headers === "object" && headers !== null) {
      for (const [name, value] of Object.entries(headers as OutgoingHttpHeaders)) {
        if (value !== undefined) response.setHeader(name, value);
      }
    }
    this.#started = true;
    this.status = response.statusCode;
    this.headers = { ...response.getHeaders() };
    const length = rules.first(this.headers, "content-length");
    if (length !== undefined && /^\d+$/.test(length)) this.#length = Number(length);
    const kind = (rules.first(this.headers, "content-type") ?? "").split(";")[0]?.trim().toLowerCase();
    // Of HEAD the length is another's, and a stream of events has no end.
    const tooLong = this.#length !== undefined && this.#length > this.#most && this.#method !== "HEAD";
    if (tooLong || this.#most === 0 || kind === "text/event-stream" || this.headers.trailer !== undefined) this.#pass();
  }

  /** The headers, by whatever writeHead has become: middleware listens there for the last moment to set some. */
  #begin(): void {
    if (!this.#started) this.#response.writeHead(this.#response.statusCode);
  }

  #pass(): void {
    this.passing = true;
    this.#decide();
  }

  #write(chunk: unknown, encoding: Encoding | undefined, callback: Callback | undefined): void {
    this.#begin();
    this.#take(chunk, encoding, callback);
    if (this.#length === undefined || this.#size > this.#most) this.#pass();
  }

  #take(chunk: unknown, encoding: Encoding | undefined, callback: Callback | undefined): void {
    const taken = bytes(chunk, encoding);
    this.#size += taken.length;
    // Who writes the next chunk when this one is written must not wait for the last.
    if (callback !== undefined && !this.passing) process.nextTick(callback);
    this.#chunks.push({ chunk: taken, callback: this.passing ? callback : undefined });
  }

  #finish(chunk: unknown, encoding: Encoding | undefined): void {
    if (this.complete) return;
    this.#begin();
    if (chunk !== undefined && chunk !== null) this.#take(chunk, encoding, undefined);
    this.complete = true;
    if (this.#size > this.#most) this.#pass();
    if (this.passing) return;
    this.body = Buffer.concat(this.#chunks.map((held) => held.chunk));
    this.#decide();
  }

  // --- letting go ----------------------------------------------------------------------------
  /** Names of the headers that this run set. */
  get kept(): string[] {
    const text = (value: OutgoingHttpHeader | readonly string[] | undefined): string => JSON.stringify(value ?? null);
    return Object.keys(this.headers).filter((name) => text(this.headers[name]) !== text(this.#before[name]));
  }

  #release(): void {
    this.#released = true;
    const response = this.#response as { headersSent?: boolean; writableEnded?: boolean };
    delete response.headersSent;
    delete response.writableEnded;
  }

  /** Gives the client what came, and what is still to come. */
  forward(): void {
    if (this.#released) return;
    this.#release();
    const response = this.#response;
    if (this.#flush) response.flushHeaders();
    for (const { chunk, callback } of this.#chunks.splice(0)) {
      if (callback === undefined) response.write(chunk);
      else response.write(chunk, callback);
    }
    if (this.complete) response.end();
    else if (this.#drain) process.nextTick(() => response.emit("drain"));
  }

  /** Gives the client this, in place of what was held. */
  replace(outgoing: Response): void {
    if (this.#released) return;
    this.#release();
    const response = this.#response;
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    for (const [name, value] of Object.entries(this.#before)) {
      if (value !== undefined) response.setHeader(name, value);
    }
    deliver(response, outgoing);
  }
}
