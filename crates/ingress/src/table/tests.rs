use super::*;
use crate::balance::Served;
use proptest::prelude::*;
use tutti_model::{Resource, Timestamp, Uid, table::Backend};

fn table(name: &str, generation: u64, matches: &[&str]) -> Resource<TableSpec> {
    let spec = TableSpec {
        service: name.parse().unwrap(),
        matches: matches.iter().map(|text| text.parse().unwrap()).collect(),
        backend: Backend::None { reason: format!("generation {generation}") },
    };
    let mut table = Resource::new(name, Uid::from_bits(1), Timestamp(0), spec);
    table.generation = generation;
    table
}

fn put(name: &str, generation: u64, matches: &[&str]) -> Change<TableSpec> {
    Change::Put(Box::new(table(name, generation, matches)))
}

fn found(tables: &Tables, host: &str, path: &str) -> Option<String> {
    tables.find(host, path).map(|service| service.name.service.to_string())
}

fn reason(tables: &Tables, host: &str) -> String {
    match &tables.find(host, "/").unwrap().backend {
        Served::Nothing(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_exact_host_and_the_longest_prefix_win() {
    let tables = Tables::default();
    tables.apply(vec![
        put("a.com:root", 1, &["a.com"]),
        put("a.com:api", 1, &["a.com/api", "only.a.com/api/v2"]),
        put("a.com:deep", 1, &["a.com/api/v1/deep"]),
        put("a.com:com.a.Hello", 1, &["*/com.a.Hello"]),
        put("a.com:six", 1, &["*/six"]),
    ]);
    for (host, path, service) in [
        ("a.com", "/", Some("root")),
        ("A.com:8080", "/x", Some("root")),
        ("a.com.", "/x", Some("root")),
        ("a.com", "*", Some("root")),
        ("a.com", "/api", Some("api")),
        ("a.com", "/api/", Some("api")),
        ("a.com", "/api/v1/dee", Some("api")),
        ("a.com", "/apis", Some("root")),
        ("a.com", "/api/v1/deep", Some("deep")),
        ("a.com", "/api/v1/deep/er/still", Some("deep")),
        ("a.com", "/com.a.Hello/Say", Some("root")),
        ("only.a.com", "/api/v2", Some("api")),
        ("only.a.com", "/api", None),
        ("only.a.com", "/six", Some("six")),
        ("b.com", "/com.a.Hello/Say", Some("com.a.Hello")),
        ("[::1]:8080", "/six", Some("six")),
        ("b.com", "/", None),
    ] {
        assert_eq!(found(&tables, host, path).as_deref(), service, "{host}{path}");
    }
}

#[test]
fn older_generations_are_refused() {
    let tables = Tables::default();
    tables.apply(vec![put("a.com:web", 5, &["a.com"])]);
    tables.apply(vec![put("a.com:web", 4, &["a.com"])]);
    assert_eq!(reason(&tables, "a.com"), "generation 5");
    tables.apply(vec![put("a.com:web", 6, &["a.com"])]);
    assert_eq!(reason(&tables, "a.com"), "generation 6");
}

#[test]
fn a_service_that_was_made_anew_begins_with_its_own_generations() {
    let tables = Tables::default();
    tables.apply(vec![put("example.com:web", 9, &["a.test"])]);
    // Deleted and created again while nobody watched: another object, with a generation of its own.
    let mut anew = table("example.com:web", 1, &["a.test", "b.test"]);
    anew.uid = Uid::from_bits(2);
    tables.replace(vec![Arc::new(anew.clone())]);
    assert_eq!(found(&tables, "b.test", "/").as_deref(), Some("web"));
    anew.spec.backend = Backend::None { reason: "second".into() };
    anew.generation = 2;
    tables.apply(vec![Change::Put(Box::new(anew))]);
    assert_eq!(reason(&tables, "a.test"), "second");
    // What is left of the first object's news is not.
    tables.replace(Vec::new());
    assert_eq!((found(&tables, "a.test", "/"), tables.count()), (None, 0));
    tables.apply(vec![put("example.com:web", 3, &["a.test"])]);
    assert_eq!(found(&tables, "a.test", "/").as_deref(), Some("web"));
}

#[test]
fn a_changed_backend_leaves_the_map_and_keeps_what_lasts() {
    let tables = Tables::default();
    tables.apply(vec![put("a.com:web", 1, &["a.com"]), put("a.com:other", 1, &["b.com"])]);
    let (routes, lasting) =
        (tables.routes.load_full(), Arc::clone(&tables.find("a.com", "/").unwrap().lasting));
    tables.apply(vec![put("a.com:web", 2, &["a.com"]), put("a.com:other", 2, &["b.com"])]);
    assert!(Arc::ptr_eq(&routes, &tables.routes.load_full()), "no host was built anew");
    assert_eq!(
        (reason(&tables, "a.com"), reason(&tables, "b.com")),
        ("generation 2".into(), "generation 2".into())
    );
    assert!(Arc::ptr_eq(&lasting, &tables.find("a.com", "/").unwrap().lasting));
}

#[test]
fn a_change_of_matches_shows_with_the_rest_of_its_transaction() {
    let tables = Tables::default();
    tables.apply(vec![put("a.com:web", 1, &["a.com"]), put("a.com:other", 1, &["b.com"])]);
    let old = tables.routes.load_full();
    tables.apply(vec![put("a.com:web", 2, &["a.com"]), put("a.com:other", 2, &["a.com/other"])]);
    let seen = old["a.com"].find("/").unwrap().load_full();
    assert!(
        matches!(&seen.backend, Served::Nothing(reason) if reason == "generation 1"),
        "the old map shows the old table"
    );
    assert_eq!(found(&tables, "a.com", "/other").as_deref(), Some("other"));
    assert_eq!(found(&tables, "b.com", "/"), None);
    tables.apply(vec![Change::Delete { name: "a.com:other".into() }]);
    assert_eq!(found(&tables, "a.com", "/other").as_deref(), Some("web"));
}

#[test]
fn of_two_claims_the_first_by_name_holds_until_it_goes() {
    let tables = Tables::default();
    tables.apply(vec![put("a.com:zoo", 1, &["x.com"]), put("a.com:api", 1, &["x.com"])]);
    assert_eq!(found(&tables, "x.com", "/").as_deref(), Some("api"));
    tables.apply(vec![Change::Delete { name: "a.com:api".into() }]);
    assert_eq!(found(&tables, "x.com", "/").as_deref(), Some("zoo"));
}

proptest! {
    /// Whatever came before, the tables are as if only the last of each had ever been put.
    #[test]
    fn changes_in_steps_end_where_one_replacement_does(
        steps in proptest::collection::vec((0usize..6, proptest::option::of(proptest::collection::vec(0usize..8, 0..4))), 1..30)
    ) {
        const MATCHES: [&str; 8] = ["a.com", "a.com/x", "a.com/x/y", "b.com", "b.com/x", "*/x", "*", "c.com/x/y/z"];
        let (stepwise, mut last) = (Tables::default(), BTreeMap::new());
        for (generation, (service, matches)) in steps.into_iter().enumerate() {
            let name = format!("a.com:s{service}");
            match matches {
                Some(matches) => {
                    let matches: Vec<&str> = matches.iter().map(|at| MATCHES[*at]).collect();
                    let table = table(&name, generation as u64 + 1, &matches);
                    last.insert(name, Arc::new(table.clone()));
                    stepwise.apply(vec![Change::Put(Box::new(table))]);
                }
                None => {
                    last.remove(&name);
                    stepwise.apply(vec![Change::Delete { name }]);
                }
            }
        }
        let whole = Tables::default();
        whole.replace(last.into_values().collect());
        for host in ["a.com", "b.com", "c.com", "d.com"] {
            for path in ["/", "/x", "/x/y", "/x/y/z/w", "/z"] {
                prop_assert_eq!(found(&stepwise, host, path), found(&whole, host, path), "{}{}", host, path);
            }
        }
    }
}
