#!/usr/bin/env python3
"""Measures what a cluster is made of, and writes the section "Clusters" of the page of benchmarks.

    bench_cluster.py TUTTI EXAMPLES GUESTS OUTPUT [--only PART...]

The engines of the store stand beside raw etcd, all with their data in one folder, each with its own default of fsync
before every acknowledgement, and take turns in one run. Agents are real ones at a real control, each a member over TLS
of its own; only what they run is a mock. Where a part is not asked for, its table is left out of the section.
"""

import argparse
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from bench import free_port, resident_mib, wait_for

PARTS = ["engines", "changes", "instances", "placements"]
AGENTS_WATCHING = 200
AGENTS_RUNNING = 100
INSTANCES = 1000
REMOVALS = 20
# Caches of the start are gone by then.
QUIET_SECONDS = 5
HEADING = "## Clusters"


class Process:
    """A process with its log, ended with the measure."""

    def __init__(self, command, log, **how):
        self.log = log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=errors, **{"stdout": errors, **how}
            )

    def alive(self):
        if self.process.poll() is not None:
            sys.exit(f"error: {self.process.args[0]} ended:\n{self.log.read_text()[-2000:]}")
        return True

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)


def start_etcd(folder):
    client, peer = free_port(), free_port()
    command = ["etcd", "--data-dir", folder / "etcd", "--log-level", "error", "--name", "one"]
    command += ["--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}"]
    command += ["--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
    command += ["--initial-cluster", f"one=http://127.0.0.1:{peer}"]
    etcd = Process(command, folder / "etcd.log")
    check = ["etcdctl", "--endpoints", f"127.0.0.1:{client}", "endpoint", "health"]
    healthy = lambda: subprocess.run(check, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"}).returncode == 0
    wait_for("etcd", lambda: etcd.alive() and healthy())
    return etcd, f"127.0.0.1:{client}"


def start_postgres(folder):
    """PostgreSQL as it is installed, fsync on; not as root, which it refuses."""
    programs = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    place = folder / "postgres"
    place.mkdir()
    owner = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(place, user.pw_uid, user.pw_gid)
        owner = {"user": user.pw_uid, "group": user.pw_gid}
    initdb = [programs / "initdb", "-U", "tutti", "--auth=trust", "--locale=C", "-E", "UTF8", "-D", place / "data"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **owner)
    command = [programs / "postgres", "-D", place / "data", "-k", place, "-c", "listen_addresses="]
    postgres = Process(command, folder / "postgres.log", cwd="/", **owner)
    ready = [programs / "pg_isready", "-q", "-h", place, "-U", "tutti", "-d", "postgres"]
    wait_for("PostgreSQL", lambda: postgres.alive() and subprocess.run(ready).returncode == 0)
    return postgres, f"postgres://tutti@%2F{str(place).lstrip('/').replace('/', '%2F')}/postgres"


def said(command):
    """The JSON objects that an example prints, one a line."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def engines(examples, folder):
    etcd, address = start_etcd(folder)
    postgres, database = start_postgres(folder)
    try:
        targets = [folder / "sqlite", f"raw:{address}", f"etcd://{address}", database]
        found = said([examples / "engines", "--json", *targets])
    finally:
        etcd.stop()
        postgres.stop(signal.SIGINT)
    fsync = next(row["p50_ms"] for row in found if row["what"] == "fsync")
    version = subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout.split()[2]
    lines = [
        f"The store: puts of 1 KiB, each acknowledged once it is on disk, beside raw etcd {version} (one member, the same one "
        f"that the engine etcd uses), all on one disk where one fsync takes {fsync:.2f} ms. The last column is from the "
        "beginning of a put until a watcher has it.",
        "",
        "| | writers | puts/s | × raw etcd | p50 ms | p99 ms | watch p50 ms | watch p99 ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    puts = [row for row in found if row["what"] == "puts"]
    watch = {row["engine"]: row for row in found if row["what"] == "watch"}
    raw = {row["writers"]: row["per_second"] for row in puts if row["engine"] == "etcd, raw"}
    for row in sorted(puts, key=lambda row: row["writers"]):
        seen = watch[row["engine"]] if row["writers"] == 1 else None
        seen = f"{seen['p50_ms']:.2f} | {seen['p99_ms']:.2f}" if seen else " | "
        lines.append(
            f"| {row['engine']} | {row['writers']} | {row['per_second']:,} | "
            f"{row['per_second'] / raw[row['writers']]:.2f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {seen} |"
        )
    return lines


class Control:
    """A new cluster of one control over SQLite."""

    def __init__(self, tutti, folder):
        self.tutti, self.folder = tutti, folder
        folder.mkdir()
        home = folder / "home"
        home.mkdir()
        self.environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "NO_COLOR": "1"}
        command = [tutti, "server", "--init", "-o", "json", "--data-dir", folder / "data", "--member-dir", folder / "member"]
        command += ["--store", f"sqlite:{folder}/tutti.db", "--key", folder / "key", "--node", "control"]
        command += ["--api", "127.0.0.1:0", "--vouch", "true"]
        self.server = Process(command, folder / "server.log", stdout=subprocess.PIPE, env=self.environment)
        line = self.server.process.stdout.readline()
        if not line:
            self.server.process.wait(60)
            self.server.alive()
        ready = json.loads(line)
        self.address = ready["api"].removeprefix("https://")
        self.socket = folder / "data/control.sock"
        time.sleep(QUIET_SECONDS)
        self.idle = self.memory()

    def memory(self):
        return resident_mib([self.server.process.pid])

    def run(self, *arguments):
        command = [self.tutti, "--api", f"unix:{self.socket}", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"error: {' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")

    def fleet(self, examples, *arguments):
        return said([examples / "fleet", self.socket, self.address, *map(str, arguments)])[0]

    def stop(self):
        self.server.stop()


def changes(tutti, examples, folder):
    control = Control(tutti, folder / "changes")
    try:
        found = control.fleet(examples, AGENTS_WATCHING, "changes", REMOVALS)
    finally:
        control.stop()
    row = lambda what, of, aim="": f"| {what} | {of['p50_ms']:.1f} | {of['p99_ms']:.1f} | {of['max_ms']:.1f} | {of['of']:,} | {aim} |"
    return [
        f"Changes, with {AGENTS_WATCHING} agents watching one control over TLS, each with its heartbeats; control and all agents "
        "share this machine. From asking for the change until an agent has it; what the change itself takes is in it, and "
        "below it.",
        "",
        "| | p50 ms | p99 ms | worst ms | of | aim |",
        "|---|---:|---:|---:|---:|---:|",
        row("a node's own label, to its agent", found["to_one"], "p99 25 ms"),
        row("the write alone, to its answer", found["write"]),
        row("a member that is removed, to every agent", found["to_all"], "p99 25 ms"),
        row("removing it alone, to its answer", found["remove"]),
    ], control.idle


def instances(tutti, examples, guests, folder):
    control = Control(tutti, folder / "instances")
    try:
        place = folder / "many"
        place.mkdir()
        shutil.copy(guests / "hello_wasm.wasm", place / "component.wasm")
        (place / "tutti.toml").write_text(
            f'[service]\nisolate = "wasm"\nmemory = "1Mi"\ncpu = "1m"\nmin = {INSTANCES}\nmax = {INSTANCES}\n'
        )
        control.run("domain", "create", "example.com")
        control.run("domain", "quota", "example.com", "--instances", str(2 * INSTANCES))
        control.run("push", place / "component.wasm", "example.com:many@1.0")
        found = control.fleet(examples, AGENTS_RUNNING, "instances", "example.com:many@1.0", INSTANCES)
        memory = control.memory()
    finally:
        control.stop()
    return [
        f"| {INSTANCES:,} mock instances on {AGENTS_RUNNING} agents, from the deployment to all ready | {found['all_s']:.2f} s | 5 s |",
        f"| the first of them | {found['first_s']:.2f} s | |",
        f"| resident memory of that control afterwards | {memory:.0f} MiB | |",
    ], control.idle


def placements(examples):
    found = said([examples / "placements", "--json"])
    lines = [
        "Placements: instances a second that find a node, in plans of 16, where 100,000 instances run.",
        "",
        "| nodes | strategy | placements/s | µs each | × the zone of 1,000 | aim |",
        "|---:|---|---:|---:|---:|---|",
    ]
    base = {row["strategy"]: row["micros"] for row in found if row["nodes"] == 1000}
    for row in found:
        aim = "50,000/s" if row["nodes"] == 10_000 else ""
        lines.append(
            f"| {row['nodes']:,} | {row['strategy']} | {row['placements_per_second']:,.0f} | {row['micros']:.1f} | "
            f"{row['micros'] / base[row['strategy']]:.2f} | {aim} |"
        )
    return lines


def write(output, section):
    page = output.read_text() if output.exists() else "# Benchmarks\n"
    found = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", page, re.M | re.S)
    before, after = (page[: found.start()], page[found.end() :]) if found else (page.rstrip("\n") + "\n\n", "")
    output.write_text(before + section + ("\n" + after if after else ""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tutti", type=pathlib.Path)
    parser.add_argument("examples", type=pathlib.Path)
    parser.add_argument("guests", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="print these parts, without writing a page")
    options = parser.parse_args()
    tutti, examples, guests = (path.resolve() for path in (options.tutti, options.examples, options.guests))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tutti-bench-cluster-"))
    # PostgreSQL's user must come to its own folder.
    folder.chmod(0o755)
    lines = [HEADING, "", f"Written by `make bench` on {time.strftime('%Y-%m-%d')}; load average {os.getloadavg()[0]:.1f} before."]
    try:
        if "engines" in options.only:
            lines += ["", *engines(examples, folder)]
        idle = None
        if "changes" in options.only:
            found, idle = changes(tutti, examples, folder)
            lines += ["", *found]
        if "instances" in options.only:
            found, idle = instances(tutti, examples, guests, folder)
            lines += ["", "| | | aim |", "|---|---:|---:|", *found]
            lines += [f"| resident memory of a new, idle control, a member over SQLite | {idle:.0f} MiB | 50 MiB |"]
        if "placements" in options.only:
            lines += ["", *placements(examples)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    section = "\n".join(lines) + "\n"
    if options.only == PARTS:
        write(options.output, section)
    print(section)


if __name__ == "__main__":
    main()
