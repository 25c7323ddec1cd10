// The native part, where this package has one for the machine; else why there is none.
"use strict";
const { constants } = require("node:os");
const { join } = require("node:path");

const file = join(__dirname, `${process.platform}-${process.arch}`, "farlabs.node");
try {
  const loaded = { exports: {} };
  // Node exports an OpenSSL of its own, of which libfarmesh must see nothing: it has another.
  const flags = constants.dlopen.RTLD_NOW | (constants.dlopen.RTLD_DEEPBIND ?? 0);
  process.dlopen(loaded, file, flags);
  exports.addon = loaded.exports;
} catch (problem) {
  exports.problem = problem;
}
