use super::*;
use proptest::prelude::*;

fn domains(names: &[&str]) -> BTreeSet<DomainName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn error_texts_are_these() {
    let texts = [
        ("domain", "Example.com".parse::<DomainName>().unwrap_err().detail),
        ("domain", "example".parse::<DomainName>().unwrap_err().detail),
        ("domain", "Bad_Domain".parse::<DomainName>().unwrap_err().detail),
        ("domain", "Bad_Domain.com".parse::<DomainName>().unwrap_err().detail),
        ("domain", "my_shop.com".parse::<DomainName>().unwrap_err().detail),
        ("domain", "a..b".parse::<DomainName>().unwrap_err().detail),
        ("domain", "-a.com".parse::<DomainName>().unwrap_err().detail),
        ("domain", "".parse::<DomainName>().unwrap_err().detail),
        ("service", "Web".parse::<ServiceName>().unwrap_err().detail),
        ("service", "com.example.1World".parse::<ServiceName>().unwrap_err().detail),
        ("service", "".parse::<ServiceName>().unwrap_err().detail),
        ("version", "1.0+build".parse::<VersionName>().unwrap_err().detail),
        ("version", "v1".parse::<VersionName>().unwrap_err().detail),
        ("version", "1.0-".parse::<VersionName>().unwrap_err().detail),
        ("version", "1.0-rc.1".parse::<VersionName>().unwrap_err().detail),
        ("version", "1.2.3.4".parse::<VersionName>().unwrap_err().detail),
        ("version", "01.2".parse::<VersionName>().unwrap_err().detail),
        ("ref", "example.com:web".parse::<VersionText>().unwrap_err().detail),
        ("ref", "web".parse::<ServiceRef>().unwrap_err().detail),
        ("ref", "example.com:web@1.0".parse::<ServiceText>().unwrap_err().detail),
        ("zone", "all/eu".parse::<ZoneName>().unwrap_err().detail),
    ];
    let lines: Vec<String> = texts.iter().map(|(kind, text)| format!("{kind}: {text}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn longest_registered_domain_wins() {
    let registered = domains(&["example.com", "shop.example.com"]);
    let text: ServiceText = "com.example.shop.Cart".parse().unwrap();
    assert_eq!(text.resolve(&registered).unwrap().domain.as_str(), "shop.example.com");
    let text: ServiceText = "com.example.HelloWorld".parse().unwrap();
    assert_eq!(text.resolve(&registered).unwrap().to_string(), "example.com:com.example.HelloWorld");
    let text: ServiceText = "com.examples.HelloWorld".parse().unwrap();
    assert!(text.resolve(&registered).is_err(), "a prefix of a label is not a prefix of the name");
}

#[test]
fn an_unknown_domain_hints_at_the_nearest() {
    let text: ServiceText = "exmaple.com:web".parse().unwrap();
    let problem = text.resolve(&domains(&["example.com"])).unwrap_err();
    assert_eq!(problem.hint.unwrap(), "did you mean \"example.com:web\"?");
}

#[test]
fn version_boundaries() {
    assert!(format!("1.{}", "1".repeat(61)).parse::<VersionName>().is_ok());
    assert!(format!("1.{}", "1".repeat(62)).parse::<VersionName>().is_err());
    for good in ["0", "1", "1.0", "10.20.30", "1.0-rc1", "1.0.0-a-b"] {
        assert!(good.parse::<VersionName>().is_ok(), "{good}");
    }
}

proptest! {
    #[test]
    fn whatever_parses_reads_back(text in "[a-z0-9.:@A-Z_+-]{0,40}") {
        if let Ok(version) = text.parse::<VersionText>() {
            prop_assert_eq!(version.to_string(), text.clone());
        }
        if let Ok(service) = text.parse::<ServiceText>() {
            prop_assert_eq!(service.to_string(), text);
        }
    }

    #[test]
    fn what_is_suggested_for_a_domain_is_one(text in "[a-zA-Z0-9._-]{0,40}") {
        if let Err(problem) = text.parse::<DomainName>()
            && let Some((_, near)) = problem.detail.rsplit_once(": write \"").or(problem.detail.rsplit_once("as in \""))
        {
            prop_assert!(near.trim_end_matches('"').parse::<DomainName>().is_ok(), "{}", problem.detail);
        }
    }

    #[test]
    fn no_name_holds_what_a_key_or_path_could_trip_over(text in "\\PC{0,20}") {
        if let Ok(service) = text.parse::<ServiceRef>() {
            prop_assert!(!service.to_string().contains(['/', '%', '?', '#', '\0', ' ']));
        }
    }
}

#[test]
fn a_package_is_a_domains_or_nobodys() {
    let of =
        |service: &str, domain: &str| service.parse::<ServiceName>().unwrap().is_of(&domain.parse().unwrap());
    assert!(of("com.example.Hello", "example.com") && of("com.example.shop.v1.Cart", "example.com"));
    assert!(!of("com.example.Hello", "shop.example.com") && !of("com.examples.Hello", "example.com"));
    assert!(!of("web", "example.com"));
    for (service, reads) in [
        ("web", false),
        ("bar.Foo", false),
        ("greeter.v1.Greeter", false),
        ("greeter.v1beta2.Greeter", false),
        ("com.example.Hello", true),
        ("com.example.v1.Hello", true),
        ("a.versions.Hello", true),
    ] {
        assert_eq!(service.parse::<ServiceName>().unwrap().reads_as_a_domains(), reads, "{service}");
    }
}
