import { defineConfig } from "tsup";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    msgpack: "src/codecs/msgpack.ts",
    zstd: "src/codecs/zstd.ts",
    lz4: "src/codecs/lz4.ts",
    express: "src/integrations/express.ts",
    fastify: "src/integrations/fastify.ts",
    next: "src/integrations/next.ts",
    otel: "src/integrations/otel.ts",
    "prom-client": "src/integrations/prom-client.ts",
    undici: "src/integrations/undici.ts",
    keyv: "src/integrations/keyv.ts",
    apollo: "src/integrations/apollo.ts",
    bentocache: "src/integrations/bentocache.ts",
  },
  format: ["esm", "cjs"],
  target: "node20",
  dts: true,
  // What entries have in common is there once: an error of one is an instance of the other's class.
  splitting: true,
  clean: true,
  sourcemap: false,
});
