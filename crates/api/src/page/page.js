// The page: asks the API for what it shows. Whatever comes from containers and images is text, never markup.
"use strict";

const token = location.hash.slice(1);
const headers = { Authorization: "Bearer " + token };
const element = (id) => document.getElementById(id);
let write = false;
let looking = null; // what the lower part shows: ends when something else is looked at

async function ask(path, method = "GET") {
  const answer = await fetch(path, { method, headers });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.message || answer.statusText);
}
const json = async (path) => (await ask(path)).json();

function trouble(error) {
  element("trouble").hidden = !error;
  element("trouble").textContent = error ? error.message : "";
}

function make(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function button(words, does) {
  const made = make("button", words);
  made.addEventListener("click", () => Promise.resolve(does()).then(() => trouble(null), trouble));
  return made;
}

function size(bytes) {
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit++) bytes /= 1000;
  return bytes.toFixed(unit && bytes < 100 ? 1 : 0) + " " + ["B", "kB", "MB", "GB", "TB"][unit];
}

const nameOf = (container) => (container.Names[0] || container.Id.slice(0, 12)).replace(/^\//, "");

// Containers: rows stay while they are the same, so that a click is not lost between two looks.
const rows = new Map();
const used = new Map(); // container -> what it had used at the last look

async function containers() {
  const list = await json("/containers/json?all=1");
  const body = element("containers").tBodies[0];
  const seen = new Set();
  for (const container of list) {
    seen.add(container.Id);
    const now = container.State + container.Status.replace(/\d+.*/, "") + nameOf(container);
    let row = rows.get(container.Id);
    if (!row || row.dataset.now !== now) {
      const fresh = line(container);
      fresh.dataset.now = now;
      row ? row.replaceWith(fresh) : body.append(fresh);
      rows.set(container.Id, (row = fresh));
    }
    row.cells[2].title = container.Status;
    if (container.State === "running") stats(container, row).catch(() => {});
  }
  for (const [id, row] of rows) if (!seen.has(id)) row.remove(), rows.delete(id), used.delete(id);
  return list;
}

function line(container) {
  const row = make("tr");
  const running = container.State === "running";
  row.append(make("td", nameOf(container)), make("td", container.Image));
  row.append(make("td", container.Status, running ? "good" : ""), make("td", "", "number"), make("td", "", "number"));
  const does = make("td");
  const act = (what) => () => ask(`/containers/${container.Id}/${what}`, "POST").then(refresh);
  does.append(button("Logs", () => logs(container)));
  if (write && running) does.append(button("Terminal", () => terminal(container)), button("Stop", act("stop?t=5")));
  if (write && !running) does.append(button("Start", act("start")));
  row.append(does);
  return row;
}

async function stats(container, row) {
  const now = await json(`/containers/${container.Id}/stats?stream=0&one-shot=1`);
  const time = Date.parse(now.read), cpu = now.cpu_stats.cpu_usage.total_usage, before = used.get(container.Id);
  used.set(container.Id, { time, cpu });
  // Nanoseconds of processors in milliseconds.
  if (before && time > before.time) row.cells[3].textContent = ((cpu - before.cpu) / (time - before.time) / 1e4).toFixed(1) + " %";
  row.cells[4].textContent = size(now.memory_stats.usage || 0);
}

function look(title) {
  if (looking) looking.end();
  element("looking").hidden = false;
  element("looking").querySelector("h2").textContent = title;
  element("text").hidden = element("screen").hidden = true;
  looking = { end() {} };
  return looking;
}

// Docker's frames: stream, three zeros, length, bytes. With a terminal there are none.
async function logs(container) {
  const here = look("Logs of " + nameOf(container)), out = element("text");
  out.hidden = false;
  out.textContent = "";
  const stop = new AbortController();
  here.end = () => stop.abort();
  const framed = !(await json(`/containers/${container.Id}/json`)).Config.Tty;
  const path = `/containers/${container.Id}/logs?stdout=1&stderr=1&follow=1&tail=500`;
  const answer = await fetch(path, { headers, signal: stop.signal });
  const reader = answer.body.getReader(), words = new TextDecoder();
  let rest = new Uint8Array();
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done || looking !== here) return;
    const all = new Uint8Array(rest.length + value.length);
    all.set(rest), all.set(value, rest.length);
    let at = framed ? 0 : all.length, text = framed ? "" : words.decode(all, { stream: true });
    while (framed && at + 8 <= all.length) {
      const end = at + 8 + new DataView(all.buffer).getUint32(at + 4);
      if (end > all.length) break;
      text += words.decode(all.subarray(at + 8, end), { stream: true });
      at = end;
    }
    rest = all.slice(at);
    out.append(text);
    if (out.textContent.length > 1e6) out.textContent = out.textContent.slice(-5e5);
    out.scrollTop = out.scrollHeight;
  }
}

function terminal(container) {
  const here = look("Terminal of " + nameOf(container)), screen = element("screen");
  screen.hidden = false;
  const shown = new Terminal(screen, 80, 24);
  const path = `/berth/terminal/${container.Id}?w=80&h=24&token=${encodeURIComponent(token)}`;
  const socket = new WebSocket(`ws://${location.host}${path}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (message) => shown.write(new Uint8Array(message.data));
  socket.onclose = () => shown.write(new TextEncoder().encode("\r\n[it has ended]\r\n"));
  shown.typed = (text) => socket.readyState === 1 && socket.send(new TextEncoder().encode(text));
  here.end = () => socket.close();
  screen.focus();
}

// Images: a verdict takes a moment the first time, so one after the other, and once.
const verdicts = new Map();

async function images() {
  const body = element("images").tBodies[0];
  body.replaceChildren();
  for (const image of await json("/images/json")) {
    const name = (image.RepoTags || [])[0] || image.Id.slice(7, 19);
    const row = make("tr"), verdict = make("td", "…");
    row.append(make("td", (image.RepoTags || []).join(", ") || name), make("td", size(image.Size), "number"), verdict);
    body.append(row);
    if (!verdicts.has(image.Id)) verdicts.set(image.Id, await json("/berth/verdict/" + image.Id).catch((e) => e));
    show(verdict, verdicts.get(image.Id));
  }
}

function show(cell, judged) {
  cell.textContent = "";
  const verdict = judged.subjects && judged.subjects[0].verdicts[0];
  if (!verdict) return void cell.append(make("span", judged.message || "could not be judged", "fair"));
  const kinds = { runs: ["runs", "good"], "runs-with-remedies": ["runs, with remedies", "fair"] };
  cell.append(make("span", ...(kinds[verdict.status] || ["will not run", "bad"])));
  const told = verdict.findings.filter((f) => f.sure !== "unlikely").slice(0, 5);
  if (!told.length) return;
  const list = make("ul");
  for (const finding of told) list.append(make("li", [finding.file, finding.asks, finding.lacks].filter(Boolean).join(": ")));
  cell.append(list);
}

// Networks at the left, containers at the right, a line for each address.
async function networks(list) {
  const all = await json("/networks");
  const here = all.filter((n) => n.Name !== "none" && n.Name !== "host");
  const height = 40 * Math.max(here.length, list.length, 1) + 10;
  const draw = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const svg = draw("svg", { width: 760, height, viewBox: `0 0 760 ${height}`, role: "img" });
  const box = (x, y, width, text) =>
    svg.append(draw("rect", { x, y, width, height: 28, rx: 5 }), draw("text", { x: x + 10, y: y + 19 }, text));
  here.forEach((network, i) => {
    const subnet = ((network.IPAM.Config || [])[0] || {}).Subnet || network.Driver;
    box(1, 40 * i + 5, 260, `${network.Name} ${subnet}`);
  });
  list.forEach((container, j) => {
    box(480, 40 * j + 5, 260, nameOf(container));
    for (const [name, endpoint] of Object.entries(container.NetworkSettings.Networks || {})) {
      const i = here.findIndex((n) => n.Name === name);
      if (i < 0) continue;
      const [y1, y2] = [40 * i + 19, 40 * j + 19];
      svg.append(draw("line", { x1: 261, y1, x2: 480, y2 }));
      svg.append(draw("text", { x: 330, y: (y1 + y2) / 2 - 3 }, endpoint.IPAddress || ""));
    }
  });
  element("networks").replaceChildren(svg);
}

async function refresh() {
  await networks(await containers());
}

async function begin() {
  write = (await json("/page.json")).write;
  const info = await json("/info");
  element("host").textContent = `${info.Name}, Linux ${info.KernelVersion}, Berth ${info.ServerVersion}` + (write ? "" : ", read-only");
  await refresh();
  await images();
  document.body.dataset.ready = "yes";
  setInterval(() => document.hidden || refresh().then(() => trouble(null), trouble), 2000);
}

element("close").addEventListener("click", () => (looking && looking.end(), (looking = null), (element("looking").hidden = true)));
begin().catch(trouble);
