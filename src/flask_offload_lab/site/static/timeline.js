// Draws spans on lanes while they happen. One unit of the picture is one CSS pixel.

import { ms } from "./stream.js";

const SVG = "http://www.w3.org/2000/svg";
const ROW = 15;
const LEFT = 118;
const TOP = 8;
const BOTTOM = 24;

export class Timeline {
  // lanes: [{ id, label, rows }]; scale: the milliseconds that fill the width at first.
  constructor(svg, lanes, scale = 1500) {
    this.svg = svg;
    this.first = scale;
    this.setLanes(lanes);
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  setLanes(lanes) {
    this.lanes = lanes;
    this.height = TOP + lanes.reduce((sum, lane) => sum + lane.rows * ROW + 7, 0) + BOTTOM;
    this.svg.setAttribute("height", this.height);
    this.reset();
  }

  reset() {
    this.spans = new Map();
    this.marks = [];
    this.scale = this.first;
    this.now = 0;
    this.draw();
  }

  start() {
    this.reset();
    this.began = performance.now();
    this.running = true;
    const step = () => {
      if (!this.running) return;
      this.now = performance.now() - this.began;
      this.draw();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  stop() {
    this.running = false;
    this.now = Math.max(0, ...[...this.spans.values()].map((span) => span.end ?? span.begin), ...this.marks.map((mark) => mark.at));
    this.draw();
  }

  add(event) {
    if (event.kind === "mark") this.marks.push(event);
    if (event.kind === "begin") this.spans.set(event.id, { ...event, begin: event.at, row: this.freeRow(event) });
    if (event.kind === "end" && this.spans.has(event.id)) Object.assign(this.spans.get(event.id), { end: event.at, took: event.took, failed: event.failed });
  }

  // The first row of the lane in which nothing is going on.
  freeRow({ lane, at }) {
    const rows = this.lanes.find((each) => each.id === lane)?.rows ?? 1;
    const busy = new Set([...this.spans.values()].filter((span) => span.lane === lane && (span.end === undefined || span.end > at)).map((span) => span.row));
    for (let row = 0; row < rows; row += 1) if (!busy.has(row)) return row;
    return rows - 1;
  }

  share(scale) {
    this.scale = scale;
    this.draw();
  }

  draw() {
    const width = Math.max(this.svg.clientWidth || 0, 300);
    const left = width < 520 ? 84 : LEFT;
    if (this.now > this.scale) this.scale = Math.ceil(this.now / 500) * 500 + 500;
    const x = (at) => left + (at / this.scale) * (width - left - 12);
    const parts = [hatch()];
    this.axis(parts, x, width);
    let y = TOP;
    for (const lane of this.lanes) {
      parts.push(node("text", { x: 10, y: y + 11 }, lane.label), node("line", { class: "lane", x1: left, x2: width - 12, y1: y + lane.rows * ROW + 3, y2: y + lane.rows * ROW + 3 }));
      for (const span of this.spans.values()) if (span.lane === lane.id) parts.push(this.bar(span, x, y));
      for (const mark of this.marks) if (mark.lane === lane.id) parts.push(this.dot(mark, x, y));
      y += lane.rows * ROW + 7;
    }
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.replaceChildren(...parts);
  }

  bar(span, x, y) {
    const end = span.end ?? Math.max(this.now, span.begin);
    const rect = node("rect", { class: span.what, x: x(span.begin), y: y + span.row * ROW + 1, width: Math.max(x(end) - x(span.begin), 2), height: ROW - 4, rx: 1.5 });
    rect.append(node("title", {}, `${span.lane}, ${span.what}: ${ms(end - span.begin)}`));
    return rect;
  }

  dot(mark, x, y) {
    const circle = node("circle", { class: mark.what, cx: x(mark.at), cy: y + 7, r: 4.5 });
    circle.append(node("title", {}, `${mark.name}: ${ms(mark.at)}`));
    return circle;
  }

  axis(parts, x, width) {
    const every = [100, 250, 500, 1000, 2000, 5000, 10000].find((step) => this.scale / step <= (width < 520 ? 4 : 8)) ?? 20000;
    for (let at = 0; at <= this.scale; at += every) {
      parts.push(node("line", { class: "tick", x1: x(at), x2: x(at), y1: 2, y2: this.height - BOTTOM + 4 }));
      const text = at % 1000 === 0 ? `${at / 1000} s` : `${(at / 1000).toFixed(at % 500 ? 2 : 1)} s`;
      parts.push(node("text", { x: Math.min(x(at) + 3, width - 34), y: this.height - 7 }, text));
    }
  }
}

export function node(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function hatch() {
  const defs = node("defs", {});
  const pattern = node("pattern", { id: "hatch", width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(25)" });
  pattern.append(node("rect", { class: "hatch-a", width: 5.2, height: 8 }), node("rect", { class: "hatch-b", x: 5.2, width: 2.8, height: 8 }));
  defs.append(pattern);
  return defs;
}

// The lanes of a race; elsewhere: where the work goes on when it is not in the request.
export function raceLanes(visitors, elsewhere, rows = Math.min(visitors, 4)) {
  return [
    { id: "visitors", label: visitors === 1 ? "visitor" : "visitors", rows: visitors },
    { id: "bystander", label: "bystander", rows: 1 },
    { id: "web", label: "web server", rows: 1 },
    { id: "work", label: elsewhere, rows },
    { id: "mail", label: "mail", rows: 1 },
  ];
}

// A race's event, for those lanes.
export function onLanes(event) {
  return event.lane?.startsWith("visitor") ? { ...event, lane: "visitors" } : event;
}
