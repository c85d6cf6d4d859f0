// Gets what is to be recorded from the browser: one video track and at most one audio track.

import { Bubble } from './bubble.js';
import { explainCapture, Told } from './explain.js';

/** Whether this browser can share a screen; phones cannot. */
export const canShareScreen = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

/** Cameras and microphones by name; names are empty until the person has allowed them once. */
export async function listDevices() {
  const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  const of = (kind) => all.filter((device) => device.kind === kind && device.deviceId);
  return { cameras: of('videoinput'), microphones: of('audioinput') };
}

/** A chosen device that has gone is replaced by the default one. */
async function open(kind, choice, constraints) {
  const ask = (extra) => navigator.mediaDevices.getUserMedia({ [kind]: { ...constraints, ...extra } });
  const what = kind === 'video' ? 'camera' : 'microphone';
  try {
    return await ask(choice ? { deviceId: { exact: choice } } : {}).catch((error) => {
      if (choice && error.name === 'OverconstrainedError') return ask({});
      throw error;
    });
  } catch (error) {
    throw explainCapture(error, what);
  }
}

export const openCamera = (choice, size = { width: 1280, height: 720 }) => open('video', choice, {
  width: { ideal: size.width }, height: { ideal: size.height }, frameRate: { ideal: 30, max: 30 },
});

export const openMicrophone = (choice) => open('audio', choice, {
  echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: { ideal: 1 },
});

async function openScreen() {
  if (!canShareScreen()) {
    throw new Told('This browser cannot share a screen.', 'Choose “Camera”, or open the page in a browser on a computer.');
  }
  try {
    return await navigator.mediaDevices.getDisplayMedia({
      video: { width: { max: 1920 }, height: { max: 1080 }, frameRate: { ideal: 30, max: 30 } },
      audio: true,
      systemAudio: 'include',
      surfaceSwitching: 'include',
      selfBrowserSurface: 'exclude',
    });
  } catch (error) {
    throw explainCapture(error, 'screen');
  }
}

/** Everything that runs while a person records; `stop()` ends all of it. */
export class Capture {
  #opened = [];
  #bubble = null;
  /** The picture that is sent. */
  video = null;
  /** The sound that is sent, or null. */
  audio = null;
  /** The microphone alone, for the level meter, or null. */
  microphone = null;
  /** Called once when the person ends the sharing through the browser, or a device goes away. */
  onended = null;

  /**
   * `choice`: {mode: 'both' | 'screen' | 'camera', camera, microphone} with device ids, '' for the default and 'off' for
   * no microphone. `context` is the page's AudioContext.
   */
  static async start(choice, context) {
    const capture = new Capture();
    try {
      await capture.#start(choice, context);
      return capture;
    } catch (error) {
      capture.stop();
      throw error;
    }
  }

  stop() {
    this.onended = null;
    this.#bubble?.stop();
    for (const stream of this.#opened) for (const track of stream.getTracks()) track.stop();
    this.#opened = [];
  }

  async #start({ mode, camera, microphone }, context) {
    // The screen is asked for first: browsers grant it only shortly after the press of a button.
    const screen = mode === 'camera' ? null : this.#keep(await openScreen());
    const face = mode === 'screen' ? null : this.#keep(await openCamera(camera));
    const voice = microphone === 'off' ? null : this.#keep(await openMicrophone(microphone));

    const [screenVideo] = screen?.getVideoTracks() ?? [];
    const [screenAudio] = screen?.getAudioTracks() ?? [];
    const [faceVideo] = face?.getVideoTracks() ?? [];
    [this.microphone = null] = voice?.getAudioTracks() ?? [];

    if (mode === 'both') {
      this.#bubble = await Bubble.start(screenVideo, faceVideo);
      this.video = this.#bubble.track;
    } else {
      this.video = screenVideo ?? faceVideo;
      this.video.contentHint = screenVideo ? 'detail' : 'motion';
    }
    this.audio = mixed(this.microphone, screenAudio, context);
    for (const track of [screenVideo, faceVideo, this.microphone]) {
      track?.addEventListener('ended', () => this.onended?.(track.kind));
    }
  }

  #keep(stream) {
    this.#opened.push(stream);
    return stream;
  }
}

/** The microphone, the shared tab's or system's sound, or both as one. */
function mixed(microphone, other, context) {
  if (!microphone || !other) return microphone ?? other ?? null;
  const out = context.createMediaStreamDestination();
  for (const track of [microphone, other]) context.createMediaStreamSource(new MediaStream([track])).connect(out);
  return out.stream.getAudioTracks()[0];
}
