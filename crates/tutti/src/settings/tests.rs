use super::*;

fn sources(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
    Sources {
        file: Some((PathBuf::from("tutti.toml"), file.to_owned())),
        variables: variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
    }
}

#[test]
fn later_sources_win_and_are_named() {
    let file = "api = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\n[service]\nmemory = \"1Mi\"\n";
    let effective = Effective::read(&sources(
        file,
        &[("TUTTI_LISTEN_HTTP", ":3"), ("TUTTI_LOG", "debug")],
        &[("log", "info")],
    ))
    .unwrap();
    let of = |key: &str| {
        effective
            .rows()
            .find(|row| row.0.key == key)
            .map(|row| (row.1.into_owned(), row.2.to_string()))
            .unwrap()
    };
    assert_eq!(of("api"), ("127.0.0.1:1".into(), "tutti.toml".into()));
    assert_eq!(of("http"), (":3".into(), "$TUTTI_LISTEN_HTTP".into()));
    assert_eq!(of("log"), ("info".into(), "--log".into()));
    let settings = Settings::try_from(&effective).unwrap();
    assert_eq!(settings.http.to_string(), "127.0.0.1:3");
}

#[test]
fn the_reference_has_every_setting() {
    let reference = include_str!("../../../../docs/reference/settings.md");
    for setting in SETTINGS {
        // What follows the command's name has no flag.
        let flag = match setting.key {
            "join.controls" => "the argument".to_owned(),
            _ => format!("`--{}`", setting.flag()),
        };
        let row = format!("| `{}` | `{}` | {flag} | ", setting.key, setting.variable());
        let found = reference.lines().find(|line| line.starts_with(&row));
        let line = found.unwrap_or_else(|| panic!("{row} is missing"));
        assert!(line.contains(setting.default), "{line}: the default is {}", setting.default);
    }
}

#[test]
fn every_fault_is_told_with_its_source() {
    let faults = Effective::read(&sources("dta_dir = \"x\"\napi = 7\n", &[], &[])).unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["tutti.toml: api must be a text, not integer", "tutti.toml: there is no setting \"dta_dir\""]
    );
    assert_eq!(faults[1].hint.as_deref(), Some("did you mean \"data_dir\"?"));

    let effective = Effective::read(&sources(
        "",
        &[("TUTTI_LISTEN_API", "nowhere")],
        &[("store", "postgres://a"), ("log_format", "xml")],
    ))
    .unwrap();
    let faults = Settings::try_from(&effective).unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(
        texts[0].starts_with("api = \"nowhere\" (from $TUTTI_LISTEN_API): write ADDR:PORT"),
        "{}",
        texts[0]
    );
}

#[test]
fn a_store_is_a_file_or_a_database_whose_password_is_never_shown_or_a_cluster() {
    let read =
        |store: &str| Effective::read(&sources("data_dir = \"/d\"", &[], &[("store", store)])).unwrap();
    let store = |text: &str| Settings::try_from(&read(text)).unwrap().store;
    assert_eq!(store(""), StoreAddress::Sqlite("/d/store.db".into()));
    assert_eq!(store("sqlite:/x.db"), StoreAddress::Sqlite("/x.db".into()));
    let text = "postgres://me:hunter2@db.example/cloud";
    assert_eq!(store(text), StoreAddress::Postgres(text.parse().unwrap()));
    let effective = read(text);
    let shown = effective.rows().find(|(setting, ..)| setting.key == "store").map(|(_, value, _)| value);
    assert_eq!(shown.as_deref(), Some("postgres://me:[secret]@db.example/cloud"));
    for wrong in ["postgres://me:hunter2@", "postgres://me:hunter2@h/d?sslmode=prefer", "postgres://h/d", "x"]
    {
        let faults = Settings::try_from(&read(wrong));
        let Err(faults) = faults else { continue };
        assert_eq!(faults.len(), 1);
        assert!(
            faults[0].detail.starts_with("store = \"") && !format!("{faults:?}").contains("hunter2"),
            "{faults:?}"
        );
    }
    assert!(Settings::try_from(&read("postgres://h/d")).is_err());
    let StoreAddress::Etcd(address) = store("etcd://a,b:1?prefix=c") else { panic!("another engine") };
    assert_eq!((address.members.join(" ").as_str(), address.prefix.as_str()), ("a:2379 b:1", "c"));
    for (wrong, why) in
        [("etcd://", "is not HOST:PORT"), ("etcd://u:p@a", "without a user"), ("x", "write sqlite:")]
    {
        let faults = Settings::try_from(&read(wrong)).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].detail.starts_with("store = \"") && faults[0].detail.contains(why), "{faults:?}");
    }
}

#[test]
fn an_agent_has_settings_of_its_own_and_finds_the_control_of_this_machine() {
    let file = "data_dir = \"/d/dev\"\nnode = \"box\"\n[agent]\nnode = \"two\"\n";
    let read = |variables: &[(&str, &str)], flags: &[(&'static str, &str)]| {
        let effective = Effective::read(&sources(file, variables, flags)).unwrap();
        AgentSettings::try_from(&effective)
    };
    let settings = read(&[], &[("agent.data_dir", "/d/two")]).unwrap();
    assert_eq!(settings.node.as_str(), "two");
    assert_eq!(settings.control.to_string(), "unix:/d/dev/control.sock");
    assert_eq!(settings.socket.to_string(), "unix:/d/two/agent.sock");
    let settings =
        read(&[("TUTTI_SOCKET", "/run/c.sock"), ("TUTTI_AGENT_SOCKET", "unix:/run/a.sock")], &[]).unwrap();
    assert_eq!(settings.control.to_string(), "unix:/run/c.sock");
    assert_eq!(settings.socket.to_string(), "unix:/run/a.sock");
    let effective = Effective::read(&sources(file, &[("TUTTI_SOCKET", "/run/c.sock")], &[])).unwrap();
    assert_eq!(Settings::try_from(&effective).unwrap().socket.to_string(), "unix:/run/c.sock");

    let long = format!("unix:/{}", "a".repeat(110));
    let faults =
        read(&[("TUTTI_AGENT_CONTROL", "127.0.0.1:7070")], &[("agent.node", "A!"), ("agent.socket", &long)]);
    let faults = faults.unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert_eq!(texts[0], "agent.control = \"127.0.0.1:7070\" (from $TUTTI_AGENT_CONTROL): write unix:/PATH");
    assert!(texts[1].contains("107 bytes"), "{}", texts[1]);
    assert_eq!(faults[1].hint.as_deref(), Some("choose a shorter path with --socket"));

    let faults = Effective::read(&sources("[agent]\nnodes = \"x\"\n", &[], &[])).unwrap_err();
    assert_eq!(faults[0].hint.as_deref(), Some("did you mean \"agent.node\"?"));
}

#[test]
fn a_machine_with_the_longest_name_has_roles_with_good_ones() {
    let role_names = |host: &str| ["agent", "ingress"].map(|role| role_name(host, role));
    for host in ["box", &"a".repeat(63), &format!("{}-{}", "a".repeat(56), "b".repeat(6))] {
        for name in role_names(host) {
            assert!(name.parse::<NodeName>().is_ok(), "{host}: {name}");
        }
    }
    assert_eq!(role_names("box"), ["box-agent", "box-ingress"]);
}

#[test]
fn an_ingress_has_settings_of_its_own_and_finds_the_control_of_this_machine() {
    let file = "data_dir = \"/d/dev\"\n[ingress]\nname = \"front\"\n";
    let read = |variables: &[(&str, &str)], flags: &[(&'static str, &str)]| {
        let effective = Effective::read(&sources(file, variables, flags)).unwrap();
        IngressSettings::try_from(&effective)
    };
    let settings = read(&[("TUTTI_INGRESS_HTTP", ":9")], &[("ingress.data_dir", "/d/two")]).unwrap();
    assert_eq!(settings.name.as_str(), "front");
    assert_eq!(settings.control.to_string(), "unix:/d/dev/control.sock");
    assert_eq!((settings.http.to_string(), settings.data_dir), ("127.0.0.1:9".into(), "/d/two".into()));
    let settings = read(&[("TUTTI_INGRESS_CONTROL", "/run/c.sock")], &[]).unwrap();
    assert_eq!(settings.control.to_string(), "unix:/run/c.sock");

    let wrong = [("ingress.control", "127.0.0.1:7070"), ("ingress.http", "80"), ("ingress.name", "a.b")];
    let texts: Vec<String> = read(&[], &wrong).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    for (text, (key, _)) in texts.iter().zip(wrong) {
        assert!(text.starts_with(key), "{text}");
    }

    let faults = Effective::read(&sources("[ingress]\nhtpp = \"x\"\n", &[], &[])).unwrap_err();
    assert_eq!(faults[0].hint.as_deref(), Some("did you mean \"ingress.http\"?"));
}

#[test]
fn a_bucket_is_named_with_its_server_and_its_keys_are_never_shown() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    let more = [("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/"), ("AWS_REGION", "eu-west-1")];
    let flags = [("blobs", "s3://tutti/a"), ("store", "etcd://127.0.0.1:2379")];
    let effective = Effective::read(&sources("", &[keys, more].concat(), &flags)).unwrap();
    let settings = ServerSettings::try_from(&effective).unwrap().control;
    let BlobsAddress::Bucket(bucket) = &settings.blobs else { panic!("{:?}", settings.blobs) };
    assert_eq!(bucket.address.to_string(), "s3://tutti/a");
    assert_eq!(bucket.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(bucket.region, "eu-west-1");
    let shown = format!("{effective:?}{settings:?}");
    assert!(!shown.contains("hush"), "{shown}");

    // What is said to Tutti wins.
    let own = "[s3]\nendpoint = \"https://s3.example.com\"\nregion = \"here\"\n";
    let effective = Effective::read(&sources(own, &[keys, more].concat(), &flags)).unwrap();
    let BlobsAddress::Bucket(bucket) = Settings::try_from(&effective).unwrap().blobs else { panic!() };
    assert_eq!(
        (bucket.endpoint.as_deref(), bucket.region.as_str()),
        (Some("https://s3.example.com"), "here")
    );

    // Everything that is wrong is told at once, and no address with a password in it is repeated.
    let wrong = [("AWS_ENDPOINT_URL", "http://user:hush@host")];
    let effective = Effective::read(&sources("", &wrong, &[("blobs", "s3://A")])).unwrap();
    let faults = Settings::try_from(&effective).unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(!format!("{faults:?}").contains("hush"), "{faults:?}");
}
