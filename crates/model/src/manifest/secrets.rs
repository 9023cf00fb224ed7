//! The key `secrets`, and what holds for the names of variables in general.

use super::Reader;
use crate::{limits, secret::SecretName};
use std::collections::BTreeMap;

/// Why this cannot be the name of an environment variable that a service sets.
pub(super) fn not_a_variable(name: &str) -> Option<String> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let digit_first = name.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if name.is_empty() || !name.bytes().all(letters) || digit_first {
        return Some(format!(
            "\"{name}\" is not a variable's name: letters, digits and _, not starting with a digit"
        ));
    }
    (name == "PORT").then(|| "PORT is set by Tutti: use the key port".to_owned())
}

/// What types alone cannot check.
pub(super) fn faults(secrets: &BTreeMap<String, SecretName>, env: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    if secrets.len() > limits::SECRETS_PER_VERSION {
        faults.push(format!("{} secrets are more than {}", secrets.len(), limits::SECRETS_PER_VERSION));
    }
    for variable in secrets.keys() {
        faults.extend(not_a_variable(variable));
        if env.contains_key(variable) {
            faults.push(format!("{variable} stands in env as well: one of both is meant"));
        }
    }
    faults
}

impl Reader {
    pub(super) fn secrets(&mut self, table: &toml::Table) -> BTreeMap<String, SecretName> {
        let mut secrets = BTreeMap::new();
        match table.get("secrets") {
            None => {}
            Some(toml::Value::Table(section)) => {
                for (variable, name) in section {
                    match name.as_str().map(str::parse) {
                        Some(Ok(name)) => {
                            secrets.insert(variable.clone(), name);
                        }
                        Some(Err(problem)) => {
                            let problem: crate::Problem = problem;
                            self.fault("secrets", format!("{variable}: {}", problem.detail));
                        }
                        None => self.fault(
                            "secrets",
                            format!("{variable} must be a secret's name as a text, not {}", name.type_str()),
                        ),
                    }
                }
            }
            Some(other) => self.fault(
                "secrets",
                format!(
                    "variables and names of secrets are wanted, such as {{ API_KEY = \"api-key\" }}, not {}",
                    other.type_str()
                ),
            ),
        }
        secrets
    }
}
