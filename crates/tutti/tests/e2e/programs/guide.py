"""Runs the commands of a guide: every `sh` block in order, in one shell, in the current folder.

    guide.py GUIDE.md FROM=TO...   with FROM replaced by TO in what is run, such as an address

A `text` block is what the block before it has to print last. Ends with 1 and says what differs at the first that fails.
"""

import re
import subprocess
import sys

BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "--- end of the block ---"


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    replaced = [pair.split("=", 1) for pair in sys.argv[2:]]
    blocks = BLOCK.findall(text)
    if not any(kind == "sh" for kind, _ in blocks):
        sys.exit("the guide has no commands")
    shell = subprocess.Popen(
        ["bash", "-eu", "-o", "pipefail"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    printed = ""
    for number, (kind, body) in enumerate(blocks, 1):
        if kind == "text":
            if not printed.strip().endswith(body.strip()):
                sys.exit(f"block {number} prints\n{printed}\nand not, last,\n{body}")
            continue
        for old, new in replaced:
            body = body.replace(old, new)
        printed = run(shell, body)
        if printed is None:
            sys.exit(f"block {number} failed:\n{body}")
    shell.stdin.close()
    sys.exit(shell.wait())


def run(shell, body):
    """What a block prints; nothing if the shell ended in it."""
    shell.stdin.write(f"{{\n{body}}} </dev/null\necho '{END}'\n")
    shell.stdin.flush()
    lines = []
    for line in shell.stdout:
        if line.rstrip("\n") == END:
            return "".join(lines)
        lines.append(line)
    sys.stderr.write("".join(lines))
    return None


main()
