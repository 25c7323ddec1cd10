// page.mjs PROGRAM MODEL: a coordinator, and its page in chromium as a person uses it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [program, model] = process.argv.slice(2);
const layers = JSON.parse(readFileSync(join(model, "config.json"))).num_hidden_layers;
const folder = mkdtempSync(join(tmpdir(), "farmesh-page-"));
let coordinator = null, browser = null;

function start() {
  coordinator = spawn(program, ["coordinator", "--model", `org/demo=${model}`, "--port", "0",
    "--ledger", join(folder, "ledger.sqlite"), "--public-budget", "1", "--threads", "1"],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, XDG_DATA_HOME: folder } });
  let errors = "", said = "";
  coordinator.stderr.on("data", (data) => (errors += data));
  return new Promise((resolve, reject) => {
    coordinator.stdout.on("data", (data) => {
      said += data;
      const found = /^listening on (\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    coordinator.on("exit", (code) => reject(new Error(`it ended with ${code}: ${errors}`)));
  });
}

async function main() {
  const base = await start();
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  const page = await browser.newPage({ viewport: { width: 390, height: 800 } });
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).origin));
  await page.goto(base + "/");

  // The mesh, live.
  await page.waitForFunction(() => document.getElementById("state").textContent === "ready");
  assert.equal(await page.textContent("#models h2"), "org/demo");
  assert.equal(await page.locator("#models .layers i.held").count(), layers);
  assert.match(await page.getAttribute("#models .layers", "aria-label"), /, 0 without a node$/);
  assert.match(await page.textContent("#models .facts"), /available.*0\.0001 \$FAR a token/);
  assert.equal(await page.textContent("#base"), base + "/v1");

  // A chat: it streams, and tells what it cost.
  await page.fill("#text", "Tell me a story.");
  await page.press("#text", "Enter");
  await page.waitForFunction(() => document.querySelectorAll("#talk p")[1]?.textContent.length > 0);
  const early = (await page.textContent("#talk p:nth-child(2)")).length;
  await page.waitForFunction(() => document.getElementById("send").textContent === "Send", null,
    { timeout: 120000 });
  const said = await page.textContent("#talk p:nth-child(2)");
  assert.ok(said.length >= early && early > 0);
  assert.equal(await page.textContent("#talk p.user"), "Tell me a story.");
  assert.match(await page.textContent("#cost"), /^\d+ tokens, 0\.\d+ \$FAR$/);

  // A refusal is shown in words; markup in an answer or a question stays text.
  await page.fill("#key", "far_wrong");
  await page.fill("#text", "<img src=x onerror=alert(1)>");
  await page.click("#send");
  await page.waitForSelector("#talk p.bad");
  assert.match(await page.textContent("#talk p.bad"), /API key/);
  assert.equal(await page.locator("#talk img").count(), 0);

  assert.deepEqual([...new Set(asked)], [base], "the page asks nobody else");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
    "nothing sticks out of a narrow screen");
  // The refused chat's 401 is the one line that a browser writes by itself.
  assert.deepEqual(faults.filter((fault) => !fault.includes("401")), []);
  console.log("the page shows the mesh and streams a chat");
}

let failure = null;
await main().catch((error) => (failure = error));
await browser?.close();
coordinator?.removeAllListeners("exit").kill("SIGKILL");
rmSync(folder, { recursive: true, force: true });
if (failure) {
  console.error(failure);
  process.exit(1);
}
process.exit(0);
