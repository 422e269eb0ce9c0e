// A developer's program with the openai SDK for Node; it prints a JSON line for each step.
//
//     node story.mjs azure|v1 URL KEY

import { createHash } from "node:crypto";
import { File } from "node:buffer";
import { createReadStream, readFileSync, writeFileSync } from "node:fs";

// Node 18 has the class, but not under this name, and the SDK looks for it there.
globalThis.File ??= File;
const { default: OpenAI, APIError, AzureOpenAI, toFile } = await import("openai");

const VERSION = "2025-04-01-preview";
const TABLE = "minute,words\n1,112\n2,131\n3,127\n";
const PROGRAM = Buffer.from("4d5a90000300000004000000ffff0000", "hex");
const INTERPRETER = { type: "code_interpreter" };
const AUTO = { type: "code_interpreter", container: { type: "auto" } };

function tell(step, seen) {
  process.stdout.write(JSON.stringify({ step, ...seen }) + "\n");
}

// A call that goes through tells nothing.
async function tellRefusal(step, call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const { status, code, message } = error;
    tell(step, { error: error.constructor.name, status, code, message });
  }
}

async function tellContent(step, file, answer) {
  const content = Buffer.from(await answer.arrayBuffer());
  const sha256 = createHash("sha256").update(content).digest("hex");
  tell(step, { file, sha256, bytes: content.length });
}

async function files(client) {
  writeFileSync("table.csv", TABLE);
  const file = await client.files.create({
    file: createReadStream("table.csv"),
    purpose: "assistants",
  });
  const { id, bytes, filename, purpose } = file;
  tell("upload", { id, bytes, filename, purpose });
  const listed = [];
  for await (const each of client.files.list()) listed.push(each.id);
  tell("list files", { ids: listed });
  const program = await toFile(PROGRAM, "setup.exe");
  await tellRefusal("refused upload", () =>
    client.files.create({ file: program, purpose: "assistants" }),
  );
  return id;
}

async function assistants(client) {
  const file = await files(client);
  const { threads } = client.beta;
  const assistant = await client.beta.assistants.create({
    model: "gpt-4o",
    tools: [INTERPRETER],
    tool_resources: { code_interpreter: { file_ids: [file] } },
  });
  tell("assistant", { id: assistant.id, tools: assistant.tools.map((tool) => tool.type) });
  const thread = await threads.create();
  tell("thread", { id: thread.id });
  const message = await threads.messages.create(thread.id, {
    role: "user",
    content: "Please plot the words by minute",
    attachments: [{ file_id: file, tools: [INTERPRETER] }],
  });
  tell("message", { id: message.id, files: message.attachments.map((each) => each.file_id) });
  const run = await streamedRun(client, thread.id, assistant.id);
  const polled = await threads.runs.createAndPoll(
    thread.id,
    { assistant_id: assistant.id },
    { pollIntervalMs: 20 },
  );
  tell("polled run", { status: polled.status, tokens: polled.usage.total_tokens });
  const steps = await threads.runs.steps.list(run, { thread_id: thread.id, order: "asc" });
  tell("steps", { kinds: steps.data.map((step) => step.type) });
  const picture = await messages(client, thread.id);
  await tellContent("download", `files/${picture}`, await client.files.content(picture));
  const other = await threads.create({
    messages: [{ role: "user", content: "Please draw it again" }],
  });
  await tellRefusal("session cap", () =>
    threads.runs.create(other.id, { assistant_id: assistant.id }),
  );
  const gone = [
    await threads.delete(thread.id),
    await client.beta.assistants.delete(assistant.id),
    await client.files.delete(file),
  ];
  tell("delete", { deleted: gone.map((each) => each.deleted) });
  await tellRefusal("after delete", () => threads.retrieve(thread.id));
}

async function streamedRun(client, thread, assistant) {
  const stream = client.beta.threads.runs.stream(thread, { assistant_id: assistant });
  const events = [];
  for await (const event of stream) events.push(event.event);
  const run = await stream.finalRun();
  tell("streamed run", { events, status: run.status, tokens: run.usage.total_tokens });
  return run.id;
}

async function messages(client, thread) {
  const { data } = await client.beta.threads.messages.list(thread, { order: "asc" });
  const parts = data.flatMap((message) => message.content);
  const drawn = parts.filter((part) => part.type === "image_file");
  const pictures = drawn.map((part) => part.image_file.file_id);
  tell("messages", { roles: data.map((message) => message.role), pictures: pictures.length });
  return pictures[0];
}

async function inference(client) {
  const question = [{ role: "user", content: "hello" }];
  const chat = await client.chat.completions.create({ model: "gpt-4o", messages: question });
  tell("chat", { text: chat.choices[0].message.content, tokens: chat.usage.total_tokens });
  const words = [];
  const chunks = await client.chat.completions.create({
    model: "gpt-4o",
    messages: question,
    stream: true,
  });
  for await (const chunk of chunks) {
    for (const choice of chunk.choices) words.push(choice.delta.content ?? "");
  }
  tell("chat streamed", { text: words.join(""), chunks: words.length });
  const vectors = await client.embeddings.create({
    model: "text-embedding-3-small",
    input: ["one", "two"],
  });
  tell("embeddings", { vectors: vectors.data.length, numbers: vectors.data[0].embedding.length });
  const made = await client.responses.create({ model: "gpt-4o", input: "hello" });
  tell("response", { status: made.status, text: made.output_text });
  const events = [];
  const stream = await client.responses.create({ model: "gpt-4o", input: "hello", stream: true });
  for await (const event of stream) events.push(event.type);
  tell("response streamed", { events });
}

async function containers(client) {
  const file = await files(client);
  const drawing = { model: "gpt-4o", input: "Please plot it", tools: [AUTO] };
  const made = await client.responses.create(drawing);
  const parts = made.output.flatMap((item) => (item.type === "message" ? item.content : []));
  const cited = parts.flatMap((part) => part.annotations);
  const drawn = cited.find((each) => each.type === "container_file_citation");
  const container = drawn.container_id;
  tell("container response", {
    status: made.status,
    kinds: made.output.map((item) => item.type),
  });
  const listed = await client.containers.files.list(container);
  tell("container files", {
    ids: listed.data.map((each) => each.id),
    drawn: drawn.file_id,
  });
  await tellContent(
    "download",
    `containers/${container}/files/${drawn.file_id}`,
    await client.containers.files.content.retrieve(drawn.file_id, { container_id: container }),
  );
  await tellRefusal("session cap", () => client.responses.create(drawing));
  await client.responses.delete(made.id);
  tell("delete", { deleted: [(await client.files.delete(file)).deleted] });
  await tellRefusal("after delete", () => client.files.retrieve(file));
}

const [kind, url, key] = process.argv.slice(2);
const client =
  kind === "azure"
    ? new AzureOpenAI({ endpoint: url, apiKey: key, apiVersion: VERSION })
    : new OpenAI({ baseURL: `${url}/openai/v1/`, apiKey: key });
const manifest = new URL("node_modules/openai/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest));
tell("client", { version });
await (kind === "azure" ? assistants : containers)(client);
await inference(client);
