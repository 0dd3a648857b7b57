/**
 * What a caller can meet. Each error has a code that does not change and the key, tag or lock that it is about.
 *
 * Codes are lower case, the same in every CacheFlow client, and part of the interface: metrics count by them.
 * Messages may change. What a factory throws is not among these: it passes through as it is.
 */
export class CacheFlowError extends Error {
  override readonly name: string = "CacheFlowError";
  /** A short fixed name. */
  readonly code: string;
  /** The full cache key (or tag, namespace, lock); `""` where there is none. */
  readonly key: string;

  constructor(code: string, message: string, options: { key?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.key = options.key ?? "";
  }
}

/**
 * Redis did not answer, or said that it cannot.
 *
 * Codes: `connection` (refused, reset, closed), `timeout`, `breaker_open` (not even asked), `closed` (this cache
 * was), and what servers say while they cannot serve: `loading`, `readonly`, `masterdown`, `clusterdown`, `tryagain`,
 * `unblocked`.
 */
export class Unavailable extends CacheFlowError {
  override readonly name = "Unavailable";
}

/**
 * The server refused the command. The code is the first word of its answer in lower case: `wrongtype`, `noperm`,
 * `oom`, `toobig`, `toomanytags`, `err`.
 */
export class ServerError extends CacheFlowError {
  override readonly name = "ServerError";
}

/**
 * An invalidation that is not known to be done everywhere: readers may still see what it was to remove.
 *
 * Codes: `partial` (some primaries have it, and the server goes on trying by itself), else those of its `cause`.
 */
export class InvalidationError extends CacheFlowError {
  override readonly name = "InvalidationError";
  /** The tags, namespaces (as `@name`) or keys. */
  readonly targets: readonly string[];
  /** Whether this client goes on trying. */
  readonly queued: boolean;

  constructor(code: string, message: string, targets: readonly string[], queued: boolean, cause: unknown) {
    super(code, message, { key: targets[0], cause });
    this.targets = targets;
    this.queued = queued;
  }
}

/** Codes: `locked` (held by somebody else for as long as we would wait), `lost` (it ran out or was taken meanwhile). */
export class LockError extends CacheFlowError {
  override readonly name = "LockError";
}

/** Arguments that make no sense. Codes: `bad_duration`, `bad_option`, `no_stale_value`. */
export class ConfigError extends CacheFlowError {
  override readonly name = "ConfigError";
}

/** The caller's signal was aborted (code `aborted`, its reason is the `cause`), or its hard timeout passed (`timeout`). */
export class CancelledError extends CacheFlowError {
  override readonly name = "CancelledError";
}

/**
 * A value that cannot be written as it is: nothing was stored.
 *
 * Codes: `unsupported_type` (it would not come back as it was), `not_encodable` (of a supported type, and yet not: a
 * NaN, a cycle), `bad_key` (the key is not Unicode text).
 */
export class EncodeError extends CacheFlowError {
  override readonly name = "EncodeError";
}

/**
 * Bytes that are no value that this codec may read.
 *
 * Codes: `truncated`, `bad_version`, `bad_flags`, `bad_serializer` (pickle, which only Python reads), `corrupt`,
 * `too_large` (more than `maxSize` when decompressed), `not_encrypted`, `no_keys` (encrypted, and the codec has no
 * key ring), `unknown_key_id`, `decryption_failed` (altered, or moved from another cache key), `bad_key`,
 * `library_missing` (serialized or compressed by what the codec was not given).
 */
export class DecodeError extends CacheFlowError {
  override readonly name = "DecodeError";
}

/** Server errors that say "not now" rather than "not like this": they count for the breaker. */
const NOT_NOW = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|UNBLOCKED)\b/;
/** How server errors begin: a word in capitals. Client libraries do not all have a class for them. */
const REPLY = /^[A-Z][A-Z0-9]+\b/;

/** Whether a command failed because the server does not know it. */
export function isUnknownCommand(error: unknown): boolean {
  return error instanceof Error && /^ERR unknown command/i.test(error.message);
}

/** Whatever a client library threw, as an error of ours. */
export function classify(error: unknown, key?: string): CacheFlowError {
  if (error instanceof CacheFlowError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const word = (/^[A-Z0-9]+/.exec(message)?.[0] ?? "").toLowerCase();
  if (NOT_NOW.test(message)) return new Unavailable(word, message, { key, cause: error });
  const reply = error instanceof Error && (error.name === "ReplyError" || error.constructor.name === "SimpleError");
  if (reply || (word.length > 1 && REPLY.test(message))) return new ServerError(word, message, { key, cause: error });
  return new Unavailable("connection", message, { key, cause: error });
}
