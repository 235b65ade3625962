// Try: up to twenty visitors, one timeline, real mails and real pictures.

import { settle } from "./guess.js";
import { $, ms, onPress, run } from "./stream.js";
import { Timeline, onLanes, raceLanes } from "./timeline.js";

const sampleApp = document.querySelector("iframe").src.replace(/\/$/, "");
const WHERE = { sync: "its work", thread: "its threads", background: "the worker" };
const MOST = 20;
const pattern = () => $("input[name=pattern]:checked").value;
const timeline = new Timeline($("#timeline"), lanes(), 3000);

function count() {
  return Math.min(Math.max(Math.round(Number($("#visitors").value)) || 1, 1), MOST);
}

function lanes() {
  const rows = { sync: 1, thread: count(), background: Math.min(count(), 4) }[pattern()];
  return raceLanes(count(), WHERE[pattern()], rows);
}

$("#crowd").addEventListener("input", () => {
  if (!timeline.running) timeline.setLanes(lanes());
});

onPress($("#run"), $("#status"), async (report) => {
  const visitors = count();
  const way = pattern();
  $("#visitors").value = visitors;
  const waits = [];
  let bystander = null;
  let first = null;
  timeline.setLanes(lanes());
  $("#mails").replaceChildren();
  report(`${visitors} people join through /${way}, and a bystander comes…`);
  timeline.start();
  try {
    await run("race", { pattern: way, visitors }, report, (event) => {
      timeline.add(onLanes(event));
      if (event.what === "waiting" && event.kind === "end") {
        if (event.lane === "bystander") bystander = event.took;
        else waits.push(event.took);
        report(`${waits.length} of ${visitors} have been answered…`);
      }
      if (event.what === "mail") receive(event);
      if (event.what === "work" && event.kind === "end" && !first) show((first = event.name));
    });
  } finally {
    timeline.stop();
  }
  waits.sort((a, b) => a - b);
  if (way === "sync" && visitors === 5) settle("try-last", waits.at(-1));
  report(`Done. The quickest answer took ${ms(waits[0])}, the slowest ${ms(waits.at(-1))}; the bystander waited ${ms(bystander)}.`);
});

function receive(event) {
  const item = document.createElement("li");
  const time = document.createElement("b");
  time.textContent = `${(event.at / 1000).toFixed(1)} s`;
  item.append(time, ` to ${event.name}: ${event.text.replaceAll("\n", " ").slice(0, 90)}`);
  const inbox = $("#mails");
  inbox.append(item);
  inbox.scrollTop = inbox.scrollHeight;
}

function show(name) {
  const pictures = [512, 256, 128, 64].map((size) => {
    const image = new Image();
    image.src = `${sampleApp}/members/${name}/${size}.webp`;
    image.alt = `The portrait, ${size} pixels`;
    return image;
  });
  $("#pictures").replaceChildren(...pictures);
  $("#pictures-note").textContent = `Ten files for ${name}; here are four.`;
}

$("#upload").addEventListener("submit", async (event) => {
  if (event.submitter?.hasAttribute("formaction")) return;
  event.preventDefault();
  const status = $("#photo-status");
  status.classList.remove("bad");
  status.textContent = "Looking at your photo…";
  const response = await fetch(event.target.action, { method: "POST", body: new FormData(event.target), headers: { Accept: "text/plain" } });
  status.textContent = await response.text();
  status.classList.toggle("bad", !response.ok);
});
