/**
 * What a response is made of, as tags: `User` for the types that its fields return, `User:42` for the objects in it.
 *
 * They are taken while the operation is executed, from the objects that resolvers return: the client need not have
 * asked for their ids, nor for `__typename`. A type counts by being asked for, so that a list that is empty is found
 * by its type when the first one is made.
 */
import type { GraphQLFieldResolverParams } from "@apollo/server";
import type { GraphQLOutputType, GraphQLSchema } from "graphql";

/** The id of an object of a type; undefined where it has none. */
export type EntityId = (type: string, object: Readonly<Record<string, unknown>>) => string | number | undefined;

/** An interface with more types than this is tagged with its own name alone. */
const POSSIBLE_TYPES = 32;
/** Without importing graphql: of two copies of it in one process, the one refuses the other's types. */
const named = new WeakMap<GraphQLOutputType, readonly string[]>();

export const idField: EntityId = (_type, object) => {
  const { id } = object;
  return typeof id === "string" || typeof id === "number" ? id : undefined;
};

/** The names of the types that may come from a field of this type; none for scalars and enums. */
function typesOf(type: GraphQLOutputType, schema: GraphQLSchema): readonly string[] {
  const known = named.get(type);
  if (known !== undefined) return known;
  let inner = type;
  while ("ofType" in inner) inner = inner.ofType;
  let names: string[] = [];
  if ("getFields" in inner || "getTypes" in inner) {
    const possible = "resolveType" in inner ? schema.getPossibleTypes(inner) : [];
    names = [inner.name, ...(possible.length > POSSIBLE_TYPES ? [] : possible.map((one) => one.name))];
  }
  named.set(type, names);
  return names;
}

/** The tags of one operation, which `see` is told the fields of. */
export class Entities {
  readonly tags = new Set<string>();
  readonly #seen = new WeakSet<object>();
  readonly #id: EntityId;

  constructor(id: EntityId) {
    this.#id = id;
  }

  /** Before a field is resolved; what it answers is to be told the value. */
  see<T>({
    source,
    info,
  }: GraphQLFieldResolverParams<unknown, T>): ((error: unknown, value?: unknown) => void) | undefined {
    for (const name of typesOf(info.returnType, info.schema)) {
      if (!name.startsWith("__")) this.tags.add(name);
    }
    const { parentType, schema } = info;
    if (parentType === schema.getQueryType() || parentType.name.startsWith("__")) return undefined;
    if (typeof source === "object" && source !== null && !this.#seen.has(source)) {
      this.#seen.add(source);
      this.#add(parentType.name, this.#id(parentType.name, source as Record<string, unknown>));
    }
    // The id may be the resolver's own.
    if (info.fieldName !== "id") return undefined;
    return (error, value) => {
      if (error === null && (typeof value === "string" || typeof value === "number")) this.#add(parentType.name, value);
    };
  }

  #add(type: string, id: string | number | undefined): void {
    this.tags.add(type);
    if (id !== undefined) this.tags.add(`${type}:${String(id)}`);
  }
}
