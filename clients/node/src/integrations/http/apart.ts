/**
 * A request of nobody's, to run the application for what is stored while its client has long been answered.
 *
 * It looks like the original: method, headers but for conditions, and where it came from. What is sent in answer goes
 * nowhere, and ends as responses end, so that whatever listens to `finish` and `close` is told.
 */
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { Writable } from "node:stream";

/** Conditions are the cache's to answer: what is stored is whole, whoever asked first. */
export const CONDITIONS = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"];

const ours = new WeakSet<IncomingMessage>();

/** Whether a request was made here. */
export function isApart(request: IncomingMessage): boolean {
  return ours.has(request);
}

export interface Apart {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Ends it: nobody wants the rest. */
  readonly abandon: () => void;
}

export function apart(original: IncomingMessage, url: string): Apart {
  const socket = new Socket();
  // Copied: a socket that is closed no longer says them. One of its own: who destroys it must not meet the client's.
  const { remoteAddress, remotePort, remoteFamily, localAddress, localPort } = original.socket;
  const encrypted = (original.socket as { encrypted?: boolean }).encrypted;
  const said = { remoteAddress, remotePort, remoteFamily, localAddress, localPort, encrypted };
  for (const [name, value] of Object.entries(said)) Object.defineProperty(socket, name, { value });

  const request = new IncomingMessage(socket);
  request.method = original.method;
  request.url = url;
  request.httpVersion = "1.1";
  [request.httpVersionMajor, request.httpVersionMinor] = [1, 1];
  const wanted = (name: string): boolean => !CONDITIONS.includes(name.toLowerCase()) && !name.startsWith(":");
  request.headers = Object.fromEntries(Object.entries(original.headers).filter(([name]) => wanted(name)));
  const raw = original.rawHeaders;
  request.rawHeaders = raw.filter((_, at) => wanted(raw[at - (at % 2)] as string));
  request.push(null);
  request.complete = true;
  ours.add(request);

  const response = new ServerResponse(request);
  const sink = new Writable({
    write(_chunk, _encoding, callback) {
      callback();
    },
  });
  response.assignSocket(sink as unknown as Socket);
  const abandon = (): void => {
    sink.destroy();
  };
  response.once("finish", abandon);
  return { request, response, abandon };
}
