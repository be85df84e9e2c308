// The status page: asks for /api/v1/status every few seconds and shows it. Everything goes in as
// text, never as markup, since notes quote what others said.
"use strict";

const REFRESH_MS = 3000;
const ANSWER_MS_MAX = 8000;
const byId = (id) => document.getElementById(id);
const put = (id, text) => { byId(id).textContent = text; };
const sum = (items, pick) => items.reduce((total, item) => total + pick(item), 0);
const number = (value) => value.toLocaleString("en-US");

function age(seconds) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h${two((seconds / 60) % 60)}m`;
  return `${Math.floor(seconds / 86400)}d${two((seconds / 3600) % 24)}h`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

const latency = (seconds) => (seconds < 10 ? `${seconds.toFixed(2)} s` : age(seconds));

function cell(text, style) {
  const td = document.createElement("td");
  td.textContent = text;
  if (style) td.className = style;
  return td;
}

function row(...cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

const STYLE = {
  flowing: "good", backing_off: "warn", held: "bad", reading_back: "warn", paused: "warn",
  dormant: "", orphaned: "warn",
};

function laneRows(lane, now) {
  const open = lane.open_findings;
  const nodes = lane.nodes;
  const state = lane.state.replace("_", " ") + (lane.hold_reason ? `: ${lane.hold_reason}` : "");
  const swept = lane.last_complete_sweep_unix_ms;
  const cells = [
    cell(lane.lane), cell(state, STYLE[lane.state] || ""), cell(number(lane.outbox_findings), "n"),
    cell(lane.oldest_age_seconds === null ? "–" : age(lane.oldest_age_seconds), "n"),
    ...["critical", "high", "medium", "low", "informational"].map((s) => cell(number(open[s]), "n")),
    cell(number(nodes.non_compliant + nodes.compliant + nodes.never_scanned + nodes.stale), "n"),
    cell(number(nodes.non_compliant), "n"),
    cell(swept === null ? "never" : `${age(Math.max(0, now - swept) / 1000)} ago`, "n"),
  ];
  const rows = [row(...cells)];
  if (lane.note) {
    const note = cell(lane.note, "note");
    note.colSpan = cells.length;
    rows.push(row(note));
  }
  return rows;
}

function verdict(status) {
  const well = status.attention.length === 0;
  byId("verdict").className = well ? "card good" : "card bad";
  const dry = status.dry_run ? " Dry run: nothing is sent." : "";
  put("headline", (well ? "All is well." : "This needs attention:") + dry);
  byId("attention").replaceChildren(...status.attention.map((sentence) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  }));
  document.title = (well ? "✓" : `⚠ ${status.attention.length}`) + " patchferry";
}

function tiles(status) {
  const { lanes, store, dead_letters: dead, latency: seen } = status;
  put("waiting", number(sum(lanes, (lane) => lane.outbox_findings)));
  const oldest = Math.max(0, ...lanes.map((lane) => lane.oldest_age_seconds || 0));
  put("waiting-detail", oldest ? `oldest ${age(oldest)}` : "nothing is old");
  put("latency", seen ? latency(seen.p50_seconds) : "–");
  put("latency-detail", seen
    ? `p95 ${latency(seen.p95_seconds)}, p99 ${latency(seen.p99_seconds)}` : "nothing delivered yet");
  const severity = (name) => sum(lanes, (lane) => lane.open_findings[name]);
  const severities = ["critical", "high", "medium", "low", "informational"];
  put("open", number(sum(severities, severity)));
  put("open-detail", `${number(severity("critical"))} critical, ${number(severity("high"))} high`);
  put("dead", number(sum(dead, (letters) => letters.count)));
  put("dead-detail", dead.map((l) => `${l.count} ${l.stage}/${l.reason}`).join(", ") || "none");
  put("store", bytes(store.live_bytes));
  put("store-detail", `of ${bytes(store.max_bytes)}, ${bytes(store.free_bytes)} free on disk`);
}

function accounting(status) {
  const a = status.accounting;
  const ends = ["delivered", "coalesced", "unchanged", "dead", "dropped", "queued"];
  put("identity", `${number(a.accepted)} accepted = `
    + ends.map((end) => `${number(a[end])} ${end}`).join(" + "));
  const off = status.accounting_imbalance;
  byId("balance").className = off === 0 ? "good" : "bad";
  put("balance", off === 0 ? "Balanced: nothing is lost." : `Off by ${number(off)}: a defect.`);
}

function show(status) {
  put("version", status.version);
  put("age", `up ${age((status.at_unix_ms - status.started_at_unix_ms) / 1000)}, as of `
    + new Date(status.at_unix_ms).toLocaleTimeString());
  byId("age").className = "";
  verdict(status);
  tiles(status);
  byId("lanes").replaceChildren(...status.lanes.flatMap((lane) => laneRows(lane, status.at_unix_ms)));
  byId("queues").replaceChildren(...status.queues.map((queue) => row(
    cell(queue.queue), cell(number(queue.items), "n"),
    cell(queue.oldest_age_seconds === null ? "–" : age(queue.oldest_age_seconds), "n"))));
  accounting(status);
}

function unreachable(reason) {
  byId("verdict").className = "card bad";
  put("headline", "No answer: what is shown below is old.");
  put("age", String(reason));
  byId("age").className = "bad";
  document.title = "✗ patchferry";
}

async function refresh() {
  try {
    const answer = await fetch("/api/v1/status", { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    if (!answer.ok) throw new Error(`status ${answer.status}: ${(await answer.text()).slice(0, 200)}`);
    show(await answer.json());
  } catch (reason) {
    unreachable(reason);
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
