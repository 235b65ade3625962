// Fix: the pieces can be chosen and moved; what is sent are their names, never any code.

import { $, $$ } from "./stream.js";
import { check } from "./steps.js";

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
    $(".steps", section).textContent = "";
  });
  $("[data-check]", section).addEventListener("click", (event) => {
    check(event.currentTarget, $(".steps", section), "fix", answer(section), "Putting it together and starting a worker…");
  });
}

function move(button) {
  const item = button.closest("li");
  const other = button.matches("[data-up]") ? item.previousElementSibling : item.nextElementSibling;
  if (!other?.hasAttribute("data-moves")) return;
  if (button.matches("[data-up]")) other.before(item);
  else other.after(item);
  button.focus();
}

function answer(section) {
  const pieces = $$("[data-piece]", section);
  return {
    challenge: section.dataset.fix,
    order: pieces.filter((piece) => piece.hasAttribute("data-moves")).map((piece) => piece.dataset.piece),
    choices: Object.fromEntries(pieces.map((piece) => [piece.dataset.piece, Number($("select", piece)?.value ?? 0)])),
  };
}
