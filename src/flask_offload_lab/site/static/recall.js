// Recall: the same form, sent without loading the page again.

import "./guess.js";
import { $ } from "./stream.js";

const form = $("#quiz");
let answering = Promise.resolve();

form.addEventListener("change", (event) => {
  const question = event.target.closest("fieldset").id;
  answering = answering.then(() => answer(question)).catch(() => form.submit());
});

async function answer(question) {
  const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  $("#score").innerHTML = $("#score", page).innerHTML;
  const missed = [...$("#variants", page).querySelectorAll("fieldset")].map((each) => each.id).join();
  const shown = [...$("#variants").querySelectorAll("fieldset")].map((each) => each.id).join();
  if (missed !== shown) $("#variants").innerHTML = $("#variants", page).innerHTML;
  $(`#${question} .feedback`).innerHTML = $(`#${question} .feedback`, page).innerHTML;
}
