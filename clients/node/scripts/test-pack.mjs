/**
 * Packs the package, installs the tarball in an empty project, and uses it there as both module systems and TypeScript
 * do. Needs a built package (`npm run test:pack` builds) and redis-server; the module is not needed.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const project = mkdtempSync(join(tmpdir(), "cacheflow-pack-"));
const run = (command, args, cwd = project) =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const server = spawn(process.env.CACHEFLOW_SERVER ?? "redis-server", ["--port", String(port), "--save", ""], {
  stdio: "ignore",
});

// Neither closes the cache: no timer and no connection of the cache's own may keep the process alive.
const use = `
  const client = new Redis(${String(port)}, "127.0.0.1");
  const cache = new CacheFlow({ client, namespace: "pack", local: true });
  await cache.ready();
  const get = () => cache.getOrSet({ key: "k", factory: () => ({ n: 1 }), ttl: "60s", tags: ["t"] });
  if ((await get()).n !== 1 || (await get()).n !== 1) throw new Error("no value");
  await cache.getOrSet({ key: "slow", factory: () => 1, ttl: "1h", hardTimeout: "1h" });
  const packed = new MsgpackCodec({ compress: lz4(), minSize: 0 }).encode("k", "x".repeat(100));
  if (packed[0] !== 0xcf || (await zstd()).id !== 1) throw new Error("no codecs");
  await client.quit();
`;
// They need what they integrate with. Their tests are elsewhere: here they are to share the package's own classes.
const integrations = {
  "cacheflow/keyv": "CacheFlowStore",
  "cacheflow/apollo": "responseCache",
  "cacheflow/bentocache": "cacheflowDriver",
};
const peers = ["keyv@5", "@apollo/server@5", "@apollo/utils.keyvaluecache@4", "graphql@16"];
try {
  const [{ filename, files }] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", project], root));
  const odd = files
    .map((file) => file.path)
    .filter((path) => !/^(dist\/|package\.json$|README\.md$|LICENSE$)/.test(path));
  if (odd.length > 0) throw new Error(`the tarball has ${odd.join(", ")}`);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", private: true }));
  run("npm", [
    "install",
    "--no-audit",
    "--no-fund",
    `./${filename}`,
    "@msgpack/msgpack@3",
    "lz4-napi@2",
    "@bokuweb/zstd-wasm@0.0.27",
    ...peers,
    "typescript@5.9",
    "@types/node@20",
    "@opentelemetry/api@1",
    "@types/express@5",
    "express@5",
    "fastify@5",
    "prom-client@15",
    "undici@7",
  ]);
  const names = {
    cacheflow: "CacheFlow",
    ioredis: "Redis",
    "cacheflow/msgpack": "MsgpackCodec",
    "cacheflow/lz4": "lz4",
    "cacheflow/zstd": "zstd",
  };
  const imports = Object.entries(names).map(([from, name]) => `import { ${name} } from "${from}";`);
  const requires = Object.entries(names).map(([from, name]) => `const { ${name} } = require("${from}");`);
  writeFileSync(join(project, "esm.mjs"), [...imports, use].join("\n"));
  writeFileSync(
    join(project, "cjs.cjs"),
    [...requires, `(async () => {${use}})().catch((error) => { console.error(error); process.exit(1); });`].join("\n"),
  );
  writeFileSync(
    join(project, "types.mts"),
    [...imports, `async function main(): Promise<void> {${use}}`, "void main;"].join("\n"),
  );
  writeFileSync(
    join(project, "types.cts"),
    [...imports, `async function main(): Promise<void> {${use}}`, "void main;"].join("\n"),
  );
  // No Redis: an error must be known for the cache's own by entries that were built apart. Express, Fastify, undici and
  // Next are there for their types alone; Next, which is large, is not.
  const frameworks = {
    "cacheflow/express": "httpCache as express",
    "cacheflow/fastify": "httpCache as fastify",
    "cacheflow/next": "nextCacheHandler",
    "cacheflow/otel": "instrument",
    "cacheflow/prom-client": "collect",
    "cacheflow/undici": "UndiciCacheStore",
  };
  const serve = `
    const cache = new CacheFlow({ url: "redis://127.0.0.1:1", namespace: "pack", timeout: 100 });
    const [untrace, uncount] = [instrument(cache), collect(cache)];
    if (typeof express(cache) !== "function" || typeof fastify !== "function") throw new Error("no middleware");
    const asked = { origin: "http://127.0.0.1", path: "/", method: "GET" };
    if ((await new UndiciCacheStore(cache).get(asked)) !== undefined) throw new Error("a response of nowhere");
    const handler = new (nextCacheHandler(() => cache))({ revalidatedTags: [], _requestHeaders: {} });
    if ((await handler.get("/", { kind: "PAGES", isFallback: false } as never)) !== null) throw new Error("a page");
    untrace();
    uncount();
    await cache.close();
  `;
  const unserved = serve.replace(" as never", "");
  const all = Object.entries({ cacheflow: "CacheFlow", ...frameworks });
  const imported = all.map(([from, name]) => `import { ${name} } from "${from}";`).join("\n");
  const required = all
    .map(([from, name]) => `const { ${name.replace(" as ", ": ")} } = require("${from}");`)
    .join("\n");
  writeFileSync(join(project, "entries.mjs"), `${imported}\n${unserved}`);
  writeFileSync(
    join(project, "entries.cjs"),
    `${required}\n(async () => {${unserved}})().catch((error) => { console.error(error); process.exit(1); });`,
  );
  for (const name of ["entries.mts", "entries.cts"]) {
    writeFileSync(join(project, name), `${imported}\nexport async function main(): Promise<void> {${serve}}`);
  }
  for (const program of ["entries.mjs", "entries.cjs"]) {
    execFileSync(process.execPath, [program], { cwd: project, stdio: "inherit", timeout: 30_000 });
    console.log(`${program}: works, and ends by itself`);
  }
  const check = ["tsc", "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"];
  run("npx", [...check, "true", "entries.mts", "entries.cts"]); // the frameworks' own types do not all pass
  const entries = [["cacheflow", "CacheFlow"], ["cacheflow", "ConfigError"], ...Object.entries(integrations)];
  const integrate = `
    const cache = new CacheFlow({ url: "redis://127.0.0.1:${String(port)}", namespace: "pack" });
    const store = new CacheFlowStore(cache);
    if (!(await store.set("a", 1)) || (await cache.get("a")) !== 1) throw new Error("another cache");
    const driver = cacheflowDriver({ cache });
    if (!(await driver.factory(driver.options).set("a", "1"))) throw new Error("no driver");
    if (typeof responseCache({ cache }).requestDidStart !== "function") throw new Error("no plugin");
    let error: unknown;
    try { new CacheFlowStore({ url: "redis://x", namespace: "a:b" }); } catch (thrown) { error = thrown; }
    if (!(error instanceof ConfigError)) throw new Error("another ConfigError");
    await cache.close();
  `;
  const untyped = integrate.replace("let error: unknown", "let error");
  const importing = entries.map(([from, name]) => `import { ${name} } from "${from}";`).join("\n");
  const requiring = entries.map(([from, name]) => `const { ${name} } = require("${from}");`).join("\n");
  const typed = `${importing}\nasync function main(): Promise<void> {${integrate}}\nvoid main;`;
  writeFileSync(join(project, "integrations.mjs"), `${importing}\n${untyped}`);
  writeFileSync(
    join(project, "integrations.cjs"),
    `${requiring}\n(async () => {${untyped}})().catch((error) => { console.error(error); process.exit(1); });`,
  );
  for (const file of ["integrations-types.mts", "integrations-types.cts"]) writeFileSync(join(project, file), typed);
  for (const program of ["esm.mjs", "cjs.cjs", "integrations.mjs", "integrations.cjs"]) {
    execFileSync(process.execPath, [program], { cwd: project, stdio: "inherit", timeout: 30_000 });
    console.log(`${program}: works, and ends by itself`);
  }
  const programs = ["types.mts", "types.cts", "integrations-types.mts", "integrations-types.cts"];
  run("npx", [...check, "false", ...programs]);
  console.log("types: of both module systems");
} finally {
  server.kill();
  rmSync(project, { recursive: true, force: true });
}
