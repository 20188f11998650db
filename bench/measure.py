"""Seconds and anonymous memory of a command and all that descend from it."""

import os
import pathlib
import subprocess
import tempfile
import threading
import time


class Failed(Exception):
    """A command ended with another code than 0."""


def children():
    """Maps each process to its parent."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = pathlib.Path(entry.path, "stat").read_bytes()
            except OSError:
                continue  # it ended
            # The program's name is in parentheses and may hold any byte.
            parents[int(entry.name)] = int(stat[stat.rindex(b")") + 2 :].split()[1])
    return parents


def anonymous(process):
    """RssAnon of a process in bytes, and whether it is a virtual machine."""
    try:
        lines = pathlib.Path("/proc", str(process), "status").read_text().splitlines()
    except OSError:
        return 0, False
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    kib = int(fields.get("RssAnon", "0 kB").split()[0])
    return kib * 1024, fields.get("Name", "").strip().startswith("qemu")


class Watch(threading.Thread):
    """Polls the memory of a process and all that descend from it."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.done = process, threading.Event()
        self.tools, self.machines = 0, 0

    def run(self):
        while not self.done.wait(0.05):
            parents, tools, machines = children(), 0, 0
            for process in parents:
                ancestor = process
                while ancestor not in (0, self.process):
                    ancestor = parents.get(ancestor, 0)
                if ancestor:
                    size, machine = anonymous(process)
                    if machine:
                        machines += size
                    else:
                        tools += size
            self.tools, self.machines = max(self.tools, tools), max(self.machines, machines)


def run(command, environment=None, allowed=(0,), output=subprocess.PIPE):
    """Runs a command; gives its output, seconds, and bytes of memory: tools, virtual machines."""
    with tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            env=os.environ | (environment or {}),
        )
        watch = Watch(child.pid)
        watch.start()
        text, _ = child.communicate()
        seconds = time.monotonic() - begin
        watch.done.set()
        watch.join()
        if child.returncode not in allowed:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-5:]
            raise Failed(f"{' '.join(map(str, command))}\n    ended with {child.returncode}: " + "\n    ".join(said))
    return (text or b"").decode(errors="replace"), seconds, watch.tools, watch.machines
