// A cluster of three workers, each with a worker thread that computes its answers.
import cluster from 'node:cluster';
import http from 'node:http';
import { Worker } from 'node:worker_threads';

if (cluster.isPrimary) {
  for (let number = 0; number < 3; number += 1) cluster.fork();
} else {
  const code = "const { parentPort } = require('node:worker_threads'); parentPort.on('message', ([id, text]) => parentPort.postMessage([id, text]));";
  const thread = new Worker(code, { eval: true });
  const waiting = new Map();
  let last = 0;
  thread.on('message', ([id, text]) => {
    waiting.get(id)(text);
    waiting.delete(id);
  });
  http
    .createServer({ keepAliveTimeout: 600000 }, async (request, response) => {
      last += 1;
      const text = await new Promise((resolve) => {
        waiting.set(last, resolve);
        thread.postMessage([last, request.url]);
      });
      response.end(`${text}\n`);
    })
    .listen(8080, '0.0.0.0');
}
