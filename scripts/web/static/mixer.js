// The mixer: wires the controls of mixer.html to the player and the downloads.

import { Player } from "./player.js";
import { Track } from "./track.js";

const STEP = 5; // seconds that an arrow key moves
const PAUSE = 50; // milliseconds between two looks at the clock; more often drains batteries
const ICONS = { play: "M7 4 L20 12 L7 20 Z", pause: "M6 4 H10 V20 H6 Z M14 4 H18 V20 H14 Z" };
const mounted = new WeakMap();

// Streamlit calls this again whenever something on the page changes.
export function mount(root, data) {
  const before = mounted.get(root);
  if (before?.data.version === data.version) {
    before.redraw();
    return;
  }
  before?.close();
  mounted.set(root, new Mixer(root, data));
}

export function unmount(root) {
  mounted.get(root)?.close();
  mounted.delete(root);
}

class Mixer {
  constructor(root, data) {
    this.data = data;
    this.element = root.querySelector(".mixer");
    this.find = (selector) => this.element.querySelector(selector);
    this.player = new Player(data);
    this.element.player = this.player; // for whoever looks from outside
    this.player.changed = (message) => this.showPlaying(message);
    const template = this.find("template");
    const changed = () => this.applyLevels();
    this.tracks = data.tracks.map((_, index) => new Track(template, data, index, changed));
    this.find(".tracks").replaceChildren(...this.tracks.map((track) => track.element));
    this.peak = Math.max(...data.peaks, 1e-6);
    this.loop = [0, data.frames];
    this.wire();
    this.wireDownloads();
    this.applyLevels();
    this.showView();
    this.keys = (event) => this.onKey(event);
    document.addEventListener("keydown", this.keys);
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.find(".tracks"));
  }

  close() {
    clearTimeout(this.timer);
    document.removeEventListener("keydown", this.keys);
    this.sizes.disconnect();
    this.player.close();
  }

  wire() {
    this.find(".play").onclick = () => this.togglePlaying();
    const position = this.find(".position");
    position.max = this.data.frames / this.data.rate;
    position.oninput = () => this.seek(Number(position.value));
    for (const input of this.element.querySelectorAll('[name="listen"]')) {
      input.onchange = () => this.applyLevels();
    }
    for (const input of this.element.querySelectorAll('[name="view"]')) {
      input.onchange = () => this.showView();
    }
    this.find(".from").onclick = () => this.setLoopEdge(0);
    this.find(".to").onclick = () => this.setLoopEdge(1);
    this.find(".loop").onclick = () => this.useLoop(!this.player.loop);
    this.find(".floor").textContent = `${this.data.floor} dB`;
    for (const { element } of this.tracks) {
      const picture = element.querySelector(".picture");
      const seek = (event) => {
        const { left, width } = picture.getBoundingClientRect();
        this.seek(((event.clientX - left) / width) * (this.data.frames / this.data.rate));
      };
      picture.onpointerdown = (event) => {
        picture.setPointerCapture(event.pointerId);
        seek(event);
      };
      picture.onpointermove = (event) => event.buttons && seek(event);
    }
  }

  wireDownloads() {
    const select = this.find(".format select");
    select.replaceChildren(
      ...Object.entries(this.data.formats).map(([key, name]) => new Option(name, key)),
    );
    select.onchange = () => this.showDownloads();
  }

  // Factors of all tracks, the whole song first: what is heard.
  levels() {
    const listen = this.find('[name="listen"]:checked').value;
    const stems = this.tracks.slice(1);
    const alone = stems.some((track) => track.solo);
    const on = stems.map((track) => (alone ? track.solo : !track.muted));
    stems.forEach((track, index) => track.element.classList.toggle("off", !on[index]));
    if (listen === "original") return [1, ...stems.map(() => 0)];
    const mix = stems.map((track, index) => (on[index] ? track.level : 0));
    return listen === "mix" ? [0, ...mix] : [1, ...mix.map((level) => -level)];
  }

  applyLevels() {
    this.player.setLevels(this.levels());
    this.showDownloads();
  }

  showDownloads() {
    const { address } = this.data;
    const format = this.find(".format select").value;
    this.tracks.forEach((track, index) => {
      track.element.querySelector(".one").href = `${address}/stem/${index}/${format}`;
    });
    this.find(".all").href = `${address}/stems/${format}`;
    const levels = this.levels();
    const gains = levels.map((level) => String(Math.round(level * 1e6) / 1e6));
    const mix = this.find(".mix");
    mix.href = `${address}/mix/${format}?gains=${gains.join(",")}`;
    mix.setAttribute("aria-disabled", String(levels.every((level) => level === 0)));
  }

  showView() {
    const spectrogram = this.find('[name="view"]:checked').value === "spectrogram";
    this.element.classList.toggle("spectrogram", spectrogram);
    this.find(".legend").hidden = !spectrogram;
    for (const track of this.tracks) track.show(spectrogram);
    this.redraw();
  }

  redraw() {
    // the browser's own sliders and the words on coloured buttons follow the page's theme
    const theme = getComputedStyle(this.element);
    const dark = (name) => isDark(theme.getPropertyValue(name));
    this.element.style.colorScheme = dark("--st-background-color") ? "dark" : "light";
    this.element.style.setProperty("--on-primary", dark("--st-primary-color") ? "#fff" : "#111");
    for (const track of this.tracks) track.draw(this.peak);
    this.showTime();
  }

  togglePlaying() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
    this.showPlaying("");
  }

  seek(seconds) {
    this.player.seek(seconds * this.data.rate);
    this.showTime();
  }

  setLoopEdge(edge) {
    const loop = [...this.loop];
    loop[edge] = this.player.now();
    const shortest = this.data.rate / 10;
    if (loop[1] - loop[0] < shortest) loop[1 - edge] = edge ? 0 : this.data.frames;
    const longEnough = loop[1] - loop[0] >= shortest;
    this.loop = longEnough ? loop : [0, this.data.frames];
    this.useLoop(longEnough);
  }

  useLoop(on) {
    this.player.setLoop(on ? this.loop : null);
    this.find(".loop").setAttribute("aria-pressed", String(on));
    this.element.classList.toggle("looping", on);
    const shares = on ? this.loop.map((frame) => frame / this.data.frames) : [0, 0];
    this.element.style.setProperty("--loop-from", shares[0]);
    this.element.style.setProperty("--loop-to", shares[1]);
  }

  showPlaying(message) {
    const { playing } = this.player;
    this.find(".play").setAttribute("aria-label", playing ? "Pause" : "Play");
    this.find(".icon").setAttribute("d", playing ? ICONS.pause : ICONS.play);
    this.find(".message").textContent = message;
    this.follow();
  }

  showTime() {
    const { frames, rate } = this.data;
    const now = this.player.now();
    const text = `${clock(now / rate)} / ${clock(frames / rate)}`;
    this.find(".clock").textContent = text;
    this.find(".position").value = now / rate;
    this.find(".position").setAttribute("aria-valuetext", text);
    this.element.style.setProperty("--at", now / frames);
  }

  // Show the time, again and again as long as it plays.
  follow() {
    clearTimeout(this.timer);
    this.showTime();
    if (this.player.playing) this.timer = setTimeout(() => this.follow(), PAUSE);
  }

  onKey(event) {
    const target = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || takesKeys(target, event.key)) return;
    const now = this.player.now() / this.data.rate;
    const actions = {
      " ": () => this.togglePlaying(),
      ArrowLeft: () => this.seek(now - STEP),
      ArrowRight: () => this.seek(now + STEP),
      Home: () => this.seek(0),
      "[": () => this.setLoopEdge(0),
      "]": () => this.setLoopEdge(1),
      l: () => this.useLoop(!this.player.loop),
    };
    const action = actions[event.key] ?? this.numberAction(event);
    if (!action) return;
    event.preventDefault();
    action();
  }

  numberAction({ code, shiftKey }) {
    const number = Number(/^(?:Digit|Numpad)([1-9])$/.exec(code)?.[1]);
    const track = number ? this.tracks[number] : undefined;
    return track && (() => track.toggle(shiftKey ? "solo" : "mute", () => this.applyLevels()));
  }
}

// Whether a key means something to the control that has the focus.
function takesKeys(target, key) {
  if (target.matches?.('textarea, select, [contenteditable="true"], [role="slider"]')) return true;
  if (target.matches?.("input")) {
    if (!["range", "radio", "checkbox"].includes(target.type)) return true;
    return key.startsWith("Arrow") || key === "Home" || (key === " " && target.type !== "range");
  }
  return key === " " && Boolean(target.matches?.("button, a, summary"));
}

function isDark(colour) {
  const paint = document.createElement("canvas").getContext("2d");
  paint.fillStyle = colour.trim();
  paint.fillRect(0, 0, 1, 1);
  const [red, green, blue] = paint.getImageData(0, 0, 1, 1).data;
  return red + green + blue < 384;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
