// Measure: loads the sample app in a frame, whose page reports what the browser measured of it.

import { settle } from "./guess.js";
import { $, $$, ms, onPress, run, setBar } from "./stream.js";
import { node } from "./timeline.js";

const PATHS = { sync: "/sync", thread: "/thread", background: "/background", progress: "/background?progress", careless: "/background?careless" };
const loads = {};
let screen = $("#screen");
let turn = 0;

// --- one load --------------------------------------------------------------------------------

function load(key, signal) {
  const fresh = screen.cloneNode(false);
  const path = PATHS[key];
  turn += 1;
  const url = `${sampleApp}${path}${path.includes("?") ? "&" : "?"}turn=${turn}`;
  return new Promise((done, fail) => {
    const late = setTimeout(() => finish(fail, new Error("The frame did not report; is the sample app still running?")), 45000);
    const onMessage = (event) => {
      if (event.source === fresh.contentWindow && event.origin === sampleApp && event.data?.load) finish(done, event.data.load);
    };
    const finish = (settle, value) => {
      removeEventListener("message", onMessage);
      clearTimeout(late);
      settle(value);
    };
    addEventListener("message", onMessage);
    signal.addEventListener("abort", () => finish(fail, signal.reason), { once: true });
    fresh.src = url;
    screen.replaceWith(fresh);
    screen = fresh;
    screen.scrollIntoView({ block: "nearest" });
  });
}

const { sampleApp } = $("#screen").dataset;
// Those of `flask offload measure`, so that one figure has one verdict everywhere.
const limits = JSON.parse($("#screen").dataset.limits);

async function measure(key, report) {
  report(`Loading ${PATHS[key]}…`);
  const began = performance.now();
  const counting = setInterval(() => report(`Loading ${PATHS[key]}… ${((performance.now() - began) / 1000).toFixed(1)} s`), 100);
  try {
    loads[key] = await load(key, report.signal);
  } finally {
    clearInterval(counting);
  }
  show(key);
  if (key === "sync") settle("measure-sync", loads[key].lcp);
  return loads[key];
}

function show(key) {
  const got = loads[key];
  if ($(`[data-meter="${key}-ttfb"]`)) {
    const most = Math.max(1500, ...Object.values(loads).map((each) => each.lcp ?? each.response));
    for (const each of $$("[data-meter]")) if (!each.dataset.meter.startsWith("bystander")) each.max = most;
    for (const what of ["ttfb", "response", "fcp", "lcp"]) setBar(`${key}-${what}`, got[what]);
  }
  $("#status").textContent = `${PATHS[key]}: first byte after ${ms(got.ttfb)}, response complete after ${ms(got.response)}, largest paint after ${ms(got.lcp)}.`;
  cell(key, "dom", String(got.changes), "page");
  cell(key, "ttfb", ms(got.ttfb), "page");
  cell(key, "lcp", ms(got.lcp), `page, ${got.lcpElement?.split(" ")[0] ?? "none"}`);
  const [verdict, why] = judge(key, got);
  cell(key, "verdict", verdict, why);
  drawPipeline(key);
  drawGauges();
  if (got.timing.length) $("#header").textContent = `Server-Timing: ${got.timing.map((each) => `${each.name};dur=${each.duration.toFixed(1)}`).join(", ")}`;
}

function judge(key, got) {
  if (got.ttfb > limits.answer.good) return ["✗ Bad", "the first byte is late"];
  if (got.cls > 0.02) return ["△ Mixed", `the text jumps, CLS ${got.cls.toFixed(2)}`];
  return ["✓ Good", key === "thread" ? "quick; lost in a crash" : "an immediate answer"];
}

function cell(key, column, text, source) {
  const place = $(`[data-row="${key}"] [data-cell="${column}"]`);
  if (!place) return;
  const small = document.createElement("small");
  small.textContent = source;
  place.replaceChildren(text, small);
  if (column === "verdict") place.className = `verdict ${text.startsWith("✗") ? "bad-ink" : text.startsWith("✓") ? "good-ink" : ""}`;
}

// --- pictures --------------------------------------------------------------------------------

function drawPipeline(key) {
  const svg = $(`[data-pipeline="${key}"]`);
  if (!svg) return;
  const most = Math.max(...["sync", "background"].map((each) => loads[each]?.lcp ?? 0));
  for (const each of ["sync", "background"]) if (loads[each]) stations(each, most);
}

function stations(key, most) {
  const got = loads[key];
  const svg = $(`[data-pipeline="${key}"]`);
  const server = got.timing.find((each) => each.name === "total")?.duration ?? 0;
  const parts = [
    ["server", server, "fill-wait"],
    ["network and queue", Math.max(got.response - server, 0), "fill-soft"],
    ["browser", Math.max((got.lcp ?? got.response) - got.response, 0), "fill-page"],
  ];
  const width = Math.max(svg.clientWidth, 300);
  svg.setAttribute("viewBox", `0 0 ${width} 46`);
  let x = 8;
  const unit = (width - 16) / most;
  const slowest = parts.reduce((a, b) => (b[1] > a[1] ? b : a));
  svg.replaceChildren(...parts.flatMap((part) => {
    const [name, value, fill] = part;
    const rect = node("rect", { class: fill, x, y: 10, width: Math.max(value * unit, 1), height: 26 });
    rect.append(node("title", {}, `${name}: ${ms(value)}`));
    const label = node("text", { class: "inside", x: x + 10, y: 28 }, part === slowest ? `${name}: the bottleneck` : name);
    x += value * unit;
    return value * unit > 190 ? [rect, label] : [rect];
  }));
  $(`#t-${key}`).textContent = `${parts.map(([name, value]) => `${name} ${ms(value)}`).join(" → ")}. The bottleneck: ${slowest[0]}.`;
}

const GAUGES = { lcp: { most: 5000, ...limits.lcp, name: "LCP" }, ttfb: { most: 2500, ...limits.ttfb, name: "TTFB" } };

function drawGauges() {
  for (const [what, { most, good, poor, name }] of Object.entries(GAUGES)) {
    const svg = $(`[data-gauge="${what}"]`);
    const width = Math.max(svg.clientWidth, 300);
    const x = (value) => 58 + (Math.min(value, most) / most) * (width - 70);
    const parts = [
      node("text", { x: 12, y: 41 }, name), zone(x, 0, good, "fill-good", width < 620 ? "" : "good"), zone(x, good, poor, "fill-soft", width < 620 ? "" : "needs improvement"), zone(x, poor, most, "fill-wait", "poor"),
    ].flat();
    for (const key of ["sync", "background"]) {
      if (!loads[key]) continue;
      const at = x(loads[key][what] ?? 0);
      const above = key === "sync";
      parts.push(node("line", { class: "needle", x1: at, x2: at, y1: 16, y2: 58 }));
      parts.push(node("text", { x: at + (at > width - 150 ? -4 : 4), y: above ? 14 : 70, "text-anchor": at > width - 150 ? "end" : "start" }, `/${key} ${ms(loads[key][what])}`));
    }
    svg.setAttribute("viewBox", `0 0 ${width} 74`);
    svg.replaceChildren(...parts);
  }
  if (!loads.sync || !loads.background) return;
  const rate = (what, key) => {
    const value = loads[key][what];
    return `${what.toUpperCase()} ${ms(value)} ${value <= GAUGES[what].good ? "is good" : value <= GAUGES[what].poor ? "needs improvement" : "is poor"}`;
  };
  $("#gauges").textContent = ["sync", "background"].map((key) => `/${key}: ${rate("lcp", key)}, ${rate("ttfb", key)}.`).join(" ");
}

function zone(x, from, to, fill, text) {
  return [node("rect", { class: `${fill} pale`, x: x(from), y: 22, width: x(to) - x(from), height: 30 }), node("text", { x: (x(from) + x(to)) / 2, y: 41, "text-anchor": "middle" }, text)];
}

// --- the buttons -----------------------------------------------------------------------------

for (const button of $$("[data-load]")) {
  onPress(button, $("#status"), async (report) => {
    await measure(button.dataset.load, report);
  });
}

onPress($("#all"), $("#table-status"), async (report) => {
  for (const key of Object.keys(PATHS)) await measure(key, report);
  for (const pattern of ["sync", "background"]) {
    report(`A bystander asks for the home page while three others join through /${pattern}…`);
    await run("race", { pattern, visitors: 3 }, report, (event) => {
      if (event.lane !== "bystander" || event.kind !== "end") return;
      setBar(`bystander-${pattern}`, event.took, Math.max(event.took, $(`[data-meter="bystander-${pattern}"]`).max));
      if (event.app != null) $("#app-clock").textContent = ms(event.app);
    });
  }
  const most = Math.max(...["sync", "background"].map((each) => $(`[data-meter="bystander-${each}"]`).value));
  for (const pattern of ["sync", "background"]) $(`[data-meter="bystander-${pattern}"]`).max = most;
  report("Filled in, by your own browser. The columns in the middle need the headless one.");
});

onPress($("#headless"), $("#table-status"), async (report) => {
  await run("headless", { patterns: Object.keys(PATHS) }, report, (event) => {
    cell(event.pattern, "dom", String(event.dom ?? "–"), "headless");
    cell(event.pattern, "reflows", String(event.reflows ?? "–"), "headless");
    cell(event.pattern, "paint", event.paint == null ? "–" : ms(event.paint), "headless");
    if (loads[event.pattern]) return;
    cell(event.pattern, "ttfb", ms(event.ttfb), "headless");
    cell(event.pattern, "lcp", ms(event.lcp), "headless");
  });
  report("Counted. Reflows and operations are exact. The paint cost of one and the same page may be twice as high in the next load: compare it with care.");
});

for (const button of $$("[data-tip]")) {
  const { tip, on } = button.dataset;
  const list = $(`[data-tip-list="${tip}"]`);
  onPress(button, $(`[data-tip-status="${tip}"]`), async (report) => {
    list.replaceChildren();
    await run("tip", { tip: Number(tip), on }, report, (event) => {
      const item = document.createElement("li");
      item.textContent = event.line;
      item.className = { "✓": "good-ink", "✗": "bad-ink" }[event.line[0]] ?? "";
      list.append(item);
    });
  });
}
drawGauges();
addEventListener("resize", () => {
  drawGauges();
  for (const key of Object.keys(loads)) drawPipeline(key);
});
