// Drives a gateway with the official TypeScript SDK 1.x and prints what it saw as one JSON object.
//
// usage: node node1.mjs SDK_FOLDER URL SERVER   (SERVER: the name under which server-everything is published)

import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [sdk, url, server] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(join(sdk, "dist/esm", file)).href);
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const types = await load("types.js");

const seen = { logs: 0, updated: [], list_changed: 0 };
const waiting = new Set();
const heard = () => waiting.forEach((check) => check());

function until(ready) {
  return new Promise((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error(`not within 30 s: ${ready}`)), 30_000);
    const check = () => {
      if (!ready()) return;
      waiting.delete(check);
      clearTimeout(limit);
      resolve();
    };
    waiting.add(check);
    check();
  });
}

const client = new Client({ name: "e2e", version: "1" }, { capabilities: {} });
client.setNotificationHandler(types.LoggingMessageNotificationSchema, () => {
  seen.logs += 1;
  heard();
});
client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, (note) => {
  seen.updated.push(note.params.uri);
  heard();
});
client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => {
  seen.list_changed += 1;
  heard();
});

const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
const text = (result) => result.content[0].text;

seen.version = transport.protocolVersion;
seen.name = client.getServerVersion().name;
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
seen.templates = (await client.listResourceTemplates()).resourceTemplates.map((one) => one.uriTemplate);
seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);

seen.echo = text(await call(`${server}__echo`, { message: "hello" }));
seen.structured = (await call(`${server}__get-structured-content`, { location: "New York" })).structuredContent;
// Where several servers have the same URI, only one of them keeps it.
const base = `mcp-edge://${server}/=`;
const prefix = seen.templates.some((template) => template.startsWith(base)) ? base : "";
const read = await client.readResource({ uri: `${prefix}demo://resource/dynamic/text/1` });
seen.read = read.contents[0].text;
const prompt = await client.getPrompt({ name: `${server}__args-prompt`, arguments: { city: "Paris" } });
seen.prompt = prompt.messages[0].content.text;
const completion = await client.complete({
  ref: { type: "ref/prompt", name: `${server}__completable-prompt` },
  argument: { name: "department", value: "E" },
});
seen.completion = completion.completion.values;

seen.progress = [];
await call(
  `${server}__trigger-long-running-operation`,
  { duration: 0.2, steps: 4 },
  { onprogress: (progress) => seen.progress.push(progress.progress) },
);

await client.setLoggingLevel("debug");
await call(`${server}__toggle-simulated-logging`, {});
await until(() => seen.logs > 0);
await call(`${server}__toggle-simulated-logging`, {});

const renamed = seen.resources.find((uri) => uri.startsWith(`mcp-edge://${server}/`));
seen.subscribed = renamed ?? seen.resources.find((uri) => uri.startsWith("demo:"));
await client.subscribeResource({ uri: seen.subscribed });
await call(`${server}__toggle-subscriber-updates`, {});
await until(() => seen.updated.length > 0);
await call(`${server}__toggle-subscriber-updates`, {});
await client.unsubscribeResource({ uri: seen.subscribed });

await call("toy__change", {});
await until(() => seen.list_changed > 0);
seen.tools_after = (await client.listTools()).tools.map((tool) => tool.name);

// The server tells its progress when it has the call: only then is there something to cancel.
const stop = new AbortController();
await call("toy__sleep", { s: 60 }, { signal: stop.signal, onprogress: () => stop.abort("enough") }).catch(() => {});
let told = [];
while (told.length === 0) told = JSON.parse(text(await call("toy__cancelled", {})));
seen.cancelled_at_server = told.length;

const numbers = [...Array(50).keys()].map(String);
const many = await Promise.all(numbers.map((number) => call("toy__echo", { text: number })));
seen.fifty = many.every((result, index) => text(result) === numbers[index]);
seen.big = text(await call("toy__big", { bytes: 4_000_000 })).length;
seen.unknown_tool = await call("no__such", {}).then(
  () => null,
  (error) => error.code,
);
seen.time = JSON.parse(text(await call("time__get_current_time", { timezone: "UTC" }))).timezone;
await client.ping();
await transport.terminateSession();
await client.close();
console.log(JSON.stringify(seen));
