//! A service with `min = 0` sleeps when nothing is asked of it, and wakes for the next request, which is answered.

use crate::harness::{Cloud, wait_for};

const SERVICE: &str = "example.com:web";
const HOST: &str = "web.example.com.localhost";

fn state(cloud: &Cloud) -> String {
    let instances = cloud.items("instances");
    let serving = instances.iter().find(|it| it["spec"]["goal"]["goal"] == "serve");
    serving.map_or_else(String::new, |it| it["status"]["state"].as_str().unwrap().to_owned())
}

fn sleeps(cloud: &Cloud) {
    // Both: what has just woken may be said to be asleep for a moment.
    wait_for("it sleeps, and nothing runs", || state(cloud) == "asleep" && cloud.programs().is_empty());
}

#[test]
fn nothing_runs_for_who_is_not_asked_and_every_waking_request_is_answered() {
    let mut cloud = Cloud::start();
    let version = format!("{SERVICE}@1.0");
    cloud.push_python(&version, "min = 0\nscale = { idle = \"1s\" }", &[]);
    cloud.ok(&["deploy", &version, "100%"]);
    sleeps(&cloud);
    let said = cloud.ok(&["explain", SERVICE]);
    assert!(said.contains("nothing was asked of it for 1s: the next request starts it"), "{said}");
    assert!(cloud.ok(&["ps"]).contains("asleep"));

    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| cloud.get(HOST, "/").status)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert_eq!(answers, vec![200; 20], "who comes while it wakes waits");
    sleeps(&cloud);

    // A machine that starts again wakes nobody, and loses nobody.
    cloud.kill();
    cloud.start_again(&[]);
    wait_for("it is known again", || state(&cloud) == "asleep");
    assert!(cloud.programs().is_empty(), "a start woke what slept");
    assert_eq!(cloud.get(HOST, "/").status, 200);

    // A new version takes over from one that sleeps.
    sleeps(&cloud);
    cloud.push_python(&format!("{SERVICE}@1.1"), "min = 0\nscale = { idle = \"1s\" }", &[]);
    cloud.ok(&["deploy", &format!("{SERVICE}@1.1"), "100%"]);
    sleeps(&cloud);
    let answer = cloud.get(HOST, "/");
    assert_eq!((answer.status, answer.header("tutti-version")), (200, Some("1.1")));
    cloud.ok(&["rollback", SERVICE]);
    assert_eq!(cloud.get(HOST, "/").header("tutti-version"), Some("1.0"));
}
