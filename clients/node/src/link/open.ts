import { ConfigError } from "../errors.js";
import { IoredisLink, type IoredisClient } from "./ioredis.js";
import type { Link } from "./link.js";
import { NodeRedisLink, type NodeRedisClient, type NodeRedisCluster } from "./node-redis.js";

/** A connected client of ioredis (Redis, Cluster) or node-redis (createClient, createCluster). */
export type RedisClient = IoredisClient | NodeRedisClient | NodeRedisCluster;

function isIoredis(client: RedisClient): client is IoredisClient {
  return "status" in client && "isCluster" in client;
}

/** The adapter for a client. */
export function adapt(client: RedisClient): Link {
  if (isIoredis(client)) return new IoredisLink(client);
  if (typeof client.sendCommand === "function" && "isOpen" in client && typeof client.duplicate === "function") {
    return new NodeRedisLink(client);
  }
  throw new ConfigError("bad_option", "client is neither an ioredis nor a node-redis client");
}
