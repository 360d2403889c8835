// Builds dist/: what a node embeds and serves. Two builds are byte-equal.
//
//   node build.mjs           writes dist/
//   node build.mjs --check   compares dist/ with what would be written; exit code 1 if it differs
import { readFile, writeFile, mkdir, readdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import zlib from "node:zlib";
import esbuild from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "dist");
// All of it, compressed with gzip, so that the page opens fast over a bad line.
const BYTES_MAX = 150 * 1024;

async function bundle(entry, options) {
  const result = await esbuild.build({
    entryPoints: [join(here, "src", entry)],
    absWorkingDir: here,
    bundle: true,
    minify: true,
    write: false,
    charset: "utf8",
    legalComments: "none",
    target: ["es2022", "chrome109", "firefox115", "safari16"],
    ...options,
  });
  return Buffer.from(result.outputFiles[0].contents);
}

/** Name → bytes of each file, without the compressed ones. */
async function files() {
  return {
    "app.css": await bundle("app.css", {}),
    "app.js": await bundle("main.jsx", {
      format: "esm",
      jsx: "automatic",
      jsxImportSource: "preact",
      define: { "process.env.NODE_ENV": '"production"' },
    }),
    "icon.svg": await readFile(join(here, "src/icon.svg")),
    "index.html": await readFile(join(here, "src/index.html")),
    "licenses.txt": await licenses(),
  };
}

/** The licences of what is bundled ask to go where the bundle goes. */
async function licenses() {
  const parts = [];
  for (const name of ["@preact/signals", "@preact/signals-core", "preact", "uplot"]) {
    const root = join(here, "node_modules", name);
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    const text = await readFile(join(root, "LICENSE"), "utf8");
    parts.push(`${name} ${version}\n\n${text.trim()}\n`);
  }
  return Buffer.from(parts.join(`\n${"-".repeat(72)}\n\n`));
}

function gzip(bytes) {
  const packed = zlib.gzipSync(bytes, { level: 9 });
  packed[9] = 255; // "unknown system": the builder's leaves no trace
  return packed;
}

function brotli(bytes) {
  const { BROTLI_PARAM_QUALITY: quality, BROTLI_PARAM_SIZE_HINT: hint } = zlib.constants;
  return zlib.brotliCompressSync(bytes, { params: { [quality]: 11, [hint]: bytes.length } });
}

async function check(built) {
  const wrong = [];
  const expected = Object.keys(built).flatMap((name) => [name, `${name}.br`, `${name}.gz`]);
  const found = await readdir(dist).catch(() => []);
  wrong.push(...found.filter((name) => !expected.includes(name)).map((name) => `${name} is not built any more`));
  for (const [name, bytes] of Object.entries(built)) {
    const read = (file) => readFile(join(dist, file)).catch(() => Buffer.alloc(0));
    // Another zlib may pack otherwise; what counts is what comes out.
    const unpack = (how, packed) => {
      try {
        return how(packed);
      } catch {
        return Buffer.alloc(0);
      }
    };
    if (!bytes.equals(await read(name))) wrong.push(`${name} differs`);
    if (!bytes.equals(unpack(zlib.gunzipSync, await read(`${name}.gz`)))) wrong.push(`${name}.gz differs`);
    if (!bytes.equals(unpack(zlib.brotliDecompressSync, await read(`${name}.br`)))) wrong.push(`${name}.br differs`);
  }
  return wrong;
}

async function write(built) {
  await mkdir(dist, { recursive: true });
  const stays = Object.keys(built).flatMap((name) => [name, `${name}.br`, `${name}.gz`]);
  for (const name of await readdir(dist)) if (!stays.includes(name)) await rm(join(dist, name), { recursive: true });
  for (const [name, bytes] of Object.entries(built)) {
    await writeFile(join(dist, name), bytes);
    await writeFile(join(dist, `${name}.gz`), gzip(bytes));
    await writeFile(join(dist, `${name}.br`), brotli(bytes));
  }
}

const built = await files();
const total = Object.values(built).reduce((sum, bytes) => sum + gzip(bytes).length, 0);
if (total > BYTES_MAX) {
  console.error(`dist is ${total} bytes with gzip; at most ${BYTES_MAX} are allowed`);
  process.exit(1);
}
if (process.argv.includes("--check")) {
  const wrong = await check(built);
  for (const line of wrong) console.error(`ops/console/dist: ${line}; run npm run build`);
  process.exit(wrong.length > 0 ? 1 : 0);
}
await write(built);
for (const [name, bytes] of Object.entries(built)) {
  console.log(`${name.padEnd(14)} ${String(bytes.length).padStart(7)}  gzip ${gzip(bytes).length}`);
}
console.log(`${"in all".padEnd(22)}  gzip ${total}`);
