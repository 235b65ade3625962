// Why: the same sign-up twice, with a bystander beside it. The figures count while they wait.

import { keepFinish, settle } from "./guess.js";
import { $, $$, ms, onPress, run, setBar, silent } from "./stream.js";

const LANES = { visitor: "visitor 0", bystander: "bystander", work: "work" };

async function race(pattern, report) {
  const began = {};
  const spans = {};
  const scale = Number($("meter").max);
  let running = true;
  const draw = () => {
    if (!running) return;
    for (const [key, start] of Object.entries(began)) {
      if (spans[key] === undefined) show(pattern, key, performance.now() - start, scale);
    }
    requestAnimationFrame(draw);
  };
  requestAnimationFrame(draw);
  try {
    await run("race", { pattern, visitors: 1 }, report, (event) => {
      const key = Object.keys(LANES).find((each) => event.lane === LANES[each] || (each === "work" && event.what === "work"));
      if (!key) return;
      if (event.kind === "begin") began[key] = performance.now();
      if (event.kind === "end") show(pattern, key, (spans[key] = event.took), scale);
      if (event.lane === LANES.visitor && event.kind === "end") report("The new member has an answer. The work goes on…");
    });
  } finally {
    running = false;
  }
  return spans;
}

function show(pattern, key, value, scale) {
  setBar(`${pattern}-${key}`, value, Math.max(scale, value));
  if (key === "visitor") $(`[data-big="${pattern}"]`).textContent = ms(value);
}

onPress($("#run"), $("#status"), async (report) => {
  for (const meter of $$("meter")) meter.value = 0;
  report("The work in the request: the new member and the bystander are waiting…");
  const before = await race("sync", silent(report));
  report("The work as a job…");
  const after = await race("background", report);
  const most = Math.max(...Object.values(before), ...Object.values(after));
  for (const [pattern, spans] of [["sync", before], ["background", after]]) {
    for (const [key, value] of Object.entries(spans)) setBar(`${pattern}-${key}`, value, most);
  }
  settle("why-sync", before.bystander);
  settle("why-background", after.bystander);
  keepFinish(before.visitor, after.visitor);
  $("#source").textContent = "Measured just now, on this machine.";
  report(`The new member waited ${ms(before.visitor)}, then ${ms(after.visitor)}. The bystander waited ${ms(before.bystander)}, then ${ms(after.bystander)}.`);
});
