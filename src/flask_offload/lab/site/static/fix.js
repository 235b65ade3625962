// Fix: the pieces can be chosen and moved; what is sent are their names, never any code.

import { $, $$, run } from "./stream.js";

for (const section of $$("[data-fix]")) {
  const list = $(".pieces", section);
  const original = [...list.children];
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-up], [data-down]");
    if (button) move(button);
  });
  $("[data-reset]", section).addEventListener("click", () => {
    list.replaceChildren(...original);
    for (const select of $$("select", list)) select.selectedIndex = 0;
    $(".steps", section).replaceChildren();
  });
  $("[data-check]", section).addEventListener("click", (event) => check(section, event.currentTarget));
}

function move(button) {
  const item = button.closest("li");
  const other = button.matches("[data-up]") ? item.previousElementSibling : item.nextElementSibling;
  if (!other?.hasAttribute("data-moves")) return;
  if (button.matches("[data-up]")) other.before(item);
  else other.after(item);
  button.focus();
}

async function check(section, button) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  const steps = $(".steps", section);
  steps.replaceChildren(step("…", "Putting it together and starting a worker…"));
  const pieces = $$("[data-piece]", section);
  const answer = {
    challenge: section.dataset.fix,
    order: pieces.filter((piece) => piece.hasAttribute("data-moves")).map((piece) => piece.dataset.piece),
    choices: Object.fromEntries(pieces.map((piece) => [piece.dataset.piece, Number($("select", piece)?.value ?? 0)])),
  };
  let first = true;
  try {
    await run("fix", answer, (event) => {
      if (event.waiting) return;
      if (first) steps.replaceChildren();
      first = false;
      steps.append(step(event.good ? "✓" : "✗", event.text));
    });
  } catch (error) {
    steps.append(step("✗", error.message));
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function step(sign, text) {
  const item = document.createElement("li");
  item.className = sign === "✓" ? "good" : sign === "✗" ? "bad" : "";
  const mark = document.createElement("b");
  mark.textContent = sign;
  item.append(mark, ` ${text}`);
  return item;
}
