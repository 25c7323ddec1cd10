// A mesh of two nodes and a coordinator over it, as processes. FARMESH_PROGRAM and FARMESH_MODEL say
// what to start, FARMESH_SOURCE where the shared scenarios and the docs are.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { FARMESH_PROGRAM: program, FARMESH_MODEL: model } = process.env;
const layers = JSON.parse(readFileSync(join(model, "config.json"))).num_hidden_layers;

/** A process that says that it is ready; the first group of `ready` is what is told of it. */
function start(command, args, ready, env = {}) {
  const child = spawn(command, args,
    { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
  return new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      const found = ready.exec(said);
      if (found) resolve({ child, told: found[1] });
    });
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${command} ${args[0]} ended with ${code}`)));
  });
}

function stop({ child }) {
  return new Promise((resolve) => {
    child.removeAllListeners("exit").on("exit", resolve);
    child.kill("SIGKILL");
  });
}

/** Whether `open`, given what to call once it listens, does. */
const listens = (server, open) => new Promise((resolve) => {
  server.on("error", () => resolve(false));
  open(() => server.close(() => resolve(true)));
});

/** Free for TCP and UDP, below those that the system hands out by itself. */
async function freePort() {
  for (let port = 10_000 + process.pid % 10_000; ; ++port) {
    const [tcp, udp] = [createServer(), createSocket("udp4")];
    if (await listens(tcp, (then) => tcp.listen(port, "127.0.0.1", then)) &&
      await listens(udp, (then) => udp.bind(port, "127.0.0.1", then))) return port;
  }
}

async function startRedis() {
  const port = await freePort();
  const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--requirepass", "secret"];
  const server = await start("redis-server", args, /(Ready to accept connections)/)
    .catch((error) => { if (error.code !== "ENOENT") throw error; });
  return server && { ...server, url: `redis://:secret@127.0.0.1:${port}` };
}

export async function startMesh() {
  const folder = mkdtempSync(join(tmpdir(), "farmesh-sdk-"));
  const env = { XDG_DATA_HOME: folder, LOG_LEVEL: "warning" };
  const serve = (...args) => start(program, args, /^listening on (\S+)/, env);
  const node = (span, ...args) => serve("node", "--model", model, "--layers", span, "--listen",
    "127.0.0.1:0", "--threads", "1", "--ephemeral", ...args);
  const half = layers >> 1;
  const dht = await freePort();
  const nodes = [await node(`0:${half}`, "--dht-port", `${dht}`),
    await node(`${half}:${layers}`, "--bootstrap", `127.0.0.1:${dht}`, "--dht-port", "0")];
  const peers = nodes.map((each) => each.told);
  const redis = await startRedis();
  const key = join(folder, "shared.key");
  writeFileSync(key, "what both lives of the coordinator know", { mode: 0o600 });
  const command = ["coordinator", "--model", `org/demo=${model}`, "--port", `${await freePort()}`,
    "--ledger", join(folder, "ledger.sqlite"), "--public-budget", "1000", "--public-rate", "0",
    "--threads", "1", ...(redis ? ["--redis", redis.url, "--shared-key", key] : []),
    ...peers.flatMap((at) => ["--peer", at])];
  let coordinator = await serve(...command);
  return {
    baseUrl: coordinator.told, peers, bootstrap: `/ip4/127.0.0.1/tcp/${dht}`, layers, model, folder,
    ledger: join(folder, "ledger.sqlite"),
    /** Null where there is no Redis: a coordinator then forgets its streams. */
    killAndStart: redis ? async () => {
      await stop(coordinator);
      coordinator = await serve(...command);
    } : null,
    async stop() {
      await Promise.all([...nodes, coordinator, ...(redis ? [redis] : [])].map(stop));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
