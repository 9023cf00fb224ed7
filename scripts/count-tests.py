#!/usr/bin/env python3
"""Counts the tests of a stage from what it printed (cargo nextest or libtest) on standard input.

    count-tests.py EXIT_CODE [JUNIT [chosen]] <output      prints "PASSED FAILED SKIPPED"
    count-tests.py --self-test

Exits with 1 if no test ran: a stage that tests nothing proves nothing. A stage that exited non-zero without a failed
test (it did not build, or it was killed) counts as one failure.

A test that cannot run on this host passes, and prints a line that starts with "skipped: ". nextest keeps what passed
tests print in its JUnit file; given that, such tests are counted as skipped and named on standard error.

Of a stage whose tests are `chosen` from all, those that were not are not counted: another stage runs them.
"""

import os
import re
import sys
import xml.etree.ElementTree

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# "Summary [ 1.2s] 12/15 tests run: 10 passed (1 slow, 1 flaky), 1 failed, 1 timed out, 3 skipped"
NEXTEST = re.compile(r"^\s*Summary \[[^\]]*\]\s+(?:\d+/)?\d+ tests? run: (.*)$")
# "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s"
LIBTEST = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")


def count(text, code, chosen=False):
    passed = failed = skipped = 0
    for line in COLOUR.sub("", text).splitlines():
        if found := NEXTEST.match(line):
            outer = re.sub(r"\([^)]*\)", "", found[1])
            for number, word in re.findall(r"(\d+) ([a-z ]+)", outer):
                word = word.strip()
                if word == "passed":
                    passed += int(number)
                elif word == "skipped" and not chosen:
                    skipped += int(number)
                elif word in ("failed", "timed out", "exec failed", "flaky"):
                    failed += int(number)
        elif found := LIBTEST.match(line):
            passed += int(found[1])
            failed += int(found[2])
            skipped += int(found[3])
    if code != 0 and failed == 0:
        failed = 1
    return passed, failed, skipped


SKIPPED = re.compile(r"^\s*skipped: (.*)$", re.IGNORECASE | re.MULTILINE)


def could_not_run(junit):
    """Names of tests that said they were skipped, with what they said."""
    found = []
    for case in xml.etree.ElementTree.fromstring(junit).iter("testcase"):
        if case.find("failure") is None and (why := SKIPPED.search("\n".join(case.itertext()))):
            found.append(f"{case.get('classname')} {case.get('name')}: {why[1]}")
    return found


def self_test():
    nextest = "\x1b[32m     Summary\x1b[0m [   1.204s] 15 tests run: 12 passed (1 slow, 2 flaky), 2 failed, 1 timed out, 4 skipped"
    assert count(nextest, 100) == (12, 3, 4), count(nextest, 100)
    assert count(nextest, 100, chosen=True) == (12, 3, 0)
    cut = "     Summary [   0.004s] 3/15 tests run: 2 passed, 1 failed, 0 skipped"
    assert count(cut, 100) == (2, 1, 0)
    one = "     Summary [   0.004s] 1 test run: 1 passed, 0 skipped"
    assert count(one, 0) == (1, 0, 0)
    libtest = (
        "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
        "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
    )
    assert count(libtest, 101) == (5, 1, 1)
    assert count("error: could not compile", 101) == (0, 1, 0)
    assert count("nothing", 0) == (0, 0, 0)
    junit = """<testsuites><testsuite>
        <testcase name="a" classname="c"><system-out>x\nskipped: no root\n</system-out></testcase>
        <testcase name="b" classname="c"><system-err>it skipped: nothing</system-err></testcase>
        <testcase name="f" classname="c"><failure/><system-err>skipped: half</system-err></testcase>
        <testcase name="d" classname="c"/></testsuite></testsuites>"""
    assert could_not_run(junit) == ["c a: no root"], could_not_run(junit)


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    passed, failed, skipped = count(sys.stdin.read(), int(sys.argv[1]), chosen="chosen" in sys.argv[3:])
    if len(sys.argv) > 2 and os.path.exists(sys.argv[2]):
        with open(sys.argv[2]) as junit:
            for line in could_not_run(junit.read()):
                print(f"skipped: {line}", file=sys.stderr)
                passed, skipped = passed - 1, skipped + 1
    print(passed, failed, skipped)
    return 0 if passed + failed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
