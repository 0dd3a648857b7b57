/**
 * A cache of responses in Express 4 and 5, as a shared cache of RFC 9111.
 *
 *     app.use(httpCache(cache, { ttl: "1m", grace: "5m" }));
 *     app.get("/products/:id", httpCache(cache, { ttl: "10m", tags: "product:{id}" }), (req, res) => { … });
 *
 * What stands before it runs for every request, and its headers are its own; what stands behind runs where there is
 * nothing stored.
 */
import type { Application, Request, RequestHandler } from "express";
import type { CacheFlow } from "../cache.js";
import type { HttpOptions } from "./http/policy.js";
import { HttpCache } from "./http/serving.js";

export { addTags } from "./http/policy.js";
export { surrogateKey, uriTag } from "./http/names.js";
export type { HttpOptions } from "./http/policy.js";

function root(app: Application): Application {
  // Express sets it where an application is mounted on another, and does not say so in its types.
  const { parent } = app as { parent?: Application };
  return parent === undefined ? app : root(parent);
}

/** The host that the client asked for: behind a proxy that is trusted, as that says. Express 4 says it without the port. */
function hostOf(request: Request): string {
  const trusts = request.app.get("trust proxy fn") as (address: string | undefined, hop: number) => boolean;
  const forwarded = request.get("x-forwarded-host");
  const believed = forwarded !== undefined && trusts(request.socket.remoteAddress, 0);
  return (believed ? forwarded.split(",", 1)[0]?.trim() : request.get("host")) ?? "";
}

/** A middleware, for all of an application, a router, or one route. @throws ConfigError `bad_option`, `bad_duration` */
export function httpCache(cache: CacheFlow, options: HttpOptions<Request> = {}): RequestHandler {
  const http = new HttpCache(cache, options);
  return (request, response, next) => {
    http.serve({
      subject: request,
      request,
      response,
      target: {
        method: request.method,
        scheme: request.protocol,
        host: hostOf(request),
        url: request.originalUrl,
      },
      before: () => response.getHeaders(),
      parameters: () => request.params,
      narrow: (query, wanted) => {
        const only = (url: string): string => `${url.split("?", 1)[0] as string}${query && "?"}${query}`;
        request.url = only(request.url);
        request.originalUrl = only(request.originalUrl);
        // Express 4 has parsed it by now; 5 does so when it is asked.
        const parsed = Object.getOwnPropertyDescriptor(request, "query")?.value as Record<string, unknown> | undefined;
        for (const name of Object.keys(parsed ?? {})) {
          if (!wanted.has(name)) Reflect.deleteProperty(parsed as object, name);
        }
      },
      next: () => {
        next();
      },
      take: () => undefined,
      rerun: (again, answer) => {
        root(request.app)(again as Request, answer as typeof response);
      },
    });
  };
}
