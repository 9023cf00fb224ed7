//! `tutti logs`: what instances write, followed while they write it, from components and processes alike.

use crate::{
    harness::{Cloud, wait_for},
    traffic::{instances, push_program, push_wasm},
};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
};

/// A running `tutti logs -f`.
struct Follow {
    child: Child,
    lines: Receiver<String>,
}

impl Follow {
    fn start(cloud: &Cloud, arguments: &[&str]) -> Follow {
        let mut child = cloud
            .command()
            .args([&["logs", "-f"], arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tutti runs");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            // Ends when the command does, or when nobody listens any more.
            out.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Follow { child, lines }
    }

    /// Waits for a line with this text, and gives it.
    fn line(&self, text: &str) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(crate::harness::PATIENCE)
                .unwrap_or_else(|error| panic!("{text:?} never came: {error}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `2026-11-21T08:13:00.621Z  i-6jc2pzehat  TEXT`
fn assert_stamped(line: &str, instance: &str) {
    let mut words = line.split_whitespace();
    let time = words.next().expect("a time");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line}");
    assert_eq!(words.next(), Some(instance), "{line}");
}

fn only(cloud: &Cloud, service: &str) -> String {
    let all = instances(cloud, service, "ready");
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[test]
fn components_are_followed() {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let instance = only(&cloud, "example.com:hello");

    for of in ["example.com:hello", "example.com:hello@1.0", &instance] {
        let follow = Follow::start(&cloud, &[of]);
        // Following, or about to: what is written in between comes as well.
        for number in ["one", "two"] {
            let text = format!("{number}-{}", of.len());
            assert_eq!(cloud.get("hello.example.com.localhost", &format!("/log?line={text}")).status, 200);
            assert_stamped(&follow.line(&text), &instance);
        }
    }
}

#[test]
fn processes_are_followed_across_versions() {
    let cloud = Cloud::start();
    push_program(&cloud, "example.com:hello@1.0", &[], "");
    push_program(&cloud, "example.com:hello@1.1", &[], "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let older = only(&cloud, "example.com:hello");
    let print = |text: &str| {
        let answer = cloud.get("hello.example.com.localhost", &format!("/print?line={text}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };

    let service = Follow::start(&cloud, &["example.com:hello"]);
    let version = Follow::start(&cloud, &["example.com:hello@1.0"]);
    print("first");
    assert_stamped(&service.line("first"), &older);
    assert_stamped(&version.line("first on stderr"), &older);

    // A follower of the service sees instances that come later; one of the version does not see the other version's.
    cloud.ok(&["deploy", "example.com:hello@1.1", "100%"]);
    let newer =
        cloud.get("hello.example.com.localhost", "/").header("tutti-instance").expect("who").to_owned();
    assert_ne!(older, newer);
    print("second");
    assert_stamped(&service.line("second"), &newer);
    cloud.ok(&["rollback", "example.com:hello"]);
    print("third");
    let mut seen = Vec::new();
    while let Ok(line) = version.lines.recv_timeout(crate::harness::PATIENCE) {
        let last = line.contains("third");
        seen.push(line);
        if last {
            break;
        }
    }
    assert!(seen.iter().all(|line| line.contains(&older)), "{seen:?}");
    assert!(seen.last().is_some_and(|line| line.contains("third")), "{seen:?}");
}

#[test]
fn a_tail_and_a_span_of_time_bound_what_is_shown() {
    let cloud = Cloud::start();
    push_program(&cloud, "example.com:hello@1.0", &[], "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    for number in 0..10 {
        let answer = cloud.get("hello.example.com.localhost", &format!("/print?line=line-{number}"));
        assert_eq!(answer.status, 200);
    }
    let show = |more: &[&str]| -> Vec<String> {
        let out = cloud.ok(&[&["logs", "example.com:hello"], more].concat());
        out.lines().map(str::to_owned).collect()
    };
    // What Tutti and the program say at the start, and two lines of each request.
    wait_for("every line is kept", || show(&["--since", "1h"]).len() == 22);
    let all = show(&["--since", "1h"]);
    assert!(all[0].contains("[tutti] started") && all[1].contains("server.py listens"), "{all:?}");
    assert!(all.is_sorted_by(|a, b| a.split(' ').next() <= b.split(' ').next()), "in order of time: {all:?}");
    for number in 0..10 {
        assert_eq!(all.iter().filter(|line| line.contains(&format!("line-{number}"))).count(), 2);
    }
    assert_eq!(show(&["--tail", "3"]), all[19..]);
    assert_eq!(show(&["--tail", "0"]), [""; 0]);
    assert_eq!(show(&[]), all, "fewer than the usual tail");
    // Nothing is as young as a millisecond by the time a command has started.
    assert_eq!(show(&["--since", "1ms"]), [""; 0]);
    let said = cloud.tutti(&["logs", "example.com:nobody"]);
    assert!(said.code > 2 && said.err.contains("example.com:nobody"), "{} {}", said.code, said.err);
}

#[test]
fn what_a_gone_instance_wrote_is_still_found() {
    let mut cloud = Cloud::start();
    let keeps_nothing = "standby = \"0s\"";
    push_program(&cloud, "example.com:hello@1.0", &[], keeps_nothing);
    push_program(&cloud, "example.com:hello@1.1", &[], keeps_nothing);
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let older = only(&cloud, "example.com:hello");
    assert_eq!(cloud.get("hello.example.com.localhost", "/print?line=remember-me").status, 200);
    let said = cloud.tutti(&["logs", "example.com:hello", "--previous"]);
    assert!(
        said.code == 0 && said.out.is_empty() && said.err.contains("no instance of it has ended"),
        "{said:?}"
    );

    cloud.ok(&["deploy", "example.com:hello@1.1", "100%"]);
    wait_for("the older one is gone", || {
        cloud.items("instances").iter().all(|instance| instance["name"] != older.as_str())
    });
    cloud.stop();
    cloud.start_again(&[]);
    wait_for("the newer one serves again", || instances(&cloud, "example.com:hello", "ready").len() == 1);
    for of in [
        &["example.com:hello"][..],
        &["example.com:hello", "--previous"],
        &["example.com:hello@1.0"],
        &[&older],
    ] {
        let out = cloud.ok(&[&["logs"], of].concat());
        assert!(
            out.lines().any(|line| line.contains("remember-me") && line.contains(&older)),
            "{of:?}: {out}"
        );
    }
    let newer = only(&cloud, "example.com:hello");
    assert!(!cloud.ok(&["logs", "example.com:hello", "-p"]).contains(&newer));

    // Another service of the same name is another's business.
    cloud.ok(&["service", "delete", "example.com:hello", "--yes"]);
    wait_for("the service is gone", || cloud.items("services").is_empty());
    push_program(&cloud, "example.com:hello@1.0", &[], keeps_nothing);
    assert_eq!(cloud.ok(&["logs", "example.com:hello"]), "");
}
