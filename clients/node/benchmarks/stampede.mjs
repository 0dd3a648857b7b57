/**
 * Four processes of 250 concurrent calls each on one cold key, with a factory of 200 ms: how often it runs, and when the
 * last call is answered. CacheFlow, beside bentocache (L2 and bus on Redis) and cache-manager (Keyv on Redis).
 *
 * `node stampede.mjs NAME PORT` is one of the processes.
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { sleep, startServer } from "./servers.mjs";

const PROCESSES = 4;
const CALLS = 250;
const FACTORY_MS = 200;

const libraries = {
  async cacheflow(port) {
    const { CacheFlow } = await import("../dist/index.js");
    const cache = new CacheFlow({ url: `redis://127.0.0.1:${port}`, namespace: "bench" });
    await cache.ready();
    return (key, factory) => cache.getOrSet({ key, factory, ttl: "60s" });
  },
  async bentocache(port) {
    const { BentoCache, bentostore } = await import("bentocache");
    const { redisBusDriver, redisDriver } = await import("bentocache/drivers/redis");
    const { memoryDriver } = await import("bentocache/drivers/memory");
    const connection = { host: "127.0.0.1", port };
    const store = bentostore()
      .useL1Layer(memoryDriver({ maxSize: "10mb" }))
      .useL2Layer(redisDriver({ connection }))
      .useBus(redisBusDriver({ connection }));
    const cache = new BentoCache({ default: "all", stores: { all: store } });
    await cache.get({ key: "warm" });
    return (key, factory) => cache.getOrSet({ key, factory, ttl: "60s" });
  },
  async "cache-manager"(port) {
    const [{ createCache }, { default: KeyvRedis }, { Keyv }] = await Promise.all([
      import("cache-manager"),
      import("@keyv/redis"),
      import("keyv"),
    ]);
    const cache = createCache({ stores: [new Keyv({ store: new KeyvRedis(`redis://127.0.0.1:${port}`) })] });
    await cache.get("warm");
    return (key, factory) => cache.wrap(key, factory, 60_000);
  },
};

async function child(name, port) {
  const get = await libraries[name](port);
  const redis = new Redis(port, "127.0.0.1");
  process.send("ready");
  process.once("message", async () => {
    const began = performance.now();
    const factory = async () => {
      await redis.incr("loads");
      await sleep(FACTORY_MS);
      return { n: 1 };
    };
    const values = await Promise.all(Array.from({ length: CALLS }, () => get("cold", factory)));
    if (values.some((value) => value.n !== 1)) throw new Error("a wrong value");
    process.send(performance.now() - began, () => process.exit(0));
  });
}

async function measure(name) {
  const server = await startServer();
  const self = fileURLToPath(import.meta.url);
  const children = Array.from({ length: PROCESSES }, () => fork(self, [name, String(server.port)]));
  const next = (one) => new Promise((resolve) => one.once("message", resolve));
  await Promise.all(children.map(next));
  const answers = children.map(next);
  for (const one of children) one.send("go");
  const last = Math.max(...(await Promise.all(answers)));
  const redis = new Redis(server.port, "127.0.0.1");
  const loads = await redis.get("loads");
  redis.disconnect();
  await server.stop();
  console.log(`${name}: ${loads} loads for ${PROCESSES * CALLS} calls, the last answered after ${last.toFixed(0)} ms`);
}

if (process.argv.length > 2) await child(process.argv[2], Number(process.argv[3]));
else for (const name of Object.keys(libraries)) await measure(name);
