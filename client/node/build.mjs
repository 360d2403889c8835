// Copies the repository's .proto files into the package, which loads them when it starts: so there is no generated
// code that could differ from them. FIREBREAK_PROTO names another folder.

import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const from = process.env.FIREBREAK_PROTO || here("../../proto/proto");
const file = (path) => !/\.[a-z]+$/.test(path) || path.endsWith(".proto");
rmSync(here("proto"), { recursive: true, force: true });
cpSync(from, here("proto"), { recursive: true, filter: file });
