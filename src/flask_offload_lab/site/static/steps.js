// A check whose steps are shown as they come.

import { run } from "./stream.js";

export async function check(button, list, name, params, opening) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  list.replaceChildren(step("…", opening));
  let first = true;
  try {
    const report = (text) => list.replaceChildren(step("…", text));
    await run(name, params, report, (event) => {
      if (first) list.replaceChildren();
      first = false;
      list.append(step(event.good ? "✓" : "✗", event.text));
    });
  } catch (error) {
    list.append(step("✗", error.message));
  } finally {
    button.removeAttribute("aria-disabled");
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
