/** Apollo Server: `cacheflow/apollo`. */
export { CacheFlowKeyValueCache, type KeyValueSetOptions } from "./apollo/key-value-cache.js";
export { responseCache, type ResponseCacheOptions } from "./apollo/response-cache.js";
export type { EntityId } from "./apollo/entities.js";
