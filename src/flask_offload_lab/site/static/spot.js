// Spot: choose a line, run the route, compare with what the spotter saw.

import { $, $$, ms, onPress, run } from "./stream.js";

for (const button of $$("[data-look]")) {
  const name = button.dataset.look;
  onPress(button, $(`[data-status="${name}"]`), (say) => look(name, say));
}

async function look(name, say) {
  const section = $(`[data-spot="${name}"]`);
  const chosen = Number($("input:checked", section)?.value ?? 0);
  let took = 0;
  const found = await run("spot", { route: name }, (event) => {
    if (event.say ?? event.waiting) say(event.say ?? event.waiting);
    if (event.took) say(`It took ${ms((took = event.took))}. The spotter is writing…`);
  });
  for (const label of $$(".code label", section)) label.classList.remove("culprit", "way");
  const lines = found.chain.map(([line]) => line);
  const culprit = lines[0] ?? found.line;
  for (const line of lines.slice(1)) $(`[data-line="${line}"]`, section)?.classList.add("way");
  $(`[data-line="${culprit}"]`, section)?.classList.add("culprit");
  $(".said", section).textContent = found.sentence;
  $(`[data-finding="${name}"]`).classList.remove("closed");
  say(`${ms(took)}. ${judge(chosen, culprit, lines)}`);
}

function judge(chosen, culprit, lines) {
  if (!chosen) return `You chose no line; it is line ${culprit}.`;
  if (chosen === culprit) return `Right: line ${culprit}.`;
  if (lines.includes(chosen)) return `On the right way: line ${chosen} leads to line ${culprit}, which blocks.`;
  return `Not line ${chosen}: it is line ${culprit}.`;
}
