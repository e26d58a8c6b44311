// What AsyncAPI's own parser makes of asyncapi.json in this folder, as JSON. Severity 0 is an error, 1 a warning.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

async function main() {
  const { document, diagnostics } = await new Parser().parse(readFileSync("asyncapi.json", "utf8"));
  const channels = document ? document.channels().all().map((channel) => channel.address()) : [];
  const problems = diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path }));
  console.log(JSON.stringify({ channels, diagnostics: problems }));
}

main();
