// The Node program that the benchmark compares with: the same modes and options as the bare C
// program (bench/baseline/). It sends only what is needed, without moonbus' headers.
import { readFileSync } from "node:fs";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect, nanos } from "@nats-io/transport-node";

const mode = process.argv[2];
const options = {};
for (let i = 3; i + 1 < process.argv.length; i += 2) options[process.argv[i].slice(2)] = process.argv[i + 1];

const MOST_IN_HAND = 1024; // inputs whose output is not stored yet; measured: no faster with more

function fail(reason) {
  console.error(reason.message ?? reason);
  process.exit(1);
}

if (mode === "check") {
  const text = readFileSync(new URL("node_modules/@nats-io/transport-node/package.json", import.meta.url));
  console.log(`ready @nats-io ${JSON.parse(text).version}, ${process.version}`);
  process.exit(0);
}

const connection = await connect({ servers: options.url, noEcho: false }).catch(fail);

let received = 0;

function serveCore(handle) {
  connection.subscribe(options.in ?? "bench.in", {
    callback: (reason, msg) => (reason ? fail(reason) : handle(msg)),
  });
  connection.subscribe("bench.count", { callback: (_, msg) => msg.respond(String(received)) });
}

async function openConsumer() {
  const manager = await jetstreamManager(connection, { checkAPI: false });
  await manager.consumers.add("IN", {
    durable_name: options.durable,
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(30000),
    max_ack_pending: 4 * MOST_IN_HAND,
    max_deliver: -1,
  });
  const client = jetstream(connection);
  return { client, consumer: await client.consumers.get("IN", options.durable) };
}

// One message at a time from the iterator, many publishes under way: each acknowledges its input.
async function relay(messages, client) {
  const json = options.json === "yes";
  for await (const msg of messages) {
    let data = msg.data;
    if (json) {
      const order = msg.json();
      order.id += 1;
      data = JSON.stringify(order);
    }
    client.publish(options.out, data).then(() => msg.ack(), fail);
  }
}

const KEYS = 1000;

function openBucket() {
  return new Kvm(connection).create("bench", { storage: "memory" });
}

// So many of an operation, 64 at a time; how long they took.
async function workOn(bucket, { operation, count, size }) {
  const data = "x".repeat(size);
  let number = 0;
  async function work() {
    while (number < count) {
      const key = `k${++number % KEYS}`;
      if (operation === "get") (await bucket.get(key)).value.length;
      else await bucket.put(key, data);
    }
  }
  const began = performance.now();
  await Promise.all(Array.from({ length: 64 }, work));
  return { seconds: (performance.now() - began) / 1e3 };
}

const perMark = Number(options["per-mark"] ?? 1);
let bytes = 0;

const modes = {
  echo() {
    serveCore((msg) => connection.publish("bench.out", msg.data));
  },
  receive() {
    serveCore((msg) => {
      bytes += msg.data.length;
      if (++received % perMark === 0) connection.publish("bench.out", msg.data);
    });
  },
  respond() {
    serveCore((msg) => msg.respond(msg.data));
  },
  sleep() {
    serveCore((msg) => setTimeout(() => connection.publish("bench.out", msg.data), 100));
  },
  latency() {
    serveCore((msg) => {
      const late = (performance.timeOrigin + performance.now()) / 1e3 - Number(msg.string());
      connection.publish("bench.out", late.toFixed(9));
    });
  },
  async consume() {
    const { consumer } = await openConsumer();
    await consumer.consume({ max_messages: MOST_IN_HAND, callback: (msg) => msg.ack() });
  },
  async relay() {
    const { client, consumer } = await openConsumer();
    relay(await consumer.consume({ max_messages: MOST_IN_HAND }), client).catch(fail);
  },
};

modes.kv = async () => {
  const bucket = await openBucket();
  connection.subscribe("bench.kv", {
    callback: (_, msg) => workOn(bucket, msg.json()).then((took) => msg.respond(JSON.stringify(took)), fail),
  });
};

modes.kv_watch = async () => {
  const bucket = await openBucket();
  const counts = { count: 0, seconds: 0 };
  let first;
  const changes = await bucket.watch({ include: "updates" });
  (async () => {
    for await (const entry of changes) {
      first ??= performance.now();
      bytes += entry.value.length;
      counts.count++;
      counts.seconds = (performance.now() - first) / 1e3;
    }
  })().catch(fail);
  connection.subscribe("bench.count", { callback: (_, msg) => msg.respond(JSON.stringify(counts)) });
};

if (!modes[mode]) fail(`unknown mode "${mode}"`);
await Promise.resolve(modes[mode]()).catch(fail);
await connection.flush();
console.log("ready");
