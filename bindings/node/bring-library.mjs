// Puts the C library into the package: the one that LOOM_LIBRARY names, else target/release/libloom.so of this repository.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const from = process.env.LOOM_LIBRARY ?? fileURLToPath(new URL("../../target/release/libloom.so", import.meta.url));
const to = fileURLToPath(new URL("lib/libloom.so", import.meta.url));
if (!existsSync(from)) {
  console.error(`there is no C library at ${from}: cargo build --release -p loom-ffi, or name one by LOOM_LIBRARY`);
  process.exit(1);
}
copyFileSync(from, to);
try {
  execFileSync("strip", ["--strip-unneeded", to]); // what only debuggers read
} catch (why) {
  if (why.code !== "ENOENT") throw why;
}
