// A check whose steps are shown as they come.

import { reason, run, whileRunning } from "./stream.js";

export function check(button, list, name, params, opening) {
  const show = (text) => list.replaceChildren(step("…", text));
  return whileRunning(button, show, (report) => steps(list, name, params, opening, report));
}

async function steps(list, name, params, opening, report) {
  report(opening);
  let first = true;
  try {
    await run(name, params, report, (event) => {
      if (first) list.replaceChildren();
      first = false;
      list.append(step(event.good ? "✓" : "✗", event.text));
    });
  } catch (error) {
    list.append(step(error.name === "AbortError" ? "…" : "✗", reason(error)));
  }
}

function step(sign, text) {
  const item = document.createElement("li");
  item.className = { "✓": "good", "✗": "bad" }[sign] ?? "";
  const mark = document.createElement("b");
  mark.textContent = sign;
  item.append(mark, ` ${text}`);
  return item;
}
