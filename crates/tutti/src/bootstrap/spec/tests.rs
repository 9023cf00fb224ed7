use super::*;

const WHOLE: &str = r#"
[cluster]
store = "postgres://tutti@db.example.com/tutti"
blobs = "s3://tutti/prod"
environment = "operators.env"
names = ["cloud.example.com"]
host_suffix = "apps.example.com"

[ssh]
identity = "id_ed25519"

[[operator]]
name = "op1"
address = "10.0.0.1"

[[worker]]
name = "w1"
address = "10.0.0.4"
ssh = "admin@bastion.example.com:2222"
labels = ["disk=ssd", "rack=r1"]
"#;

fn read(text: &str, environment: &str) -> Result<Spec, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster.toml"), text).unwrap();
    std::fs::write(folder.path().join("operators.env"), environment).unwrap();
    Spec::read(&folder.path().join("cluster.toml"))
}

fn faults(text: &str) -> String {
    let faults = read(text, "").unwrap_err();
    faults.iter().map(|fault| fault.to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_whole_file_is_read_and_its_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.toml");
    std::fs::write(&path, WHOLE).unwrap();
    std::fs::write(folder.path().join("operators.env"), "# keys\nAWS_ACCESS_KEY_ID=id\n\nPGPASSWORD=a b=c\n")
        .unwrap();
    let spec = Spec::read(&path).unwrap();
    let variables: Vec<_> = spec.environment.reveal().collect();
    assert_eq!(variables, [("AWS_ACCESS_KEY_ID", "id"), ("PGPASSWORD", "a b=c")]);
    assert_eq!(spec.hosts[0].ssh, ("root@10.0.0.1".to_owned(), 22));
    assert_eq!(spec.hosts[1].ssh, ("admin@bastion.example.com".to_owned(), 2222));
    assert_eq!(spec.hosts[1].labels.len(), 2);
    assert_eq!(spec.ssh.identity, Some(folder.path().join("id_ed25519")));
    let zones = ["apps.example.com".to_owned(), "cloud.example.com".to_owned()];
    assert_eq!(spec.dns, Some(Dns { at: None, zones: zones.to_vec() }));
    assert_eq!(spec.key.0.len(), 64);
    assert_eq!(Spec::read(&path).unwrap().key.0, spec.key.0);
    assert!(!format!("{spec:?}").contains("a b=c"), "a secret is shown");
}

#[test]
fn every_fault_is_said_at_once_and_names_its_host() {
    let text = WHOLE
        .replace("postgres://tutti@db.example.com/tutti", "sqlite:/tmp/store")
        .replace("10.0.0.4", "w1.example.com")
        .replace("\"cloud.example.com\"", "\"https://cloud\"")
        .replace(
            "name = \"op1\"\naddress = \"10.0.0.1\"",
            "name = \"op1\"\naddress = \"10.0.0.1\"\nssh = \"-oProxyCommand=x\"",
        );
    let faults = faults(&text);
    for part in [
        "[cluster] store: several machines share it",
        "[[worker]] w1: address \"w1.example.com\" is not an IP address",
        "names: \"https://cloud\" is not a DNS name",
        "[[operator]] op1: ssh = \"-oProxyCommand=x\" is not USER@HOST:PORT",
    ] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

#[test]
fn hosts_are_told_apart_and_unknown_keys_are_refused() {
    let twice =
        WHOLE.replace("name = \"w1\"\naddress = \"10.0.0.4\"", "name = \"op1\"\naddress = \"10.0.0.1\"");
    let said = faults(&twice);
    assert!(
        said.contains("another host has this name") && said.contains("has the address 10.0.0.1"),
        "{said}"
    );
    assert!(faults("[cluster]\nstore = \"etcd://e\"\nblobs = \"s3://b\"").contains("no [[operator]]"));
    let unknown = faults(&WHOLE.replace("blobs =", "blob ="));
    assert!(unknown.contains("line 4") && unknown.contains("blob"), "{unknown}");
}

#[test]
fn a_line_that_is_no_variable_is_named_and_not_shown() {
    for wrong in ["s3cret", "A='s3cret'", "a-b=s3cret"] {
        let faults = read(WHOLE, wrong).unwrap_err();
        let text = format!("{faults:?}");
        assert!(
            text.contains("operators.env line 1 is not NAME=VALUE") && !text.contains("s3cret"),
            "{text}"
        );
    }
}

#[test]
fn operators_answer_for_names_where_there_are_any_unless_the_file_says_otherwise() {
    let with = |line: &str| WHOLE.replace("[ssh]", &format!("{line}\n[ssh]"));
    let dns = |text: &str| read(text, "").unwrap().dns;
    assert_eq!(dns(&with("dns = false")), None);
    assert_eq!(dns(&with("dns = true")), dns(WHOLE));
    assert_eq!(dns(&with("dns = \"0.0.0.0:5353\"")).unwrap().at, Some("0.0.0.0:5353".parse().unwrap()));
    let nameless = |text: &str| {
        text.replace("names = [\"cloud.example.com\"]\n", "")
            .replace("host_suffix = \"apps.example.com\"\n", "")
    };
    assert_eq!(dns(&nameless(WHOLE)), None);
    assert!(faults(&nameless(&with("dns = true"))).contains("there is no name to answer for"));
    assert!(faults(&with("dns = \"everywhere\"")).contains("\"everywhere\" is not ADDR:PORT"));
    assert!(faults(&WHOLE.replace("apps.example.com", "apps/")).contains("host_suffix: \"apps/\" is not"));
}
