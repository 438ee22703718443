// Plays speech while it is generated: 16-bit samples of one channel, without gaps.
const FIRST_LEAD = 0.1; // seconds between a chunk's arrival and its playback
const LONGEST_LEAD = 3;

export class LivePlayer {
  // Made by a click, since the browser mutes it otherwise.
  constructor(rate) {
    this.rate = rate;
    this.context = new AudioContext({ sampleRate: rate });
    this.context.resume();
    this.frame = 0; // start of the next chunk on the context's clock
    this.lead = FIRST_LEAD;
  }

  stop() {
    this.context?.close();
    this.context = null;
  }

  // Let what has arrived be heard.
  end() {
    const own = this.context;
    if (own === null) return;
    const seconds = this.frame / this.rate - own.currentTime;
    setTimeout(() => own === this.context && this.stop(), 1000 * Math.max(0, seconds) + 300);
  }

  // base64: little-endian samples.
  push(base64) {
    if (this.context === null) return;
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const count = bytes.length >> 1;
    if (count === 0) return;
    const now = Math.ceil(this.context.currentTime * this.rate);
    if (this.frame < now) {
      // The first chunk, or a late one: each late one increases the lead.
      this.frame = now + Math.round(this.lead * this.rate);
      this.lead = Math.min(2 * this.lead, LONGEST_LEAD);
    }
    const buffer = this.context.createBuffer(1, count, this.rate);
    const samples = buffer.getChannelData(0);
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(2 * i, true) / 32767;
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    source.start(this.frame / this.rate);
    this.frame += count;
  }
}

// Recordings and takes: one at a time.
let playing = null;

export function play(audio) {
  if (playing && playing !== audio) playing.pause();
  playing = audio;
  return audio.play().catch(() => {});
}

export function silence() {
  playing?.pause();
}

// Plays a sound once, with a button that shows whether it does.
export function soundButton(button, address, setIcon) {
  let audio = null;
  button.addEventListener("click", () => {
    if (audio && !audio.paused) return audio.pause();
    if (audio === null) {
      audio = new Audio();
      audio.addEventListener("play", () => setIcon("pause"));
      for (const end of ["pause", "ended"]) audio.addEventListener(end, () => setIcon("play"));
    }
    audio.src = address();
    play(audio);
  });
}
