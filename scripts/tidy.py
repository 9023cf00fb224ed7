#!/usr/bin/env python3
"""What the formatter and clippy don't check in the Rust sources.

    tidy.py              exits 1 and names each place that breaks a rule
    tidy.py --self-test  shows that each rule can fail

A file has at most 600 lines, so that it keeps to one subject. A module opens with `//!`: what it is for, and what it
leaves to others; files of tests may go without. Nothing is left to do later in a comment.
"""

import pathlib
import re
import sys

LINES = 600
LATER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def faults(path, text):
    """What is wrong in one file, as lines that an editor can jump to."""
    lines = text.splitlines()
    if len(lines) > LINES:
        yield f"{path}:{LINES + 1}: {len(lines)} lines; at most {LINES}, so that a file keeps to one subject"
    first = next((line for line in lines if line.strip() and not line.startswith("#!")), "")
    if path.name != "tests.rs" and not first.startswith("//!"):
        yield f"{path}:1: a module opens with `//!`: what it is for, and what it leaves to others"
    for number, line in enumerate(lines, 1):
        comment = line.partition("//")[2]
        if LATER.search(comment):
            yield f"{path}:{number}: do it now, or open an issue: {comment.strip()}"


def self_test():
    rust = pathlib.Path("module.rs")
    bad = [
        (rust, "//! Long.\n" + "\n" * LINES),
        (rust, "use std::fmt;\n"),
        (rust, "//! Later.\n// TO" + "DO: all of it\n"),
    ]
    for path, text in bad:
        if len(list(faults(path, text))) != 1:
            sys.exit(f"the rule does not fail exactly once: {text[:40]!r}")
    good = [
        (rust, "//! Short.\n" + "\n" * (LINES - 1)),
        (rust, "#!/usr/bin/env x\n\n//! After a first line.\n"),
        (pathlib.Path("a/tests.rs"), "use super::*;\n"),
        (rust, '//! A text is no comment.\nconst A: &str = "TO' + 'DO";\n'),
    ]
    for path, text in good:
        if found := list(faults(path, text)):
            sys.exit(f"the rule fails where it should not: {found}")
    print("each rule can fail")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(__file__).resolve().parent.parent
    sources = [path for part in ("crates", "samples") for path in (root / part).rglob("*.rs")]
    sources = sorted(path.relative_to(root) for path in sources if "target" not in path.parts)
    if not sources:
        sys.exit("error: no sources found")
    found = [fault for path in sources for fault in faults(path, (root / path).read_text())]
    for fault in found:
        print(fault)
    if found:
        sys.exit(1)
    print(f"{len(sources)} files are tidy")


if __name__ == "__main__":
    main()
