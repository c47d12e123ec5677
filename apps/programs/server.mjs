// Node.js, Deno or Bun: a counter at /, a stream of numbers at /events, and with `watch` a file that is watched.
import fs from 'node:fs';
import http from 'node:http';

const watched = '/var/tmp/watched.txt';
let calls = 0;
let changes = 0;
const waiting = [];
if (process.argv.includes('watch')) {
  fs.writeFileSync(watched, '0');
  fs.watch(watched, () => {
    changes += 1;
    while (waiting.length) waiting.pop()();
  });
}

function events(response) {
  let number = 0;
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  const timer = setInterval(() => {
    number += 1;
    response.write(`data: ${number}\n\n`);
  }, 50);
  response.on('close', () => clearInterval(timer));
}

async function noticed() {
  const before = changes;
  const change = new Promise((resolve) => waiting.push(resolve));
  const late = new Promise((resolve) => setTimeout(resolve, 5000));
  fs.writeFileSync(watched, String(calls));
  await Promise.race([change, late]);
  return changes > before;
}

http
  .createServer({ keepAliveTimeout: 600000 }, async (request, response) => {
    if (request.url.startsWith('/events')) return events(response);
    calls += 1;
    const fine = !process.argv.includes('watch') || (await noticed());
    response.writeHead(fine ? 200 : 500, { 'Content-Type': 'text/plain' });
    response.end(fine ? `ok ${calls}\n` : 'BAD the watch says nothing\n');
  })
  .listen(8080, '0.0.0.0');
