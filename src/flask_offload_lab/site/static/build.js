// Build: checks a step against the reader's folder.

import { $, $$ } from "./stream.js";
import { check } from "./steps.js";

for (const button of $$("[data-step]")) {
  const step = button.dataset.step;
  button.addEventListener("click", () => check(button, $(`[data-steps="${step}"]`), "step", { step }, "Copying your folder and starting a worker…"));
}
