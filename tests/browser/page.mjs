// The status page in Chromium: what staff do with it, in two themes, three languages and two sizes, with an audit by axe.
//
//   node page.mjs AGENT CHROMIUM SCREENSHOTS [WORD...]     only scenarios whose name contains one of the words
//
// Screenshots are left in the folder SCREENSHOTS. Last line: 'N passed, N failed'.

import { mkdirSync, readFileSync, statSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { PATIENCE, check, eventually, open, run } from "../interop/shop.mjs";

const [agent, executablePath, screenshots, ...words] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(screenshots, { recursive: true });
const shop = await open(agent, 3);
const [one, two, three] = shop.tills;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

const SIZES = { desktop: { width: 1920, height: 1080 }, phone: { width: 390, height: 844 } };

/** The page of a till, and what went wrong in it. */
async function visit(till, { locale = "en-GB", colorScheme = "light", size = "desktop", token = till.token } = {}) {
  const context = await browser.newContext({ locale, colorScheme, viewport: SIZES[size], acceptDownloads: true });
  context.setDefaultTimeout(PATIENCE);
  // As in a browser, where the page's own policy holds for what is put into it from outside too.
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  await page.goto(`${till.base}/${token ? `#token=${token}` : ""}`);
  await page.waitForFunction(() => document.querySelectorAll("#tills tr").length > 0);
  return { page, wrong, close: () => context.close() };
}

async function seen(view, what, selector, words) {
  await view.page.waitForFunction(([selector, words]) => [...document.querySelectorAll(selector)].some((e) => e.textContent.includes(words)), [selector, words])
    .catch(() => { throw new Error(`not shown: ${what}`); });
}

const product = randomUUID(), put = (till, price) => shop.call(till, "PATCH", `/v1/products/${product}`, { price });
await shop.call(one, "PUT", `/v1/products/${product}`, { sku: "CAFE", name: "Café crème", price: 1500 });

/** The same field written on two tills that do not hear each other. */
async function quarrel(here, there) {
  await shop.call(two, "POST", "/v1/p2p/enabled", { enabled: false });
  await Promise.all([put(one, here), put(two, there)]);
  await shop.call(two, "POST", "/v1/p2p/enabled", { enabled: true });
  await eventually("a conflict", async () => (await shop.call(one, "GET", "/v1/conflicts")).items.length > 0);
}

const scenarios = {
  "the page is small, and asks nobody but its till": async () => {
    const bytes = (await (await fetch(one.base)).text()).length;
    check(bytes < 60_000, `the page has ${bytes} bytes`);
    const view = await visit(one), others = [];
    view.page.on("request", (request) => request.url().startsWith(one.base) || request.url().startsWith("data:") || others.push(request.url()));
    await view.page.waitForTimeout(3500);
    await view.close();
    check(!others.length && !view.wrong.length, `${others} ${view.wrong}`);
    return `${bytes} bytes`;
  },

  "a sale on another till is shown by itself": async () => {
    const view = await visit(one);
    await seen(view, "three tills", "#tills th", "Caisse 3");
    await seen(view, "the links", "#mesh-words", "links are up");
    await shop.sell(three, 4500);
    const began = performance.now();
    await seen(view, "the sale", "#tills td", "4.500");
    const took = performance.now() - began;
    check(!view.wrong.length, view.wrong.join());
    await view.close();
    return `${took.toFixed(0)} ms`;
  },

  "links are switched off and on, and made anew": async () => {
    const view = await visit(one);
    await view.page.click("#enabled");
    await seen(view, "that links are off", "#words", "Links are switched off");
    check(!(await shop.call(one, "GET", "/v1/status")).enabled, "the till is still on");
    await view.page.click("#enabled");
    await seen(view, "the links", "#words", "2 tills connected");
    const made = (await shop.call(one, "GET", "/v1/status")).traffic.linksMade;
    await view.page.click("#reconnect");
    await eventually("links are made anew", async () => (await shop.call(one, "GET", "/v1/status")).traffic.linksMade > made);
    await seen(view, "the links again", "#words", "2 tills connected");
    await view.close();
  },

  "a conflict is settled": async () => {
    await quarrel(1600, 1700);
    const view = await visit(one);
    await seen(view, "the conflict", "#conflicts strong", "Café crème");
    await view.page.locator("#conflicts button", { hasText: "1.700" }).click();
    await view.page.waitForFunction(() => document.querySelector("#disputes").hidden);
    check((await shop.call(one, "GET", `/v1/products/${product}`)).price === 1700, "the other value was taken");
    await view.close();
  },

  "a backup is downloaded": async () => {
    const view = await visit(one);
    const [download] = await Promise.all([view.page.waitForEvent("download"), view.page.click("#backup")]);
    const path = join(shop.folder, "backup.db");
    await download.saveAs(path);
    check(readFileSync(path).subarray(0, 15).toString() === "SQLite format 3" && statSync(path).size > 4096, "it is no database");
    check(download.suggestedFilename().includes("POS-1"), download.suggestedFilename());
    await view.close();
  },

  "the log is filtered": async () => {
    const view = await visit(one);
    await seen(view, "lines", "#lines li", "P2P:");
    await view.page.fill("#text", "words that no line has");
    await view.page.click("#filter");
    await seen(view, "that there are none", "#lines li", "No lines");
    await view.page.fill("#text", "connected to Caisse 2");
    await view.page.press("#text", "Enter");
    await seen(view, "the line", "#lines li", "connected to Caisse 2");
    check(await view.page.$$eval("#lines li", (all) => all.every((e) => e.textContent.includes("connected to Caisse 2"))), "other lines are shown");
    await view.close();
  },

  "without the token it shows, and lets nobody press": async () => {
    const view = await visit(one, { token: "" });
    await seen(view, "what to do", "#said", "tillmesh open");
    for (const id of ["reconnect", "enabled", "backup", "filter"]) check(await view.page.isDisabled(`#${id}`), `${id} can be pressed`);
    await view.close();
  },

  "the keyboard reaches and presses everything": async () => {
    const view = await visit(one);
    const reached = [];
    for (let n = 0; n < 12; n++) {
      await view.page.keyboard.press("Tab");
      reached.push(await view.page.evaluate(() => document.activeElement.id || document.activeElement.className));
    }
    for (const id of ["reconnect", "enabled", "backup", "scroll", "level", "peer", "text", "filter", "lines"]) check(reached.includes(id), `Tab does not reach ${id}: ${reached}`);
    await view.page.focus("#enabled");
    await view.page.keyboard.press("Space");
    await seen(view, "that links are off", "#words", "Links are switched off");
    await view.page.focus("#enabled");
    await view.page.keyboard.press("Enter");
    await seen(view, "the links", "#words", "2 tills connected");
    await view.close();
  },

  "an agent that has ended is told, and found again": async () => {
    const view = await visit(three);
    await shop.end(three);
    await seen(view, "that it is gone", "#words", "The agent does not answer");
    await shop.start(three);
    await seen(view, "that it is back", "#words", "2 tills connected");
    await view.close();
    await shop.linked();
  },

  "axe finds nothing serious, in any theme, language and size": async () => {
    await quarrel(1800, 1900);
    await shop.call(one, "POST", `/v1/products/${product}/stock`, { id: randomUUID(), type: "sale", quantity: 3 });
    await eventually("an alert", async () => (await shop.call(one, "GET", "/v1/status")).alerts.some((alert) => alert.code === "negativeStock"));
    let looks = 0, minor = 0;
    for (const locale of ["en-GB", "fr-TN", "ar-TN"]) for (const colorScheme of ["light", "dark"]) for (const size of Object.keys(SIZES)) {
      const view = await visit(one, { locale, colorScheme, size });
      await view.page.waitForFunction(() => !document.querySelector("#disputes").hidden && document.querySelector("#lines li"));
      const name = `${locale.slice(0, 2)}-${colorScheme}-${size}`;
      check(await view.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name}: wider than the screen`);
      check((await view.page.getAttribute("html", "dir")) === (locale.startsWith("ar") ? "rtl" : "ltr"), `${name}: direction`);
      await view.page.evaluate(axe);
      const { violations } = await view.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const grave = violations.filter((v) => ["serious", "critical"].includes(v.impact));
      minor += violations.length - grave.length;
      check(!grave.length, `${name}: ${grave.map((v) => `${v.id}: ${v.help} at ${v.nodes.map((n) => n.target).join(", ")}`).join("\n")}`);
      for (const v of violations) console.log(`      ${name}: ${v.impact} ${v.id}: ${v.help}`);
      await view.page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
      looks++;
      await view.close();
    }
    return `${looks} looks, ${minor} minor findings`;
  },

  "a shop in trouble": async () => {
    await shop.end(two);
    const view = await visit(one, { locale: "fr-TN" });
    await seen(view, "one link", "#words", "1 pair connecté");
    await view.page.waitForFunction(() => document.querySelectorAll("#mesh line.off").length >= 1);
    await view.page.screenshot({ path: join(screenshots, "fr-trouble.png"), fullPage: true });
    await view.close();
    await shop.start(two);
    await shop.linked();
  },
};

const close = shop.close;
shop.close = async (keep) => {
  await browser.close();
  await close(keep);
};
await run(scenarios, words, shop, async () => {
  for (const till of shop.tills) {
    if (till.child === null) await shop.start(till);
    await shop.call(till, "POST", "/v1/p2p/enabled", { enabled: true });
  }
  await shop.linked();
});
