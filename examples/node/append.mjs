// Appends lines from stdin to a conversation through a plain gRPC channel that outlives a data center.
//
//   npm install @grpc/grpc-js @grpc/proto-loader
//   echo "Hi!" | node append.mjs 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 tenants/t/conversations/c

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const published = (name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");

// A client over one address per data center, set up as examples/README.md says.
function connect(addresses) {
  const protos = new URL("../../proto/proto", import.meta.url).pathname;
  const options = { includeDirs: [protos], keepCase: true, longs: Number };
  const { firebreak } = grpc.loadPackageDefinition(loadSync("firebreak/v1/messages.proto", options));
  return new firebreak.v1.Messages(`ipv4:${addresses}`, grpc.credentials.createInsecure(), {
    ...JSON.parse(published("channel_options.json")),
    "grpc.service_config": published("service_config.json"),
  });
}

const [addresses, parent] = process.argv.slice(2);
const client = connect(addresses);
const append = promisify(client.AppendMessage.bind(client));
for await (const line of createInterface({ input: process.stdin })) {
  const message = {
    sender: "ann",
    type: "text",
    body: Buffer.from(line),
    // Drawn once: however often the call is sent, the message is appended once.
    client_message_id: randomUUID(),
  };
  const metadata = new grpc.Metadata({ waitForReady: true });
  const answer = await append({ parent, message }, metadata, { deadline: Date.now() + 5000 });
  console.log(answer.message.seq);
}
client.close();
