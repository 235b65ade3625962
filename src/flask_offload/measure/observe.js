// Runs in every page before the page's own scripts, and notes what happens. Nothing leaves the
// page: the measuring side reads window.__flaskOffloadEvidence when the page has come to rest.
(() => {
  const notes = { fcp: null, lcp: null, shifts: [], operations: 0, lastEntry: 0, loaded: null };

  const observe = (type, note) => {
    new PerformanceObserver((list) => {
      list.getEntries().forEach(note);
      notes.lastEntry = performance.now();
    }).observe({ type, buffered: true });
  };

  observe("paint", (entry) => {
    if (entry.name === "first-contentful-paint") notes.fcp = entry.startTime;
  });
  observe("largest-contentful-paint", (entry) => {
    notes.lcp = { time: entry.startTime, size: entry.size, url: entry.url, element: pathOf(entry.element) };
  });
  observe("layout-shift", (entry) => {
    if (!entry.hadRecentInput) notes.shifts.push([entry.startTime, entry.value]);
  });

  const nameOf = (element) => {
    const id = element.id ? `#${element.id}` : "";
    return element.tagName.toLowerCase() + id + [...element.classList].map((name) => `.${name}`).join("");
  };
  // As far up as needed: to an element with an id, or to the root.
  const pathOf = (element) => {
    const names = [];
    for (let each = element; each; each = each.parentElement) {
      names.unshift(nameOf(each));
      if (each.id) break;
    }
    return names.join(">") || null;
  };

  // An added node counts together with those inside it. The parser reports a node and, later, each
  // of its children: what was counted inside its parent does not count again.
  const present = new WeakSet();
  const countNodes = (root, added) => {
    const walker = document.createTreeWalker(root);
    for (let node = root; node; node = walker.nextNode()) {
      if (added && present.has(node)) continue;
      if (added) present.add(node);
      else present.delete(node);
      notes.operations += 1;
    }
  };
  const count = (records) => {
    for (const record of records) {
      if (record.type !== "childList") notes.operations += 1;
      for (const node of record.addedNodes) countNodes(node, true);
      for (const node of record.removedNodes) countNodes(node, false);
    }
  };
  const watcher = new MutationObserver(count);
  watcher.observe(document, { childList: true, subtree: true, attributes: true, characterData: true });

  addEventListener("load", () => { notes.loaded = performance.now(); });

  const resourceOf = (lcp) => {
    const found = lcp && lcp.url && performance.getEntriesByName(lcp.url, "resource")[0];
    return found ? { start: found.requestStart || found.startTime, end: found.responseEnd } : null;
  };

  Object.defineProperty(window, "__flaskOffloadEvidence", {
    value: {
      // Milliseconds without a new entry, and since the load event; -1 before it.
      calm() {
        if (notes.loaded === null) return { quiet: -1, sinceLoad: -1 };
        const now = performance.now();
        return { quiet: now - Math.max(notes.lastEntry, notes.loaded), sinceLoad: now - notes.loaded };
      },
      read() {
        count(watcher.takeRecords());
        const navigation = performance.getEntriesByType("navigation")[0];
        return {
          ...notes,
          navigation: navigation ? navigation.toJSON() : {},
          resource: resourceOf(notes.lcp),
          elements: document.getElementsByTagName("*").length,
          visibility: document.visibilityState,
          timeOrigin: performance.timeOrigin,
        };
      },
    },
  });
})();
