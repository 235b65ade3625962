// See: three timelines of the same four requests, on one scale.

import { settle } from "./guess.js";
import { $, $$, ms, onPress, run } from "./stream.js";
import { Timeline, onLanes, raceLanes } from "./timeline.js";

const VISITORS = 3;
const WHERE = { sync: "its work", thread: "its threads", background: "the worker" };

const timelines = Object.fromEntries($$("[data-timeline]").map((svg) => [svg.dataset.timeline, new Timeline(svg, raceLanes(VISITORS, WHERE[svg.dataset.timeline], svg.dataset.timeline === "sync" ? 1 : VISITORS))]));

async function play(pattern, report) {
  const timeline = timelines[pattern];
  const waits = [];
  let bystander = null;
  let mails = 0;
  report(`/${pattern}: three people join, and a bystander comes…`);
  timeline.start();
  try {
    await run("race", { pattern, visitors: VISITORS }, report, (event) => {
      timeline.add(onLanes(event));
      if (event.what === "waiting" && event.kind === "end") event.lane === "bystander" ? (bystander = event.took) : waits.push(event.took);
      if (event.what === "mail") mails += 1;
    });
  } finally {
    timeline.stop();
  }
  if (pattern === "sync") settle("see-sync", bystander);
  waits.sort((a, b) => a - b);
  const summary = `The members waited ${waits.map(ms).join(", ")}; the bystander ${ms(bystander)}. ${mails} mails arrived.`;
  $(`#sum-${pattern}`).textContent = summary;
  const scale = Math.max(...Object.values(timelines).map((each) => each.now), 1000);
  for (const each of Object.values(timelines)) each.share(Math.ceil(scale / 500) * 500);
  return summary;
}

onPress($("#run"), $("#status"), async (report) => {
  for (const pattern of Object.keys(timelines)) await play(pattern, report);
  report("Played. All three are drawn on one scale.");
});
for (const button of $$("[data-play]")) {
  onPress(button, $("#status"), async (report) => report(`Played /${button.dataset.play}. ${await play(button.dataset.play, report)}`));
}
