// Publishing by WHIP (RFC 9725): one offer, one answer, one resource to delete at the end.

import { request } from './api.js';

const PREFERRED = ['video/h264', 'video/vp8', 'video/vp9', 'video/av1'];

/** One peer connection that sends a capture to a recording. */
export class Publisher {
  #connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  #token;
  #resource = null;
  #last = null;
  /** Told every new state: 'connecting', 'connected', 'disconnected', 'failed'. */
  onstate = null;

  /** Sends the offer and applies the answer; media flows once the state becomes 'connected'. */
  static async start(capture, { whip_url: endpoint, whip_token: token }, onstate) {
    const publisher = new Publisher();
    publisher.#token = token;
    publisher.onstate = onstate;
    try {
      await publisher.#start(capture, endpoint);
      return publisher;
    } catch (error) {
      await publisher.stop();
      throw error;
    }
  }

  /** Ends the session at the server and here. Safe to call at any time, and twice. */
  async stop({ keepalive = false } = {}) {
    this.onstate = null;
    const resource = this.#resource;
    this.#resource = null;
    try {
      if (resource) await request(resource, { method: 'DELETE', headers: this.#authorization(), keepalive });
    } catch {
      // The session may have ended by itself; nothing is left to delete then.
    }
    this.#connection.close();
  }

  /** Closes the connection without ending the recording: another publisher goes on with it. */
  abandon() {
    this.onstate = null;
    this.#resource = null;
    this.#connection.close();
  }

  /** Bits per second sent since the last call, or null at the first. */
  async bitrate() {
    let bytes = 0;
    let at = 0;
    for (const report of (await this.#connection.getStats()).values()) {
      if (report.type === 'outbound-rtp') {
        bytes += report.bytesSent;
        at = report.timestamp;
      }
    }
    const last = this.#last;
    this.#last = { bytes, at };
    return last && at > last.at ? ((bytes - last.bytes) * 8000) / (at - last.at) : null;
  }

  async #start({ video, audio }, endpoint) {
    const connection = this.#connection;
    connection.onconnectionstatechange = () => this.onstate?.(connection.connectionState);
    const stream = new MediaStream();
    if (audio) connection.addTransceiver(audio, { direction: 'sendonly', streams: [stream] });
    const sending = connection.addTransceiver(video, {
      direction: 'sendonly',
      streams: [stream],
      sendEncodings: [{ maxBitrate: ceiling(video), maxFramerate: 30 }],
    });
    prefer(sending);

    await connection.setLocalDescription();
    await keepSharp(sending.sender);
    // The server is ICE-lite with public candidates: it learns ours from our checks, so gathering is not waited for.
    const answer = await request(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp', ...this.#authorization() },
      body: connection.localDescription.sdp,
    });
    const location = answer.headers.get('location');
    this.#resource = location ? new URL(location, new URL(endpoint, window.location.href)).href : null;
    await connection.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
  }

  #authorization() {
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {};
  }
}

/** The highest rate worth sending: enough for sharp text, by the number of pixels. */
function ceiling(track) {
  const { width = 1280, height = 720 } = track.getSettings();
  const pixels = width * height;
  if (pixels > 1280 * 720) return 6_000_000;
  return pixels > 640 * 480 ? 3_500_000 : 1_500_000;
}

/** H.264 first: the server can then keep the picture as it came. */
function prefer(transceiver) {
  const codecs = RTCRtpSender.getCapabilities?.('video')?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const rank = (codec) => {
    const place = PREFERRED.indexOf(codec.mimeType.toLowerCase());
    if (place !== 0) return place < 0 ? 1000 : place * 10;
    const fmtp = codec.sdpFmtpLine ?? '';
    // packetization-mode 1 carries frames larger than a datagram.
    return (fmtp.includes('packetization-mode=1') ? 0 : 5) + (fmtp.includes('profile-level-id=42e0') ? 0 : 1);
  };
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
}

/** When the network is short, frames are dropped before sharpness: text stays readable. */
async function keepSharp(sender) {
  try {
    const parameters = sender.getParameters();
    parameters.degradationPreference = 'maintain-resolution';
    await sender.setParameters(parameters);
  } catch {
    // Not every browser knows the preference; the content hint asks for the same.
  }
}
