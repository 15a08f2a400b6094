// One row of the mixer: name, mute, solo, level, download, and its picture.

const COLOURS = ["#e0693c", "#d9a520", "#12908e", "#6d5bd0", "#c2477f", "#5b8c2a", "#3f7fd1"];
const OFF = -40; // dB at which the level is as good as nothing
const LINES = [100, 1000, 10000]; // Hz

export class Track {
  // template: of the row; data: what the server told; index: 0 is the whole song
  constructor(template, data, index, changed) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.name = data.tracks[index];
    this.outline = data.outlines[index];
    this.colour = index ? COLOURS[(index - 1) % COLOURS.length] : "#8a8f98";
    this.find = (selector) => this.element.querySelector(selector);
    this.element.style.setProperty("--colour", this.colour);
    this.element.classList.toggle("whole", index === 0);
    this.element.setAttribute("aria-label", index ? this.name : "The whole song");
    this.find(".name").textContent = index ? this.name : "song";
    this.find(".name").title = this.name;
    this.find("img").alt = `Spectrogram of ${this.name}`;
    this.pictureAddress = `${data.address}/picture/${index}?${data.version}`;
    this.drawGrid(data);
    this.label(changed);
  }

  get muted() {
    return isPressed(this.find(".mute"));
  }

  get solo() {
    return isPressed(this.find(".solo"));
  }

  // The level as a factor.
  get level() {
    const decibels = Number(this.find(".level").value);
    return decibels <= OFF ? 0 : 10 ** (decibels / 20);
  }

  label(changed) {
    for (const name of ["mute", "solo"]) {
      const button = this.find(`.${name}`);
      button.setAttribute("aria-label", `${button.title} ${this.name}`);
      button.onclick = () => this.toggle(name, changed);
    }
    const level = this.find(".level");
    level.setAttribute("aria-label", `Level of ${this.name}`);
    level.oninput = () => {
      this.showLevel();
      changed();
    };
    level.ondblclick = () => {
      level.value = 0;
      level.oninput();
    };
    this.find(".one").setAttribute("aria-label", `Download ${this.name}`);
    this.showLevel();
  }

  toggle(name, changed) {
    const button = this.find(`.${name}`);
    button.setAttribute("aria-pressed", String(!isPressed(button)));
    changed();
  }

  showLevel() {
    const level = this.find(".level");
    const value = Number(level.value);
    const text = value <= OFF ? "off" : `${value > 0 ? "+" : ""}${value} dB`;
    level.setAttribute("aria-valuetext", text);
    this.find(".decibels").textContent = text;
  }

  show(spectrogram) {
    this.find("canvas").hidden = spectrogram;
    this.find("img").hidden = !spectrogram;
    if (spectrogram) this.find("img").src = this.pictureAddress; // not before it is looked at
    this.find(".grid").hidden = !spectrogram;
  }

  // The waveform, as wide as the screen shows it; `peak` of all tracks is the full height.
  draw(peak) {
    const canvas = this.find("canvas");
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const { width, height } = canvas;
    const paint = canvas.getContext("2d");
    paint.fillStyle = this.colour;
    const [low, high] = this.outline;
    for (let x = 0; x < width; x += 1) {
      const first = Math.floor((x / width) * low.length);
      const last = Math.max(first + 1, Math.floor(((x + 1) / width) * low.length));
      const top = Math.max(...high.slice(first, last)) / peak;
      const bottom = Math.min(...low.slice(first, last)) / peak;
      const y = ((1 - top) / 2) * height;
      paint.fillRect(x, y, 1, Math.max(ratio, ((top - bottom) / 2) * height));
    }
  }

  drawGrid({ lowest, highest }) {
    for (const frequency of LINES.filter((line) => line < highest)) {
      const line = document.createElement("i");
      const share = Math.log(frequency / lowest) / Math.log(highest / lowest);
      line.style.bottom = `${share * 100}%`;
      line.style.transform = "translateY(100%)";
      line.textContent = frequency < 1000 ? `${frequency} Hz` : `${frequency / 1000} kHz`;
      this.find(".grid").append(line);
    }
  }
}

function isPressed(button) {
  return button.getAttribute("aria-pressed") === "true";
}
