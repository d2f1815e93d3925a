"use strict";
// What a host does, from its own /status, /metrics and /recent. Text of messages and scripts gets
// into the page as text nodes alone, so none of it can be markup.

const EVERY_MS = 1000, ASK_MS = 5000, SAMPLES = 300;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// --- the exposition format of Prometheus ---

const ESCAPES = { n: "\n", "\\": "\\", '"': '"' };

function readLabels(text) {
  const labels = {};
  for (const found of text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g))
    labels[found[1]] = found[2].replace(/\\(.)/g, (_, c) => ESCAPES[c] ?? c);
  return labels;
}

function readNumber(text) {
  return text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text);
}

// name -> [{ labels, value }]
function readMetrics(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    if (!metrics.has(found[1])) metrics.set(found[1], []);
    metrics.get(found[1]).push({ labels: readLabels(found[2] ?? ""), value: readNumber(found[3]) });
  }
  return metrics;
}

const keyOf = (labels) => `${labels.script}\u0000${labels.handler}`;

// --- samples: what was read, and what it means against the one before ---

// Of one handler, or of all: figures that only grow (sums), and figures of the moment.
function emptyHandler(labels) {
  return { script: labels.script, handler: labels.handler, kind: "", stream: "", grows: {}, now: {}, verdicts: {}, durations: [] };
}

const GROWS = { received: "moonbus_handler_received_total", timeouts: "moonbus_handler_timeouts_total",
  redelivered: "moonbus_handler_redelivered_total", dropped: "moonbus_handler_dropped_total" };
const NOW = { running: "moonbus_handler_in_process", queued: "moonbus_handler_queued", stuck: "moonbus_handler_stuck",
  oldest: "moonbus_handler_oldest_seconds", lag: "moonbus_consumer_num_pending", unacked: "moonbus_consumer_num_ack_pending",
  paused: "moonbus_consumer_paused" };

function readSample(text, at) {
  const metrics = readMetrics(text), handlers = new Map();
  const rows = (name) => metrics.get(name) ?? [];
  const handlerOf = (labels) => {
    const key = keyOf(labels);
    if (!handlers.has(key)) handlers.set(key, emptyHandler(labels));
    return handlers.get(key);
  };
  const add = (object, key, value) => { object[key] = (object[key] ?? 0) + value; };
  for (const { labels } of rows("moonbus_handler_info")) {
    const handler = handlerOf(labels);
    handler.kind = labels.kind ?? "";
    handler.stream = labels.stream ?? "";
  }
  for (const [field, name] of Object.entries(GROWS))
    for (const { labels, value } of rows(name)) add(handlerOf(labels).grows, field, value);
  for (const [field, name] of Object.entries(NOW))
    for (const { labels, value } of rows(name)) add(handlerOf(labels).now, field, value);
  for (const { labels, value } of rows("moonbus_handler_settled_total")) add(handlerOf(labels).verdicts, labels.verdict, value);
  for (const { labels, value } of rows("moonbus_handler_runs_total")) {
    add(handlerOf(labels).grows, "runs", value);
    if (labels.result !== "ok") add(handlerOf(labels).grows, "failed", value);
  }
  for (const { labels, value } of rows("moonbus_handler_duration_seconds_bucket"))
    handlerOf(labels).durations.push({ le: readNumber(labels.le), count: value });
  return { at, metrics, handlers };
}

const one = (sample, name, labels = {}) => {
  for (const row of sample.metrics.get(name) ?? [])
    if (Object.entries(labels).every(([key, value]) => row.labels[key] === value)) return row.value;
  return undefined;
};
const sum = (sample, name) => (sample.metrics.get(name) ?? []).reduce((all, row) => all + row.value, 0);

// How many fell into each bucket between two samples; a counter that went back began anew.
function bucketsBetween(before, after) {
  const cumulative = after.durations.map((bucket, i) => {
    const old = before?.durations[i]?.count ?? 0;
    return { le: bucket.le, count: bucket.count >= old ? bucket.count - old : bucket.count };
  });
  return cumulative.map((bucket, i) => ({ le: bucket.le, count: bucket.count - (cumulative[i - 1]?.count ?? 0) }));
}

// The upper bound of the bucket in which it lies, or undefined when nothing ran.
function quantile(buckets, q) {
  const total = buckets.reduce((all, bucket) => all + bucket.count, 0);
  let seen = 0;
  if (total <= 0) return undefined;
  for (const bucket of buckets) {
    seen += bucket.count;
    if (seen >= q * total) return bucket.le;
  }
  return undefined;
}

const grown = (before, after) => (after >= before ? after - before : after);

// --- history: at most SAMPLES points of each series ---

const history = { all: new Map(), handlers: new Map() };

function note(map, name, value) {
  if (!map.has(name)) map.set(name, []);
  const series = map.get(name);
  series.push(value ?? NaN);
  if (series.length > SAMPLES) series.shift();
}

function remember(before, after) {
  const seconds = before ? (after.at - before.at) / 1000 : 0;
  const rate = (old, now) => (before && seconds > 0 ? grown(old ?? 0, now ?? 0) / seconds : NaN);
  let messages = 0, failures = 0;
  for (const [key, handler] of after.handlers) {
    const old = before?.handlers.get(key);
    if (!history.handlers.has(key)) history.handlers.set(key, new Map());
    const series = history.handlers.get(key);
    const buckets = before ? bucketsBetween(old, handler) : [];
    const runs = rate(old?.grows.runs, handler.grows.runs);
    const received = rate(old?.grows.received, handler.grows.received);
    note(series, "rate", handler.grows.received === undefined ? runs : received);
    note(series, "failed", rate(old?.grows.failed, handler.grows.failed));
    note(series, "median", quantile(buckets, 0.5));
    note(series, "p99", quantile(buckets, 0.99));
    note(series, "lag", handler.now.lag);
    note(series, "queued", handler.now.queued);
    note(series, "heat", buckets);
    messages += handler.grows.received === undefined ? 0 : received || 0;
    failures += rate(old?.grows.failed, handler.grows.failed) || 0;
  }
  for (const key of history.handlers.keys()) if (!after.handlers.has(key)) history.handlers.delete(key);
  const cpu = rate(before && one(before, "process_cpu_seconds_total"), one(after, "process_cpu_seconds_total"));
  note(history.all, "messages", before ? messages : NaN);
  note(history.all, "failures", before ? failures : NaN);
  note(history.all, "running", sum(after, "moonbus_handler_in_process"));
  note(history.all, "queued", sum(after, "moonbus_handler_queued"));
  note(history.all, "lag", after.metrics.has("moonbus_consumer_num_pending") ? sum(after, "moonbus_consumer_num_pending") : NaN);
  note(history.all, "cpu", cpu * 100);
  note(history.all, "memory", one(after, "process_resident_memory_bytes"));
}

// --- how figures are written ---

function number(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (value >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (value >= 1e4) return (value / 1e3).toFixed(1) + " k";
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

function duration(seconds) {
  if (seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds === Infinity) return "> 300 s";
  if (seconds < 0.001) return `${+(seconds * 1e6).toPrecision(3)} µs`;
  if (seconds < 1) return `${+(seconds * 1e3).toPrecision(3)} ms`;
  if (seconds < 120) return `${+seconds.toPrecision(3)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
}

function bytes(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at++; }
  return `${at ? +value.toPrecision(3) : value} ${units[at]}`;
}

const clockTime = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

// --- elements ---

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

// Makes an element what a fresh one is. Elements that are still right stay, so that focus, a
// selection, a click under way and what is unfolded do. Children with a data-key are known by it.
function become(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.nodeName === "CANVAS") {
    old.replaceWith(fresh);
    return fresh;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  for (const { name } of [...old.attributes])
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  fill(old, [...fresh.childNodes]);
  return old;
}

function fill(parent, children) {
  const keyed = new Map([...parent.childNodes].filter((child) => child.dataset?.key).map((child) => [child.dataset.key, child]));
  let at = parent.firstChild;
  for (const fresh of children) {
    const key = fresh.dataset?.key;
    const old = key ? keyed.get(key) : at?.dataset?.key ? undefined : at;
    if (!old) {
      parent.insertBefore(fresh, at);
      continue;
    }
    if (old !== at) parent.insertBefore(old, at);
    at = become(old, fresh).nextSibling;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const fillText = (parent, text) => { if (parent.textContent !== text) parent.textContent = text; };

// A chart is a minute wide at first, and grows with what is known.
const windowOf = (values) => Math.max(values.length, 60);

function line(values, label) {
  const svg = document.createElementNS(SVG, "svg");
  const known = values.filter((value) => Number.isFinite(value));
  const most = Math.max(...known, 0) || 1, width = windowOf(values);
  svg.setAttribute("viewBox", `0 0 ${width - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  let path = "", area = "", started = false;
  const from = width - values.length;
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) { started = false; return; }
    const point = `${from + i} ${(98 - (value / most) * 94).toFixed(1)}`;
    path += `${started ? "L" : "M"}${point}`;
    area += `${started ? "L" : `${area ? "V100Z" : ""}M${from + i} 100L`}${point}`;
    started = true;
  });
  for (const [kind, d] of [["area", area && area + "V100Z"], ["line", path]]) {
    const element = document.createElementNS(SVG, "path");
    element.setAttribute("class", kind);
    if (d) element.setAttribute("d", d);
    svg.append(element);
  }
  return svg;
}

// Time from left to right, durations from below; the darker, the more runs.
function heat(columns, label) {
  const rows = columns.find((column) => column.length)?.length ?? 0;
  const width = windowOf(columns);
  const canvas = make("canvas", { width, height: rows || 1, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--heat").trim();
  const most = Math.max(...columns.flatMap((column) => column.map((bucket) => bucket.count)), 1);
  columns.forEach((column, i) => {
    column.forEach((bucket, row) => {
      if (bucket.count <= 0) return;
      context.fillStyle = `rgba(${colour}, ${0.2 + 0.8 * Math.sqrt(bucket.count / most)})`;
      context.fillRect(width - columns.length + i, rows - 1 - row, 1, 1);
    });
  });
  return canvas;
}

const last = (series) => (series && series.length ? series[series.length - 1] : undefined);
const lastKnown = (series) => series?.findLast((value) => Number.isFinite(value));

// --- the parts of the page ---

function showHead(status) {
  const ready = status.ready, state = status.state;
  fillText($("version"), status.versions?.moonbus ?? "");
  document.title = `${ready ? "" : "! "}moonbus ${location.host}`;
  fillText($("state"), ready ? state : state === "serving" ? "not ready" : state);
  $("state").className = `pill ${ready ? "good" : state === "draining" ? "warn" : "bad"}`;
  const facts = [["at", location.host], ["up", duration(status.uptime_ms / 1000)], ["pid", status.pid],
    ["workers", status.workers], ["scripts", status.scripts?.length]];
  fill($("facts"), facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value ?? "–")))));
  const reasons = status.reasons ?? [];
  $("trouble").hidden = reasons.length === 0;
  fill($("reasons"), reasons.map((reason) => make("li", {}, reason)));
}

const GLANCE = [["messages", "Messages a second", number], ["failures", "Failures a second", number],
  ["running", "Handlers at work", number], ["queued", "Queued here", number], ["lag", "Waiting on the server", number],
  ["cpu", "CPU", (value) => (Number.isFinite(value) ? `${value.toFixed(0)} %` : "–")], ["memory", "Memory", bytes]];

function showGlance() {
  fill($("glance"), GLANCE.map(([name, title, write]) => {
    const series = history.all.get(name) ?? [];
    const value = write(last(series));
    const bad = name === "failures" && last(series) > 0;
    return make("li", {}, make("span", { class: "soft" }, title), make("b", { class: bad ? "bad" : undefined }, value),
      line(series, `${title} over the last minutes, now ${value}`));
  }));
}

let chosen = null;

function handlerRow(key, handler) {
  const series = history.handlers.get(key);
  const rate = last(series.get("rate"));
  const failed = last(series.get("failed"));
  const total = handler.grows.failed ?? 0;
  const lag = handler.now.paused ? "paused" : number(handler.now.lag);
  const name = make("button", { class: "link", type: "button", "data-handler": key, "aria-expanded": String(chosen === key) },
    handler.handler);
  return make("tr", { "data-key": key }, make("th", { scope: "row" }, name, make("div", { class: "soft" }, handler.script)),
    make("td", {}, `${number(rate)}/s`, line(series.get("rate"), `messages a second, now ${number(rate)}`)),
    make("td", { class: "n" }, duration(lastKnown(series.get("median")))),
    make("td", { class: "n" }, duration(lastKnown(series.get("p99")))),
    make("td", { class: "n" }, number(handler.now.running ?? 0), handler.now.stuck ? make("div", { class: "bad" }, `${handler.now.stuck} stuck`) : undefined),
    make("td", { class: "n" }, number(handler.now.queued ?? 0)),
    make("td", { class: "n" }, lag),
    make("td", { class: `n ${failed > 0 ? "bad" : ""}` }, number(total)));
}

function showHandlers(sample) {
  fill($("handlers").tBodies[0], [...sample.handlers].map(([key, handler]) => handlerRow(key, handler)));
}

function choose(key) {
  chosen = chosen === key ? null : key;
  draw();
  if (chosen) $("detail-title").focus();
}

function showDetail(sample) {
  const handler = chosen !== null && sample.handlers.get(chosen);
  $("detail").hidden = !handler;
  if (!handler) return;
  const series = history.handlers.get(chosen);
  const figure = (title, picture) => make("figure", {}, make("figcaption", {}, title), picture);
  const of = (name, title, write) => {
    const value = write(lastKnown(series.get(name)));
    return figure(`${title}, now ${value}`, line(series.get(name), `${title} over the last minutes, now ${value}`));
  };
  fillText($("detail-title"), `${handler.script} · ${handler.handler}`);
  fill($("charts"), [of("rate", "Messages a second", number), of("failed", "Failures a second", number),
    figure("Durations, from microseconds (below) to minutes (above)", heat(series.get("heat"), "how long runs took, over the last minutes")),
    of("p99", "Slowest of a hundred", duration), of("queued", "Queued here", number),
    ...(handler.now.lag === undefined ? [] : [of("lag", "Waiting on the server", number)])]);
  const counts = [["runs", handler.grows.runs], ...Object.entries(handler.verdicts), ["redelivered", handler.grows.redelivered],
    ["timeouts", handler.grows.timeouts], ["dropped", handler.grows.dropped], ["unacknowledged on the server", handler.now.unacked]];
  fill($("counts"), counts.filter(([, value]) => value !== undefined)
    .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, number(value)))));
}

function showRunning(runs) {
  fill($("running").tBodies[0], runs.length ? runs.map((run) => make("tr", {},
    make("td", { class: "n" }, duration(run.age_ms / 1000)),
    make("th", { scope: "row" }, run.handler, make("div", { class: "soft" }, run.script)),
    make("td", {}, run.subject ?? "", run.sequence ? make("div", { class: "soft" }, `#${run.sequence}, attempt ${run.attempt}`) : undefined),
    make("td", {}, run.place ? make("code", {}, run.place) : "", run.computes ? " computes" : run.place ? " waits" : "")))
    : [make("tr", {}, make("td", { colspan: "4", class: "soft" }, "Nothing runs."))]);
}

const stamp = (time) => make("time", { datetime: time }, clockTime(time));

function event(entry) {
  const message = entry.message ?? (entry.sequence ? `${entry.stream ?? ""} #${entry.sequence}` : "");
  const place = entry.file ? `${entry.file}:${entry.line}: ` : "";
  const code = entry.code ? `${entry.code}: ` : "";
  const who = [entry.script, entry.handler, message].filter(Boolean).join(" ");
  const text = [stamp(entry.time), make("strong", { class: entry.level === "error" ? "bad" : "warn" }, entry.level), ` ${who} `,
    make("span", {}, `${place}${code}${entry.msg}`)];
  const key = `${entry.time} ${entry.sequence ?? ""} ${entry.msg}`;
  if (!entry.traceback) return make("li", { "data-key": key }, ...text);
  return make("li", { "data-key": key }, make("details", {}, make("summary", {}, ...text), make("pre", {}, entry.traceback)));
}

function showList(id, entries, row, none) {
  fill($(id), entries.length ? entries.toReversed().map(row) : [make("li", { class: "soft" }, none)]);
}

function showRecent(recent) {
  const none = "None among the last 50 warnings and errors of the log.";
  showRunning(recent.running ?? []);
  showList("errors", recent.events ?? [], event, none);
  showList("letters", (recent.events ?? []).filter((entry) => entry.dead_letter), (entry) =>
    make("li", {}, stamp(entry.time), make("code", {}, entry.dead_letter), ` ${entry.stream ?? ""} #${entry.sequence ?? "?"} `,
      make("span", {}, `${entry.code ? entry.code + ": " : ""}${entry.msg}`)), none);
  showList("reloads", recent.reloads ?? [], (entry) =>
    make("li", {}, stamp(entry.time), make("strong", { class: entry.ok ? "good" : "bad" }, entry.ok ? "live" : "refused"),
      ` ${entry.text}`), "None since this host began.");
}

function showServices(services) {
  $("served").hidden = services.length === 0;
  fill($("services").tBodies[0], services.map((service) => make("tr", { "data-key": service.id },
    make("th", { scope: "row" }, service.name),
    make("td", {}, service.version),
    make("td", { class: "n" }, number(service.endpoints)),
    make("td", {}, service.started ? stamp(service.started) : ""),
    make("td", {}, make("code", {}, service.id)))));
}

function showConnections(sample, status) {
  const figure = (name, connection) => one(sample, `moonbus_connection_${name}`, { connection });
  fill($("connections").tBodies[0], Object.entries(status.connections ?? {}).map(([name, state]) => make("tr", {},
    make("th", { scope: "row" }, name),
    make("td", { class: state === "connected" ? "good" : "bad" }, state),
    make("td", { class: "n" }, duration(figure("rtt_seconds", name))),
    make("td", { class: "n" }, number(figure("reconnects_total", name))),
    make("td", { class: "n" }, `${number(figure("sent_messages_total", name))} · ${bytes(figure("sent_bytes_total", name))}`),
    make("td", { class: "n" }, `${number(figure("received_messages_total", name))} · ${bytes(figure("received_bytes_total", name))}`))));
}

// --- asking ---

let before = null, answers = null, paused = false, asking = false;

function draw() {
  if (!answers) return;
  showHead(answers.status);
  showGlance();
  showHandlers(answers.sample);
  showDetail(answers.sample);
  showRecent(answers.recent);
  showServices(answers.status.services ?? []);
  showConnections(answers.sample, answers.status);
}

async function ask(path, form) {
  try {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ASK_MS) });
    if (!answer.ok) throw new Error(answer.status);
    return await answer[form]();
  } catch (error) {
    throw new Error(`/${path}: ${error.message}`);
  }
}

async function update() {
  if (asking || paused || document.hidden) return;
  asking = true;
  try {
    const given = await Promise.allSettled([ask("status", "json"), ask("metrics", "text"), ask("recent", "json")]);
    const [status, metrics, recent] = given.map((each) => each.value);
    const failed = given.filter((each) => each.reason).map((each) => each.reason.message);
    if (failed.length === given.length) throw new Error(failed[0]);
    const sample = metrics === undefined ? answers?.sample : readSample(metrics, performance.now());
    answers = { status: status ?? answers?.status ?? {}, recent: recent ?? answers?.recent ?? {}, sample: sample ?? readSample("", 0) };
    if (metrics !== undefined) {
      remember(before, sample);
      before = sample;
    }
    draw();
    fillText($("fresh"), failed.length ? failed.join(", ") : `as of ${clockTime(Date.now())}`);
    $("fresh").className = failed.length ? "bad" : "";
  } catch (error) {
    fillText($("fresh"), `no answer from the host since ${before ? clockTime(performance.timeOrigin + before.at) : "the page was opened"}`);
    $("fresh").className = "bad";
  }
  asking = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-handler]");
  if (button) choose(button.dataset.handler);
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  update();
});
$("close").addEventListener("click", () => {
  const key = chosen;
  choose(key);
  [...document.querySelectorAll("[data-handler]")].find((button) => button.dataset.handler === key)?.focus();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && chosen !== null) $("close").click(); });
document.addEventListener("visibilitychange", update);
setInterval(update, EVERY_MS);
update();
