use super::*;
use crate::commands::fixtures::{self as fix, NOW};

/// Every table at 80 columns.
fn pictures() -> String {
    let tables = [
        domains(&[fix::domain()], NOW),
        services(&[fix::service()], NOW),
        versions(&[fix::version()], NOW),
        deployments(&[fix::deployment()], NOW),
        instances(&[fix::instance()], NOW),
        routes(&[fix::route()], NOW),
        crate::commands::machines::table(&[fix::machine()], &[fix::node()], NOW),
        tokens(&[fix::token()], NOW),
        services_serving(&fix::status().services),
        versions_serving(&fix::summary()),
    ];
    tables.iter().map(|table| format!("{}\n", table.render(80, false))).collect()
}

#[test]
fn every_table_fits_80_columns() {
    let text = pictures();
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    insta::assert_snapshot!(text);
}

#[test]
fn what_programs_read() {
    let resource = fix::instance();
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&resource).unwrap());
    insta::assert_snapshot!("yaml", crate::ui::yaml(&resource).unwrap());
}
