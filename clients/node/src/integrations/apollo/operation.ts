/** The names under which responses are kept, and what is remembered of operations. */
import { createHash } from "node:crypto";

/** For whom a response is: everybody without a session, everybody with one, or one session. */
export type Audience =
  { readonly kind: "anonymous" | "public" } | { readonly kind: "private"; readonly session: string };

/** Of what is stored under the keys: another form has other keys. */
const FORM = "1";

/** The same text for the same value, in whatever order its names are. */
function canonical(value: unknown): string {
  return JSON.stringify(value ?? null, (_name, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function digest(...parts: readonly string[]): string {
  const hash = createHash("sha256");
  // Lengths too, so that no two lists of parts make one text.
  for (const part of parts) hash.update(`${String(part.length)}:${part}`);
  return hash.digest("base64url");
}

/** What is asked, whoever asks: the document, and which of its operations. */
export function operationId(source: string, name: string | null | undefined): string {
  return digest(source, name ?? "");
}

/** The key of a response. Sessions are not told by it. */
export function responseKey(operation: string, variables: unknown, extra: unknown, audience: Audience): string {
  const whose = audience.kind === "private" ? audience.session : "";
  return `graphql:${digest(FORM, operation, canonical(variables), canonical(extra), audience.kind, whose)}`;
}

/** What the last execution of an operation was: of these scopes, or not to be cached. */
export type Habit = "PUBLIC" | "PRIVATE" | "none";

/** Operations of one process; the longest unused are forgotten, and found out again. */
export class Habits {
  readonly #known = new Map<string, Habit>();
  readonly #limit: number;

  constructor(limit = 10_000) {
    this.#limit = limit;
  }

  get(id: string): Habit | undefined {
    const habit = this.#known.get(id);
    if (habit !== undefined) this.set(id, habit);
    return habit;
  }

  set(id: string, habit: Habit): void {
    this.#known.delete(id);
    this.#known.set(id, habit);
    if (this.#known.size > this.#limit) this.#known.delete(this.#known.keys().next().value as string);
  }
}
