/** All of them, one after the other: `npm run bench`. The other libraries are in this directory's own package.json. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const directory = fileURLToPath(new URL(".", import.meta.url));
if (!existsSync(`${directory}node_modules`)) execFileSync("npm", ["ci"], { cwd: directory, stdio: "inherit" });
for (const name of ["hits", "stampede", "outage"]) {
  console.log(`== ${name}`);
  execFileSync(process.execPath, [`${directory}${name}.mjs`], { stdio: "inherit" });
}
