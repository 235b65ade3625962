// Queue: a load, its formula and its measurement; a retry storm; a poison job.

import { settle } from "./guess.js";
import { $, $$, ms, onPress, run } from "./stream.js";
import { node } from "./timeline.js";

// --- 1: the formula and the machine ----------------------------------------------------------

const measured = [];

function load() {
  return Object.fromEntries(["rate", "work", "threads", "workers"].map((name) => [name, Number($(`#${name}`).value)]));
}

const serversOf = ({ threads, workers }) => threads * workers;
const fullLoad = (given) => (serversOf(given) * 1000) / given.work;

// The mean wait in ms. Erlang's B formula by its recursion, then C from B; see the page for the source.
export function meanWait(given) {
  const servers = serversOf(given);
  const offered = (given.rate * given.work) / 1000;
  const busy = offered / servers;
  if (busy >= 1) return Infinity;
  let blocked = 1;
  for (let count = 1; count <= servers; count += 1) blocked = (offered * blocked) / (count + offered * blocked);
  const mustWait = blocked / (1 - busy * (1 - blocked));
  return (mustWait * 1000) / ((servers * 1000) / given.work - given.rate);
}

const sameServers = (one, other) => ["work", "threads", "workers"].every((name) => one[name] === other[name]);

function show() {
  const given = load();
  for (const output of $$("#load output")) output.textContent = $(`#${output.htmlFor}`).value + output.dataset.unit;
  const wait = meanWait(given);
  const busy = Math.round((given.rate / fullLoad(given)) * 100);
  $("#formula").textContent = wait === Infinity ? "∞" : ms(wait);
  $("#formula-note").textContent = wait === Infinity
    ? `${busy}% of full load: more comes than ${serversOf(given)} threads can do, so the queue grows.`
    : `waits a job on average; ${serversOf(given)} threads are ${busy}% busy`;
  const mine = measured.filter((each) => sameServers(each, given) && each.rate === given.rate);
  const last = mine.at(-1);
  $("#measured").textContent = last ? ms(last.mean) : "–";
  $("#measured-note").textContent = !last ? "Not measured yet with this load."
    : last.left ? `waited those of ${last.jobs} jobs that started; ${last.left} never did in this time`
      : `waited each of ${last.jobs} jobs on average; one in twenty more than ${ms(last.p95)}`;
  draw(given);
}

function draw(given) {
  const svg = $("#curve");
  const width = Math.max(svg.clientWidth, 300);
  const dots = measured.filter((each) => sameServers(each, given));
  const full = fullLoad(given);
  const right = Math.max(full * 1.12, given.rate * 1.05, ...dots.map((dot) => dot.rate * 1.05));
  const top = Math.max(given.work * 2, ...dots.map((dot) => dot.mean * 1.15));
  const x = (rate) => 70 + (rate / right) * (width - 90);
  const y = (wait) => 220 - (Math.min(wait, top) / top) * 200;
  const parts = [];
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    parts.push(node("line", { class: "axis", x1: 66, x2: width - 12, y1: y(top * part), y2: y(top * part) }));
    parts.push(node("text", { x: 60, y: y(top * part) + 4, "text-anchor": "end" }, ms(top * part)));
    const rate = right * part;
    if (part) parts.push(node("text", { x: x(rate), y: 238, "text-anchor": part === 1 ? "end" : "middle" }, rate.toFixed(rate < 20 ? 1 : 0)));
  }
  parts.push(node("text", { x: 70, y: 254 }, "jobs per second"));
  parts.push(node("line", { class: "needle dashed", x1: x(given.rate), x2: x(given.rate), y1: 12, y2: 220 }));
  const points = [];
  for (let step = 0; step <= 200; step += 1) {
    const rate = (full * step) / 200;
    const wait = meanWait({ ...given, rate });
    points.push(`${x(rate).toFixed(1)},${y(wait).toFixed(1)}`);
    if (wait > top) break;
  }
  parts.push(node("polyline", { class: "line", points: points.join(" ") }));
  for (const dot of dots) {
    const circle = node("circle", { class: "dot-a", cx: x(dot.rate), cy: y(dot.mean), r: 6 });
    circle.append(node("title", {}, `${dot.rate} jobs per second: ${ms(dot.mean)}`));
    parts.push(circle);
  }
  svg.setAttribute("viewBox", `0 0 ${width} 260`);
  svg.replaceChildren(...parts);
}

$("#load").addEventListener("input", show);

onPress($("#run"), $("#queue-status"), async (report) => {
  const given = load();
  const found = await run("queueing", given, report, (event) => {
    if (event.at !== undefined) report(`${event.at.toFixed(1)} s: ${event.running} running, ${event.waiting} waiting.`);
  });
  measured.push({ ...given, ...found });
  settle("queue-wait", found.mean);
  show();
  report(found.left ? "More came than could be done." : "Measured. Each run leaves a mark on the curve; change one slider and measure again.");
});

// --- 2: the retry storm ----------------------------------------------------------------------

onPress($("#storm-run"), $("#storm-status"), async (report) => {
  const found = {};
  for (const jitter of ["off", "on"]) {
    $(`[data-took="${jitter}"]`).textContent = "…";
    $(`[data-calls="${jitter}"]`).textContent = "until all forty jobs are done";
  }
  for (const jitter of ["off", "on"]) {
    found[jitter] = await run("storm", { jitter }, report, (event) => {
      if (!event.served) return;
      drawStorm(jitter, event);
      report(`Jitter ${jitter}: ${event.done} of ${event.jobs} jobs done.`);
    });
    const { took, calls, peak } = found[jitter];
    $(`[data-took="${jitter}"]`).textContent = took == null ? "not done" : ms(took);
    $(`[data-calls="${jitter}"]`).textContent = `until all forty jobs are done; ${calls} calls, ${peak} of them in the busiest tenth of a second after the service was up`;
  }
  settle("queue-storm", found.off.calls);
  report(`The last job was done after ${ms(found.off.took)} without jitter, ${ms(found.on.took)} with it.`);
});

function drawStorm(jitter, { served, refused }) {
  const svg = $(`[data-storm="${jitter}"]`);
  const width = Math.max(svg.clientWidth, 240);
  const steps = Math.max(110, served.length);
  const x = (step) => 30 + (step / steps) * (width - 40);
  const y = (calls) => 122 - (calls / 32) * 112;
  const parts = [];
  for (const calls of [0, 10, 20, 30]) {
    parts.push(node("line", { class: "axis", x1: 28, x2: width - 8, y1: y(calls), y2: y(calls) }));
    parts.push(node("text", { x: 22, y: y(calls) + 4, "text-anchor": "end" }, String(calls)));
  }
  for (let second = 0; second * 10 <= steps; second += 2) parts.push(node("text", { x: x(second * 10), y: 142 }, `${second} s`));
  const bar = (step, from, calls, kind) => node("rect", { class: kind, x: x(step), width: Math.max((width - 40) / steps - 0.5, 1), y: y(from + calls), height: y(from) - y(from + calls) });
  served.forEach((calls, step) => {
    if (calls) parts.push(bar(step, 0, calls, "fill-good"));
    if (refused[step]) parts.push(bar(step, calls, refused[step], "fill-wait"));
  });
  svg.setAttribute("viewBox", `0 0 ${width} 150`);
  svg.replaceChildren(...parts);
}

// --- 3: the poison job -----------------------------------------------------------------------

onPress($("#poison-run"), $("#poison-status"), async (report) => {
  const cells = $$("#others li");
  for (const cell of cells) cell.textContent = "–";
  $("#poison-end").textContent = $("#others-note").textContent = "\u00a0";
  $("#poison-runs").textContent = $("#others-done").textContent = "…";
  const found = await run("poison", {}, report, (event) => {
    $("#poison-runs").textContent = `${event.runs.length} ${event.runs.length === 1 ? "run" : "runs"}`;
    $("#others-done").textContent = `${event.done.length} of ${cells.length}`;
    for (const index of event.done) cells[index].textContent = "✓";
    report(event.runs.length ? `The job has killed ${event.runs.length === 1 ? "a process" : `${event.runs.length} processes`}.` : "Ordinary jobs run…");
  });
  $("#poison-end").textContent = `${found.ended}: ${found.reason}`;
  $("#others-note").textContent = found.twice ? `are done; ${found.twice} of them ran twice, because the process that ran them was killed` : "are done";
  settle("queue-poison", found.runs.length);
  report(`It was started ${found.runs.length} times, at ${found.runs.map((at) => ms(at)).join(", ")}. ${found.done.length} of ${found.others} other jobs are done.`);
});

// --- the start -------------------------------------------------------------------------------

for (const jitter of ["off", "on"]) drawStorm(jitter, { served: [], refused: [] });
show();
new ResizeObserver(() => draw(load())).observe($("#curve"));
