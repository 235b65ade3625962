// A guess before each experiment, how far off it was, and a score. Kept in this browser only.

import { $, $$, ms } from "./stream.js";

const KEY = "lab-guesses";
const FINISH = "lab-finish";
const CLOSE = 2;

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? {};
  } catch {
    return {};
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch { /* private windows may refuse */ }
}

// actual: what was measured, in the unit of the guess. Without a guess nothing is judged.
export function settle(name, actual) {
  const place = $(`[data-guess="${name}"]`);
  const { unit } = place.dataset;
  const say = (value) => (unit === "ms" ? ms(value) : `${value} ${unit}`);
  const guess = Number($("input", place).value);
  if (!(guess > 0) || actual == null) return;
  const factor = Math.max(guess / actual, actual / guess);
  const way = guess > actual ? "too much" : "too little";
  const words = factor < 1.1 ? "right" : factor < CLOSE ? `close, ${way}` : `${factor < 9.95 ? factor.toFixed(1) : Math.round(factor)} times ${way}`;
  $("output", place).textContent = `You guessed ${say(guess)}; it was ${say(actual)}: ${words}.`;
  const guesses = read(KEY);
  guesses[name] = factor;
  write(KEY, guesses);
  showScore();
}

export function showScore() {
  const factors = Object.values(read(KEY));
  const close = factors.filter((each) => each < CLOSE).length;
  for (const place of $$("[data-guesses]")) {
    place.textContent = factors.length ? `Your guesses: ${close} of ${factors.length} within a factor of two.` : "";
  }
}

// --- the finish ------------------------------------------------------------------------------

export function keepFinish(before, after) {
  write(FINISH, { before, after });
}

const CARD = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 300" width="720" height="300" role="img" aria-label="">
<rect width="720" height="300" fill="#fbfaf6"/><rect x="0" y="0" width="720" height="8" fill="#b3461c"/>
<g font-family="Georgia, serif" fill="#23221f"><text x="40" y="70" font-size="26">On my machine a page that took</text>
<text id="before" x="40" y="140" font-size="64" fill="#b3461c"></text><text x="40" y="184" font-size="26">answers after</text>
<text id="after" x="40" y="250" font-size="64" fill="#1c756f"></text></g>
<text x="680" y="270" font-family="sans-serif" font-size="16" fill="#66625a" text-anchor="end">the work as a job · Flask-Offload lab</text></svg>`;

export function showFinish() {
  const { before, after } = read(FINISH);
  const place = $("#finish");
  if (!place || !before || !after) return;
  const svg = new DOMParser().parseFromString(CARD, "image/svg+xml").documentElement;
  svg.querySelector("#before").textContent = ms(before);
  svg.querySelector("#after").textContent = ms(after);
  svg.setAttribute("aria-label", `On your machine ${ms(before)} became ${ms(after)}.`);
  $("[data-card]", place).replaceChildren(svg);
  const save = $("[data-save]", place);
  save.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  $("[data-sentence]", place).textContent = `On your machine, ${ms(before)} became ${ms(after)}.`;
  place.hidden = false;
}

showScore();
showFinish();
