//! Documents for scripts.
//!
//! 1. One document on standard output; an object begins with `"schema": 1`.
//! 2. Text is valid UTF-8, and no character of it steers a terminal: such ones are written as `\uXXXX`.
//! 3. Bytes that are no text stand losslessly beside the readable form: `"name"` and `"name_hex"`.

use serde::Serialize;
use serde_json::{Map, Value};

/// The version of the documents' shape.
pub const SCHEMA: u32 = 1;

/// An object with the version of its shape in front.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// The text of a document that is an object.
///
/// # Errors
/// Where the value is none.
pub fn document(body: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Document { schema: SCHEMA, body }).map(|text| escaped(&text))
}

/// The text of a document that is a list, for the sake of scripts that know it as one (`map`).
///
/// # Errors
/// Where the value has no JSON form.
pub fn list(items: &[impl Serialize]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(items).map(|text| escaped(&text))
}

/// Puts bytes out of an image into an object, as text, and in hexadecimal too where they are none.
pub fn put_bytes(object: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    object.insert(key.to_owned(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        object.insert(format!("{key}_hex"), hex.into());
    }
}

/// Writes invisible and steering characters as escapes. In a document they can stand in strings only.
#[must_use]
pub fn escaped(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        if c == '\n' || !crate::exit::is_steering(c) {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_begin_with_the_schema_and_lists_have_none() {
        let text = document(&serde_json::json!({"a": 1})).unwrap();
        assert_eq!(text, "{\n  \"schema\": 1,\n  \"a\": 1\n}");
        assert!(document(&[1]).is_err());
        assert_eq!(list(&[1]).unwrap(), "[\n  1\n]");
    }

    #[test]
    fn steering_characters_survive_as_escapes() {
        let evil = "a\u{1b}[0m\u{9b}\u{202e}\u{7f}\u{e0041}é\n\\";
        let text = document(&serde_json::json!({ "name": evil })).unwrap();
        assert!(text.chars().all(|c| c == '\n' || c == 'é' || (' '..='~').contains(&c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], evil);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let mut object = Map::new();
        put_bytes(&mut object, "name", b"a\xff");
        put_bytes(&mut object, "label", b"root");
        assert_eq!(
            Value::Object(object),
            serde_json::json!({"name": "a\u{fffd}", "name_hex": "61ff", "label": "root"})
        );
    }
}
