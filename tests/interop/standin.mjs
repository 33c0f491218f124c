// A POSPlus till, as far as another till can see one: what `posplus` in tests/run meets in place of the real one. Written from a description
// of its messages and of its defects; each defect is on unless it is named in `--without` (see DEFECTS), or is of another kind (NOT_SWITCHED).
//
//   node standin.mjs --id POS-P1 --name Caisse --address 10.0.0.1 --control 8080 --data till.db [--first 1] [--order stock-first]
//                    [--without flap,redial | --without all] [--zone Africa/Tunis] [--no-dial yes] [--link-local yes] [--alone yes]
//
// Its database is a real SQLite, with the tables, foreign keys and the trigger that the defects come from: see standin-db.mjs.
// `--no-dial`: it is found and does not dial. `--link-local`: it announces an fe80:: address before its IPv4. `--alone`: it comes to the others
// with POST /join.
//
// It is driven over HTTP on the control port:
//   GET  /state, /tickets, /tickets/NUMBER, /product/SKU, /count/PREFIX
//   POST /sell, /product, /products, /raw, /hear, /twice, /join, /hang-up

import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { WebSocket, WebSocketServer } from "ws";
import { Bonjour } from "bonjour-service";
import { Till } from "./standin-db.mjs";

/// By their numbers in the list of what is known to be wrong with POSPlus.
const DEFECTS = {
  number: "a second ticket of one number is dropped (2)",
  foreign: "a ticket whose user or session is not here is lost (3)",
  rows: "updates go by the row number of the sender (4)",
  more: "hasMore asks for what has changed since now (6)",
  text: "times are compared as texts (7)",
  stamp: "rows that were applied are stamped with the time of here (8)",
  flap: "closing one of two sockets ends the other (9)",
  redial: "after a failed re-dial there is no further try (10)",
  remove: "a delete is never applied (12)",
  equal: "of two changes of one time each till keeps its own (13)",
  address: "the first address is dialled, of whatever kind (15)",
  port: "the port is 3030, whatever --port says (17)",
};
/// There is nothing to switch: it is in the messages themselves, or nobody else can see it.
const NOT_SWITCHED = {
  1: "a sale made while nobody is connected is never sent: no catch-up has tickets",
  5: "quantities are absolute: the message has no other field",
  11: "nobody proves who he is: the message has no such field",
  14: "what is heard is not passed on: there is no message for it",
  16: "a damaged config gives a new identity: here it is given by --id",
};
if (Object.keys(DEFECTS).length + Object.keys(NOT_SWITCHED).length !== 17) throw new Error("a defect is not named");

const args = {};
for (let n = 2; n < process.argv.length; n += 2) args[process.argv[n].slice(2)] = process.argv[n + 1];
const without = new Set(args.without === "all" ? Object.keys(DEFECTS) : (args.without ?? "").split(",").filter(Boolean));
for (const name of without) if (!(name in DEFECTS)) throw new Error(`no such defect: ${name}`);
const has = (defect) => !without.has(defect);
const port = has("port") ? 3030 : Number(args.port ?? 3030);
const stockFirst = args.order === "stock-first";
const first = Number(args.first ?? 1);

// What its database takes for the local time.
if (args.zone) process.env.TZ = args.zone;

const say = (...words) => console.log(new Date().toISOString(), ...words);

// ---------------------------------------------------------------------------------------------------------- database

const db = new Till(args.data, { has, first });
const counts = { foundAt: {}, joinedAt: {}, copied: {}, customers: 0, lost: {}, duplicate: {}, unknownStock: 0, links: 0, received: {} };

/// Whether another till's change is later than what is here.
function newer(theirs, ours, posId) {
  const [there, here] = has("text") ? [theirs, ours] : [new Date(theirs).getTime(), new Date(`${ours.replace(" ", "T")}Z`).getTime()];
  return there > here || (there === here && !has("equal") && posId > args.id);
}

function apply(row, product, force, posId) {
  if (!force && !newer(product.updatedAt, row.updatedAt, posId)) return;
  db.update(row.id, product, product.updatedAt.slice(0, 19).replace("T", " "));
}

function takeCatalogue({ products = [], categories = [] }, force, posId) {
  db.together(() => {
    for (const c of categories) db.category(c.name);
    for (const p of products) { const row = db.product(p.sku); if (row) apply(row, p, force, posId); else db.insert(p); }
  });
}

// ------------------------------------------------------------------------------------------------------------- links

const peers = new Map();
const sockets = new Map();
const message = (type, action, data) =>
  JSON.stringify({ id: randomUUID(), type, action, data, timestamp: new Date().toISOString(), sourcePos: args.id });
const send = (socket, ...rest) => { if (socket.readyState === WebSocket.OPEN) socket.send(message(...rest)); };
const broadcast = (...rest) => { for (const socket of peers.values()) send(socket, ...rest); };

function joined(socket, posId) {
  socket.posId = posId;
  peers.set(posId, socket);
  if (!sockets.has(posId)) sockets.set(posId, new Set());
  sockets.get(posId).add(socket);
  counts.links++;
  counts.joinedAt[posId] ??= Date.now();
  socket.pongAt = Date.now();
  socket.timer = setInterval(() => {
    if (Date.now() - socket.pongAt > 40_000) return socket.terminate();
    send(socket, "ping", "heartbeat", {});
  }, 30_000);
}

function left(socket) {
  clearInterval(socket.timer);
  const id = socket.posId;
  sockets.get(id)?.delete(socket);
  if (id === undefined) return;
  if (has("flap")) {
    for (const other of sockets.get(id) ?? []) other.terminate();
    peers.delete(id);
  } else if (peers.get(id) === socket) {
    peers.delete(id);
    for (const other of sockets.get(id) ?? []) peers.set(id, other);
  }
}

function heard(socket, { type, action, data, sourcePos }) {
  counts.received[type] = (counts.received[type] ?? 0) + 1;
  switch (type) {
    case "hello":
      joined(socket, data.posId);
      return send(socket, "hello-ack", "identify", { posId: args.id, posName: args.name });
    case "hello-ack":
      joined(socket, data.posId);
      return void setTimeout(() => {
        const since = db.meta("lastSync") ?? "1970-01-01T00:00:00.000Z";
        send(socket, "incremental-sync-request", "sync", { since, requestedBy: args.id });
      }, 2_000);
    case "ping": return send(socket, "pong", "heartbeat", {});
    case "pong": socket.pongAt = Date.now(); return;
    case "ticket": {
      const count = (counter) => { counter[sourcePos] = (counter[sourcePos] ?? 0) + 1; };
      if (has("number") && db.knows(data.ticketNumber)) return void count(counts.duplicate);
      try { db.storeTicket(data, sourcePos); } catch (error) {
        if (!/FOREIGN KEY/.test(error.message)) throw error;
        count(counts.lost);
        say("ticket lost", error.message);
      }
      return;
    }
    case "stock":
      if (!db.setStock(data.productId, data.quantity)) counts.unknownStock++;
      return;
    case "product": {
      const named = db.product(data.sku);
      if (action === "delete") {
        if (!has("remove") && named) db.update(named.id, { isActive: false });
        return;
      }
      const row = (has("rows") && action === "update" ? db.productAt(data.id) : named) ?? named;
      if (row) apply(row, data, false, sourcePos); else db.insert(data);
      return;
    }
    case "customer": counts.customers++; return;
    case "incremental-sync-request": {
      const { products, hasMore } = db.changedSince(data.since);
      const syncedAt = new Date().toISOString();
      const categories = db.categories(100);
      return send(socket, "incremental-sync-response", "sync", { products, categories, since: data.since, hasMore, syncedAt });
    }
    case "incremental-sync-response": {
      counts.copied[sourcePos] = (counts.copied[sourcePos] ?? 0) + 1;
      takeCatalogue(data, false, sourcePos);
      db.remember("lastSync", data.syncedAt);
      if (data.hasMore) {
        const since = has("more") ? new Date().toISOString() : data.products.at(-1).updatedAt;
        send(socket, "incremental-sync-request", "sync", { since, requestedBy: args.id });
      }
      return;
    }
    case "full-sync-request": {
      const syncedAt = new Date().toISOString();
      return send(socket, "full-sync-response", "sync", { products: db.products(), categories: db.categories(), syncedAt });
    }
    case "full-sync-response": return takeCatalogue(data, false, sourcePos);
    case "manual-sync": return takeCatalogue(data, true, sourcePos);
    default: say("unknown type", type);
  }
}

function listenTo(socket) {
  socket.on("message", (text) => { try { heard(socket, JSON.parse(text)); } catch (error) { say("bad message", error); } });
  socket.on("close", () => left(socket));
  socket.on("error", (error) => say("socket", error.message));
}

function dial(address, peerPort, posId, again) {
  if (peers.has(posId)) return;
  const socket = new WebSocket(`ws://${address.includes(":") ? `[${address}]` : address}:${peerPort}`);
  let opened = false;
  listenTo(socket);
  socket.on("open", () => { opened = true; send(socket, "hello", "identify", { posId: args.id, posName: args.name }); });
  socket.on("close", () => {
    if (opened || !again || !has("redial")) setTimeout(() => dial(address, peerPort, posId, true), 5_000);
  });
}

function join() {
  new WebSocketServer({ port, maxPayload: 64 << 20 }).on("connection", listenTo);
  const bonjour = new Bonjour({ interface: args.address, bind: "0.0.0.0" });
  const service = bonjour.publish({ name: args.name, type: "posplus-p2p", port, host: `${args.id.toLowerCase()}.local`, txt: { id: args.id, version: "1.0.0" } });
  if (args["link-local"] === "yes") {
    const records = service.records.bind(service);
    const last = (record) => ["A", "AAAA"].indexOf(record.type);
    service.records = () => {
      const all = records().filter((record) => record.type !== "AAAA");
      return [...all, service.RecordAAAA(service, "fe80::7e57")].sort((a, b) => last(b) - last(a));
    };
  }
  bonjour.find({ type: "posplus-p2p" }).on("up", (service) => {
    const id = service.txt?.id;
    const isV4 = (a) => /^\d+\.\d+\.\d+\.\d+$/.test(a);
    const address = has("address") ? service.addresses?.[0] : service.addresses?.find(isV4);
    if (!id || id === args.id || !address) return;
    say("found", id, address);
    counts.foundAt[id] ??= Date.now();
    if (args["no-dial"] !== "yes") setTimeout(() => dial(address, service.port, id, false), 1_000);
  });
}
if (args.alone !== "yes") join();

// ----------------------------------------------------------------------------------------------------------- control

function sell({ sku, quantity, number }) {
  const p = db.product(sku);
  const iso = new Date().toISOString();
  const ticketNumber = number ?? `T${iso.slice(0, 10).replaceAll("-", "")}-${String(db.ownCount() + 1).padStart(4, "0")}`;
  const total = p.price * quantity;
  const line = {
    productId: p.id, productName: p.name, productSku: p.sku, quantity, unitPrice: p.price, discountRate: 0, discountAmount: 0,
    totalAmount: total, createdAt: iso,
  };
  const ticket = {
    ticketNumber, userId: 1, subtotal: total, discountAmount: 0, totalAmount: total, sessionId: 1, status: "completed", createdAt: iso,
    updatedAt: iso, lines: [line], payments: [{ method: "cash", amount: total, createdAt: iso }],
  };
  const id = db.storeTicket(ticket);
  const words = [["ticket", "create", db.ticket(id)], ["stock", "update", { productId: p.id, quantity: db.productAt(p.id).stock }]];
  for (const word of stockFirst ? words.reverse() : words) broadcast(...word);
  return { ticketNumber, at: Date.now() };
}

const orders = {
  "/sell": sell,
  "/product": (product) => {
    const known = db.product(product.sku);
    if (known) db.update(known.id, product);
    else db.insert({ name: product.sku, price: 1, ...product });
    const row = db.product(product.sku);
    broadcast("product", known ? "update" : "create", row);
    return row;
  },
  "/products": ({ count, prefix }) => {
    db.together(() => {
      for (let n = 0; n < count; n++) db.insert({ sku: `${prefix}${n}`, name: `${prefix} ${n}`, price: 1.5, cost: 1, stock: 10 });
    });
    return { count };
  },
  // To tills of ours: another POSPlus would store what is refused here, and give it to us in its list.
  "/raw": ({ text }) => { for (const [id, socket] of peers) if (id.startsWith("TM-")) socket.send(text); return {}; },
  "/hear": (words) => { heard({ send() {}, readyState: 0 }, words); return {}; },
  // Opens a second connection to each peer, and closes it again.
  "/twice": () => {
    for (const socket of [...peers.values()].filter((socket) => socket.readyState === WebSocket.OPEN)) {
      const address = socket._socket.remoteAddress.replace("::ffff:", "");
      const second = new WebSocket(`ws://${address}:${port}`);
      listenTo(second);
      second.on("open", () => { send(second, "hello", "identify", { posId: args.id, posName: args.name }); setTimeout(() => second.close(), 300); });
    }
    return {};
  },
  // Where it was started with `--alone yes`: it comes to the others now.
  "/join": () => { join(); return {}; },
  "/hang-up": () => { for (const socket of peers.values()) socket.close(); return {}; },
};

createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => { body += chunk; });
  request.on("end", () => {
    const answer = (status, value) => { response.writeHead(status); response.end(JSON.stringify(value)); };
    try {
      const [, what, name] = request.url.split("/").map(decodeURIComponent);
      if (what === "state") return answer(200, { peers: [...peers.keys()], counts });
      if (what === "tickets") return answer(200, name ? db.numbered(name) : db.numbers());
      if (what === "count") return answer(200, { count: db.count(name) });
      if (request.method === "GET" && what === "product") return answer(200, db.product(name) ?? null);
      const order = orders[request.url];
      answer(order ? 200 : 404, order ? order(JSON.parse(body || "{}")) : {});
    } catch (error) { answer(500, { error: String(error) }); }
  });
}).listen(Number(args.control));
say("ready", args.id);
