// Deep: experiments, each with its own chart.

import { settle } from "./guess.js";
import { $, $$, ms, onPress, run, setBar } from "./stream.js";
import { node } from "./timeline.js";

const actions = { gil, backlog, notifier, lock };
for (const button of $$("[data-run]")) {
  const name = button.dataset.run;
  onPress(button, $(`#${name}-status`), actions[name]);
}
for (const button of $$("[data-kill]")) {
  onPress(button, $(`#kill-${button.dataset.kill}-status`), (report) => kill(button.dataset.kill, report));
}

// --- 1: the interpreter lock -----------------------------------------------------------------

const gilRuns = {};

async function gil(report) {
  for (const key of Object.keys(gilRuns)) delete gilRuns[key];
  await run("gil", {}, report, (event) => {
    gilRuns[event.where] = event;
    drawGil();
  });
  const { thread, background } = gilRuns;
  settle("deep-gil", thread.p50);
  report(`The home page’s median: ${ms(thread.p50)} beside computing threads, ${ms(background.p50)} beside a computing worker. The slowest: ${ms(thread.p99)} and ${ms(background.p99)}.`);
}

function drawGil() {
  const svg = $("#gil-plot");
  const width = Math.max(svg.clientWidth, 300);
  const most = Math.max(100, ...Object.values(gilRuns).flatMap((each) => each.points.map(([, wait]) => wait)));
  const seconds = Math.max(2.4, ...Object.values(gilRuns).flatMap((each) => each.points.map(([at]) => at)));
  const x = (at) => 64 + (at / seconds) * (width - 84);
  const y = (wait) => 176 - (wait / most) * 158;
  const parts = scale(most, 4, (value) => [
    node("line", { class: "axis", x1: 60, x2: width - 12, y1: y(value), y2: y(value) }),
    node("text", { x: 54, y: y(value) + 4, "text-anchor": "end" }, `${Math.round(value)} ms`),
  ]);
  parts.push(...scale(seconds, width < 520 ? 3 : 6, (value) => [node("text", { x: x(value), y: 194, "text-anchor": "middle" }, `${Number(value.toPrecision(2))} s`)]));
  for (const [where, kind] of [["thread", "dot-a"], ["background", "dot-b"]]) {
    for (const [at, wait] of gilRuns[where]?.points ?? []) parts.push(node("circle", { class: kind, cx: x(at), cy: y(wait), r: 4 }));
  }
  svg.setAttribute("viewBox", `0 0 ${width} 210`);
  svg.replaceChildren(...parts);
}

function scale(most, steps, draw) {
  const raw = most / steps;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= raw);
  const parts = [];
  for (let value = 0; value <= most; value += step) parts.push(...draw(value));
  return parts;
}

// --- 2: lost work ----------------------------------------------------------------------------

async function kill(pattern, report) {
  const items = $$(`[data-members="${pattern}"] li`);
  for (const item of items) mark(item, "…", "");
  const found = await run("kill", { pattern }, report);
  items.forEach((item, index) => (index < found.done ? mark(item, "✓ kept", "good-ink") : mark(item, "✗ lost", "bad-ink")));
  report(`${found.killed} processes killed. ${found.answered} people got the page “Welcome”.`);
  const twice = found.twice ? ` ${found.twice} of them came twice.` : "";
  const dropped = found.dropped ? ` The mail server dropped ${found.dropped} repeated ${found.dropped === 1 ? "delivery" : "deliveries"}: it knew the Message-ID.` : "";
  $(`[data-outcome="${pattern}"]`).textContent = found.recovered == null
    ? `${found.done} of ${found.members} mails arrived. No process is left that could send the others.`
    : `${found.done} of ${found.members} mails arrived.${twice}${dropped} The work ran again ${ms(found.recovered)} after the kill.`;
}

function mark(item, text, kind) {
  const word = $("b", item);
  word.textContent = text;
  word.className = kind;
}

// --- 3: the queue ----------------------------------------------------------------------------

async function backlog(report) {
  let most = 10;
  let last = null;
  await run("backlog", {}, report, (event) => {
    most = Math.max(most, event.waited);
    last = event;
    for (const meter of $$("#backlog-bars meter")) meter.max = most;
    setBar(`backlog-${event.others}`, event.waited);
    setBar(`app-${event.others}`, event.app);
  });
  settle("deep-backlog", last.waited);
  report(`With ${last.others} others the bystander waited ${ms(last.waited)}, and the app reported ${ms(last.app)}. The difference is the queue.`);
}

// --- the notifier and the lock ---------------------------------------------------------------

async function notifier(report) {
  const waits = [];
  const found = await run("notifier", {}, report, (event) => {
    if (event.wait === undefined) return;
    waits.push(event.wait);
    drawNotifier(waits);
    report(`Job ${waits.length}: the task’s first line ran ${ms(event.wait)} later.`);
  });
  report(`${found.count} jobs: half of the tasks began within ${ms(found.p50)}, the slowest after ${ms(found.p99)}. Polling once a second would take 500 ms on average.`);
}

function drawNotifier(waits) {
  const svg = $("#notifier-plot");
  const width = Math.max(svg.clientWidth, 300);
  const most = Math.max(5, ...waits) * 1.05;
  const x = (wait) => 16 + (wait / most) * (width - 60);
  const parts = scale(most, width < 520 ? 4 : 8, (value) => [
    node("line", { class: "axis", x1: x(value), x2: x(value), y1: 10, y2: 68 }),
    node("text", { x: x(value) + 3, y: 86 }, `${Number(value.toPrecision(2))} ms`),
  ]);
  waits.forEach((wait, index) => parts.push(node("circle", { class: "dot-b", cx: x(wait), cy: 18 + ((index * 7) % 44), r: 3.5 })));
  svg.setAttribute("viewBox", `0 0 ${width} 96`);
  svg.replaceChildren(...parts);
}

async function lock(report) {
  const found = {};
  await run("lock", {}, report, (event) => {
    found[event.what] = event.again;
    const most = Math.max(...Object.values(found), 100);
    for (const [what, again] of Object.entries(found)) setBar(`lock-${what}`, again, most);
  });
  report(`The job ran again ${ms(found.child)} after its process was killed, ${ms(found.worker)} after the whole worker was.`);
}

drawGil();
drawNotifier([]);
