// Plays what is spoken while it is spoken: 16-bit samples of one channel, one after the other
// without a gap. `speechRate`, their rate, stands before this.
const speechPlayer = (() => {
  const FIRST_LEAD = 0.1; // seconds between a piece's arrival and its sound
  const LONGEST_LEAD = 3;
  let context = null;

  // Returns the token under which the sound is asked for. Called in a click: else it is muted.
  function start() {
    stop();
    context = new AudioContext({ sampleRate: speechRate });
    context.resume();
    const numbers = crypto.getRandomValues(new Uint32Array(4));
    const token = Array.from(numbers, (number) => number.toString(16).padStart(8, "0")).join("");
    play(context, token).catch(() => {}); // the whole take can be played in any case
    return token;
  }

  function stop() {
    if (context !== null) context.close();
    context = null;
  }

  async function play(own, token) {
    const reader = (await fetch(`speech/${token}`)).body.getReader();
    let odd = new Uint8Array(0); // half a sample, where the network cut there
    let frame = 0; // of the next piece, on the context's clock
    let lead = FIRST_LEAD;
    for (;;) {
      const { done, value } = await reader.read();
      if (own !== context) return reader.cancel();
      if (done) return;
      const bytes = new Uint8Array(odd.length + value.length);
      bytes.set(odd);
      bytes.set(value, odd.length);
      const count = bytes.length >> 1;
      odd = bytes.slice(2 * count);
      if (count === 0) continue;
      const now = Math.ceil(own.currentTime * speechRate);
      if (frame < now) {
        // The first piece, or one that is late: the more of them, the more is kept in hand.
        frame = now + Math.round(lead * speechRate);
        lead = Math.min(2 * lead, LONGEST_LEAD);
      }
      schedule(own, new DataView(bytes.buffer), count, frame);
      frame += count;
    }
  }

  function schedule(own, bytes, count, frame) {
    const buffer = own.createBuffer(1, count, speechRate);
    const samples = buffer.getChannelData(0);
    for (let i = 0; i < count; i++) samples[i] = bytes.getInt16(2 * i, true) / 32767;
    const source = new AudioBufferSourceNode(own, { buffer });
    source.connect(own.destination);
    source.start(frame / speechRate);
  }

  return { start, stop };
})();
