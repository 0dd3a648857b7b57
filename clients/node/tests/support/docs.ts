/**
 * The examples of a page in docs/node, run as they stand: all of its blocks marked `ts`, one after the other, in one
 * scope. `expression; // → value` is checked. Blocks marked otherwise are not ours, and are not run.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../", import.meta.url);
const BLOCK = /^```ts\n(.*?)^```$/gms;
const IMPORT = /^import .*? from "[^"]+";$|^import "[^"]+";$/gms;
const CHECKED = /^(\s*)(.+); \/\/ → (.+)$/gm;

const { exports } = JSON.parse(readFileSync(new URL("package.json", ROOT), "utf8")) as { exports: object };
const SOURCES: Record<string, string> = {
  cacheflow: "src/index.ts",
  ...Object.fromEntries(["msgpack", "zstd", "lz4"].map((name) => [`cacheflow/${name}`, `src/codecs/${name}.ts`])),
};

/** Where the source of an entry point is. */
function source(entry: string): string {
  const name = entry.replace("cacheflow", ".");
  if (!Object.keys(exports).includes(name)) throw new Error(`the package has no ${entry}`);
  return fileURLToPath(new URL(SOURCES[entry] ?? `src/integrations/${name.slice(2)}.ts`, ROOT));
}

/** Runs a page's examples, which find `names` there. @throws where an example does, or does not hold */
export async function runPage(page: string, names: Readonly<Record<string, unknown>>): Promise<void> {
  const text = readFileSync(new URL(`../../docs/node/${page}`, ROOT), "utf8");
  const code = [...text.matchAll(BLOCK)].map(([, block]) => block as string).join("\n");
  if (code === "") throw new Error(`${page} has no examples`);
  const imports = (code.match(IMPORT) ?? []).map((line) =>
    line.replace(/"(cacheflow(?:\/\w+)?)"/, (_, entry: string) => JSON.stringify(source(entry))),
  );
  const body = code.replace(IMPORT, "").replace(CHECKED, "$1assert.deepEqual($2, $3);");
  const module = [
    'import assert from "node:assert/strict";',
    ...imports,
    `export default async function ({ ${Object.keys(names).join(", ")} }) {`,
    body,
    "}",
  ].join("\n");
  const directory = new URL(".vitest-docs/", ROOT); // within the package, whose dependencies the examples import
  mkdirSync(directory, { recursive: true });
  const file = fileURLToPath(new URL(page.replace(".md", ".ts"), directory));
  writeFileSync(file, module);
  try {
    const { default: run } = (await import(/* @vite-ignore */ file)) as { default: (given: object) => Promise<void> };
    await run(names);
  } finally {
    rmSync(file);
  }
}
