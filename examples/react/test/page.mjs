// page.mjs PROGRAM MODEL: the page that vite built, of one origin, streams from a coordinator of another.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { chromium } from "playwright-core";

const [program, model] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "farmesh-react-"));
const types = { ".html": "text/html", ".js": "text/javascript" };

const site = createServer((request, response) => {
  const path = new URL(request.url, "http://x").pathname;
  const file = join("dist", path === "/" ? "index.html" : path);
  if (!existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": types[extname(file)] ?? "application/octet-stream" });
  createReadStream(file).pipe(response);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${site.address().port}`;

const coordinator = spawn(program, ["coordinator", "--model", `org/demo=${model}`, "--port", "0",
  "--no-ledger", "--public-budget", "100", "--threads", "1", "--fallback-local",
  "--allowed-origins", origin], {
  stdio: ["ignore", "pipe", "inherit"],
  env: { ...process.env, XDG_DATA_HOME: folder, LOG_LEVEL: "warning" },
});
let browser = null;
try {
  const mesh = await new Promise((resolve, reject) => {
    let said = "";
    coordinator.stdout.on("data", (data) => {
      said += data;
      const found = /^listening on (\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    coordinator.on("exit", (code) => reject(new Error(`the coordinator ended with ${code}`)));
  });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  const page = await browser.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
  await page.goto(`${origin}/?mesh=${encodeURIComponent(mesh)}`);

  // Every text that the answer has been, in order.
  await page.evaluate(() => {
    globalThis.seen = [];
    new MutationObserver(() => {
      const text = document.getElementById("answer").textContent;
      if (text && text !== seen.at(-1)) seen.push(text);
    }).observe(document.getElementById("root"), { subtree: true, childList: true, characterData: true });
  });
  await page.click("text=Ask");
  await page.waitForFunction(() => /tokens/.test(document.getElementById("note").textContent), null,
    { timeout: 120_000 });
  assert.match(await page.textContent("#note"), /^(stop|length): \d+ tokens, 0(\.\d+)? \$FAR$/);
  const seen = await page.evaluate(() => globalThis.seen);
  assert.ok(seen.length > 1, "the answer came at once");
  assert.ok(seen.every((text, i) => i === 0 || text.startsWith(seen[i - 1])));
  assert.equal(seen.at(-1), await page.textContent("#answer"));
  assert.deepEqual(faults, []);
  console.log(`react page: ${seen.length} states of an answer of ${seen.at(-1).length} characters`);
} finally {
  await browser?.close();
  coordinator.removeAllListeners("exit").kill("SIGKILL");
  site.close();
  rmSync(folder, { recursive: true, force: true });
}
