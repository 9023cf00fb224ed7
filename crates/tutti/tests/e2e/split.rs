//! Shares are kept: ten thousand requests by real clients land where the weights say.

use crate::{
    harness::Cloud,
    traffic::{GRPC, HELLO, KeepAlive, grpc, push_grpc, push_wasm},
};
use std::{collections::BTreeMap, ops::RangeInclusive, thread};

const REQUESTS: u32 = 10_000;
const CONNECTIONS: u32 = 4;

/// The counts that all but one in a thousand experiments give, if each of `n` requests is led by chance `p`: the exact
/// binomial interval, half of the doubt on either side.
fn interval(n: u32, p: f64) -> RangeInclusive<u64> {
    const TAIL: f64 = 0.0005;
    // The logarithm of P(X = k), from k = 0 upwards, each from the one before: the first ones are too small for a float.
    let mut density = f64::from(n) * (1.0 - p).ln();
    let (mut below, mut low, mut high) = (0.0, None, None);
    for k in 0..=n {
        below += density.exp();
        if low.is_none() && below > TAIL {
            low = Some(u64::from(k));
        }
        if high.is_none() && below >= 1.0 - TAIL {
            high = Some(u64::from(k));
        }
        density += (f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p)).ln();
    }
    low.expect("reached")..=high.expect("reached")
}

#[test]
fn the_interval_is_that_of_the_tables() {
    // The normal approximation gives 1000 -+ 3.29 x 30.
    let tenth = interval(REQUESTS, 0.1);
    assert!((899..=903).contains(tenth.start()) && (1097..=1101).contains(tenth.end()), "{tenth:?}");
    // Poisson with mean 10: P(X <= 1) = 0.0005, P(X >= 23) = 0.0003.
    let thousandth = interval(REQUESTS, 0.001);
    assert!((1..=2).contains(thousandth.start()) && (21..=23).contains(thousandth.end()), "{thousandth:?}");
}

/// Answers by version, over kept connections.
fn over_http(cloud: &Cloud) -> BTreeMap<String, u64> {
    let address = cloud.http;
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = KeepAlive::connect(address, HELLO);
                let mut counts: BTreeMap<String, u64> = BTreeMap::new();
                for _ in 0..REQUESTS / CONNECTIONS {
                    let answer = connection.get("/");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let version = answer.header("tutti-version").expect("a version").to_owned();
                    assert!(answer.body.contains(&version), "{version} is not who answered: {}", answer.body);
                    *counts.entry(version).or_default() += 1;
                }
                counts
            })
        })
        .collect();
    let mut total = BTreeMap::new();
    for client in clients {
        for (version, count) in client.join().expect("a client ends well") {
            *total.entry(version).or_default() += count;
        }
    }
    total
}

#[test]
fn a_tenth_of_http_requests_is_a_tenth_and_a_thousandth_a_thousandth() {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    push_wasm(&cloud, "example.com:hello@1.1", "");
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    for (share, p) in [("0.1%", 0.001), ("10%", 0.1)] {
        cloud.ok(&["deploy", "example.com:hello@1.1", share]);
        let counts = over_http(&cloud);
        let newer = counts.get("1.1").copied().unwrap_or(0);
        assert!(interval(REQUESTS, p).contains(&newer), "{share}: {counts:?}");
        assert_eq!(counts.values().sum::<u64>(), u64::from(REQUESTS), "{counts:?}");
        assert_eq!(counts.len(), 2, "{counts:?}");
    }
}

#[test]
fn a_tenth_of_grpc_calls_is_a_tenth() {
    let cloud = Cloud::start();
    push_grpc(&cloud, "1.0", "");
    push_grpc(&cloud, "1.1", "");
    cloud.ok(&["deploy", &format!("{GRPC}@1.0"), "100%"]);
    cloud.ok(&["deploy", &format!("{GRPC}@1.1"), "10%"]);

    let report = grpc(&["split", &cloud.http.to_string(), &REQUESTS.to_string()]);
    let counts = report["counts"].as_object().expect("counts");
    // What the platform says and what the program says are the same for each call.
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["1.0 1.0", "1.1 1.1"], "{report}");
    let newer = counts["1.1 1.1"].as_u64().expect("a count");
    assert!(interval(REQUESTS, 0.1).contains(&newer), "{report}");
}
