// Plays all tracks on one clock. Sound comes in pieces of a few seconds, which follow each other
// without a gap; the pieces of all tracks start at the same sample.

const AHEAD = 3; // seconds that are scheduled before they are heard
const LEAD = 0.05; // seconds between scheduling and sound, at least
const KEPT = 6; // pieces that stay decoded
const FADE = 0.01; // seconds, so that changes of level do not click

export class Player {
  // source: {address, version, tracks, rate, frames, piece}; context: to play somewhere else
  constructor(source, context = null) {
    this.source = source;
    this.context = context;
    this.position = 0; // frame that plays next, while paused
    this.loop = null; // [first frame, frame after the last]
    this.levels = source.tracks.map(() => 0);
    this.playing = false;
    this.changed = () => {}; // called with a message when playing stops or fails
    this.pieces = new Map();
    this.scheduled = [];
    this.run = 0;
  }

  async play() {
    if (this.playing) return;
    if (!this.context) {
      const options = { sampleRate: this.source.rate, latencyHint: "playback" };
      this.context = new AudioContext(options);
    }
    this.makeGains();
    this.playing = true;
    const run = ++this.run;
    this.begin(this.position >= this.source.frames ? 0 : this.position);
    try {
      await this.context.resume();
      while (this.run === run && this.next !== null) {
        if (this.nextTime - this.context.currentTime > AHEAD) await pause(200);
        else await this.scheduleNext(run);
      }
      while (this.run === run && this.context.currentTime < this.nextTime) await pause(100);
      if (this.run === run) this.stop(0, "");
    } catch (error) {
      if (this.run === run) this.stop(this.now(), `Playing stopped: ${error.message}`);
    }
  }

  // Queue so many seconds from a frame at once, for a context that does not play by the clock.
  async fill(frame, seconds) {
    this.makeGains();
    this.begin(frame);
    while (this.next !== null && this.nextTime < seconds) await this.scheduleNext();
  }

  begin(frame) {
    this.next = frame;
    this.nextTime = 0;
  }

  // Queue what follows, up to the end of a piece, the loop or the song.
  async scheduleNext(run = this.run) {
    const { frames, piece, rate } = this.source;
    const index = Math.floor(this.next / piece);
    const buffers = await this.load(index);
    if (this.run !== run) return;
    const from = this.next;
    let end = Math.min((index + 1) * piece, frames);
    const inLoop = this.loop && from < this.loop[1];
    if (inLoop) end = Math.min(end, this.loop[1]);
    const soonest = this.context.currentTime + LEAD;
    const when = this.nextTime > soonest || this.isOffline() ? this.nextTime : soonest;
    const sources = buffers.map((buffer, track) => {
      const node = this.context.createBufferSource();
      node.buffer = buffer;
      node.connect(this.gains[track]);
      node.start(when, (from - index * piece) / rate, (end - from) / rate);
      return node;
    });
    this.scheduled.push({ when, from, end, sources });
    const past = this.context.currentTime - 1;
    this.scheduled = this.scheduled.filter((s) => s.when + (s.end - s.from) / rate > past);
    this.nextTime = when + (end - from) / rate;
    if (inLoop && end === this.loop[1]) this.next = this.loop[0];
    else this.next = end < frames ? end : null;
    if (this.next !== null) this.load(Math.floor(this.next / piece)).catch(() => {});
  }

  isOffline() {
    return this.context instanceof OfflineAudioContext;
  }

  // The frame that is heard now.
  now() {
    if (!this.playing) return this.position;
    const time = this.context.currentTime;
    const heard = this.scheduled.filter((part) => part.when <= time).pop();
    if (!heard) return this.position;
    return Math.min(heard.from + Math.round((time - heard.when) * this.source.rate), heard.end);
  }

  pause() {
    if (this.playing) this.stop(this.now(), "");
  }

  seek(frame) {
    const target = Math.max(0, Math.min(Math.round(frame), this.source.frames));
    const again = this.playing;
    if (again) this.stop(target, null);
    this.position = target;
    if (again) this.play();
  }

  setLoop(loop) {
    const at = this.now();
    this.loop = loop;
    if (this.playing) this.seek(loop && at >= loop[1] ? loop[0] : at);
  }

  setLevels(levels) {
    this.levels = levels;
    this.gains?.forEach((node, track) => {
      node.gain.setTargetAtTime(levels[track], this.context.currentTime, FADE / 3);
    });
  }

  close() {
    this.stop(0, null);
    this.context?.close?.();
  }

  stop(position, message) {
    this.run += 1;
    this.playing = false;
    this.position = position;
    for (const { sources } of this.scheduled) {
      for (const node of sources) node.stop();
    }
    this.scheduled = [];
    if (message !== null) this.changed(message);
  }

  makeGains() {
    if (this.gains) return;
    this.gains = this.levels.map((level) => {
      const node = this.context.createGain();
      node.gain.value = level;
      node.connect(this.context.destination);
      return node;
    });
  }

  // The decoded piece of all tracks.
  load(index) {
    if (!this.pieces.has(index)) {
      const tracks = this.source.tracks.map((_, track) => this.fetchPiece(track, index));
      const loading = Promise.all(tracks);
      loading.catch(() => this.pieces.delete(index)); // another try may go well
      this.pieces.set(index, loading);
      if (this.pieces.size > KEPT) this.pieces.delete(this.pieces.keys().next().value);
    }
    return this.pieces.get(index);
  }

  async fetchPiece(track, index) {
    const { address, version } = this.source;
    const response = await fetch(`${address}/piece/${track}/${index}?${version}`);
    if (!response.ok) throw new Error(await response.text());
    return this.context.decodeAudioData(await response.arrayBuffer());
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
