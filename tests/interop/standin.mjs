// A POSPlus till, as far as another till can see one: what `posplus` in tests/run meets in place of the real one. Written from a description
// of its messages and of its defects; each defect is on unless it is named in `--without` (see DEFECTS).
//
//   node standin.mjs --id POS-P1 --name Caisse --address 10.0.0.1 --port 3030 --control 8080 --data till.json [--without flap,redial]
//
// It is driven over HTTP on the control port: GET /state; POST /sell, /product, /products, /raw, /hear, /twice, /join, /hang-up.

import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { WebSocket, WebSocketServer } from "ws";
import { Bonjour } from "bonjour-service";

const DEFECTS = {
  number: "a second ticket of one number is dropped (2)",
  foreign: "a ticket whose user or session is not here is lost (3)",
  rows: "stock and updates go by the row number of the sender (4)",
  more: "hasMore asks for what has changed since now (6)",
  text: "times are compared as texts (7)",
  stamp: "rows that were applied are stamped with the time of here (8)",
  flap: "closing one of two sockets ends the other (9)",
  redial: "after a failed re-dial there is no further try (10)",
  remove: "a delete is never applied (12)",
};

const args = {};
for (let n = 2; n < process.argv.length; n += 2) args[process.argv[n].slice(2)] = process.argv[n + 1];
const without = new Set((args.without ?? "").split(",").filter(Boolean));
for (const name of without) if (!(name in DEFECTS)) throw new Error(`no such defect: ${name}`);
const has = (defect) => !without.has(defect);
const port = Number(args.port ?? 3030);
const stockFirst = args.order === "stock-first";

const sqlTime = (at = new Date()) => at.toISOString().slice(0, 19).replace("T", " ");
const say = (...words) => console.log(new Date().toISOString(), ...words);

// ---------------------------------------------------------------------------------------------------------- database

let db = {
  products: [], categories: [{ id: 1, name: "Divers", isActive: true, createdAt: sqlTime(), updatedAt: sqlTime() }],
  tickets: [], nextProduct: Number(args.first ?? 1), nextTicket: 1, number: 1, users: [1], sessions: [1], lastSync: null,
};
try { db = JSON.parse(readFileSync(args.data)); } catch { /* A first start. */ }
const counts = { foundAt: {}, joinedAt: {}, copied: {}, customers: 0, lost: 0, duplicate: 0, unknownStock: 0, links: 0, received: {} };
let dirty = false;
const save = () => { dirty = true; };
const flush = () => { if (dirty) { dirty = false; writeFileSync(args.data, JSON.stringify(db)); } };
setInterval(flush, 200);

const bySku = new Map(db.products.map((p) => [p.sku, p]));
const byId = new Map(db.products.map((p) => [p.id, p]));

function category(name) {
  let found = db.categories.find((c) => c.name === name);
  if (!found) {
    found = { id: db.categories.length + 1, name, isActive: true, createdAt: sqlTime(), updatedAt: sqlTime() };
    db.categories.push(found);
  }
  return found;
}

function insert(product) {
  const row = { ...product, id: db.nextProduct++, createdAt: sqlTime(), updatedAt: sqlTime() };
  row.categoryId = category(product.categoryName ?? "Divers").id;
  db.products.push(row); bySku.set(row.sku, row); byId.set(row.id, row); save();
  return row;
}

const newer = (theirs, ours) =>
  has("text") ? theirs > ours : new Date(theirs) > new Date(`${ours.replace(" ", "T")}Z`);

function apply(row, product, force) {
  if (!force && !newer(product.updatedAt, row.updatedAt)) return;
  const { id, createdAt, ...rest } = product;
  bySku.delete(row.sku);
  Object.assign(row, rest);
  bySku.set(row.sku, row);
  if (product.categoryName) row.categoryId = category(product.categoryName).id;
  row.updatedAt = has("stamp") ? sqlTime() : product.updatedAt.slice(0, 19).replace("T", " ");
  save();
}

function takeCatalogue({ products = [], categories = [] }, force) {
  for (const c of categories) category(c.name);
  for (const p of products) { const row = bySku.get(p.sku); if (row) apply(row, p, force); else insert(p); }
}

// ------------------------------------------------------------------------------------------------------------- links

const peers = new Map();
const sockets = new Map();
const message = (type, action, data) =>
  JSON.stringify({ id: randomUUID(), type, action, data, timestamp: new Date().toISOString(), sourcePos: args.id });
const send = (socket, ...rest) => { if (socket.readyState === WebSocket.OPEN) socket.send(message(...rest)); };
const broadcast = (...rest) => { for (const socket of peers.values()) send(socket, ...rest); };
const out = (p) => ({ ...p, categoryName: db.categories.find((c) => c.id === p.categoryId)?.name });

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

function changedSince(since) {
  const hits = has("text")
    ? db.products.filter((p) => p.updatedAt > since)
    : db.products.filter((p) => new Date(`${p.updatedAt.replace(" ", "T")}Z`) > new Date(since));
  return { products: hits.slice(0, 100).map(out), hasMore: hits.length > 100 };
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
        const since = db.lastSync ?? "1970-01-01T00:00:00.000Z";
        send(socket, "incremental-sync-request", "sync", { since, requestedBy: args.id });
      }, 2_000);
    case "ping": return send(socket, "pong", "heartbeat", {});
    case "pong": socket.pongAt = Date.now(); return;
    case "ticket": {
      if (has("number") && db.tickets.some((t) => t.ticketNumber === data.ticketNumber)) return void counts.duplicate++;
      const known = db.users.includes(data.userId) && db.sessions.includes(data.sessionId);
      if (has("foreign") && !known) return void counts.lost++;
      db.tickets.push({ ...data, from: sourcePos, heardAt: Date.now() });
      return save();
    }
    case "stock": {
      const row = byId.get(data.productId);
      if (!row) return void counts.unknownStock++;
      row.stock = data.quantity; row.updatedAt = sqlTime();
      return save();
    }
    case "product": {
      if (action === "delete") {
        if (!has("remove")) { const row = bySku.get(data.sku); if (row) row.isActive = false; }
        return;
      }
      const row = (has("rows") && action === "update" ? byId.get(data.id) : bySku.get(data.sku)) ?? bySku.get(data.sku);
      if (row) apply(row, data, false); else insert(data);
      return;
    }
    case "customer": counts.customers++; return;
    case "incremental-sync-request": {
      const { products, hasMore } = changedSince(data.since);
      const syncedAt = new Date().toISOString();
      const categories = db.categories.slice(0, 100);
      return send(socket, "incremental-sync-response", "sync", { products, categories, since: data.since, hasMore, syncedAt });
    }
    case "incremental-sync-response": {
      counts.copied[sourcePos] = (counts.copied[sourcePos] ?? 0) + 1;
      takeCatalogue(data, false);
      db.lastSync = data.syncedAt;
      if (data.hasMore) {
        const since = has("more") ? new Date().toISOString() : data.products.at(-1).updatedAt;
        send(socket, "incremental-sync-request", "sync", { since, requestedBy: args.id });
      }
      return;
    }
    case "full-sync-request": {
      const syncedAt = new Date().toISOString();
      return send(socket, "full-sync-response", "sync", { products: db.products.map(out), categories: db.categories, syncedAt });
    }
    case "full-sync-response": return takeCatalogue(data, false);
    case "manual-sync": return takeCatalogue(data, true);
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
  const socket = new WebSocket(`ws://${address}:${peerPort}`);
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
  bonjour.publish({ name: args.name, type: "posplus-p2p", port, host: `${args.id.toLowerCase()}.local`, txt: { id: args.id, version: "1.0.0" } });
  bonjour.find({ type: "posplus-p2p" }).on("up", (service) => {
    const id = service.txt?.id;
    const address = service.addresses?.find((a) => /^\d+\.\d+\.\d+\.\d+$/.test(a));
    if (!id || id === args.id || !address) return;
    say("found", id, address);
    counts.foundAt[id] ??= Date.now();
    setTimeout(() => dial(address, service.port, id, false), 1_000);
  });
}
if (args.alone !== "yes") join();

// ----------------------------------------------------------------------------------------------------------- control

function sell({ sku, quantity, number }) {
  const p = bySku.get(sku);
  const now = new Date();
  const iso = now.toISOString();
  const id = db.nextTicket++;
  const ticketNumber = number ?? `T${iso.slice(0, 10).replaceAll("-", "")}-${String(db.number++).padStart(4, "0")}`;
  const total = p.price * quantity;
  const line = {
    id: id * 10, ticketId: id, productId: p.id, productName: p.name, productSku: p.sku, quantity, unitPrice: p.price, discountRate: 0,
    discountAmount: 0, totalAmount: total, createdAt: iso,
  };
  const ticket = {
    id, ticketNumber, userId: 1, subtotal: total, discountAmount: 0, totalAmount: total, sessionId: 1, status: "completed", createdAt: iso,
    updatedAt: iso, lines: [line], payments: [{ id: id * 10, ticketId: id, method: "cash", amount: total, createdAt: iso }],
  };
  db.tickets.push(ticket);
  p.stock -= quantity; p.updatedAt = sqlTime(); save();
  const words = [["ticket", "create", ticket], ["stock", "update", { productId: p.id, quantity: p.stock }]];
  for (const word of stockFirst ? words.reverse() : words) broadcast(...word);
  return { ticketNumber, at: Date.now() };
}

const orders = {
  "/sell": sell,
  "/product": (product) => {
    const known = bySku.get(product.sku);
    if (known) { Object.assign(known, product, { updatedAt: sqlTime() }); save(); }
    const base = { name: product.sku, price: 1, cost: 0, discountRate: 0, stock: 0, minStock: 0, maxStock: 0, unit: "pièce", isActive: true };
    const row = known ?? insert({ ...base, ...product });
    broadcast("product", known ? "update" : "create", out(row));
    return row;
  },
  "/products": ({ count, prefix }) => {
    for (let n = 0; n < count; n++) {
      insert({ sku: `${prefix}${n}`, name: `${prefix} ${n}`, price: 1.5, cost: 1, discountRate: 0, stock: 10, minStock: 0, maxStock: 0,
        unit: "pièce", isActive: true });
    }
    return { count };
  },
  "/raw": ({ text }) => { for (const socket of peers.values()) socket.send(text); return { sent: peers.size }; },
  "/hear": (words) => { heard({ send() {}, readyState: 0 }, words); return {}; },
  // Opens a second connection to each peer, and closes it again.
  "/twice": () => {
    for (const socket of peers.values()) {
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
      if (request.url === "/state") {
        const products = Object.fromEntries(db.products.map((p) => [p.sku, { id: p.id, name: p.name, price: p.price, stock: p.stock }]));
        return answer(200, { peers: [...peers.keys()], products, tickets: db.tickets, counts });
      }
      const order = orders[request.url];
      const result = order ? order(JSON.parse(body || "{}")) : {};
      // What was answered is on the disk, as with SQLite.
      flush();
      answer(order ? 200 : 404, result);
    } catch (error) { answer(500, { error: String(error) }); }
  });
}).listen(Number(args.control));
say("ready", args.id);
