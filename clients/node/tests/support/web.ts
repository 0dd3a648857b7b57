/** Applications of one behaviour in each framework, behind the cache, on a port of their own. */
import express, { type Request } from "express";
import express4 from "express4";
import { fastify, type FastifyRequest } from "fastify";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { request as send } from "undici";
import type { CacheFlow } from "../../src/index.js";
import { httpCache as expressCache } from "../../src/integrations/express.js";
import { httpCache as fastifyCache } from "../../src/integrations/fastify.js";
import type { HttpOptions } from "../../src/integrations/http/policy.js";

/** How the application answers; the framework's own means are left to the tests of its adapter. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface Site {
  /** What the application does; it counts its calls. */
  handler: Handler;
  calls: number;
  ask(path: string, headers?: Record<string, string>, method?: string): Promise<Answer>;
  readonly url: string;
  stop(): Promise<void>;
}

export type Framework = "express 4" | "express 5" | "fastify";

/** Answers `answer <n>` with the headers. */
export function plain(site: () => Site, headers: Record<string, string | string[]> = {}, status = 200): Handler {
  return (_, response) => {
    response.writeHead(status, { "content-type": "text/plain", ...headers });
    response.end(`answer ${String(site().calls)}`);
  };
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

async function serve(
  framework: Framework,
  cache: CacheFlow,
  options: HttpOptions<never>,
  run: Handler,
): Promise<{ url: string; stop: () => Promise<void> }> {
  const failed = (response: ServerResponse, error: unknown): void => {
    if (response.headersSent) return;
    response.statusCode = 500;
    response.end(String(error));
  };
  if (framework === "fastify") {
    const app = fastify({ routerOptions: { maxParamLength: 2000 } });
    await app.register(fastifyCache, { cache, ...(options as HttpOptions<FastifyRequest>) });
    app.all("/items/:id", (request, reply) => {
      reply.hijack();
      void Promise.resolve(run(request.raw, reply.raw)).catch((error: unknown) => {
        failed(reply.raw, error);
      });
    });
    return { url: await app.listen({ port: 0, host: "127.0.0.1" }), stop: () => app.close() };
  }
  const app = framework === "express 4" ? express4() : express();
  app.all("/items/:id", expressCache(cache, options as HttpOptions<Request>), (request, response) => {
    void Promise.resolve(run(request, response)).catch((error: unknown) => {
      failed(response, error);
    });
  });
  const server = createServer(app);
  const url = await listen(server);
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => {
        resolve();
      });
      server.closeAllConnections();
    });
  return { url, stop };
}

export async function site(framework: Framework, cache: CacheFlow, options: HttpOptions<never> = {}): Promise<Site> {
  const run: Handler = (request, response) => {
    self.calls += 1;
    return self.handler(request, response);
  };
  const { url, stop } = await serve(framework, cache, options, run);
  const self: Site = {
    calls: 0,
    handler: plain(() => self),
    url,
    stop,
    async ask(path, headers = {}, method = "GET") {
      const answer = await send(url + path, { method: method as "GET", headers });
      return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
    },
  };
  return self;
}
