// Experiments run on the lab's server and send their events as they happen: one JSON object per line.
// An event with a status is progress in words, for report(text); all others are for onEvent.

// Aborted when its button is pressed again: the lab then ends the experiment.
let stopping = new AbortController();

export async function run(name, params, report, onEvent = () => {}) {
  const response = await fetch(`/run/${name}`, {
    method: "POST",
    signal: stopping.signal,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(params),
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `The lab answered ${response.status}.`);
  let last = null;
  for await (const event of lines(response.body)) {
    if (event.error) throw new Error(event.error);
    if (event.status) report(event.status);
    else onEvent((last = event));
  }
  return last;
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

export function ms(value) {
  if (value == null) return "–";
  if (value < 10) return `${value.toFixed(1)}\u00a0ms`;
  if (value < 9999.5) return `${Math.round(value).toLocaleString("en")}\u00a0ms`;
  return `${(value / 1000).toFixed(1)}\u00a0s`;
}

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const NO_ANSWER = "The lab does not answer: is it still running in your terminal?";

// Called with the reason when the experiment is stopped.
export function whenStopped(callback) {
  stopping.signal.addEventListener("abort", () => callback(stopping.signal.reason), { once: true });
}

export function reason(error) {
  if (error.name === "AbortError") return "Stopped.";
  return error instanceof TypeError ? NO_ANSWER : error.message;
}

// While the action runs, its button stops it and all others wait.
export async function whileRunning(button, action) {
  if (button.dataset.running) return stopping.abort();
  if ($("[data-running]")) return undefined;
  const words = button.innerHTML;
  stopping = new AbortController();
  button.dataset.running = "yes";
  button.textContent = "Stop";
  document.body.classList.add("running");
  try {
    return await action();
  } finally {
    button.innerHTML = words;
    delete button.dataset.running;
    document.body.classList.remove("running");
  }
}

// A button that runs something: one at a time, reports its progress, and shows its error.
export function onPress(button, status, action) {
  button.addEventListener("click", () => whileRunning(button, async () => {
    status.classList.remove("bad");
    const report = (text) => { status.textContent = text; };
    try {
      await action(report);
    } catch (error) {
      if (error.name !== "AbortError") status.classList.add("bad");
      report(reason(error));
    }
  }));
}

export function setBar(id, value, most) {
  const meter = $(`[data-meter="${id}"]`);
  if (most !== undefined) meter.max = most;
  meter.value = value ?? 0;
  $(`[data-value="${id}"]`).textContent = ms(value);
}
