#!/usr/bin/env python3
"""Which crate may use which: checks `cargo metadata` against the tables below.

    arrows.py              checks the workspace
    arrows.py --self-test  shows that each rule can fail

An arrow that is not in the table is refused, so a new one is a decision that a reader of the change sees. Role crates
(control, agent, ingress, dns, registry, cli) never use each other: they meet in `api` types and in small traits, and only
the binary `tutti` wires them and names concrete engines and drivers.
"""

import json
import subprocess
import sys

# Crate: the crates of ours that it may use. What is not here may not be used.
ARROWS = {
    # Vocabulary and decisions: pure.
    "model": set(),
    "plan": {"model"},
    "proto": {"model"},
    # Ground.
    "base": {"model"},
    "seal": {"base", "model"},
    "pki": {"base", "model"},
    # Contracts, and what is shared by roles.
    "store": {"base", "model"},
    "api": {"pki", "base", "model"},
    "proxy": {"pki", "base", "model"},
    "logs": {"base", "model"},
    "notices": {"api", "base", "model"},
    "isolate": {"base", "model"},
    # Drivers.
    "isolate-wasm": {"isolate", "logs", "proto", "base", "model"},
    "isolate-linux": {"isolate", "logs", "base", "model"},
    # Roles.
    "control": {"api", "pki", "store", "plan", "proto", "seal", "base", "model"},
    "agent": {"api", "pki", "isolate", "logs", "proxy", "plan", "seal", "base", "model"},
    "ingress": {"api", "pki", "proxy", "proto", "base", "model"},
    "dns": {"api", "plan", "base", "model"},
    "registry": {"isolate", "base", "model"},
    "resolve": {"api", "model"},
    "cli": {"api", "pki", "proto", "base", "model"},
    # The wiring.
    "tutti": {
        "control", "agent", "ingress", "dns", "registry", "resolve", "cli",
        "isolate-wasm", "isolate-linux",
        "api", "pki", "store", "plan", "proxy", "logs", "notices", "isolate", "seal", "base", "model",
    },
}

# Crates that hold only tests. Nothing may use them.
TEST_ARROWS = {
    # The loops of every role over faulty nodes.
    "sim": {"control", "agent", "ingress", "api", "store", "plan", "isolate", "seal", "base", "model"},
    # The binary from outside.
    "e2e": {"api", "base", "model"},
}

# External crates with few owners: each is large, or holds a decision that one crate has taken for all.
OWNERS = {
    "wasmtime": {"isolate-wasm"},
    "wasmtime-wasi": {"isolate-wasm"},
    "wasmtime-wasi-http": {"isolate-wasm"},
    "rusqlite": {"store"},
    "tokio-postgres": {"store"},
    "hickory-resolver": {"resolve"},
    "hickory-proto": {"dns"},
    "aws-lc-rs": {"seal"},
    "landlock": {"isolate-linux"},
    "seccompiler": {"isolate-linux"},
    "axum": {"control", "registry", "tutti"},
    "utoipa": {"api", "control"},
    "clap": {"cli", "tutti"},
    "clap_complete": {"cli", "tutti"},
    "comfy-table": {"cli"},
    "indicatif": {"cli"},
    "tracing-subscriber": {"base"},
    "rcgen": {"pki"},
    # Beside TLS between members: servers of the internet for components, databases, and buckets.
    "rustls": {"pki", "isolate-wasm", "store", "registry"},
    "object_store": {"registry"},
    "async-nats": {"notices"},
    "tokio-rustls": {"pki", "isolate-wasm"},
    "x509-parser": {"pki"},
}

# What decides must not wait, read a clock, throw dice, touch the machine or log.
PURE = {"model", "plan"}
IMPURE = {"tokio", "tokio-util", "rand", "tracing", "hyper", "http", "rustix", "libc", "jiff", "async-trait", "futures-util"}

# Longest chain of our own crates: the deeper the graph, the more is rebuilt for a small change and the less a reader
# can hold in mind.
DEPTH = 6

PREFIX = "tutti-"


def short(package):
    return package.removeprefix(PREFIX)


def faults(metadata):
    """One line for each rule that is broken."""
    packages = {short(package["name"]): package for package in metadata["packages"]}
    found, edges = [], {}
    for name, package in sorted(packages.items()):
        allowed = ARROWS.get(name, TEST_ARROWS.get(name))
        if allowed is None:
            found.append(f"{name}: a crate that the table does not know: add it to ARROWS in scripts/arrows.py")
            allowed = set(packages)
        edges[name] = set()
        for dependency in package["dependencies"]:
            to, test = short(dependency["name"]), dependency["kind"] == "dev"
            if to in packages and to != name:
                if not test:
                    edges[name].add(to)
                if to not in allowed:
                    found.append(f"{name} -> {to}: this arrow is not allowed")
            if name not in OWNERS.get(to, {name}) and not test:
                owners = ", ".join(sorted(OWNERS[to]))
                found.append(f"{name} -> {to}: only {owners} may use it")
            if name in PURE and to in IMPURE and not test:
                found.append(f"{name} -> {to}: {name} decides purely and may not use it")
    chain = longest(edges)
    if len(chain) > DEPTH:
        found.append(f"{' -> '.join(chain)}: a chain of {len(chain)}, more than {DEPTH}")
    return found


def longest(edges):
    """The longest chain of crates. Cargo has refused cycles already."""
    memory = {}

    def from_here(name):
        if name not in memory:
            memory[name] = []
            below = [from_here(to) for to in sorted(edges.get(name, ()))]
            memory[name] = [name, *max(below, key=len, default=[])]
        return memory[name]

    return max((from_here(name) for name in sorted(edges)), key=len, default=[])


def self_test():
    def workspace(**crates):
        return {
            "packages": [
                {
                    "name": "tutti" if name == "tutti" else PREFIX + name.replace("_", "-"),
                    "dependencies": [{"name": to, "kind": kind} for to, kind in uses],
                }
                for name, uses in crates.items()
            ]
        }

    def check(metadata, *wanted):
        got = faults(metadata)
        assert len(got) == len(wanted) and all(part in line for part, line in zip(wanted, got)), (wanted, got)

    nothing = []
    check(workspace(model=nothing, plan=[("tutti-model", None)]))
    check(workspace(agent=[("tutti-control", None)], control=nothing), "agent -> control: this arrow is not allowed")
    check(workspace(agent=[("tutti-control", "dev")], control=nothing), "agent -> control: this arrow is not allowed")
    check(workspace(model=[("tutti-base", None)], base=nothing), "model -> base")
    check(workspace(agent=[("tutti-isolate-wasm", None)], isolate_wasm=nothing), "agent -> isolate-wasm")
    check(workspace(agent=[("wasmtime", None)]), "agent -> wasmtime: only isolate-wasm may use it")
    check(workspace(plan=[("tokio", None)]), "plan -> tokio: plan decides purely")
    check(workspace(plan=[("tokio", "dev")]))
    check(workspace(extra=[("tutti-base", None)], base=nothing), "extra: a crate that the table does not know")
    check(workspace(sim=[("tutti-control", None)], control=nothing))
    check(workspace(control=[("tutti-sim", "dev")], sim=nothing), "control -> sim: this arrow is not allowed")
    deep = {f"deep{level}": {f"deep{level + 1}"} for level in range(DEPTH)}
    assert len(longest(deep)) == DEPTH + 1
    assert len(longest({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == 3
    print("each rule can fail")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    found = faults(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print("every arrow points down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
