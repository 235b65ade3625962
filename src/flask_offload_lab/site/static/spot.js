// Spot: choose a line, run the route, compare with what the profiler found.

import { $, $$, ms, onPress, run } from "./stream.js";

for (const button of $$("[data-look]")) {
  const name = button.dataset.look;
  onPress(button, $(`[data-status="${name}"]`), (report) => look(name, report));
}

async function look(name, report) {
  const section = $(`[data-spot="${name}"]`);
  const chosen = Number($("input:checked", section)?.value ?? 0);
  let took = 0;
  const found = await run("spot", { route: name }, report, (event) => {
    if (event.took) report(`It took ${ms((took = event.took))}. The profiler is writing…`);
  });
  for (const label of $$(".code label", section)) label.classList.remove("cause", "way");
  const lines = found.chain.map(([line]) => line);
  const cause = lines[0] ?? found.line;
  for (const line of lines.slice(1)) $(`[data-line="${line}"]`, section)?.classList.add("way");
  $(`[data-line="${cause}"]`, section)?.classList.add("cause");
  $(".said", section).textContent = found.sentence;
  $(`[data-finding="${name}"]`).classList.remove("closed");
  report(`${ms(took)}. ${judge(chosen, cause, lines)}`);
}

function judge(chosen, cause, lines) {
  if (!cause) return "The profiler could not look while it ran: it names no line, but read what it says.";
  if (!chosen) return `You chose no line; it is line ${cause}.`;
  if (chosen === cause) return `Right: line ${cause}.`;
  if (lines.includes(chosen)) return `Close: line ${chosen} leads to line ${cause}, which blocks.`;
  return `Not line ${chosen}: it is line ${cause}.`;
}
