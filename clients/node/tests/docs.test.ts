/** The pages of docs/node: their examples do what they say. */
import { afterAll, beforeAll, beforeEach, describe, it } from "vitest";
import { runPage } from "./support/docs.js";
import { eventually, TestServer } from "./support/servers.js";

describe("docs/node", () => {
  let server: TestServer;
  let plain: TestServer;

  beforeAll(async () => {
    [server, plain] = await Promise.all([TestServer.start(), TestServer.start({ module: false })]);
  });
  afterAll(() => Promise.all([server.stop(), plain.stop()]));
  beforeEach(() => server.command("FLUSHALL"));

  const until = (condition: () => unknown): Promise<unknown> => eventually(condition, "what the page waits for");

  it.each(["README.md", "levels.md", "migrating.md", "keyv.md", "apollo.md", "bentocache.md"])("%s", async (page) => {
    await runPage(page, { url: server.url, until });
  });

  it("resilience.md", async () => {
    const own = await TestServer.start();
    try {
      await runPage("resilience.md", {
        url: own.url,
        withoutModule: plain.url,
        takeAway: () => own.kill(),
        bringBack: () => own.start(),
        until,
      });
    } finally {
      await own.stop();
    }
  });
});
