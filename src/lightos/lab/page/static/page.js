// SPDX-License-Identifier: Apache-2.0
// The lab's page: asks for the overview every second, and shows it. Whatever comes from the
// cluster becomes text nodes and attributes, never markup.
"use strict";

const POLL_MS = 1000;
const KEPT_SAMPLES = 60;
const NO_IO = { reads: 0, readBytes: 0, writes: 0, writtenBytes: 0 };

const NODE_FAULTS = [
  { name: "Freeze", rule: { freeze: true }, title: "Stands still, as by SIGSTOP" },
  { name: "Cut off", rule: { swallow: true }, title: "Packets to any of its ports are lost" },
  { name: "Refuse", rule: { refuse: true }, title: "Refuses and drops all connections" },
  { name: "Demote", rule: { demote: true }, title: "Leaves the primary role to other replicas" },
  { name: "Hold", rule: { hold: "writes" }, title: "Writes that come in wait" },
];
const CALL_FAULTS = [
  { name: "Busy", rule: { status: 503 }, title: "Every call is answered 503" },
  { name: "Slow", rule: { delay_seconds: 2 }, title: "Every call waits 2 seconds" },
  { name: "Lost replies", rule: { lose_reply: true }, title: "Calls do their work and get no reply" },
  { name: "Resets", rule: { reset: true }, title: "Connections are reset before anything is done" },
];
const RULE_COUNTS = new Set(["id", "seen", "hits"]);

const key = keyOfThisTab();
const samples = [];
let overview = null;
let timer = 0;

function keyOfThisTab() {
  const given = location.hash.slice(1);
  if (given) {
    sessionStorage.setItem("key", given);
    history.replaceState(null, "", location.pathname); // not in the history, nor on a screen
  }
  return given || sessionStorage.getItem("key") || "";
}

// ---- The lab

async function ask(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "X-Lab-Key": key, ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  const content = await response.json();
  if (!response.ok) throw new Refused(content.message);
  return content;
}

class Refused extends Error {}

async function poll() {
  clearTimeout(timer);
  try {
    take(await ask("GET", "/lab/v1/overview"));
    live(true, "live");
  } catch (error) {
    const refused = error instanceof Refused;
    if (refused) tell(error.message);
    live(false, refused ? "refused" : "no answer");
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, POLL_MS);
}

function take(news) {
  if (samples.length && news.seconds < samples.at(-1).seconds) samples.length = 0; // a new lab
  overview = news;
  samples.push(news);
  if (samples.length > KEPT_SAMPLES) samples.shift();
  document.querySelector("main").hidden = false;
  render();
}

async function act(button) {
  const { method, path, body } = button.dataset;
  button.disabled = true;
  tell("");
  try {
    for (const each of path.split(" ")) await ask(method, each, body && JSON.parse(body));
  } catch (error) {
    tell(error instanceof Refused ? error.message : "The lab does not answer.");
  }
  button.disabled = false;
  await poll();
}

function live(is, text) {
  const shown = document.getElementById("live");
  shown.textContent = text;
  shown.className = is ? "ok" : "bad";
  document.querySelector("main").classList.toggle("stale", !is);
}

function tell(text) {
  const shown = document.getElementById("problem");
  shown.textContent = text;
  shown.hidden = !text;
}

// ---- Rates: of totals, over the last two polls

function rates(pick, now = samples.at(-1), before = samples.at(-3) ?? samples[0]) {
  const seconds = now.seconds - before.seconds;
  const newer = pick(now), older = pick(before);
  if (!seconds || !newer || !older) return NO_IO;
  // What a connection counted is gone with it, so a total can fall.
  return Object.fromEntries(
    Object.keys(NO_IO).map((name) => [name, Math.max(0, newer[name] - older[name]) / seconds]),
  );
}

const ratesOf = (list, by, value) =>
  rates((sample) => sample[list].find((each) => each[by] === value)?.io);

function history_(name) {
  return samples.slice(1).map((sample, i) => rates((each) => each.io, sample, samples[i])[name]);
}

// ---- Texts

function inUnits(number, base, units) {
  let step = 0;
  while (number >= base && step < units.length - 1) [number, step] = [number / base, step + 1];
  const digits = number < 10 && step ? 1 : 0;
  return `${number.toFixed(digits)} ${units[step]}`.trim();
}

const sizeText = (bytes) => inUnits(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
const rateText = (bytes) => inUnits(bytes, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);
const iopsText = (count) => `${inUnits(count, 1000, ["", "k", "M"])} IOPS`;
const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
const timeText = (iso) => new Date(iso).toLocaleTimeString([], { hourCycle: "h23" });
const worded = (state) => state.replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
const shortNqns = (text) => text.replace(/nqn\.\S*uuid:([0-9a-f]{8})[0-9a-f-]*/g, "$1…");
const hostText = (nqn) => nqn.replace(/^nqn\.2014-08\.org\.nvmexpress:uuid:/, "");

// ---- Elements

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

const h = (tag, attributes, ...children) =>
  make(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  make(document.createElementNS(SVG, tag), attributes, children);

/** Make the children of `old` those of `wanted`, leaving alone what is the same: focus stays. */
function become(old, wanted) {
  const olds = [...old.childNodes], news = [...wanted.childNodes];
  news.forEach((child, i) => {
    const present = olds[i];
    if (!present) old.append(child);
    else if (present.nodeName !== child.nodeName || present.id !== child.id) present.replaceWith(child);
    else if (child.nodeType === Node.TEXT_NODE) {
      if (present.data !== child.data) present.data = child.data;
    } else {
      for (const { name } of [...present.attributes]) {
        if (!child.hasAttribute(name) && name !== "disabled") present.removeAttribute(name);
      }
      for (const { name, value } of child.attributes) {
        if (present.getAttribute(name) !== value) present.setAttribute(name, value);
      }
      become(present, child);
    }
  });
  olds.slice(news.length).forEach((child) => child.remove());
}

function show(id, ...children) {
  const section = document.getElementById(id);
  become(section.querySelector(".body") ?? section, h("div", null, ...children));
}

const pill = (kind, text) => h("span", { class: `pill ${kind}` }, text);

function bar(part) {
  const width = `${Math.min(100, Math.max(part > 0 ? 1 : 0, part * 100)).toFixed(1)}%`;
  return s("svg", { class: "bar", "aria-hidden": "true" },
    s("rect", { width: "100%", height: "100%" }), s("rect", { class: "part", width, height: "100%" }));
}

function spark(values, kind) {
  const top = Math.max(1, ...values);
  const left = KEPT_SAMPLES - 1 - values.length;
  const points = values.map((value, i) => `${left + i},${(29 - (value / top) * 27).toFixed(1)}`);
  const ground = points.length && [`${left},30`, ...points, `${left + points.length - 1},30`];
  return s("svg", { class: `spark ${kind}`, viewBox: `0 0 ${KEPT_SAMPLES - 2} 30`,
                    preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polygon", { points: ground ? ground.join(" ") : "" }),
    s("polyline", { points: points.join(" ") }));
}

function toggle({ name, title }, body, ids) {
  const on = ids.length > 0;
  return h("button", {
    type: "button", role: "switch", class: "toggle", "aria-checked": String(on), title,
    "data-method": on ? "DELETE" : "POST",
    "data-path": on ? ids.map((id) => `/lab/v1/faults/${id}`).join(" ") : "/lab/v1/faults",
    "data-body": on ? false : JSON.stringify(body),
  }, name);
}

const rulesLike = (fields) =>
  overview.faults.rules.filter((rule) =>
    Object.entries(fields).every(([name, value]) => rule[name] === value));

// ---- Sections

function render() {
  const { cluster } = overview;
  document.getElementById("cluster").textContent = cluster.subsystemNQN;
  document.title = `${cluster.health} – LightOS lab`;
  show("summary", ...summary());
  show("nodes", ...overview.nodes.map(nodeCard));
  show("hosts", ...hosts());
  show("volumes", volumes());
  show("faults", ...callFaults());
  show("events", events());
}

function tile(name, value, more, ...rest) {
  return h("div", { class: "tile" },
    h("span", { class: "name" }, name), h("strong", null, value), h("small", null, more), ...rest);
}

function summary() {
  const { cluster, nodes, hosts: known } = overview;
  const active = nodes.filter((node) => node.state === "Active").length;
  const lost = cluster.notAvailableVolumes, degraded = cluster.degradedVolumes;
  const protection = [lost && `${lost} not available`, degraded && `${degraded} degraded`]
    .filter(Boolean).join(", ") || "all fully protected";
  const io = rates((sample) => sample.io);
  const used = cluster.usedBytes, free = cluster.freeBytes;
  return [
    h("div", { class: `tile health ${HEALTH[cluster.health] ?? "bad"}` },
      h("span", { class: "name" }, "Health"), h("strong", null, cluster.health),
      h("small", null, `${active} of ${counted(nodes.length, "node")} active`)),
    tile("Read", rateText(io.readBytes), iopsText(io.reads), spark(history_("readBytes"), "read")),
    tile("Write", rateText(io.writtenBytes), iopsText(io.writes),
      spark(history_("writtenBytes"), "write")),
    tile("Volumes", String(overview.volumeCount),
      overview.volumeCount ? protection : counted(overview.snapshotCount, "snapshot")),
    tile("Hosts", String(known.length),
      counted(known.reduce((sum, host) => sum + host.paths.length, 0), "path")),
    tile("Used space", sizeText(used), `${sizeText(free)} free`, bar(used / (used + free))),
  ];
}

const HEALTH = { OK: "ok", Warning: "warn", Error: "bad" };
const STATES = { Active: "ok", Activating: "warn" };

function nodeCard(node) {
  const io = ratesOf("nodes", "uuid", node.uuid);
  const verb = node.stopped ? "start" : "stop";
  return h("article", { id: `node-${node.uuid}`, class: `node ${STATES[node.state] ?? "bad"}` },
    h("div", { class: "top" },
      h("h3", null, node.name), h("span", { class: "address" }, node.address),
      pill(STATES[node.state] ?? "bad", node.state),
      h("button", { type: "button", class: "act", "data-method": "POST",
                    "data-path": `/api/v2/nodes/${node.uuid}/${verb}`, "data-body": "{}",
                    "aria-label": `${node.stopped ? "Start" : "Stop"} ${node.name}` },
        node.stopped ? "Start" : "Stop")),
    h("dl", null,
      fact("Primary of", counted(node.primaries, "volume")), fact("Replicas", String(node.replicas)),
      fact("Read", rateText(io.readBytes), "read"), fact("Write", rateText(io.writtenBytes), "write")),
    h("div", { class: "toggles", role: "group", "aria-label": `Faults of ${node.name}` },
      h("span", { class: "name" }, "Faults"),
      NODE_FAULTS.map((fault) => {
        const rule = { address: node.address, ...fault.rule };
        return toggle(fault, rule, rulesLike(rule).map(({ id }) => id));
      })));
}

const fact = (name, value, kind) =>
  h("div", { class: kind }, h("dt", null, name), h("dd", null, value));

function hosts() {
  if (!overview.hosts.length) return [h("p", { class: "none" }, "No host is connected.")];
  return overview.hosts.map((host) => {
    const io = ratesOf("hosts", "nqn", host.nqn);
    return h("article", { class: "host" },
      h("h3", { title: host.nqn }, hostText(host.nqn)),
      h("p", { class: "address" },
        `${host.addresses.join(", ")} · ${counted(host.volumes, "volume")}`,
        h("span", { class: "read" }, `read ${rateText(io.readBytes)}`),
        h("span", { class: "write" }, `write ${rateText(io.writtenBytes)}`)),
      h("ul", { class: "paths" }, overview.nodes.map((node) => pathTo(node, host))));
  });
}

function pathTo(node, host) {
  const paths = host.paths.filter((path) => path.node === node.name);
  const optimized = paths.reduce((most, path) => Math.max(most, path.optimized), 0);
  const [kind, text] = !paths.length ? ["bad", "no path"]
    : node.state !== "Active" ? ["warn", "does not answer"]
    : optimized ? ["used", counted(optimized, "volume")] : ["standby", "standby"];
  const twice = paths.length > 1 ? ` ×${paths.length}` : "";
  return h("li", { class: kind, title: `${paths.reduce((n, p) => n + p.ioQueues, 0)} I/O queues` },
    h("b", null, node.name + twice), text);
}

const PROTECTION = {
  FullyProtected: ["ok", ""], Degraded: ["warn", "Degraded"], NotAvailable: ["bad", "Not available"],
};

function volumes() {
  if (!overview.volumes.length) return h("p", { class: "none" }, "There are no volumes.");
  const more = overview.volumeCount - overview.volumes.length;
  return h("div", null, h("table", null,
    h("thead", null, h("tr", null, ["Volume", "State", "Replicas", "Used", "Read", "Write"].map(
      (name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, overview.volumes.map(volumeRow))),
    more > 0 && h("p", { class: "none" }, `and ${more} more, which are less busy`));
}

function volumeRow(volume) {
  const io = ratesOf("volumes", "uuid", volume.uuid);
  const [kind, lacks] = PROTECTION[volume.protection] ?? ["warn", ""];
  const state = volume.state === "Available" && lacks ? lacks : worded(volume.state);
  const up = new Map(overview.nodes.map((node) => [node.name, node.state === "Active"]));
  return h("tr", { id: `volume-${volume.uuid}` },
    h("th", { scope: "row" }, h("span", { title: volume.name }, volume.name),
      h("small", null, volume.project)),
    h("td", { "data-name": "State" },
      pill(volume.state === "Failed" ? "bad" : volume.state === "Available" ? kind : "warn", state)),
    h("td", { "data-name": "Replicas", class: "replicas" }, inOrder(volume.replicas).map((name) => {
      const primary = name === volume.primary;
      const title = primary ? "primary" : up.get(name) ? "replica" : "replica on a node that is down";
      return h("span", { class: primary ? "primary" : up.get(name) ? "" : "down", title }, name);
    })),
    h("td", { "data-name": "Used", class: "space" },
      h("span", null, `${sizeText(volume.usedBytes)} of ${sizeText(volume.sizeBytes)}`),
      bar(volume.usedBytes / volume.sizeBytes)),
    h("td", { "data-name": "Read", class: io.readBytes ? "read" : "idle" }, rateText(io.readBytes)),
    h("td", { "data-name": "Write", class: io.writtenBytes ? "write" : "idle" },
      rateText(io.writtenBytes)));
}

/** As the nodes stand above, so that columns of replicas can be compared. */
const inOrder = (names) => overview.nodes.map((node) => node.name).filter((n) => names.includes(n));

function callFaults() {
  const every = (fault) => ({ operation: "*", first: 1, count: 0, ...fault.rule });
  const toggled = new Set();
  const toggles = CALL_FAULTS.map((fault) => {
    const ids = rulesLike(every(fault))
      .filter((rule) => fault.rule.lose_reply || !rule.lose_reply).map(({ id }) => id);
    ids.forEach((id) => toggled.add(id));
    return toggle(fault, every(fault), ids);
  });
  const onNodes = (rule) => NODE_FAULTS.some(({ rule: effect }) =>
    Object.keys(effect).every((name) => name in rule) && !("operation" in rule));
  const others = overview.faults.rules.filter((rule) => !toggled.has(rule.id) && !onNodes(rule));
  return [
    h("div", { class: "toggles", role: "group", "aria-label": "Faults of every call" }, toggles),
    others.length > 0 && h("ul", { class: "rules" }, others.map((rule) => h("li", null,
      h("span", null, ruleText(rule)),
      h("button", { type: "button", class: "act", "data-method": "DELETE",
                    "data-path": `/lab/v1/faults/${rule.id}`,
                    "aria-label": `Clear fault ${rule.id}` }, "Clear")))),
  ];
}

function ruleText(rule) {
  const fields = Object.entries(rule).filter(([name]) => !RULE_COUNTS.has(name));
  const words = fields.map(([name, value]) => (value === true ? name : `${name} ${value}`));
  return `${words.join(", ")}${"hits" in rule ? ` – ${counted(rule.hits, "hit")}` : ""}`;
}

function events() {
  if (!overview.events.length) return h("p", { class: "none" }, "Nothing has happened yet.");
  return h("ol", { tabindex: "0" }, overview.events.toReversed().map((event) =>
    h("li", { id: `event-${event.id}` },
      h("time", { datetime: event.time }, timeText(event.time)),
      h("span", { class: `kind ${event.kind}` }, event.kind),
      h("span", { class: "text", title: event.text }, shortNqns(event.text)))));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-path]");
  if (button) act(button);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
poll();
