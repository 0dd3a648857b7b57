/** The README's quickstart, as it stands there, against a server. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import ts from "typescript";
import * as cacheflow from "../src/index.js";
import { TestServer } from "./support/servers.js";

type Run = (
  CacheFlow: typeof cacheflow.CacheFlow,
  loadUser: (id: number) => Promise<unknown>,
  loadProfile: (id: number) => Promise<unknown>,
) => Promise<{ user: unknown; cache: cacheflow.CacheFlow }>;

it("runs", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const block = /```ts\nimport \{ CacheFlow \} from "cacheflow";\n([\s\S]*?)```/.exec(readme)?.[1];
  expect(block).toBeDefined();
  const server = await TestServer.start();
  try {
    const source = (block as string).replace("redis://localhost:6379", server.url);
    const program = `(async (CacheFlow, loadUser, loadProfile) => {${source}; return { user, cache }; })`;
    const { outputText } = ts.transpileModule(program, { compilerOptions: { target: ts.ScriptTarget.ES2022 } });
    const run = (0, eval)(outputText) as Run;
    const loaded: string[] = [];
    const load = (what: string) => (id: number) => {
      loaded.push(`${what} ${String(id)}`);
      return Promise.resolve({ id });
    };
    const { user, cache } = await run(cacheflow.CacheFlow, load("user"), load("profile"));
    expect(user).toEqual({ id: 42 });
    expect(loaded).toEqual(["user 42", "profile 42"]);
    expect(await cache.get("user:42")).toBeUndefined();
    expect((await cache.meta("nightly"))?.leaseMs ?? 0).toBe(0);
    await cache.close();
  } finally {
    await server.stop();
  }
});
