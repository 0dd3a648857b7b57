import { EncodeError } from "../errors.js";

/** What to write in place of a value that the format has none for; `undefined` refuses it. */
export type Replace = (value: object | bigint) => unknown;

const MAX_DEPTH = 1000;

function kind(value: unknown): string {
  if (typeof value !== "object" || value === null) return typeof value;
  const { constructor } = value as { constructor?: { name?: string } };
  return constructor?.name ?? "an object";
}

function isPlainObject(value: object): value is Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * The check before a value is serialized: that it will come back as it is. JSON.stringify makes text of a Date, `{}` of
 * a Map and null of a NaN, which nobody notices until the value is served from the cache for the first time.
 *
 * A property that is undefined is left out, and reads as undefined again. `atom` says what a format has beyond JSON.
 */
export class Plain {
  readonly #format: string;
  readonly #replace: Replace | undefined;
  readonly #atom: (value: unknown) => boolean;

  constructor(format: string, replace: Replace | undefined, atom: (value: unknown) => boolean = () => false) {
    this.#format = format;
    this.#replace = replace;
    this.#atom = atom;
  }

  /** The value with the hook applied where it must be; copied only where that is so. @throws EncodeError */
  check(value: unknown): unknown {
    return this.#check(value, "value", 0, false);
  }

  #check(value: unknown, path: string, depth: number, replaced: boolean): unknown {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value;
      case "number":
        if (Number.isFinite(value) || this.#atom(value)) return value;
        throw new EncodeError("not_encodable", `${String(value)} has no place in ${this.#format} (${path})`);
      case "object":
        if (value === null) return value;
        if (depth > MAX_DEPTH) throw new EncodeError("not_encodable", "nested too deep, or in a cycle");
        if (Array.isArray(value)) return this.#array(value, path, depth);
        if (isPlainObject(value)) return this.#object(value, path, depth);
    }
    if (this.#atom(value)) return value;
    if (this.#replace !== undefined && !replaced && (typeof value === "object" || typeof value === "bigint")) {
      const instead = this.#replace(value as object | bigint);
      if (instead !== undefined) return this.#check(instead, path, depth + 1, true);
    }
    throw new EncodeError(
      "unsupported_type",
      `${kind(value)} would not come back from ${this.#format} as it is (${path}): convert it, or give the codec ` +
        "`replace` and its inverse, `revive`",
    );
  }

  #array(value: unknown[], path: string, depth: number): unknown[] {
    let copy: unknown[] | undefined;
    for (let at = 0; at < value.length; at += 1) {
      const item = this.#check(value[at], path, depth + 1, false);
      if (item !== value[at] && !Number.isNaN(item)) (copy ??= value.slice())[at] = item;
    }
    return copy ?? value;
  }

  #object(value: Record<string, unknown>, path: string, depth: number): Record<string, unknown> {
    let copy: Record<string, unknown> | undefined;
    for (const name of Object.keys(value)) {
      const before = value[name];
      if (before === undefined) continue;
      const item = this.#check(before, `${path}.${name}`, depth + 1, false);
      if (item !== before && !Number.isNaN(item)) (copy ??= { ...value })[name] = item;
    }
    return copy ?? value;
  }
}
