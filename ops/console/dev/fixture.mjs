// Nine made-up nodes on loopback that serve the console and its API; for tests and for building pages.
//
//   node dev/fixture.mjs --state burning --shards 512 --port 7301
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { drills, promises } from "./drills.mjs";
import { NODES, STATES, World } from "./world.mjs";

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml", txt: "text/plain; charset=utf-8" };

export class Fixture {
  /** Starts nine nodes; `port` 0 takes free ones. */
  static async start({ state = "healthy", data = 12, port = 0 } = {}) {
    const fixture = new Fixture();
    fixture.servers = new Map();
    fixture.silent = new Set();
    fixture.ports = new Map();
    fixture.asked = [];
    for (const [at, node] of NODES.entries()) await fixture.listen(node.name, port === 0 ? 0 : port + at);
    fixture.set(state, data);
    return fixture;
  }

  /** Another state of the same nodes. Nodes that are dead in it hang: worse than a refused connection. */
  set(state, data = this.world?.data ?? 12) {
    this.world = new World(state, data, (name) => this.http(name));
    this.silent = new Set(NODES.filter((node) => !this.world.alive(node)).map((node) => node.name));
  }

  http = (name) => `127.0.0.1:${this.ports.get(name)}`;
  url = (name) => `http://${this.http(name)}/`;

  async listen(name, port) {
    const server = createServer((request, response) => {
      this.answer(name, request, response).catch((error) => {
        response.destroy();
        console.error(error);
      });
    });
    await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
    this.servers.set(name, server);
    this.ports.set(name, server.address().port);
  }

  /** Ends one node: connections are refused from then on. */
  async kill(name) {
    const server = this.servers.get(name);
    this.servers.delete(name);
    server?.closeAllConnections();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve()));
  }

  async stop() {
    for (const name of [...this.servers.keys()]) await this.kill(name);
  }

  async answer(name, request, response) {
    if (this.silent.has(name)) return;
    const url = new URL(request.url, "http://node");
    this.asked.push({ name, path: url.pathname + url.search });
    const nodes = NODES.map((node) => `http://${this.http(node.name)}`);
    response.setHeader("content-security-policy", `default-src 'self'; connect-src 'self' ${nodes.join(" ")}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`);
    response.setHeader("x-content-type-options", "nosniff");
    if (url.pathname.startsWith("/api/")) {
      if (nodes.includes(request.headers.origin)) response.setHeader("access-control-allow-origin", request.headers.origin);
      const [status, body] = request.method === "POST" ? await this.change(url, request) : this.api(name, url);
      response.writeHead(status, { "content-type": "application/json" });
      return response.end(JSON.stringify(body));
    }
    await this.file(url.pathname, request, response);
  }

  /** The safety lever, the only thing that pages change. */
  async change({ pathname }, request) {
    if (pathname !== "/api/drills/lever") return [404, { error: "unknown_page", message: `there is no ${pathname}` }];
    const parts = [];
    for await (const part of request) parts.push(part);
    const asked = JSON.parse(Buffer.concat(parts).toString());
    if (asked.who === "nobody") return [409, { error: "not_done", message: "the operator's name is barred" }];
    this.moved = { ...asked, kind: request.headers["content-type"] };
    this.world.lever = asked.pull ? { who: asked.who, why: asked.why, at_ms: this.world.clock() } : null;
    return [200, { pulled: asked.pull, epoch: 9 }];
  }

  api(name, { pathname, searchParams }) {
    const { world } = this;
    const ms = (key) => (searchParams.has(key) ? Number(searchParams.get(key)) : undefined);
    if (pathname === "/api/now") return [200, world.now(name)];
    if (pathname === "/api/timeline") {
      const [from, to] = [ms("from_ms"), ms("to_ms")];
      if (from > to) return [400, { error: "bad_range", message: `from_ms is later than to_ms: ${from} > ${to}` }];
      return [200, world.timeline(name, from, to)];
    }
    if (pathname === "/api/shards") return [200, world.shardsPage(name)];
    if (pathname === "/api/jobs") return [200, world.jobs(name)];
    if (pathname === "/api/settings") return [200, world.settings(name)];
    if (pathname === "/api/drills") return [200, drills(world, name)];
    if (pathname === "/api/promises") return [200, promises(world, name)];
    if (pathname === "/api/whatif") {
      const told = world.whatif(name, searchParams.getAll("dc"), searchParams.getAll("node"));
      return told ? [200, told] : [404, { error: "unknown_name", message: "no data center or node is called like that" }];
    }
    return [404, { error: "unknown_page", message: `there is no ${pathname}` }];
  }

  async file(path, request, response) {
    const name = path === "/" ? "index.html" : path.slice(1);
    const type = TYPES[name.split(".").at(-1)];
    if (!type || name.includes("/")) return response.writeHead(404).end("no such page\n");
    const packed = /\bgzip\b/.test(request.headers["accept-encoding"] ?? "");
    const bytes = await readFile(join(dist, packed ? `${name}.gz` : name)).catch(() => null);
    if (!bytes) return response.writeHead(404).end("no such page\n");
    response.writeHead(200, { "content-type": type, "cache-control": "no-cache", ...(packed && { "content-encoding": "gzip" }) });
    response.end(bytes);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (key, otherwise) => {
    const at = process.argv.indexOf(`--${key}`);
    return at < 0 ? otherwise : process.argv[at + 1];
  };
  const state = option("state", "healthy");
  if (!(state in STATES)) {
    console.error(`--state ${state}: one of ${Object.keys(STATES).join(", ")} would be right`);
    process.exit(2);
  }
  // The meta shard is one more.
  const fixture = await Fixture.start({ state, data: Number(option("shards", "13")) - 1, port: Number(option("port", "7301")) });
  for (const node of NODES) console.log(`${node.name.padEnd(8)} ${fixture.url(node.name)}${fixture.silent.has(node.name) ? "  silent" : ""}`);
}
