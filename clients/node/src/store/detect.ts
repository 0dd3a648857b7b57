import { classify, isUnknownCommand, ServerError } from "../errors.js";
import type { Link } from "../link/link.js";
import { ModuleStore } from "./module.js";
import { PlainStore } from "./plain.js";
import type { Store } from "./store.js";

/** Which store a server takes: asks it whether it knows the module's commands. A user who may not ask is taken to. */
export async function detect(link: Link, delimiter: string): Promise<Store> {
  const nodes = await link.nodes();
  const node = nodes[0];
  if (node === undefined) return new ModuleStore(link);
  try {
    const reply = await node.send("COMMAND", ["INFO", "CACHE.FETCH"]);
    const known = Array.isArray(reply) && Array.isArray(reply[0]);
    return known ? new ModuleStore(link) : new PlainStore(link, delimiter);
  } catch (error) {
    if (!(classify(error) instanceof ServerError) || isUnknownCommand(error)) throw error;
    return new ModuleStore(link);
  }
}
