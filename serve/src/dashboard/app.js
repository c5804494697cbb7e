"use strict";

const EVERY_MS = 2000;
const TIMEOUT_MS = 6000;
/** The rate shown is the mean over this long. */
const RATE_OVER_MS = 10000;
/** In the order of a shopper's way; colours stay apart for colour-blind eyes, in light and dark. */
const EVENT_TYPES = [
  ["page_view", "#5b8fd0"], ["add_to_wishlist", "#b08fd8"], ["add_to_cart", "#2a9d8f"], ["remove_from_cart", "#8a9a98"],
  ["checkout_started", "#e9b44c"], ["purchase", "#3c7a3f"], ["cart_abandon", "#d5683f"], ["refund", "#b0456b"],
];

const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const precise = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

const compact = (n) => (Math.abs(n) < 1e6 ? whole.format(n) : short.format(n));
const amount = (n) => (Math.abs(n) < 1e5 ? money.format(n) : Math.abs(n) < 1e8 ? whole.format(n) : short.format(n));
const rate = (n) => (n < 10 ? precise.format(n) : compact(n));

function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 100) return `${precise.format(s)} s`;
  if (s < 6000) return `${whole.format(s / 60)} min`;
  if (s < 172800) return `${whole.format(s / 3600)} h`;
  if (s < 63072000) return `${whole.format(s / 86400)} days`;
  return `${precise.format(s / 31557600)} years`;
}

/** UTC, as the API gives it; the date only when it is not the newest window's. */
function when(text, today) {
  const [date, time] = text.replace("Z", "").split("T");
  if (!time) return text;
  const clock = time.slice(0, 5);
  return date === today ? clock : `${date} ${clock}`;
}

function put(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), headers: { accept: "application/json" } });
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Error(body?.error ?? `${path} answered ${answer.status}`);
  }
  return answer.json();
}

// ---- numbers

let samples = [];

function readingRate(status) {
  const now = status.server_time_ms;
  const last = samples.at(-1);
  // A restart counts from 0 again.
  if (last && (status.events_received < last.received || now < last.now)) samples = [];
  samples.push({ now, received: status.events_received });
  while (samples.length > 2 && now - samples[1].now >= RATE_OVER_MS) samples.shift();
  const first = samples[0];
  return now > first.now ? ((status.events_received - first.received) * 1000) / (now - first.now) : null;
}

function showStatus(status) {
  const perSecond = readingRate(status);
  put("rate", perSecond === null ? "–" : rate(perSecond));
  const { partitions } = status;
  const lag = partitions.reduce((sum, p) => sum + p.lag, 0);
  put("lag", partitions.length ? compact(lag) : "–");
  const busy = partitions.filter((p) => p.lag > 0).length;
  put("lag-note", !partitions.length ? "no partition is read here" : busy ? `records, in ${busy} of ${partitions.length} partitions` : "all records are read");
  // An idle partition holds nothing back, so it has no delay to tell.
  const known = partitions.filter((p) => p.watermark_ms !== null);
  const active = known.filter((p) => !p.idle);
  const slowest = active.length ? Math.min(...active.map((p) => p.watermark_ms)) : null;
  put("delay", slowest === null ? (known.length ? "idle" : "–") : duration(status.server_time_ms - slowest));
  put("delay-note", slowest === null ? (known.length ? "no partition has new events" : "no event yet") : "behind the clock, slowest partition");
  put("received", whole.format(status.events_received));
  put("processed", whole.format(status.events_processed));
  put("duplicates", whole.format(status.duplicates));
  put("invalid", whole.format(status.invalid));
  put("dead-letters", whole.format(status.dead_letters));
  put("late", whole.format(status.late));
  const up = status.started_at_ms ? `, up ${duration(status.server_time_ms - status.started_at_ms)}` : "";
  put("process-note", `${status.roles.join(", ") || "no role"}${status.version ? ` · ${status.version}` : ""}${up}`);
  byId("partitions").hidden = !partitions.length;
  byId("empty-partitions").hidden = partitions.length > 0;
  const rows = partitions.map((p) => {
    const row = element("tr");
    const watermark = p.watermark_ms === null ? "no event yet" : new Date(p.watermark_ms).toISOString().slice(0, 19).replace("T", " ");
    for (const [label, text] of [
      ["Partition", `${p.partition}`], ["Read to", whole.format(p.position)], ["End", whole.format(p.end_offset)],
      ["Lag", whole.format(p.lag)], ["Watermark", p.idle ? `${watermark} (idle)` : watermark],
    ]) {
      const cell = element("td", "", text);
      cell.dataset.label = label;
      row.append(cell);
    }
    return row;
  });
  byId("partitions").tBodies[0].replaceChildren(...rows);
}

function showTotals({ totals, points, as_of, missing_models }) {
  const has = points.length > 0;
  put("as-of", has ? `Event time ${as_of.slice(0, 16).replace("T", " ")} UTC` : "Waiting for the first window");
  const closed = points.filter((point) => !point.provisional).at(-1);
  put("rate-note", closed ? `${rate(closed.events_per_second)}/s in the last full window` : "read now");
  put("revenue", has ? amount(Number(totals.revenue)) : "–");
  put("revenue-note", closed ? `${amount(Number(closed.revenue))} in the last full window` : missing("sales", missing_models));
  put("orders", has ? compact(totals.orders) : "–");
  put("orders-note", totals.aov ? `${money.format(Number(totals.aov))} each` : has ? "none yet" : missing("sales", missing_models));
  put("abandonment", totals.abandonment_rate === null ? "–" : percent.format(totals.abandonment_rate));
  put("abandonment-note", has ? "carts left of carts decided" : missing("activity", missing_models));
}

const missing = (model, models) => (models.includes(model) ? `model '${model}' does not run` : "\u00a0");

// ---- charts

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text"), soft: of("--soft"), line: of("--line"), accent: of("--accent"), card: of("--card") };
}

/* Whole minutes between two ticks, about seven ticks in all. */
function tickMillis(points) {
  const minutes = (Date.parse(points.at(-1).window_end) - Date.parse(points[0].window_start)) / 60000;
  return ([1, 2, 5, 10, 15, 30].find((step) => minutes / step <= 8) ?? 60) * 60000;
}

/** From the first open window to the end: a dashed line and a lighter ground say that numbers there still grow. */
function openZone(points, colour) {
  const first = points.find((point) => point.provisional);
  if (!first) return [];
  const [start, end] = [first.window_start, points.at(-1).window_end];
  const line = { type: "line", xref: "x", yref: "paper", x0: start, x1: start, y0: 0, y1: 1, line: { dash: "dot", width: 1.5, color: colour } };
  const ground = { type: "rect", xref: "x", yref: "paper", x0: start, x1: end, y0: 0, y1: 1, fillcolor: colour, opacity: 0.07, line: { width: 0 } };
  return [ground, line];
}

function draw(id, traces, points, yaxis, more = {}) {
  const c = colours();
  const axis = { gridcolor: c.line, linecolor: c.line, zeroline: false, fixedrange: true, tickfont: { size: 11.5 } };
  const layout = {
    margin: { l: 8, r: 8, t: 6, b: 8 }, paper_bgcolor: c.card, plot_bgcolor: c.card, autosize: true,
    font: { family: "system-ui, sans-serif", size: 12, color: c.soft }, hovermode: "x unified", bargap: 0.18, showlegend: false,
    hoverlabel: { bgcolor: c.card, bordercolor: c.line, font: { color: c.text } },
    xaxis: { ...axis, type: "date", showgrid: false, automargin: true, tick0: "2000-01-01", dtick: tickMillis(points), tickformat: "%H:%M", hoverformat: "%H:%M UTC", range: [points[0].window_start, points.at(-1).window_end] },
    yaxis: { ...axis, rangemode: "tozero", automargin: true, nticks: 5, ...yaxis },
    shapes: openZone(points, c.accent), ...more,
  };
  return Plotly.react(byId(id), traces, layout, { displayModeBar: false, responsive: true });
}

/** The middle of a window, so that bars and lines stand over their window. */
const middle = (point) => new Date((Date.parse(point.window_start) + Date.parse(point.window_end)) / 2).toISOString();

function showCharts({ points }) {
  const has = points.length > 0 && typeof Plotly !== "undefined";
  const rated = has && points.some((point) => point.abandonment_rate !== null);
  for (const [name, shown] of [["revenue", has], ["events", has], ["abandonment", rated]]) {
    byId(`chart-${name}`).hidden = !shown;
    byId(`empty-${name}`).hidden = shown;
  }
  if (!has) return;
  const c = colours();
  const x = points.map(middle);
  const revenue = points.map((point) => Number(point.revenue));
  draw("chart-revenue", [{
    type: "bar", x, y: revenue, name: "revenue", hovertemplate: "%{y:,.2f}<extra></extra>",
    marker: {
      color: c.accent, opacity: points.map((point) => (point.provisional ? 0.45 : 1)),
      pattern: { shape: points.map((point) => (point.provisional ? "/" : "")), size: 6, solidity: 0.4, fillmode: "overlay", fgcolor: c.card },
    },
  }], points, { tickformat: "~s" });

  const seen = new Set(points.flatMap((point) => Object.keys(point.events_by_type)));
  const types = EVENT_TYPES.filter(([type]) => seen.delete(type)).concat([...seen].map((type) => [type, c.soft]));
  const seconds = points.map((point) => (Date.parse(point.window_end) - Date.parse(point.window_start)) / 1000 || 1);
  draw("chart-events", types.map(([type, colour]) => ({
    type: "scatter", mode: points.length > 1 ? "lines" : "markers", stackgroup: "types", x, name: type.replaceAll("_", " "),
    y: points.map((point, i) => (point.events_by_type[type] ?? 0) / seconds[i]),
    line: { width: 0.5, color: colour }, marker: { color: colour, size: 7 }, fillcolor: `${colour}cc`, hovertemplate: "%{y:,.2f}/s",
  })), points, { tickformat: "~s" }, {
    showlegend: true, legend: { orientation: "h", y: -0.14, yanchor: "top", x: 0, font: { size: 11.5 }, itemclick: false, itemdoubleclick: false, traceorder: "normal" },
  });

  if (!rated) return;
  // The open part continues the line from its last closed point, dashed and lighter.
  const split = points.findIndex((point) => point.provisional);
  const closedTo = split < 0 ? points.length : split;
  const part = (keep) => points.map((point, i) => (keep(i) ? point.abandonment_rate : null));
  const line = { type: "scatter", mode: "lines+markers", x, connectgaps: true, name: "rate", hovertemplate: "%{y:.1%}<extra></extra>", marker: { size: 4, color: c.accent } };
  draw("chart-abandonment", [
    { ...line, y: part((i) => i < closedTo), line: { color: c.accent, width: 2 } },
    { ...line, y: part((i) => i >= closedTo - 1), line: { color: c.accent, width: 2, dash: "dot" }, opacity: 0.6, hoverinfo: split < 0 ? "skip" : undefined },
  ], points, { tickformat: ".0%", range: [0, 1] });
}

// ---- alerts

const SIGNS = { info: "i", warning: "▲", critical: "●" };
let told = null;

function showAlerts({ alerts }, asOf) {
  const today = asOf?.slice(0, 10);
  byId("alerts").hidden = !alerts.length;
  byId("empty-alerts").hidden = alerts.length > 0;
  const firing = alerts.filter((alert) => alert.state === "firing").length;
  put("alerts-count", alerts.length ? (firing ? `${firing} firing` : "none firing") : "");
  const held = document.activeElement?.dataset?.alert;
  const rows = alerts.map((alert) => {
    const row = element("tr", alert.state === "resolved" || alert.state === "suppressed" ? "over" : "");
    const badge = element("span", "badge");
    badge.dataset.severity = alert.severity;
    const sign = element("span", "", SIGNS[alert.severity] ?? "");
    sign.ariaHidden = "true";
    badge.append(sign, alert.severity);
    const severity = element("td");
    severity.append(badge);
    const state = element("td");
    const word = element("span", "state", alert.state);
    word.dataset.state = alert.state;
    state.append(word);
    const action = element("td");
    if (alert.state === "firing") action.append(acknowledgeButton(alert));
    const what = element("td", "what");
    const page = element("a", "", alert.text.replace(/, since [^\s;]+/, ""));
    page.href = `/alerts/${encodeURIComponent(alert.id)}`;
    page.dataset.alert = `page of ${alert.id}`;
    what.append(page);
    row.append(severity, state, what, element("td", "when", when(alert.since, today)), action);
    return row;
  });
  byId("alerts").tBodies[0].replaceChildren(...rows);
  // Rebuilding the rows takes the focus away from a button or a link: give it back.
  if (held) document.querySelector(`[data-alert="${CSS.escape(held)}"]`)?.focus();
  const newest = alerts.find((alert) => alert.state === "firing");
  if (told !== null && newest && newest.id !== told) put("announcer", `New alert, ${newest.severity}: ${newest.text}`);
  told = newest?.id ?? "";
}

function acknowledgeButton(alert) {
  const button = element("button", "", "Acknowledge");
  button.type = "button";
  button.dataset.alert = alert.id;
  button.ariaLabel = `Acknowledge: ${alert.text}`;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const answer = await fetch(`/api/v1/alerts/${encodeURIComponent(alert.id)}/ack`, { method: "POST", signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!answer.ok) throw new Error(`answered ${answer.status}`);
      put("announcer", "Alert acknowledged");
      poll();
    } catch (error) {
      button.disabled = false;
      put("announcer", `The alert was not acknowledged: ${error.message}`);
    }
  });
  return button;
}

// ---- definitions

let defined = false;

async function showDefinitions() {
  if (defined) return;
  const { models } = await get("/api/v1/models");
  defined = true;
  const list = byId("definitions").querySelector("dl");
  list.replaceChildren(...models.flatMap((model) => [
    element("dt", "", `${model.title} (${model.name})`),
    element("dd", "", [`${model.grain}${model.unit ? `; ${model.unit}` : ""}`, model.definition, model.source && `Source: ${model.source}`].filter(Boolean).join("\n")),
  ]));
  byId("definitions").hidden = !models.length;
}

// ---- connection

let timer = null;
let polling = false;
let lost = false;
let shown = "";

function connection(state, text) {
  byId("connection").dataset.state = state;
  put("connection-text", text);
}

function lose(error) {
  const text = error instanceof TypeError || error.name === "TimeoutError"
    ? "Connection lost. Trying again every 2 seconds; the numbers below are old."
    : `${error.message}. Trying again every 2 seconds; the numbers below are old.`;
  lost = true;
  put("banner", text[0].toUpperCase() + text.slice(1));
  byId("banner").hidden = false;
  document.body.classList.add("stale");
  connection("lost", "Connection lost");
}

async function poll() {
  clearTimeout(timer);
  if (polling || document.hidden) return;
  polling = true;
  try {
    const [summary, status, alerts] = await Promise.all([get("/api/v1/summary?minutes=60"), get("/api/v1/status"), get("/api/v1/alerts?state=firing,acknowledged,resolved&limit=12")]);
    showStatus(status);
    showTotals(summary);
    showAlerts(alerts, summary.as_of);
    // Drawing is the dear part: only when something changed.
    const drawn = JSON.stringify(summary.points);
    if (drawn !== shown) {
      shown = drawn;
      showCharts(summary);
    }
    if (lost) {
      lost = false;
      byId("banner").hidden = true;
      document.body.classList.remove("stale");
      put("announcer", "Connected again");
    }
    if (status.ready) connection("live", "Live");
    else connection("starting", status.not_ready_because || "Starting");
    await showDefinitions();
  } catch (error) {
    lose(error);
  } finally {
    polling = false;
    if (!document.hidden) timer = setTimeout(poll, EVERY_MS);
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    samples = [];
  } else {
    poll();
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { shown = ""; poll(); });
poll();
