// Serves the pages of dist/ and asks a real node for the rest: for looking at a real cluster while building pages.
//
//   node dev/proxy.mjs 127.0.0.1:7101 [PORT]
import { createServer, request as ask } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml", txt: "text/plain; charset=utf-8" };
const POLICY = "default-src 'self'; connect-src 'self' http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const [target, port = "7300"] = process.argv.slice(2);
if (!/^[^:]+:\d+$/.test(target ?? "")) {
  console.error("say which node: node dev/proxy.mjs HOST:PORT [PORT]");
  process.exit(2);
}
const [host, nodePort] = target.split(":");

createServer(async (request, response) => {
  if (/^\/(api|livez|readyz|healthz|metrics)\b/.test(request.url)) {
    const asked = ask({ host, port: nodePort, path: request.url, headers: { ...request.headers, host: target } }, (told) => {
      response.writeHead(told.statusCode, told.headers);
      told.pipe(response);
    });
    // What a dead node looks like: the connection ends.
    asked.on("error", () => response.destroy());
    return asked.end();
  }
  const name = request.url === "/" ? "index.html" : request.url.slice(1).split("?")[0];
  const bytes = name.includes("/") ? null : await readFile(join(dist, name)).catch(() => null);
  response.setHeader("content-security-policy", POLICY);
  if (!bytes) return response.writeHead(404).end("no such page\n");
  response.writeHead(200, { "content-type": TYPES[name.split(".").at(-1)] ?? "text/plain", "cache-control": "no-cache" }).end(bytes);
}).listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/ shows ${target}`));
