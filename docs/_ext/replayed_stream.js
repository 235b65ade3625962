// `run` of stream.js on the site: the events come from a recording, when they came then.

export * from "./live.js";

const recording = fetch(new URL("recording.json", import.meta.url))
  .then((answer) => answer.json());

export async function run(name, params, report, onEvent = () => {}) {
  const { runs } = await recording;
  const events = runs[`${name} ${JSON.stringify(params)}`];
  if (!events) throw new Error(name === "queueing" ? LOADS : "This was not recorded.");
  const began = performance.now();
  let last = null;
  for (const [at, event] of events) {
    await wait(at - (performance.now() - began), report.signal);
    if (event.status) report(event.status);
    else onEvent((last = event));
  }
  return last;
}

const LOADS = "Only three loads were recorded: 8, 16 and 19 jobs per second of 200 ms, with 4 threads in 1 process.";

function wait(duration, signal) {
  return new Promise((done, fail) => {
    const timer = setTimeout(done, Math.max(duration, 0));
    signal.addEventListener("abort", () => { clearTimeout(timer); fail(signal.reason); }, { once: true });
  });
}
