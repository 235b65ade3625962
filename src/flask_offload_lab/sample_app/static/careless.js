// How not to report from a job: a banner that pushes the page down, and rows that are added one by
// one, each followed by a read of the layout, which the browser must then compute again.

const place = document.querySelector("[data-careless]");
const later = (ms) => new Promise((done) => setTimeout(done, ms));

const banner = document.createElement("p");
banner.textContent = "Your pictures are being made. Please be patient.";
await later(300);
document.querySelector("main").before(banner);

for (;;) {
  const response = await fetch(place.dataset.careless, { headers: { Accept: "application/json" } });
  const job = await response.json();
  if (["SUCCESSFUL", "FAILED", "CANCELLED"].includes(job.status)) break;
  await later(400);
}
const list = document.createElement("ul");
place.append(list);
for (let row = 1; row <= 60; row += 1) {
  const item = document.createElement("li");
  item.textContent = `Picture ${row}: ${list.offsetHeight} px so far`;
  list.append(item);
}
document.dispatchEvent(new CustomEvent("offload:done"));
