import { defineConfig } from "tsup";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    msgpack: "src/codecs/msgpack.ts",
    zstd: "src/codecs/zstd.ts",
    lz4: "src/codecs/lz4.ts",
    keyv: "src/integrations/keyv.ts",
    apollo: "src/integrations/apollo.ts",
    bentocache: "src/integrations/bentocache.ts",
  },
  format: ["esm", "cjs"],
  // What entry points share is one module for them in CommonJS too: errors are told by their class.
  splitting: true,
  target: "node20",
  dts: true,
  clean: true,
  sourcemap: false,
});
