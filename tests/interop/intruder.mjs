// An intruder on the mesh's port: node intruder.mjs WAY HOST PORT
//
// Tries one way in, and prints one line of JSON when it is over: {"way", "in": what it was let do, "out": how it ended, "ms"}.
// "in" is "" (no WebSocket), "open" (a WebSocket, and no more) or "talk" (the agent said something to it after that).
// Ends by itself after LIMIT_MS, with "out": "still there".
import net from "node:net";
import { randomBytes, randomUUID } from "node:crypto";
import WebSocket from "ws";

const LIMIT_MS = 25_000;
const SUBPROTOCOL = "tillmesh.1";
const [way, host, port] = process.argv.slice(2);
const url = `ws://${host}:${port}/`;
const began = Date.now();

function finish(entered, out) {
  console.log(JSON.stringify({ way, in: entered, out, ms: Date.now() - began }));
  process.exit(0);
}

// A client by the ws library; `act` is what it does once it is in.
function client(subprotocols, act) {
  return new Promise((resolve) => {
    let entered = "";
    const socket = new WebSocket(url, subprotocols, { perMessageDeflate: false, handshakeTimeout: LIMIT_MS });
    socket.on("open", () => {
      entered = "open";
      act(socket);
    });
    socket.on("message", () => (entered = "talk"));
    socket.on("error", (error) => resolve({ entered, out: error.message }));
    socket.on("close", (code) => resolve({ entered, out: `closed ${code}` }));
  });
}

// A client by TCP alone; resolves when the agent hangs up.
function raw(act) {
  return new Promise((resolve) => {
    let heard = "";
    const socket = net.connect({ host, port: Number(port) }, () => act(socket, () => heard));
    socket.on("data", (bytes) => (heard += bytes.toString("latin1")));
    socket.on("error", (error) => resolve({ heard, out: error.message }));
    socket.on("close", () => resolve({ heard, out: "closed" }));
  });
}

function upgradeHead(subprotocol) {
  const key = randomBytes(16).toString("base64");
  return (
    `GET / HTTP/1.1\r\nHost: ${host}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Protocol: ${subprotocol}\r\n\r\n`
  );
}

function posplus(type, action, data) {
  const timestamp = new Date().toISOString();
  return JSON.stringify({ id: randomUUID(), type, action, data, timestamp, sourcePos: "POS-deadbeef" });
}

function talkPosplus(socket) {
  socket.send(posplus("hello", "identify", { posId: "POS-deadbeef", posName: "Caisse" }));
  const line = { id: 1, ticketId: 1, productId: 1, productName: "Faux", productSku: "F", quantity: 1, unitPrice: 1 };
  socket.send(posplus("ticket", "create", { id: 1, ticketNumber: "T20251123-0001", totalAmount: 1, lines: [line], payments: [] }));
}

// As fast as it is taken, until the socket is closed.
function pour(socket, send) {
  const more = () => {
    while (socket.readyState === WebSocket.OPEN && socket.bufferedAmount < 1 << 20) send();
    if (socket.readyState === WebSocket.OPEN) setTimeout(more, 1);
  };
  more();
}

const ways = {
  // POSPlus itself, or any WebSocket client: asks for no subprotocol.
  "no-subprotocol": () => client([], talkPosplus),
  "other-subprotocol": () => client(["chat", "tillmesh.0"], talkPosplus),
  // Our subprotocol, and then not what the handshake begins with.
  "plain-text": () => client([SUBPROTOCOL], talkPosplus),
  "wrong-handshake": () => client([SUBPROTOCOL], (socket) => socket.send(randomBytes(64))),
  "empty-handshake": () => client([SUBPROTOCOL], (socket) => socket.send(new Uint8Array(0))),
  silent: () => client([SUBPROTOCOL], () => {}),
  // Much of something.
  "big-frames": () => client([SUBPROTOCOL], (socket) => pour(socket, () => socket.send(new Uint8Array(256 * 1024)))),
  pings: () => client([SUBPROTOCOL], (socket) => pour(socket, () => socket.ping())),
  fragments: () =>
    client([SUBPROTOCOL], (socket) => pour(socket, () => socket.send(new Uint8Array(4096), { fin: false, binary: true }))),
  crowd: async () => {
    const all = await Promise.all(Array.from({ length: 300 }, () => client([SUBPROTOCOL], (socket) => socket.send("?"))));
    const talked = all.filter((one) => one.entered === "talk").length;
    return { entered: talked ? "talk" : "open", out: `closed, all ${all.length}` };
  },
  // A header that announces a gigabyte.
  "huge-frame": async () => {
    const { heard, out } = await raw((socket, heardYet) => {
      socket.write(upgradeHead(SUBPROTOCOL));
      const wait = setInterval(() => {
        if (!heardYet().includes("\r\n\r\n")) return;
        clearInterval(wait);
        const header = Buffer.alloc(14);
        header.writeUInt8(0x82, 0);
        header.writeUInt8(0x80 | 127, 1);
        header.writeBigUInt64BE(1n << 30n, 2);
        socket.write(header);
        socket.write(Buffer.alloc(1024));
      }, 5);
      socket.on("close", () => clearInterval(wait));
    });
    return { entered: heard.includes(" 101 ") ? "open" : "", out };
  },
  // Slow-loris: the request's head, a byte at a time.
  drip: async () => {
    const { heard, out } = await raw((socket) => {
      const head = upgradeHead(SUBPROTOCOL);
      let at = 0;
      const timer = setInterval(() => socket.write(head[at++ % (head.length - 4)]), 100);
      socket.on("close", () => clearInterval(timer));
    });
    return { entered: heard.includes(" 101 ") ? "open" : "", out };
  },
  // A head without an end.
  "endless-head": async () => {
    const { heard, out } = await raw((socket) => {
      socket.write("GET / HTTP/1.1\r\n");
      const timer = setInterval(() => socket.write(`X-${randomUUID()}: ${"x".repeat(8000)}\r\n`), 5);
      socket.on("close", () => clearInterval(timer));
    });
    return { entered: heard.includes(" 101 ") ? "open" : "", out };
  },
};

if (!ways[way]) {
  console.error(`ways: ${Object.keys(ways).join(" ")}`);
  process.exit(2);
}
setTimeout(() => finish("open", "still there"), LIMIT_MS).unref();
const { entered, out } = await ways[way]();
finish(entered, out);
