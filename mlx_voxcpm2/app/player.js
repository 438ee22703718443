// Plays speech while it is generated: 16-bit samples of one channel, without gaps. `speechRate`, in
// Hz, is defined before this script.
const speechPlayer = (() => {
  const FIRST_LEAD = 0.1; // seconds between a chunk's arrival and its playback
  const LONGEST_LEAD = 3;
  let context = null;

  // Returns the token of the stream. Called by a click, since the browser mutes it otherwise.
  function start() {
    stop();
    context = new AudioContext({ sampleRate: speechRate });
    context.resume();
    const numbers = crypto.getRandomValues(new Uint32Array(4));
    const token = Array.from(numbers, (number) => number.toString(16).padStart(8, "0")).join("");
    play(context, token).catch(() => {}); // the complete speech can be played in any case
    return token;
  }

  function stop() {
    if (context !== null) context.close();
    context = null;
  }

  async function play(own, token) {
    const reader = (await fetch(`speech/${token}`)).body.getReader();
    let odd = new Uint8Array(0); // half a sample, if the network cut there
    let frame = 0; // start of the next chunk on the context's clock
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
        // The first chunk, or a late one: each late one increases the lead.
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
