/**
 * Redis is killed under load and started again two seconds later: how many calls of getOrSet were answered, what the
 * outage added to their time, and when Redis was used again.
 */
import { CacheFlow } from "../dist/index.js";
import { sleep, startServer } from "./servers.mjs";

const CALLERS = 20;
const server = await startServer();
const cache = new CacheFlow({ url: `redis://127.0.0.1:${server.port}`, namespace: "bench" });
await cache.ready();

const calls = [];
let running = true;
let failed = 0;
async function caller(id) {
  for (let n = 0; running; n += 1) {
    const at = performance.now();
    try {
      const { source } = await cache.getOrSetEntry({ key: `k${(id * 7 + n) % 50}`, factory: () => n, ttl: "60s" });
      calls.push({ at, took: performance.now() - at, source });
    } catch {
      failed += 1;
    }
    await sleep(2);
  }
}
const callers = Array.from({ length: CALLERS }, (_, id) => caller(id));
await sleep(1500);
const killed = performance.now();
await server.kill();
await sleep(2000);
await server.start();
const back = performance.now();
await sleep(3000);
running = false;
await Promise.all(callers);

const p99 = (some) => some.map(({ took }) => took).toSorted((a, b) => a - b)[Math.floor(some.length * 0.99)];
const before = p99(calls.filter(({ at }) => at < killed));
const during = p99(calls.filter(({ at }) => at >= killed && at < back));
const again = calls.find(({ at, source }) => at >= back && source === "redis");
console.log(`${calls.length} calls answered, ${failed} failed`);
console.log(
  `p99 before ${before.toFixed(1)} ms, while it was down ${during.toFixed(1)} ms: ${(during - before).toFixed(1)} ms more (aim: at most the timeout, 500 ms)`,
);
console.log(`used again ${(again.at - back).toFixed(0)} ms after it was back (aim 2000 ms)`);
await cache.close();
await server.stop();
