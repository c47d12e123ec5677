"""A command for each operation: `{n}` is its number, `{host}` and `{port}` the address. It has to succeed and to print what `--prints` says."""

import subprocess

import counting

given = counting.arguments(
    ("--run", {"action": "append", "required": True}),
    ("--prints", {"default": ""}),
    ("--pace", {"type": float, "default": 0.3}),
)


class Commands:
    def __init__(self):
        self.number = 0

    def ask(self):
        self.number += 1
        fill = lambda text: text.replace("{n}", str(self.number)).replace("{host}", given.host).replace("{port}", str(given.port))
        printed = ""
        for command in given.run:
            ran = subprocess.run(["sh", "-c", fill(command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=counting.LIMIT)
            printed += ran.stdout
            if ran.returncode != 0:
                raise counting.Wrong(f"`{fill(command)}` ends with {ran.returncode}: {ran.stderr[-200:]}")
        if fill(given.prints) not in printed:
            raise counting.Wrong(f"`{printed[-200:]}` is not `{fill(given.prints)}`")


counting.run(Commands, Commands.ask, pace=given.pace)
