/**
 * A plugin that caches whole responses of queries, by their cacheControl hints.
 *
 * ```
 * query ─ habit "none" ────────────────────────────────────▶ executed, past the cache
 *   └─ getOrSet ─ there is one, or somebody else computes it ▶ that one
 *        └─ elected: the factory hands its lease to this request
 *             executed, its objects noted as tags ──────────▶ stored under the lease, or given up
 * ```
 *
 * The lease is taken before the first resolver runs. So one request executes an operation that many want, and a
 * response is not stored if one of its tags was invalidated while it was being made.
 *
 * Only the execution tells whether a response may be cached, and for whom. What the last one of an operation told is
 * its habit, by which the next request asks. It is a guess that costs time when it is wrong: a private response is never
 * stored for more than its session.
 */
import type { ApolloServerPlugin, BaseContext, GraphQLRequestContext, GraphQLRequestListener } from "@apollo/server";
import type { CacheFlow } from "../../cache.js";
import type { LoadContext } from "../../context.js";
import type { Duration } from "../../duration.js";
import { Entities, idField, type EntityId } from "./entities.js";
import { Habits, operationId, responseKey, type Audience } from "./operation.js";

type Awaitable<T> = T | Promise<T>;

export interface ResponseCacheOptions<C extends BaseContext = BaseContext> {
  readonly cache: CacheFlow;
  /**
   * Who asks: what is private (`scope: PRIVATE`) is kept by it. Null: nobody in particular; then what is private is not
   * cached. Without: always null.
   */
  readonly sessionId?: ((request: GraphQLRequestContext<C>) => Awaitable<string | null>) | undefined;
  /** What a response depends on besides document, operation name, variables and session: a language, a tenant. JSON. */
  readonly extraCacheKeyData?: ((request: GraphQLRequestContext<C>) => unknown) | undefined;
  /** Whether it may be answered from the cache. Yes unless named. */
  readonly shouldReadFromCache?: ((request: GraphQLRequestContext<C>) => Awaitable<boolean>) | undefined;
  /** Whether the response may be stored. Yes unless named. */
  readonly shouldWriteToCache?: ((request: GraphQLRequestContext<C>) => Awaitable<boolean>) | undefined;
  /** After maxAge: served stale for so long, while one request computes it anew. The cache's own unless named. */
  readonly grace?: Duration | undefined;
  /** The id of an object, for its tag. The field `id` unless named. */
  readonly entityId?: EntityId | undefined;
  /** Before each tag of a type or an object: tags are shared by all who use the server. Nothing unless named. */
  readonly tagPrefix?: string | undefined;
  /** More tags of a response. */
  readonly tags?: ((request: GraphQLRequestContext<C>) => readonly string[]) | undefined;
  /**
   * A response with more tags is not cached, for to leave one out would be to miss its invalidation. 256 unless named,
   * which is what a server takes unless told (`cacheflow.max-tags-per-entry`).
   */
  readonly maxTags?: number | undefined;
}

/** A response as it is stored. */
interface Stored {
  readonly data: Record<string, unknown>;
  readonly maxAge: number;
  readonly scope: "PUBLIC" | "PRIVATE";
  /** Unix time in ms. */
  readonly at: number;
}

/** A lease that one request holds while it is executed. */
interface Held {
  readonly context: LoadContext<Stored | undefined>;
  /** Stores what the context says, or not. */
  finish(response: Stored | undefined): void;
  fail(error: unknown): void;
}

/** An operation that had errors, to others who waited for its response: they execute it themselves. */
class NotCached extends Error {}

/** Gives the lease up; others who waited for the response execute the operation themselves. */
function skip(held: Held): void {
  held.context.skip();
  held.finish(undefined);
}

export function responseCache<C extends BaseContext>(options: ResponseCacheOptions<C>): ApolloServerPlugin<C> {
  const { cache, entityId = idField, tagPrefix = "", maxTags = 256 } = options;
  const habits = new Habits();
  /** Leases by their requests, which Apollo gives up without a word to their listeners when a plugin throws. */
  const leases = new WeakMap<GraphQLRequestContext<C>, Held>();

  /** The response, or undefined: then the request is to be executed, and holds the lease, if there is one. */
  async function ask(request: GraphQLRequestContext<C>, key: string, read: boolean): Promise<Stored | undefined> {
    let held: Held | undefined;
    let elected!: () => void;
    const election = new Promise<void>((resolve) => (elected = resolve));
    const factory = (context: LoadContext<Stored | undefined>): Promise<Stored | undefined> =>
      new Promise((finish, fail) => {
        held = { context, finish, fail };
        leases.set(request, held);
        elected();
      });
    const load = { key, factory, grace: options.grace };
    const answer = read ? cache.getOrSet(load) : cache.refresh(load);
    const told = answer.catch((error: unknown) => {
      if (!(error instanceof NotCached)) request.logger.warn(`cacheflow: a response was not cached: ${String(error)}`);
      return undefined;
    });
    const found = await Promise.race([told, election]);
    // With a stale value comes a lease, if it is this request that is to replace it.
    return held === undefined ? (found ?? undefined) : undefined;
  }

  /** The stored response of an operation whose habit is not known here: of whichever audience it is. */
  async function look(keys: readonly string[]): Promise<Stored | undefined> {
    const found = await cache.getMany<Stored>(keys);
    return keys.map((key) => found.get(key)).find((one) => one !== undefined);
  }

  function serve(request: GraphQLRequestContext<C>, found: Stored): void {
    request.overallCachePolicy.replace({ maxAge: found.maxAge, scope: found.scope });
    request.metrics.responseCacheHit = true;
    // The head of a batch is shared by its operations.
    if (request.requestIsBatched) return;
    request.response.http.headers.set("age", String(Math.max(0, Math.round((Date.now() - found.at) / 1000))));
  }

  /** What is to be stored of a response, with the habit that it shows. */
  async function settle(
    request: GraphQLRequestContext<C>,
    operation: string,
    session: string | null,
    audience: Audience | undefined,
    entities: Entities | undefined,
  ): Promise<void> {
    const held = leases.get(request);
    const { body } = request.response;
    const failed = body?.kind === "single" && (body.singleResult.errors?.length ?? 0) > 0;
    const data = body?.kind === "single" ? body.singleResult.data : undefined;
    const policy = request.overallCachePolicy.policyIfCacheable();
    // An error says nothing of what the operation is otherwise.
    if (!failed) habits.set(operation, policy === null || data == null ? "none" : policy.scope);
    if (held === undefined) return;
    const fits = audience?.kind === "private" ? session !== null : policy?.scope === "PUBLIC";
    if (failed) {
      held.fail(new NotCached());
      return;
    }
    // Where another plugin answered nothing was executed, and nothing is known of what the answer is made of.
    if (data == null || policy === null || !fits || entities === undefined) {
      skip(held);
      return;
    }
    const allowed = (await options.shouldWriteToCache?.(request)) ?? true;
    const names = [...entities.tags].map((name) => tagPrefix + name);
    const tags = new Set([...names, ...(options.tags?.(request) ?? [])]);
    if (tags.size > maxTags) {
      request.logger.warn(
        `cacheflow: a response of ${String(tags.size)} tags was not cached; maxTags is ${String(maxTags)}`,
      );
    }
    if (!allowed || tags.size > maxTags) {
      skip(held);
      return;
    }
    held.context.ttl = policy.maxAge * 1000;
    held.context.tags = [...tags];
    // Scalars may have left what only JSON.stringify makes text of, as it will for the client.
    const text = JSON.parse(JSON.stringify(data)) as Record<string, unknown>;
    held.finish({ data: text, ...policy, at: Date.now() });
  }

  function listen(): GraphQLRequestListener<C> {
    let operation: string | undefined;
    let session: string | null = null;
    let audience: Audience | undefined;
    let entities: Entities | undefined;
    let hit = false;
    return {
      async responseForOperation(request) {
        const kind: string = request.operation.operation;
        if (kind !== "query") return null;
        operation = operationId(request.source, request.operationName);
        session = (await options.sessionId?.(request)) ?? null;
        const habit = habits.get(operation);
        if (habit === "none" || (habit === "PRIVATE" && session === null)) return null;
        const extra = options.extraCacheKeyData?.(request);
        const { variables } = request.request;
        const id = operation;
        const keyFor = (whom: Audience): string => responseKey(id, variables, extra, whom);
        const read = (await options.shouldReadFromCache?.(request)) ?? true;
        const shared: Audience = { kind: session === null ? "anonymous" : "public" };
        const own: Audience | undefined = session === null ? undefined : { kind: "private", session };
        let found: Stored | undefined;
        if (habit === undefined && own !== undefined && read) found = await look([keyFor(own), keyFor(shared)]);
        if (found === undefined) {
          audience = habit === "PRIVATE" && own !== undefined ? own : shared;
          found = await ask(request, keyFor(audience), read);
        }
        if (found === undefined) return null;
        hit = true;
        habits.set(operation, found.scope);
        serve(request, found);
        return { body: { kind: "single", singleResult: { data: found.data } }, http: request.response.http };
      },
      executionDidStart(request) {
        if (!leases.has(request)) return Promise.resolve();
        const seen = (entities = new Entities(entityId));
        return Promise.resolve({ willResolveField: (field) => seen.see(field) });
      },
      async willSendResponse(request) {
        if (operation === undefined || hit) return;
        try {
          await settle(request, operation, session, audience, entities);
        } catch (error) {
          leases.get(request)?.fail(error);
          throw error;
        }
      },
    };
  }

  return {
    requestDidStart: () => Promise.resolve(listen()),
    unexpectedErrorProcessingRequest({ requestContext, error }) {
      leases.get(requestContext)?.fail(error);
      return Promise.resolve();
    },
  };
}
