"""The Python program that the benchmark compares with: the same modes and options as the bare C program
(bench/baseline/), on nats-py, with callbacks where it has them. It sends only what is needed, without
moonbus' headers. It takes part where nats-py can be imported; with uvloop, if that can."""
import asyncio
import json
import sys
import time

try:
    import nats
    from nats.aio.client import __version__ as version
except ImportError as missing:
    sys.exit(f"nats-py cannot be imported: {missing}")

try:
    import uvloop
except ImportError:
    uvloop = None

BATCH = 500  # of one fetch
FETCHERS = 2  # so that the server always owes messages
IN_HAND = 1024  # inputs whose output is not stored yet

mode = sys.argv[1]
options = {"in": "bench.in", "out": "bench.out", "stream": "IN", "durable": "bench", "per-mark": "1"}
for name, value in zip(sys.argv[2::2], sys.argv[3::2]):
    options[name[2:]] = value

UNLIMITED = {"pending_msgs_limit": -1, "pending_bytes_limit": -1}


async def echo(nc):
    async def handle(msg):
        await nc.publish(options["out"], msg.data)

    await nc.subscribe(options["in"], cb=handle, **UNLIMITED)


async def receive(nc):
    per_mark, received = int(options["per-mark"]), 0

    async def handle(msg):
        nonlocal received
        received += 1
        if received % per_mark == 0:
            await nc.publish(options["out"], msg.data)

    async def count(msg):
        await msg.respond(str(received).encode())

    await nc.subscribe(options["in"], cb=handle, **UNLIMITED)
    await nc.subscribe("bench.count", cb=count)


async def respond(nc):
    async def handle(msg):
        await nc.publish(msg.reply, msg.data)

    await nc.subscribe(options["in"], cb=handle, **UNLIMITED)


async def latency(nc):
    async def handle(msg):
        late = time.time() - float(msg.data)
        await nc.publish(options["out"], b"%.9f" % late)

    await nc.subscribe(options["in"], cb=handle, **UNLIMITED)


async def fetch(nc, handle):
    """Hands the messages of the durable to handle, which is awaited."""
    js = nc.jetstream()
    config = nats.js.api.ConsumerConfig(
        durable_name=options["durable"], ack_policy=nats.js.api.AckPolicy.EXPLICIT,
        max_ack_pending=4 * IN_HAND, max_deliver=-1)
    await js.add_consumer(options["stream"], config)

    async def loop():
        subscription = await js.pull_subscribe_bind(options["durable"], stream=options["stream"])
        while True:
            try:
                messages = await subscription.fetch(BATCH, timeout=1)
            except nats.errors.TimeoutError:
                continue
            for msg in messages:
                await handle(js, msg)

    return [asyncio.create_task(loop()) for _ in range(FETCHERS)]


async def consume(nc):
    async def handle(_, msg):
        await msg.ack()

    return await fetch(nc, handle)


async def relay(nc):
    room, under_way = asyncio.Semaphore(IN_HAND), set()

    async def store(js, msg):
        data = msg.data
        if options.get("json") == "yes":
            order = json.loads(data)
            order["id"] += 1
            data = json.dumps(order, separators=(",", ":")).encode()
        await js.publish(options["out"], data)
        await msg.ack()
        room.release()

    async def handle(js, msg):
        await room.acquire()
        task = asyncio.create_task(store(js, msg))
        under_way.add(task)
        task.add_done_callback(finished)

    def finished(task):
        under_way.discard(task)
        if task.exception():
            print(task.exception(), file=sys.stderr)
            asyncio.get_running_loop().stop()

    return await fetch(nc, handle)


async def main():
    nc = await nats.connect(options["url"], pending_size=64 << 20)
    kept = await globals()[mode](nc)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.gather(*(kept or [asyncio.Event().wait()]))


if mode == "check":
    print("ready nats-py " + version + (" and uvloop" if uvloop else ""))
else:
    if uvloop:
        uvloop.install()
    asyncio.run(main())
