/** A server with the module on a free port of loopback, in a directory of its own. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MODULE =
  process.env.CACHEFLOW_MODULE ?? fileURLToPath(new URL("../../../target/release/libcacheflow.so", import.meta.url));

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

export async function startServer() {
  const directory = mkdtempSync(join(tmpdir(), "cacheflow-bench-"));
  const port = await freePort();
  let child;
  const start = async () => {
    const args = ["--port", String(port), "--save", "", "--loadmodule", MODULE];
    child = spawn(process.env.CACHEFLOW_SERVER ?? "redis-server", args, { cwd: directory, stdio: "ignore" });
    while (!(await listens(port))) await sleep(10);
  };
  const kill = () =>
    new Promise((resolve) => {
      child.once("exit", resolve);
      child.kill("SIGKILL");
    });
  await start();
  const stop = async () => {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  };
  return { port, start, kill, stop };
}
