// Experiments run on the lab's server and send their events as they happen: one JSON object per line.
// An event with a status is progress in words, for report(text); all others are for onEvent.

// report.signal is aborted when the button is pressed again: the lab then ends the experiment.

export async function run(name, params, report, onEvent = () => {}) {
  const response = await fetch(`/run/${name}`, {
    method: "POST",
    signal: report.signal,
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

export function reason(error) {
  if (error.name === "AbortError") return "Stopped.";
  return error instanceof TypeError ? NO_ANSWER : error.message;
}

const running = new WeakMap();

// While the action runs, its button stops it. show(text): where its progress is reported.
export async function whileRunning(button, show, action) {
  if (running.has(button)) return running.get(button).abort();
  const words = [...button.childNodes];
  const stopping = new AbortController();
  running.set(button, stopping);
  button.replaceChildren("Stop");
  const report = (text) => show(text);
  report.signal = stopping.signal;
  try {
    return await action(report);
  } finally {
    button.replaceChildren(...words);
    running.delete(button);
  }
}

// The same, without words.
export function silent(report) {
  const nothing = () => {};
  nothing.signal = report.signal;
  return nothing;
}

// A button that runs something: one at a time, reports its progress, and shows its error.
export function onPress(button, status, action) {
  const show = (text) => { status.textContent = text; };
  button.addEventListener("click", () => whileRunning(button, show, async (report) => {
    status.classList.remove("bad", "result");
    try {
      await action(report);
      status.classList.add("result");
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
