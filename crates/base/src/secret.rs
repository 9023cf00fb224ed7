//! Secrets that don't print.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap as _};
use std::{collections::BTreeMap, fmt};
use zeroize::Zeroizing;

/// A value that shows as `[secret]` in every log, error and debug print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value itself, for the one place that needs it.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret text that is wiped from memory when it is dropped.
pub type SecretText = Secret<Zeroizing<String>>;

/// The secrets of one instance: environment variable to value. It prints the variables only.
///
/// What writes it (`Serialize`) writes the values: only a channel or a file that is itself kept from others may get it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretValues(BTreeMap<String, SecretText>);

impl SecretValues {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one; the value of a variable that is there already is replaced.
    pub fn insert(&mut self, variable: impl Into<String>, value: impl Into<Zeroizing<String>>) {
        self.0.insert(variable.into(), Secret::new(value.into()));
    }

    /// Variables with their values, in the variables' order.
    pub fn reveal(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(variable, value)| (variable.as_str(), value.reveal().as_str()))
    }
}

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

impl Serialize for SecretValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (variable, value) in self.reveal() {
            map.serialize_entry(variable, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for SecretValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, String>::deserialize(deserializer)?;
        let secret = |(variable, value)| (variable, Secret::new(Zeroizing::new(value)));
        Ok(SecretValues(values.into_iter().map(secret).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
    }

    #[test]
    fn values_print_by_their_variables_only() {
        let mut values = SecretValues::default();
        values.insert("API_KEY", "hunter2".to_owned());
        assert_eq!(format!("{values:?}"), r#"{"API_KEY": [secret]}"#);
        let written = serde_json::to_string(&values).unwrap();
        assert_eq!(written, r#"{"API_KEY":"hunter2"}"#);
        assert_eq!(serde_json::from_str::<SecretValues>(&written).unwrap(), values);
    }
}
