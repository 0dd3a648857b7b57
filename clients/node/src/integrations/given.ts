import { CacheFlow } from "../cache.js";
import type { CacheFlowOptions } from "../options.js";

/** The cache that an integration works on, and whether it is the integration's to close. */
export interface Given {
  readonly cache: CacheFlow;
  readonly owned: boolean;
}

/** A cache of the application's, or one that is made here of its options. @throws ConfigError for the options */
export function given(cache: CacheFlow | CacheFlowOptions): Given {
  // Not by its class: a process may have loaded the package as both kinds of module.
  return "getOrSet" in cache ? { cache, owned: false } : { cache: new CacheFlow(cache), owned: true };
}
