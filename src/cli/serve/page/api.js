// Requests. Every failure is an error with a sentence that can be shown.

/** How long an answer may take: nodes have their own time, below this. */
const PATIENCE = 15_000;

/** An answer that is a refusal. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(new URL(`api/${path}`, document.baseURI), {
      ...options,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Error(late ? "cacheflow serve does not answer in time" : "cacheflow serve cannot be reached");
  }
  const is = answer.headers.get("Content-Type")?.startsWith("application/json");
  const body = is ? await answer.json() : null;
  if (!answer.ok) throw new Refused(answer.status, body?.error ?? (await answer.text()) ?? `status ${answer.status}`);
  if (body === null) throw new Error(`${path} is answered by something else than cacheflow serve`);
  return body;
}

/** Reads. */
export const get = (path) => request(path);

/** Changes something. The header is what a foreign page cannot send. */
export function send(method, path, body) {
  const headers = { "Content-Type": "application/json", "X-CacheFlow": "1" };
  return request(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}
