// One of the threads of `threads.js`.
import { parentPort } from "node:worker_threads";
import { invoke } from "./abi.js";

parentPort.on("message", ({ name, args }) => {
  try {
    const told = invoke(name, args);
    parentPort.postMessage(told, told.given.flatMap((it) => (it?.body ? [it.body.buffer] : [])));
  } catch (thrown) {
    parentPort.postMessage({ thrown });
  }
});
