// An object of the library, and what its calls say.
import { OK, invoke, lib } from "./abi.js";
import { invokeAside } from "./threads.js";

/** A call failed. `result` is its number, `code` what loom.h calls that. */
export class LoomError extends Error {
  constructor(result, message) {
    const code = lib.loom_result_name(result);
    super(`${message} (${code})`);
    this.name = "LoomError";
    this.result = result;
    this.code = code;
  }
}

/** What a call gave: nothing, the one thing, or all of them. */
export function given({ result, given, message }) {
  if (result !== OK) throw new LoomError(result, message);
  return given.length > 1 ? given : given[0];
}

/** Text that goes in, in which a NUL would be the end. */
export function text(value) {
  if (typeof value !== "string") throw new TypeError(`${value} is no string`);
  if (value.includes("\0")) throw new TypeError(`${JSON.stringify(value)} has a NUL in it`);
  return value;
}

export const optionalText = (value) => (value == null ? null : text(value));

/** A span in seconds as milliseconds. */
export const millis = (seconds) => Math.max(0, Math.min(LONGEST, Math.round(seconds * 1000)));

/** An instant in seconds as nanoseconds. */
export const nanos = (seconds) => BigInt(Math.round(seconds * 1e9));

export const LONGEST = 2 ** 32 - 1;

// what nobody has closed is freed once nobody can reach it
const unreached = new FinalizationRegistry(({ handle, free }) => void invokeAside(free, [handle]).catch(() => {}));

/** A handle that is freed once, and never while a call uses it. */
export class Handle {
  #handle;
  #free;
  #using = 0;
  #unused = null;
  #closing = null;

  constructor(handle, free) {
    this.#handle = handle;
    this.#free = free;
    unreached.register(this, { handle, free }, this);
  }

  /** What a call that does not wait says. */
  _invoke(name, ...args) {
    return invoke(name, [this._open, ...args]);
  }

  /** What such a call gives. */
  _call(name, ...args) {
    return given(this._invoke(name, ...args));
  }

  /** What a call that waits gives, in the end. */
  async _wait(name, ...args) {
    const handle = this._open;
    this.#using += 1;
    try {
      return given(await invokeAside(name, [handle, ...args]));
    } finally {
      this.#using -= 1;
      if (this.#using === 0) this.#unused?.();
    }
  }

  get _open() {
    if (this.#closing !== null) throw new Error(`this ${this.constructor.name.toLowerCase()} is closed`);
    return this.#handle;
  }

  get _closed() {
    return this.#closing !== null;
  }

  /** Frees it, once the calls that use it have ended. */
  close() {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end() {
    unreached.unregister(this);
    if (this.#using > 0) await new Promise((resolve) => (this.#unused = resolve));
    await invokeAside(this.#free, [this.#handle]);
  }

  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    return this.close();
  }
}
