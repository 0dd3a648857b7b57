/**
 * A cache of responses in Fastify 5, as a shared cache of RFC 9111.
 *
 *     await app.register(httpCache, { cache, ttl: "1m", grace: "5m" });
 *     app.get("/products/:id", { config: { httpCache: { ttl: "10m", tags: "product:{id}" } } }, handler);
 *     app.get("/me", { config: { httpCache: false } }, handler);
 *
 * Of the routes that are added after it. It stands last among the preHandler hooks, so that those before it (whoever is
 * allowed what) run for every request; handler and onSend hooks run where there is nothing stored.
 */
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest, preHandlerHookHandler } from "fastify";
import type { OutgoingHttpHeaders } from "node:http";
import type { CacheFlow } from "../cache.js";
import type { HttpOptions } from "./http/policy.js";
import { HttpCache } from "./http/serving.js";

export { addTags } from "./http/policy.js";
export { surrogateKey, uriTag } from "./http/names.js";
export type { HttpOptions } from "./http/policy.js";

export type FastifyCacheOptions = HttpOptions<FastifyRequest> & { readonly cache: CacheFlow };

declare module "fastify" {
  interface FastifyContextConfig {
    /** Over the plugin's; false: not cached. */
    httpCache?: HttpOptions<FastifyRequest> | false;
  }
}

function hook(app: FastifyInstance, http: HttpCache<FastifyRequest>): preHandlerHookHandler {
  return (request, reply, done) => {
    const { raw } = reply;
    http.serve({
      subject: request,
      request: request.raw,
      response: raw,
      target: {
        method: request.method,
        scheme: request.protocol,
        host: request.host,
        url: request.originalUrl,
      },
      before: () => ({ ...(reply.getHeaders() as OutgoingHttpHeaders) }),
      parameters: () => request.params as Record<string, unknown>,
      narrow: (query, wanted) => {
        const { raw: message } = request;
        message.url = `${(message.url ?? "/").split("?", 1)[0] as string}${query && "?"}${query}`;
        const parsed = request.query as Record<string, unknown>;
        for (const name of Object.keys(parsed)) if (!wanted.has(name)) Reflect.deleteProperty(parsed, name);
      },
      next: () => {
        done();
      },
      take: () => {
        // Fastify keeps what hooks have set until it sends, which it will not.
        for (const [name, value] of Object.entries(reply.getHeaders())) {
          if (value !== undefined) raw.setHeader(name, value);
        }
        reply.hijack();
      },
      rerun: (again, answer) => {
        app.routing(again, answer);
      },
    });
  };
}

function install(app: FastifyInstance, { cache, ...options }: FastifyCacheOptions): void {
  const common = new HttpCache<FastifyRequest>(cache, options);
  app.addHook("onRoute", (route) => {
    const own = route.config?.httpCache;
    if (own === false) return;
    const http = own === undefined ? common : new HttpCache<FastifyRequest>(cache, { ...options, ...own });
    const before = route.preHandler ?? [];
    route.preHandler = [...(Array.isArray(before) ? before : [before]), hook(app, http)];
  });
}

// What is thrown is the rejection of `register`; past a callback it would be nobody's.
const plugin: FastifyPluginAsync<FastifyCacheOptions> = (app, options) =>
  new Promise((resolve) => {
    install(app, options);
    resolve();
  });

/** The plugin. Its options are `cache` and those of {@link HttpOptions}. `register` rejects with ConfigError. */
export const httpCache: FastifyPluginAsync<FastifyCacheOptions> = Object.assign(plugin, {
  // What fastify-plugin sets: the hook is for the routes of who registers it, not for an encapsulated nobody.
  [Symbol.for("skip-override")]: true,
  [Symbol.for("fastify.display-name")]: "cacheflow",
});
