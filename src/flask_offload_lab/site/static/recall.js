// Recall: the same form, sent without loading the page again.

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
  $(`#${question} .feedback`).innerHTML = $(`#${question} .feedback`, page).innerHTML;
}
