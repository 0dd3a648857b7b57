/**
 * What a hit costs: getOrSet beside ioredis' bare GET of the same JSON, one after the other and 32 at a time, and a hit
 * of the level in the process. The two alternate in short slices, so that both meet the same moments of the machine;
 * the ratio is of the medians.
 */
import { CacheFlow } from "../dist/index.js";
import { createRequire } from "node:module";
import { startServer } from "./servers.mjs";

const { Redis } = createRequire(new URL("../package.json", import.meta.url))("ioredis");
const SLICES = Number(process.env.SLICES ?? 60);
const CALLS = 2048;
const KEYS = 64;
const value = { id: 42, name: "Ada Lovelace", roles: ["admin", "author"], active: true };

const server = await startServer();
const redis = new Redis(server.port, "127.0.0.1");
const cache = new CacheFlow({ client: redis, namespace: "shop" });
const level = new CacheFlow({ client: redis, namespace: "shop", local: true });
const frozen = new CacheFlow({ client: redis, namespace: "shop", local: { share: true } });
await Promise.all([level.ready(), frozen.ready()]);
const wanted = Array.from({ length: KEYS }, (_, n) => ({
  key: `user:${n}`,
  factory: () => value,
  ttl: "1h",
  tags: ["users"],
}));
for (const one of wanted) {
  await redis.set(`plain:${one.key}`, JSON.stringify(value));
  await cache.getOrSet(one);
  for (const each of [level, frozen]) while ((await each.getOrSetEntry(one)).source !== "l1");
}

async function slice(work, concurrency) {
  let call = 0;
  const worker = async () => {
    for (let n = 0; n < CALLS / concurrency; n += 1) await work(call++ % KEYS);
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: concurrency }, worker));
  return ((performance.now() - began) * 1000) / CALLS;
}

const median = (times) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];

async function compare(works, concurrency) {
  const times = Object.fromEntries(Object.keys(works).map((name) => [name, []]));
  for (let n = 0; n < SLICES + 5; n += 1) {
    for (const [name, work] of Object.entries(works)) {
      const took = await slice(work, concurrency);
      if (n >= 5) times[name].push(took); // the first ones are the compiler's
    }
  }
  return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)]));
}

for (const concurrency of [1, 32]) {
  const times = await compare(
    { get: (n) => redis.get(`plain:user:${n}`), hit: (n) => cache.getOrSet(wanted[n]) },
    concurrency,
  );
  const at = concurrency === 1 ? "one after the other" : `${concurrency} at a time`;
  console.log(
    `getOrSet hit, ${at}: ${times.hit.toFixed(1)} µs, ioredis GET ${times.get.toFixed(1)} µs: ${(times.hit / times.get).toFixed(2)}x (aim 1.3x)`,
  );
}
const local = await compare({ copy: (n) => level.getOrSet(wanted[n]), share: (n) => frozen.getOrSet(wanted[n]) }, 1);
console.log(`L1 hit: ${local.copy.toFixed(2)} µs, shared ${local.share.toFixed(2)} µs (aim 2 µs)`);

await Promise.all([cache, level, frozen].map((one) => one.close()));
redis.disconnect();
await server.stop();
