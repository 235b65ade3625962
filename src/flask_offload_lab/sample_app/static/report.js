// Reports to the lab, whose page frames this one, what the browser measured of this load.

const lab = document.querySelector("script[data-lab]").dataset.lab;
const later = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = () => new Promise((done) => requestAnimationFrame(done));

// A page that follows a job is measured until the job has ended.
const LONGEST_JOB = 8000;
const following = document.querySelector("offload-job, [data-careless]");
const followed = new Promise((done) => {
  for (const type of ["offload:done", "offload:failed"]) document.addEventListener(type, done, { once: true });
});

let changes = 0;
new MutationObserver((records) => {
  for (const each of records) changes += each.addedNodes.length + each.removedNodes.length || 1;
}).observe(document, { childList: true, subtree: true, attributes: true, characterData: true });
const parsed = countNodes();

const entries = { "largest-contentful-paint": [], "layout-shift": [], paint: [] };
for (const type of Object.keys(entries)) {
  if (!PerformanceObserver.supportedEntryTypes.includes(type)) continue;
  new PerformanceObserver((list) => entries[type].push(...list.getEntries())).observe({ type, buffered: true });
}

function countNodes() {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let count = 0;
  while (walker.nextNode()) count += 1;
  return count;
}

function element(node) {
  if (!node) return null;
  return node.tagName.toLowerCase() + (node.currentSrc ? ` ${new URL(node.currentSrc).pathname}` : "");
}

// The largest paint is reported a moment after the load event: read at once, it is missing.
async function settled() {
  if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done, { once: true }));
  if (following) await Promise.race([followed, later(LONGEST_JOB)]);
  await frame();
  await frame();
  let known = -1;
  while (known !== entries["largest-contentful-paint"].length) {
    known = entries["largest-contentful-paint"].length;
    await later(350);
  }
}

function read() {
  const [load] = performance.getEntriesByType("navigation");
  const largest = entries["largest-contentful-paint"].at(-1);
  const first = entries.paint.find((each) => each.name === "first-contentful-paint");
  return {
    path: location.pathname + location.search,
    ttfb: load.responseStart,
    request: load.requestStart,
    response: load.responseEnd,
    fcp: first ? first.startTime : null,
    lcp: largest ? largest.startTime : null,
    lcpElement: largest ? element(largest.element) : null,
    // Chromium lays out frames while their style sheet is still loading; those shifts are not visible.
    cls: entries["layout-shift"].filter((each) => !each.hadRecentInput && each.startTime > (first?.startTime ?? 0)).reduce((sum, each) => sum + each.value, 0),
    changes: parsed + changes,
    timing: (load.serverTiming ?? []).map(({ name, duration, description }) => ({ name, duration, description })),
    visible: document.visibilityState === "visible",
  };
}

if (window.parent !== window) {
  await settled();
  window.parent.postMessage({ load: read() }, lab);
}
