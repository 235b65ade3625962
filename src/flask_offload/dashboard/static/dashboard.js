// The dashboard's pages work without this; it keeps them current and shows local times.

const EVERY = 3000; // milliseconds between two readings
const button = document.querySelector("[data-live-button]");
const KEY = "offload-dashboard-live";
let timer = 0;

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (time.classList.contains("exact")) {
      time.title = moment.toLocaleDateString(undefined, { dateStyle: "medium" });
      time.textContent = moment.toLocaleTimeString("en-GB", { fractionalSecondDigits: 3, hour: "2-digit", minute: "2-digit", second: "2-digit" });
      continue;
    }
    time.title = time.textContent;
    time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

// What the visitor is doing in a part of the page, so that renewing it does not take it away.
function isBusy(part) {
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) return true;
  return Boolean(part.querySelector("input:checked, dialog[open]"));
}

function placeOf(element, part) {
  if (!element || !part.contains(element)) return null;
  const name = element.tagName.toLowerCase();
  const same = [...part.querySelectorAll(name)];
  const key = element.getAttribute("href") || element.id || element.textContent;
  return { name, key, index: same.indexOf(element) };
}

function refocus(place, part) {
  const same = [...part.querySelectorAll(place.name)];
  const found = same.find((each) => (each.getAttribute("href") || each.id || each.textContent) === place.key);
  (found || same[place.index])?.focus({ preventScroll: true });
}

function renew(part, fresh) {
  if (part.dataset.html === fresh.innerHTML || isBusy(part)) return;
  const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
  const scrolled = [...part.querySelectorAll(".scroll, pre")].map((each) => [each.scrollLeft, each.scrollTop]);
  const place = placeOf(document.activeElement, part);
  part.dataset.html = fresh.innerHTML;
  part.replaceChildren(...document.importNode(fresh, true).childNodes);
  localTimes(part);
  for (const id of open) part.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
  part.querySelectorAll(".scroll, pre").forEach((each, number) => {
    if (scrolled[number]) [each.scrollLeft, each.scrollTop] = scrolled[number];
  });
  if (place) refocus(place, part);
}

async function read() {
  const parts = [...document.querySelectorAll("[data-live]")];
  const address = new URL(location.href);
  address.searchParams.delete("done");
  const response = await fetch(address, { headers: { Accept: "text/html" }, redirect: "error" });
  if (!response.ok) return response.status < 500;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of parts) {
    const newer = fresh.getElementById(part.id);
    if (newer) renew(part, newer);
  }
  return true;
}

async function tick() {
  let wait = EVERY;
  if (isLive() && !document.hidden) {
    const began = performance.now();
    try {
      if (!(await read())) wait = 4 * EVERY;
    } catch {
      wait = 4 * EVERY; // the server is away for a moment
    }
    wait = Math.max(wait, 10 * (performance.now() - began)); // a slow page is read less often
  }
  timer = setTimeout(tick, wait);
}

function isLive() {
  return sessionStorage.getItem(KEY) !== "off";
}

function showButton() {
  button.setAttribute("aria-pressed", String(isLive()));
  button.title = isLive() ? "This page renews itself" : "This page stays as it is";
}

if (button && document.querySelector("[data-live]")) {
  button.hidden = false;
  showButton();
  button.addEventListener("click", () => {
    sessionStorage.setItem(KEY, isLive() ? "off" : "on");
    showButton();
  });
  timer = setTimeout(tick, EVERY);
  addEventListener("pagehide", () => clearTimeout(timer));
  addEventListener("pageshow", (event) => { if (event.persisted) tick(); });
}

document.addEventListener("submit", (event) => {
  const asked = event.submitter?.dataset.confirm;
  if (asked && !confirm(asked)) event.preventDefault();
});

// Bites of a long bulk action follow each other.
document.querySelector("form[data-continue]")?.requestSubmit();

// A search that found nothing among the newest jobs goes on by itself, once.
const further = document.querySelector("a[data-further]");
if (further) location.replace(further.href);

localTimes(document);
