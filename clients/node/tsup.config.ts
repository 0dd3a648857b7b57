import { defineConfig } from "tsup";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    msgpack: "src/codecs/msgpack.ts",
    zstd: "src/codecs/zstd.ts",
    lz4: "src/codecs/lz4.ts",
  },
  format: ["esm", "cjs"],
  target: "node20",
  dts: true,
  clean: true,
  sourcemap: false,
});
