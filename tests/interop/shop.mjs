// A shop of agents on loopback, for tests that look at it from outside.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How long anything may take on a slow machine that has much else to do, in milliseconds. */
export const PATIENCE = 90_000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The first value of `holds` that is not nothing. */
export async function eventually(what, holds) {
  let last;
  for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(100)) {
    try {
      const value = await holds();
      if (value) return value;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`waited in vain: ${what}${last ? ` (${last.message})` : ""}`);
}

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

// Below the ports that the system gives to connections going out.
const given = new Set();
async function freePort() {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    const server = createServer();
    const free = await new Promise((done) => server.once("error", () => done(false)).listen(port, "127.0.0.1", () => done(true)));
    await new Promise((done) => server.close(done));
    if (free && !given.has(port)) {
      given.add(port);
      return port;
    }
  }
}

/** Tills POS-1, POS-2, ... of one store, all running and linked. */
export async function open(agent, count) {
  const folder = mkdtempSync(join(tmpdir(), "tillmesh-shop-"));
  const store = JSON.parse(execFileSync(agent, ["store", "new", "--json", "--name", "Café Central"]).toString());
  const tills = [];
  for (let n = 1; n <= count; n++) {
    const till = { name: `POS-${n}`, data: join(folder, `POS-${n}`), mesh: await freePort(), api: await freePort(), child: null };
    till.base = `http://127.0.0.1:${till.api}`;
    mkdirSync(till.data);
    const config = {
      posId: till.name, posName: `Caisse ${n}`, store: store.store ?? store, p2p: { port: till.mesh, discoveryEnabled: false },
      peers: tills.map((other) => `127.0.0.1:${other.mesh}`), api: { listen: `127.0.0.1:${till.api}` },
    };
    writeFileSync(join(till.data, "pos-config.json"), JSON.stringify(config));
    chmodSync(join(till.data, "pos-config.json"), 0o600);
    tills.push(till);
  }

  const start = async (till) => {
    const log = openSync(`${till.data}.log`, "a");
    const environment = { ...process.env, TILLMESH_MACHINE: till.data };
    delete environment.JOURNAL_STREAM;
    till.child = spawn(agent, ["run", "--data-dir", till.data], { stdio: ["ignore", log, log], env: environment });
    till.child.ended = new Promise((done) => till.child.once("exit", done));
    await eventually(`${till.name} answers`, async () => (await fetch(`${till.base}/healthz`)).ok);
    till.token = readFileSync(join(till.data, "api-token"), "utf8").trim();
  };
  const end = async (till, signal = "SIGKILL") => {
    if (till.child === null) return;
    till.child.kill(signal);
    await till.child.ended;
    till.child = null;
  };
  const call = async (till, method, path, body) => {
    const headers = { authorization: `Bearer ${till.token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) };
    const answer = await fetch(till.base + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  };
  const sell = (till, price = 1500, id = randomUUID()) =>
    call(till, "POST", "/v1/tickets", { id, lines: [{ name: "Café", quantity: 1, unitPrice: price }], payments: [{ method: "cash", amount: price }] });
  const linked = () =>
    eventually("all are linked", async () => {
      for (const till of tills) if ((await call(till, "GET", "/v1/status")).connectedPeers !== count - 1) return false;
      return true;
    });
  const close = async (keep) => {
    for (const till of tills) await end(till);
    if (keep) console.log(`logs are in ${folder}`);
    else rmSync(folder, { recursive: true });
  };

  for (const till of tills) await start(till);
  if (count > 1) await linked();
  return { folder, tills, start, end, call, sell, linked, close };
}

/** Runs scenarios by name; prints what came of each, and last 'N passed, N failed'. `between` mends what one has left. */
export async function run(scenarios, words, shop, between = async () => {}) {
  let passed = 0, failed = 0;
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (words.length && !words.some((word) => name.includes(word))) continue;
    const began = performance.now();
    const took = () => `${((performance.now() - began) / 1000).toFixed(1)} s`;
    try {
      const note = await scenario();
      passed++;
      console.log(`ok    ${name} (${note ? `${note}, ` : ""}${took()})`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${name}: ${error.stack ?? error} [${took()}]`);
      await between().catch(() => {});
    }
  }
  await shop.close(failed > 0);
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
