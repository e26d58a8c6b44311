// The try-it page: reads the OpenAPI document, and sends what somebody fills in. All text is set as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST_EXAMPLE = 6;

const at = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Schemas

function resolve(document_, node) {
  return node && node.$ref ? node.$ref.slice(2).split("/").reduce((inner, key) => inner[key], document_) : node;
}

function kindOf(schema) {
  const kinds = [].concat(schema.type || []);
  return kinds.find((kind) => kind !== "null") || (schema.properties ? "object" : "");
}

// What a field may look like: its own example, else the least that its schema takes.
function example(document_, node, depth = 0) {
  const schema = resolve(document_, node);
  if (!schema || depth > DEEPEST_EXAMPLE) return undefined;
  if (schema.examples && schema.examples.length) return schema.examples[0];
  if (schema.anyOf) return example(document_, schema.anyOf[0], depth);
  if (schema.enum) return schema.enum.find((name) => !String(name).endsWith("_UNSPECIFIED")) || schema.enum[0];
  switch (kindOf(schema)) {
    case "object": return exampleObject(document_, schema, depth);
    case "array": return schema.minItems || depth === 0 ? [example(document_, schema.items, depth + 1)].filter((item) => item !== undefined) : [];
    case "boolean": return false;
    case "integer": return schema.minimum > 0 ? schema.minimum : 0;
    case "number": return "exclusiveMinimum" in schema ? schema.exclusiveMinimum + 1 : Math.max(schema.minimum || 0, 0);
    case "string": return exampleText(schema);
    default: return undefined;
  }
}

function exampleText(schema) {
  if (schema.format === "date-time") return new Date().toISOString();
  if (schema.format === "uuid") return "00000000-0000-7000-8000-000000000000";
  if (/int64/.test(schema.format || "")) return "0";
  return "";
}

function exampleObject(document_, schema, depth) {
  const wanted = new Set(schema.required || []);
  const one = ((schema.allOf || []).find((part) => part.oneOf) || {}).oneOf;
  if (one && one[0].required) one[0].required.forEach((name) => wanted.add(name));
  const names = Object.keys(schema.properties || {}).filter((name) => !schema.properties[name]["x-clew-set-by-server"]);
  const shown = wanted.size || depth ? names.filter((name) => wanted.has(name)) : names;
  const made = {};
  for (const name of shown.length ? shown : names.slice(0, 3)) {
    const value = example(document_, schema.properties[name], depth + 1);
    if (value !== undefined) made[name] = value;
  }
  return made;
}

// The call that is shown

function security(operation) {
  const names = operation.security.map((one) => Object.keys(one)[0]);
  const scopes = operation.security.flatMap((one) => one.bearer || []);
  if (scopes.length) return `Bearer token with the scope ${scopes.join(" or ")}`;
  return names.includes("writeKey") ? "A source's write key" : "Nothing";
}

function parameterField(document_, parameter) {
  const schema = resolve(document_, parameter.schema);
  const list = kindOf(schema) === "array";
  const input = make("input", { name: parameter.name, "data-in": parameter.in, "data-list": list, autocomplete: "off", spellcheck: "false", placeholder: list ? "several, separated by commas" : "" });
  const name = make("span", { class: parameter.required ? "name must" : "name" }, parameter.name);
  return make("label", {}, name, make("span", { class: "quiet" }, `  ${parameter.in}`), input, make("p", { class: "hint" }, parameter.description || ""));
}

function bodySchema(operation) {
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  return content && content.schema;
}

function bodyFields(document_, schema) {
  const inner = resolve(document_, schema.anyOf ? schema.anyOf[0] : schema);
  const rows = Object.entries(inner.properties || {}).map(([name, field]) => {
    const must = (inner.required || []).includes(name) ? "required" : "";
    return make("tr", {}, make("td", {}, make("code", {}, name)), make("td", { class: "quiet" }, must), make("td", {}, field.description || ""));
  });
  return rows.length ? make("details", {}, make("summary", {}, "Fields"), make("table", {}, ...rows)) : null;
}

function show(document_, method, path, operation) {
  const form = make("form", { onsubmit: (event) => { event.preventDefault(); send(method, path, form); } });
  if ((operation.responses["200"].content || {})["application/x-ndjson"]) form.dataset.streams = "";
  const fields = (operation.parameters || []).map((parameter) => parameterField(document_, parameter));
  if (fields.length) form.append(make("h3", {}, "Parameters"), ...fields);
  const schema = bodySchema(operation);
  if (schema) {
    const text = JSON.stringify(example(document_, schema) || {}, null, 2);
    const area = make("textarea", { name: "body", spellcheck: "false", "aria-label": "Body" });
    area.value = text;
    form.append(make("h3", {}, "Body"), area, bodyFields(document_, schema) || "");
  }
  form.append(
    make("div", { class: "send" },
      make("button", { type: "submit" }, "Send"),
      make("button", { type: "button", class: "stop", hidden: true }, "Stop"),
      make("span", { class: "quiet" }, `Asks for: ${security(operation)}`)),
    make("section", { class: "answer" }));
  at("call").replaceChildren(
    make("h2", {}, make("span", { class: "method" }, method.toUpperCase()), " ", make("span", { class: "path" }, path)),
    make("p", { class: "about" }, operation.description || operation.summary || ""),
    form);
}

// Sending

function target(path, form) {
  const query = new URLSearchParams();
  let filled = path;
  for (const input of form.querySelectorAll("input[data-in]")) {
    if (input.dataset.in === "path") filled = filled.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") {
      const values = input.hasAttribute("data-list") ? input.value.split(",").map((one) => one.trim()) : [input.value];
      values.forEach((value) => query.append(input.name, value));
    }
  }
  const text = query.toString();
  return filled + (text ? `?${text}` : "");
}

function headersOf(body) {
  const headers = {};
  if (at("bearer").value) headers.Authorization = `Bearer ${at("bearer").value.trim()}`;
  if (at("write-key").value) headers["X-Write-Key"] = at("write-key").value.trim();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return headers;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// The command to do the same elsewhere; credentials are named and not shown.
function command(method, url, headers, body, streams) {
  const names = { Authorization: "Authorization: Bearer $TOKEN", "X-Write-Key": "X-Write-Key: $WRITE_KEY" };
  const fields = Object.entries(headers).map(([name, value]) => names[name] ? `-H "${names[name]}"` : `-H ${quoted(`${name}: ${value}`)}`);
  const data = body === undefined ? [] : [`-d ${quoted(body)}`];
  return [`curl ${streams ? "-N " : ""}-X ${method.toUpperCase()} ${quoted(location.origin + url)}`, ...fields, ...data].join(" \\\n  ");
}

async function send(method, path, form) {
  const area = form.querySelector("textarea");
  const body = area ? area.value : undefined;
  const url = target(path, form);
  const headers = headersOf(body);
  const answer = form.querySelector(".answer");
  const [go, stop] = form.querySelectorAll("button");
  const control = new AbortController();
  stop.onclick = () => control.abort();
  go.disabled = true;
  stop.hidden = false;
  const started = performance.now();
  const status = make("p", { class: "status quiet" }, "Waiting ...");
  const text = make("pre", { tabindex: "0" });
  answer.replaceChildren(make("h3", {}, "Answer"), status, text, make("h3", {}, "The same with curl"), make("pre", {}, command(method, url, headers, body, "streams" in form.dataset)));
  try {
    const response = await fetch(url, { method: method.toUpperCase(), headers, body, signal: control.signal, credentials: "omit", cache: "no-store" });
    const milliseconds = Math.round(performance.now() - started);
    status.className = `status ${response.ok ? "good" : "bad"}`;
    status.textContent = `${response.status} ${response.statusText}, ${milliseconds} ms, ${response.headers.get("content-type") || "no content"}`;
    await read(response, text);
  } catch (error) {
    status.className = "status bad";
    status.textContent = error.name === "AbortError" ? "Stopped" : `No answer: ${error.message}`;
  } finally {
    go.disabled = false;
    stop.hidden = true;
  }
}

// A stream is shown as it comes; one value of JSON is laid out.
async function read(response, text) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) text.append(piece.value);
  if (/json$/.test((response.headers.get("content-type") || "").split(";")[0]) && !/ndjson/.test(response.headers.get("content-type"))) {
    try { text.textContent = JSON.stringify(JSON.parse(text.textContent), null, 2); } catch { /* stays as it came */ }
  }
}

// The list of calls

function listCalls(document_) {
  const groups = new Map(document_.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(document_.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = item[method].tags[0];
      const call = { method, path, operation: item[method] };
      groups.set(tag, [...(groups.get(tag) || []), call]);
    }
  }
  const buttons = [];
  for (const [tag, calls] of groups) {
    const rows = calls.map((call) => {
      const button = make("button", { type: "button", "data-words": `${call.method} ${call.path} ${call.operation.operationId} ${tag}`.toLowerCase(), onclick: () => choose(document_, call, button) },
        make("span", { class: "method" }, call.method.toUpperCase()), make("span", { class: "path" }, call.path));
      button.dataset.id = call.operation.operationId;
      buttons.push(button);
      return button;
    });
    at("calls").append(make("section", {}, make("h3", {}, tag), ...rows));
  }
  return buttons;
}

function choose(document_, call, button) {
  for (const other of document.querySelectorAll("nav button")) other.setAttribute("aria-current", other === button);
  history.replaceState(null, "", `#${call.operation.operationId}`);
  show(document_, call.method, call.path, call.operation);
}

function narrow() {
  const words = at("filter").value.toLowerCase();
  for (const section of document.querySelectorAll("#calls section")) {
    const buttons = [...section.querySelectorAll("button")];
    buttons.forEach((button) => { button.hidden = !button.dataset.words.includes(words); });
    section.hidden = buttons.every((button) => button.hidden);
  }
}

async function start() {
  const response = await fetch("/openapi.json", { credentials: "omit" });
  const document_ = await response.json();
  const buttons = listCalls(document_);
  at("filter").addEventListener("input", narrow);
  const wanted = location.hash.slice(1);
  (buttons.find((button) => button.dataset.id === wanted) || buttons[0]).click();
}

start().catch((error) => { at("call").textContent = `The document cannot be loaded: ${error.message}`; });
