// As reader.cpp: nanoseconds of the reading thread for each piece. FARLABS_WEB=1: by fetch.
import { readFileSync } from "node:fs";

const { FarMesh } = await import(process.argv[3]);
// On the CPU so far, by the main thread.
const threadNs = () => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]);

const stream = await new FarMesh({ baseUrl: process.argv[2], model: "m" }).generate("x");
let pieces = 0;
const began = threadNs();
for await (const _ of stream) ++pieces;
console.log(Math.round((threadNs() - began) / pieces));
