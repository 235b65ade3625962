/* <offload-job href="/offload/jobs/…">: shows the progress of a job, and fires an event at its end.

   It keeps the parts inside it that are marked data-offload="bar|percent|remaining|message|heading|
   cancel" up to date, and makes a bar and a message if there are none. With the attribute `follow`
   it opens `href` when the job has ended, where the server shows the outcome.

   Events, which bubble; detail is the job as `href` gives it in JSON:
   offload:progress  something changed
   offload:done      it was successful; detail.links.result is the result, if it is exposed
   offload:failed    it failed, was cancelled, or is gone (detail.status is then null)             */

const FIRST_LOOK = 300; // ms; many jobs are done by then
const LONGEST_PAUSE = 30_000;
const GIVE_UP_REQUEST = 20_000;
const GONE = new Set([401, 403, 404, 410]);

class OffloadJob extends HTMLElement {
  static observedAttributes = ["href"];

  #job = null;
  #etag = null;
  #misses = 0; // failed requests in a row
  #over = false;
  #timer = 0;
  #request = null;

  get href() {
    return this.getAttribute("href");
  }

  connectedCallback() {
    this.#addParts();
    document.addEventListener("visibilitychange", this.#wake);
    addEventListener("online", this.#wake);
    addEventListener("pageshow", this.#wake);
    if (this.hasAttribute("follow")) this.#stopReloading();
    if (this.href) this.#later(FIRST_LOOK);
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#wake);
    removeEventListener("online", this.#wake);
    removeEventListener("pageshow", this.#wake);
    this.#pause();
  }

  attributeChangedCallback(name, before) {
    if (before === null || !this.isConnected) return;
    this.#pause();
    this.#job = this.#etag = null;
    this.#over = false;
    this.#poll();
  }

  /* Without JavaScript the page reloads itself, by its Refresh header. */
  #stopReloading() {
    if (document.readyState === "complete") stop();
    else addEventListener("load", () => stop(), { once: true });
  }

  #wake = (event) => {
    if (document.hidden) this.#pause();
    else if (event.type !== "pageshow" || event.persisted) this.#poll();
  };

  #pause() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#request = null;
  }

  #later(milliseconds) {
    clearTimeout(this.#timer);
    if (!this.#over && !document.hidden) this.#timer = setTimeout(() => this.#poll(), milliseconds);
  }

  async #poll() {
    if (this.#over || document.hidden || this.#request || !this.isConnected || !this.href) return;
    clearTimeout(this.#timer);
    const request = (this.#request = new AbortController());
    const limit = setTimeout(() => request.abort("slow"), GIVE_UP_REQUEST);
    let pause;
    try {
      pause = await this.#ask(request.signal);
      this.#misses = 0;
    } catch {
      if (this.#request !== request) return; // aborted by #pause
      pause = this.#missed();
    } finally {
      clearTimeout(limit);
    }
    this.#request = null;
    this.#later(pause);
  }

  /* One request; returns the pause until the next, in ms. Throws if it failed. */
  async #ask(signal) {
    const headers = { Accept: "application/json" };
    if (this.#etag) headers["If-None-Match"] = this.#etag;
    const address = new URL(this.href, document.baseURI);
    address.searchParams.set("status", ""); // the document, also when there is a result to redirect to
    const response = await fetch(address, { headers, redirect: "manual", signal });
    const pause = 1000 * (Number(response.headers.get("Retry-After")) || 1);
    if (response.ok) {
      this.#take(await response.json());
      this.#etag = response.headers.get("ETag");
    } else if (GONE.has(response.status) || response.type === "opaqueredirect") {
      this.#setText("message", this.#job?.texts.gone ?? "This job can’t be seen any more.");
      this.#end("offload:failed", { ...this.#job, status: null });
    } else if (response.status !== 304 && response.status !== 429) {
      throw new Error(`${response.status}`);
    } else if (this.#misses > 1 && this.#job) {
      this.#show(this.#job);
    }
    return pause;
  }

  #missed() {
    this.#misses += 1;
    if (this.#misses > 1) {
      this.#setText("message", this.#job?.texts.offline ?? "No connection. Trying again…");
    }
    const pause = Math.min(LONGEST_PAUSE, 500 * 2 ** this.#misses);
    return pause * (0.75 + Math.random() / 2); // so that not all pages retry at the same time
  }

  #take(job) {
    this.#job = job;
    this.#over = !["READY", "RUNNING"].includes(job.status);
    this.#show(job);
    if (!this.#over) this.#dispatch("offload:progress", job);
    else this.#end(job.status === "SUCCESSFUL" ? "offload:done" : "offload:failed", job);
  }

  #end(type, job) {
    this.#over = true;
    this.dataset.status = job.status ?? "GONE";
    this.#dispatch(type, job);
    if (this.hasAttribute("follow")) location.replace(this.href);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  // --- display ---

  #addParts() {
    if (this.querySelector("[data-offload]")) return;
    const bar = document.createElement("progress");
    bar.dataset.offload = "bar";
    bar.ariaLabel = "Progress";
    const message = document.createElement("p");
    message.dataset.offload = "message";
    message.setAttribute("role", "status");
    message.textContent = "…";
    this.append(bar, message);
  }

  #show(job) {
    const fraction = job.status === "SUCCESSFUL" ? 1 : job.progress?.fraction ?? null;
    this.dataset.status = job.status;
    for (const bar of this.#parts("bar")) {
      if (fraction === null) bar.removeAttribute("value");
      else bar.value = fraction * bar.max;
    }
    const { heading, message, percent, remaining } = job.texts; // in the visitor's language
    this.#setText("percent", percent);
    this.#setText("remaining", remaining);
    const text = this.#parts("heading").length ? message : job.summary;
    this.#setText("message", (this.#over && job.error?.message) || text);
    this.#setText("heading", heading);
    for (const cancel of this.#parts("cancel")) cancel.hidden = !job.links.cancel;
    if (this.hasAttribute("follow")) document.title = percent ? `${percent} · ${heading}` : heading;
  }

  #setText(part, text) {
    for (const element of this.#parts(part)) {
      if (element.textContent !== text) element.textContent = text;
    }
  }

  #parts(name) {
    return this.querySelectorAll(`[data-offload="${name}"]`);
  }
}

/* On the page of a job that has ended: to the page with the form, which the waiting page replaced. */
for (const back of document.querySelectorAll("[data-offload-back]")) {
  back.hidden = history.length < 2;
  back.addEventListener("click", () => history.back());
}

customElements.define("offload-job", OffloadJob);
