/** CacheFlow for Node: the README has the quickstart. */
export { CacheFlow, type Abortable, type Stats } from "./cache.js";
export type { AutoTtl, CacheFlowOptions, LocalOptions, Ttl } from "./options.js";
export type { Duration } from "./duration.js";
export type { Entry, Factory, GetOrSetOptions, LoadOptions, Source } from "./request.js";
export { ManyContext, type GetOrSetManyOptions, type ManyLoader, type ManyValues } from "./many.js";
export { LoadContext } from "./context.js";
export type { InvalidateOptions, SetOptions, Targets } from "./writer.js";
export { Lock, type LockOptions } from "./lock.js";
export type { Wrapped, WrapOptions } from "./wrap.js";
export { EVENT_NAMES, type CacheEvent, type EventName, type Listener } from "./events.js";
export type { Capabilities, Meta } from "./store/store.js";
export type { RedisClient } from "./link/open.js";
export type { Codec, Compressor, Serializer } from "./codecs/codec.js";
export { Framed, JsonCodec, RawCodec, type FramedOptions } from "./codecs/framed.js";
export { JsonSerializer, RawSerializer, type Hooks } from "./codecs/serializers.js";
export type { Replace } from "./codecs/plain.js";
export { KeyRing } from "./codecs/keys.js";
export {
  CacheFlowError,
  CancelledError,
  ConfigError,
  DecodeError,
  EncodeError,
  InvalidationError,
  LockError,
  ServerError,
  Unavailable,
} from "./errors.js";
