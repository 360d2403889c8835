// Canaries of a drill that are plain Node clients; what load.py does, in a loop for each sender.
//
//   load.mjs PLAN.json, which also has "protos", the folder of the .proto files
//
// The variables that say how nodes are reached, and who calls, are load.py's.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

// Installed in the folder that the process runs in.
const require = createRequire(`${process.cwd()}/`);
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const loaded = loadSync("firebreak/v1/messages.proto", { includeDirs: [plan.protos], keepCase: true, longs: Number });
const { firebreak } = grpc.loadPackageDefinition(loaded);
const began = BigInt(Date.now()) * 1000n - process.hrtime.bigint() / 1000n;
const now = () => began + process.hrtime.bigint() / 1000n;
const clean = (field) => String(field).replace(/[\t\n]/g, " ");
const tell = (...fields) => process.stdout.write(`${fields.map(clean).join("\t")}\n`);
let over = false;

/** The content of the file that a variable names; undefined where it names none. */
const read = (variable) => (process.env[variable] ? readFileSync(process.env[variable]) : undefined);
const ca = read("FIREBREAK_CA");
const own = [read("FIREBREAK_CERT_KEY") ?? null, read("FIREBREAK_CERT") ?? null];
const credentials = ca ? grpc.credentials.createSsl(ca, ...own) : grpc.credentials.createInsecure();
const name = ca && process.env.FIREBREAK_TLS_NAME;
const key = (process.env.FIREBREAK_API_KEY ?? "").trim() || String(read("FIREBREAK_API_KEY_FILE") ?? "").trim();

async function send(sender) {
  const client = new firebreak.v1.Messages(`ipv4:${sender.addresses}`, credentials, {
    ...plan.options,
    ...(name ? { "grpc.ssl_target_name_override": name } : {}),
    "grpc.service_config": plan.service_config,
    // Senders must not share connections: each is a client of its own.
    "grpc.use_local_subchannel_pool": 1,
  });
  const rooms = sender.conversations;
  for (let count = 0; ; count += 1) {
    await sleep(plan.pause_ms);
    if (over) return client.close();
    const parent = rooms[count % rooms.length];
    const id = `${sender.name}-${count}`;
    const message = { sender: sender.name, type: "text", body: Buffer.from(id), client_message_id: id };
    const sent = now();
    const [seq, what] = await new Promise((done) => {
      const metadata = new grpc.Metadata({ waitForReady: true });
      if (key) metadata.set("authorization", `Bearer ${key}`);
      const deadline = Date.now() + plan.deadline_ms;
      client.AppendMessage({ parent, message }, metadata, { deadline }, (error, answer) =>
        done(error ? [0, `${grpc.status[error.code]}: ${error.details}`] : [answer.message.seq, answer.info.served_by]),
      );
    });
    tell(sender.name, parent, id, sent, now(), seq, what);
  }
}

process.stdin.resume();
process.stdin.on("end", () => {
  over = true;
});
await Promise.all(plan.senders.map(send));
process.exit(0);
