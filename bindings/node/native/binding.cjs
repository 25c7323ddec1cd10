// The native part, where this package has one for the machine; else why there is none.
"use strict";
try {
  exports.addon = require(`./${process.platform}-${process.arch}/farlabs.node`);
} catch (problem) {
  exports.problem = problem;
}
