// Live pictures from the daemon. The newest of each view; what is not acknowledged is not followed by more.

import { connect } from "./api.js";

const VIEWS = ["color", "depth", "normal", "motion", "segmentation", "instance", "source", "lifted", "edges"];
const HEADER_BYTES = 24;

/** Calls `choose(view, serial, jpeg)` for every picture that comes, which says what is to be drawn of it: a JPEG, which may
 *  be another one, or null. Then `show(view, bitmap, { serial, time, latency })`; the bitmap is closed after that.
 *  `latency`: milliseconds since the frame came to the daemon, less what the way over the network took; null if not known. */
export class Stream {
  constructor(choose, show) {
    Object.assign(this, { choose, show });
    this.wanted = "";
    this.socket = connect("/stream", { open: () => this.socket?.send(this.wanted), message: (data) => this.receive(data) });
  }

  /** Have pictures of these views, of a session or, when null, of the newest; of none when there are no views. */
  watch(views, session) {
    const wanted = JSON.stringify({ watch: views, session });
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.socket.send(wanted);
  }

  async receive(data) {
    const began = performance.now();
    const header = new DataView(data, 0, HEADER_BYTES);
    const view = VIEWS[header.getUint8(0)];
    const number = header.getUint32(4, true);
    const serial = Number(header.getBigUint64(8, true));
    try {
      const jpeg = this.choose(view, serial, new Blob([new Uint8Array(data, HEADER_BYTES)], { type: "image/jpeg" }));
      if (!jpeg) return;
      const bitmap = await createImageBitmap(jpeg);
      const age = header.getUint16(2, true);
      const latency = age ? age + performance.now() - began : null;
      this.show(view, bitmap, { serial, time: header.getFloat64(16, true), latency });
      bitmap.close();
    } finally {
      this.socket.send(JSON.stringify({ ack: number }));
    }
  }
}
