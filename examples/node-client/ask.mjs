#!/usr/bin/env node
/** Ask a running noyau a question, and write the answer as it comes. */

import { parseArgs } from 'node:util';

import { Client, defaultRunFolder, NoyauError } from './noyau.mjs';

const HELP = `Usage: node ask.mjs [options] "question"
       node ask.mjs [options] --status

Asks a running noyau and writes the answer as it comes. An error goes to the error output as
"code: message", and the exit code is 1.

Options:
  --run-folder DIR   where noyau's sockets are (now: ${defaultRunFolder()})
  --max-tokens N     how long the answer may be (default: what noyau is set to)
  --timeout S        seconds to wait for the whole answer (default: 120)
  --cancel-after N   leave after N pieces of the answer
  --status           say how noyau is, and ask nothing
  -h, --help         show this
`;

const OPTIONS = {
  'run-folder': { type: 'string' },
  'max-tokens': { type: 'string' },
  timeout: { type: 'string', default: '120' },
  'cancel-after': { type: 'string' },
  status: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
};

/** What is wrong with the command line. */
class UsageError extends Error {}

function commandLine() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error.message);
  }
}

function number(values, name) {
  if (values[name] === undefined) return undefined;
  const value = Number(values[name]);
  if (!(value > 0)) throw new UsageError(`--${name} must be a number above 0`);
  return value;
}

async function showStatus(client, timeoutMs) {
  const { health, reason, actors } = await client.ask('supervisor.status', {}, { timeoutMs });
  console.log(reason ? `${health}: ${reason}` : health);
  for (const actor of actors) console.log(`  ${actor.name} ${actor.state}`);
}

async function answer(client, question, timeoutMs, values) {
  const most = number(values, 'cancel-after') ?? Infinity;
  const fields = { max_tokens: number(values, 'max-tokens') };
  let pieces = 0;
  for await (const { text } of client.query(question, { fields, timeoutMs })) {
    process.stdout.write(text);
    pieces += 1;
    if (pieces >= most) break;
  }
  process.stdout.write('\n');
}

async function main() {
  const { values, positionals } = commandLine();
  if (values.help) return process.stdout.write(HELP);
  if (!values.status && positionals.length !== 1) throw new UsageError('ask one question');
  const timeoutMs = number(values, 'timeout') * 1000;
  const client = await Client.connect({ runFolder: values['run-folder'] });
  try {
    if (values.status) return await showStatus(client, timeoutMs);
    return await answer(client, positionals[0], timeoutMs, values);
  } finally {
    client.close();
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${error.message}\n\n${HELP}`);
    process.exitCode = 2;
  } else if (error instanceof NoyauError) {
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 1;
  } else {
    throw error;
  }
}
