// What went wrong, in words that help: every failure becomes a title and a sentence on what to do.

import { Refusal, Unreachable } from './api.js';

/** A failure that already carries its words. */
export class Told extends Error {
  constructor(title, detail, action) {
    super(title);
    this.name = 'Told';
    this.title = title;
    this.detail = detail;
    /** What the page can offer to do about it: 'without-mic', 'without-camera' or nothing. */
    this.action = action;
  }
}

const DEVICE = {
  camera: { a: 'a camera', the: 'your camera', off: 'without-camera' },
  microphone: { a: 'a microphone', the: 'your microphone', off: 'without-mic' },
};

/** The words for a failed getUserMedia or getDisplayMedia; `what` is 'camera', 'microphone' or 'screen'. */
export function explainCapture(error, what) {
  if (error instanceof Told) return error;
  const name = error?.name;
  if (what === 'screen') {
    if (name === 'NotAllowedError' && /system/i.test(error.message)) {
      return new Told('Your system does not let this browser see the screen.',
        'Allow screen recording for the browser in the system’s privacy settings, restart the browser, then press Record again.');
    }
    if (name === 'NotAllowedError' || name === 'AbortError') {
      return new Told('No screen was shared.', 'Press Record again and choose a screen, a window or a tab in the browser’s dialog.');
    }
    if (name === 'NotReadableError') {
      return new Told('The screen could not be read.', 'The system or another program is blocking it. Try sharing a window or a tab instead.');
    }
    return new Told('The screen could not be recorded.', `The browser says: ${error?.message || name}. Try a window or a tab instead.`);
  }
  const device = DEVICE[what];
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return new Told(`This page is not allowed to use ${device.the}.`,
        `Click the icon beside the address, allow the ${what} for this page, then press Record again.`, device.off);
    case 'NotFoundError':
    case 'OverconstrainedError':
      return new Told(`The browser found no ${what}.`, `Plug in ${device.a} and try again, or record without one.`, device.off);
    case 'NotReadableError':
    case 'AbortError':
      return new Told(`${device.the[0].toUpperCase()}${device.the.slice(1)} could not be started.`,
        `Another program is probably using the ${what}. Close it and try again.`, device.off);
    default:
      return new Told(`${device.the[0].toUpperCase()}${device.the.slice(1)} could not be started.`,
        `The browser says: ${error?.message || name}.`, device.off);
  }
}

/** The words for anything that went wrong while talking to the server. */
export function explain(error, doing = 'do that') {
  if (error instanceof Told) return error;
  if (error instanceof Unreachable) {
    return new Told('The server cannot be reached.', 'Check that it is running and that you are online, then try again.');
  }
  if (error instanceof Refusal) {
    const words = error.detail || error.title;
    const sentence = words ? `${words[0].toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? '' : '.'}` : `It answered with status ${error.status}.`;
    return new Told(`The server refused to ${doing}.`, sentence);
  }
  return new Told(`Something went wrong while trying to ${doing}.`, error?.message ? `${error.message}.` : 'Please try again.');
}

export const connectionFailed = () => new Told('No media connection to the server.',
  'The page reached the server, but video could not. A firewall or VPN may be blocking UDP between you and it.');

export const connectionLost = () => new Told('The connection to the server was lost.',
  'Recording has stopped. Everything that reached the server has been kept and is being finished.');

/** Why this browser cannot record at all, or nothing when it can. */
export function whyUnable() {
  if (!window.isSecureContext) {
    return new Told('This address is not secure, so the browser forbids recording.',
      `Open the page by https://, or on the machine itself as http://localhost${location.port ? `:${location.port}` : ''}.`);
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.RTCPeerConnection || !window.MediaStream) {
    return new Told('This browser cannot record.', 'Use a current Chrome, Edge, Firefox or Safari.');
  }
  return null;
}
