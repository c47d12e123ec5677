"""JupyterLab: a kernel is started, and cells are executed over its WebSocket; each adds one to a number of the kernel."""

import http.client
import json
import sys
import uuid

import counting

given = counting.arguments()
sys.argv = [sys.argv[0], given.address, "ping"]
import websocket_client as websocket  # noqa: E402


class Kernel(websocket.WebSocket):
    def __init__(self):
        connection = http.client.HTTPConnection(given.host, given.port, timeout=counting.LIMIT)
        head = {"Content-Type": "application/json", "Authorization": "token counting"}
        connection.request("POST", "/api/kernels", json.dumps({"name": "python3"}), head)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise counting.Wrong(f"{answer.status}: {text[:200]!r}")
        websocket.given.path = f"/api/kernels/{json.loads(text)['id']}/channels"
        websocket.given.header = ["Authorization: token counting"]
        super().__init__()
        self.execute("number = 0")

    def execute(self, code):
        """Executes a cell and returns what it prints."""
        name = uuid.uuid4().hex
        header = {"msg_id": name, "msg_type": "execute_request", "session": "counting", "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
        self.send(websocket.TEXT, json.dumps(message).encode())
        printed, idle, replied = "", False, False
        while not (idle and replied):
            told = json.loads(self.text())
            if told["parent_header"].get("msg_id") != name:
                continue
            kind, content = told["msg_type"], told["content"]
            printed += content["text"] if kind == "stream" else ""
            idle |= kind == "status" and content["execution_state"] == "idle"
            replied |= kind == "execute_reply"
            if kind == "error":
                raise counting.Wrong(content["evalue"])
        return printed

    def cell(self):
        self.follows(self.execute("number += 1; print(number)"))


counting.run(Kernel, Kernel.cell)
