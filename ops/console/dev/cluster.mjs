// A cluster of real processes on this machine: nine nodes in three data centers, with some load.
import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const DCS = [
  ["seoul", "kr"],
  ["busan", "kr"],
  ["tokyo", "jp"],
];
const EACH = 3;
const SHARDS = 18;
const HOST = "127.0.0.1";
/** One process must not hold the machine's disk and memory for itself: nine share them here. */
const LIMITS = "[limits]\ndisk_reserve_mb = 256\ndisk_reserve_percent = 0\ndisk_ballast_mb = 0\n[memory]\nmax_mb = 256\n";
/** How long a command may take that asks the cluster, and how long the cluster to stand. */
const COMMAND_MS = 60_000;
const STAND_MS = 180_000;
const LOG_TOLD = 2000;

/** `count` ports that are free now; held all at once, so that they differ. */
async function freePorts(count) {
  const held = await Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
    const server = createServer().once("error", reject).listen(0, HOST, () => resolve(server));
  })));
  const ports = held.map((server) => server.address().port);
  await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

const isUp = (process) => process.exitCode === null && process.signalCode === null;

export class Cluster {
  #binary;
  #processes = new Map();
  #loads = new Map();
  #commands = new Set();
  #ended = false;

  constructor(binary, dir, nodes) {
    this.#binary = binary;
    this.dir = dir;
    this.nodes = nodes;
  }

  /** Founds the cluster and returns when all of it is in its place. `say` tells how far it is. */
  static async start(binary, say) {
    const ports = await freePorts(DCS.length * EACH);
    const dir = await mkdtemp(join(tmpdir(), "firebreak-console-"));
    const nodes = DCS.flatMap(([dc, region]) => Array.from({ length: EACH }, (_, at) => {
      const [name, address] = [`${dc}-${at + 1}`, `${HOST}:${ports.shift()}`];
      return { name, dc, region, rack: `r${at + 1}`, address, origin: `http://${address}`, config: join(dir, `${name}.toml`) };
    }));
    const cluster = new Cluster(binary, dir, nodes);
    try {
      await cluster.#found(say);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  async #found(say) {
    const [first, ...others] = this.nodes;
    for (const node of this.nodes) {
      const locality = `[locality]\nregion = "${node.region}"\ndc = "${node.dc}"\nrack = "${node.rack}"\n`;
      await writeFile(node.config, `name = "${node.name}"\nlisten = "${node.address}"\ndata_dir = "${join(this.dir, node.name)}"\n${LIMITS}${locality}`);
    }
    const told = await this.run(["init", "--config", first.config, "--nodes", String(this.nodes.length), "--shards", String(SHARDS), "--json"]);
    const { token } = JSON.parse(told);
    this.#serve(first);
    await this.#until(first, "/livez", (response) => response.ok);
    for (const [at, node] of others.entries()) {
      say(`${node.name} joins (${at + 2} of ${this.nodes.length})`);
      await this.run(["node", "join", "--config", node.config, "--token", token, "--peer", first.address]);
      this.#serve(node);
    }
    say("waiting until everything is in its place");
    await this.whole(first);
  }

  /** Waits until that node says that nothing is wrong. */
  async whole(node) {
    await this.#until(node, "/api/now", async (response) => response.ok && (await response.json()).verdict === "whole");
  }

  async #until(node, path, holds) {
    const end = performance.now() + STAND_MS;
    for (;;) {
      const process = this.#processes.get(node.name);
      if (!isUp(process)) throw new Error(`${node.name} ended by itself:\n${await this.logOf(node)}`);
      const answer = await fetch(node.origin + path, { signal: AbortSignal.timeout(5000) }).catch(() => null);
      if (answer && (await holds(answer))) return;
      if (performance.now() > end) throw new Error(`${node.name} has not come to ${path} within ${STAND_MS / 1000} s:\n${await this.logOf(node)}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  #serve(node) {
    const process = spawn(this.#binary, ["serve", "--config", node.config], { stdio: ["ignore", "ignore", "pipe"] });
    process.stderr.pipe(createWriteStream(join(this.dir, `${node.name}.log`), { flags: "a" }));
    process.once("error", () => {});
    this.#processes.set(node.name, process);
  }

  async logOf(node) {
    const log = await readFile(join(this.dir, `${node.name}.log`), "utf8").catch(() => "");
    return log.slice(-LOG_TOLD);
  }

  /** Runs a command of firebreak and returns what it prints; throws with what it says when it fails. */
  run(args) {
    if (this.#ended) return Promise.reject(new Error("the cluster was ended"));
    return new Promise((resolve, reject) => {
      const process = spawn(this.#binary, args, { stdio: ["ignore", "pipe", "pipe"], timeout: COMMAND_MS });
      this.#commands.add(process);
      process.once("close", () => this.#commands.delete(process));
      let [out, err] = ["", ""];
      process.stdout.on("data", (part) => (out += part));
      process.stderr.on("data", (part) => (err += part));
      process.once("error", reject);
      process.once("close", (code) => (code === 0 ? resolve(out) : reject(new Error(`firebreak ${args.join(" ")} ended with ${code}: ${err}${out}`))));
    });
  }

  /** Appends through the nodes of a data center, `rate` a second, for `seconds` at most. */
  load(dc, rate, seconds) {
    const target = this.in(dc).map(({ address }) => address).join(",");
    const args = ["bench", "--target", target, "--path", "unary", "--rate", String(rate), "--concurrency", "16", "--conversations", "200", "--warmup", "1s", "--duration", `${seconds}s`];
    const process = spawn(this.#binary, args, { stdio: "ignore" });
    process.once("error", () => {});
    this.#loads.set(dc, process);
  }

  in(dc) {
    return this.nodes.filter((node) => node.dc === dc);
  }

  get survivors() {
    return this.nodes.filter((node) => isUp(this.#processes.get(node.name)));
  }

  /** SIGKILL for all nodes of a data center, and for the clients that stand in it. */
  async burn(dc) {
    const burnt = [this.#loads.get(dc), ...this.in(dc).map((node) => this.#processes.get(node.name))];
    await Promise.all(burnt.map(end));
  }

  /** Ends every process that was started here, and removes their data. */
  async stop() {
    this.#ended = true;
    await Promise.all([...this.#commands, ...this.#loads.values(), ...this.#processes.values()].map(end));
    await rm(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** SIGKILL, by the id of the process; returns once it is gone. */
function end(process) {
  if (!process?.pid || !isUp(process)) return undefined;
  return new Promise((resolve) => {
    process.once("exit", resolve);
    process.kill("SIGKILL");
  });
}
