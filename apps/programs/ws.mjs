// The package `ws`: each text comes back.
import http from 'node:http';
import { createRequire } from 'node:module';

const { WebSocketServer } = createRequire(`${process.env.MODULES}/x.js`)('ws');
const server = http.createServer();
new WebSocketServer({ server }).on('connection', (socket) => socket.on('message', (data) => socket.send(String(data))));
server.listen(8080, '0.0.0.0');
