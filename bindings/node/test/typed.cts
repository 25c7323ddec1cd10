// The same package as CommonJS sees it.
import sdk = require("@farlabs/sdk");
import web = require("@farlabs/sdk/web");

async function main(): Promise<string> {
  const stream: sdk.FarStream = await new sdk.FarMesh({ apiKey: "key" }).chat("Hello");
  const other: web.FarStream = await new web.FarMesh().chat("Hello");
  // @ts-expect-error
  new web.FarMesh({ local: true });
  return (await stream.text()) + (await other.text());
}
void main();
