//! JSON objects whose values nobody touches.
//!
//! A plugin's configuration is its own: what is not meant for a runtime goes through byte by byte,
//! so that a number too large for any type of ours arrives as it was written.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The deepest nesting of a document that is read. Readers with recursion give up at 128, so what
/// passes here passes them too.
const MAX_DEPTH: usize = 100;

/// An object by its keys, each value as it was written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(BTreeMap<String, Box<RawValue>>);

impl Object {
    /// Reads an object.
    ///
    /// # Errors
    ///
    /// The parser's, with line and column; or that it is nested more than 100 levels deep.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if is_too_deep(bytes) {
            let why = format!("it is nested more than {MAX_DEPTH} levels deep");
            return Err(serde::de::Error::custom(why));
        }
        serde_json::from_slice(bytes)
    }

    /// Tells whether there is a value at `key`; null counts as one.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the value at `key` as it was written.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|raw| raw.get())
    }

    /// Reads the value at `key`; `None` if there is none or it is null.
    ///
    /// # Errors
    ///
    /// The parser's, if it is of another type.
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, serde_json::Error> {
        self.text(key).map_or(Ok(None), serde_json::from_str)
    }

    /// Reads the object as a whole, a configuration of one's own for instance.
    ///
    /// # Errors
    ///
    /// The parser's.
    pub fn read_whole<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.to_string())
    }

    pub(crate) fn set(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        let raw = serde_json::value::to_raw_value(value)
            .expect("what is written here are strings, JSON, and maps with keys of text");
        self.0.insert(key.to_owned(), raw);
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Two objects are the same if they mean the same.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        let value = |object: &Self| serde_json::to_value(object).unwrap_or(Value::Null);
        self.to_string() == other.to_string() || value(self) == value(other)
    }
}

/// Looks through `bytes` for brackets outside of strings.
fn is_too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_through_as_they_were_written() {
        let text = r#"{"a":1.10,"b":123456789012345678901234567890,"c":{"z":1,"a":[1e999]}}"#;
        let mut object = Object::parse(text.as_bytes()).unwrap();
        assert_eq!(object.to_string(), text);
        object.set("a", "new");
        object.remove("b");
        assert_eq!(object.to_string(), r#"{"a":"new","c":{"z":1,"a":[1e999]}}"#);
    }

    #[test]
    fn null_is_nothing_and_another_type_is_an_error() {
        let object = Object::parse(br#"{"a":null,"b":3}"#).unwrap();
        assert_eq!(object.read::<bool>("a").unwrap(), None);
        assert_eq!(object.read::<bool>("c").unwrap(), None);
        assert!(object.read::<bool>("b").is_err());
    }

    #[test]
    fn brackets_in_strings_are_no_depth() {
        let text = format!(r#"{{"a":"\"{}"}}"#, "[".repeat(1000));
        assert!(Object::parse(text.as_bytes()).is_ok());
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
        assert!(Object::parse(deep.as_bytes()).unwrap_err().to_string().contains("levels deep"));
        assert!(Object::parse("[".repeat(1 << 20).as_bytes()).is_err());
    }
}
