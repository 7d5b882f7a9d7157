//! config.md, "Annotations", as `state` tells them.

use serde_json::json;
use tare_tests::oci::case;

#[test]
fn they_are_in_the_state() {
    case(|c| {
        c.set("/annotations", json!({ "org.example.key": "value", "other": "" }));
        c.create();
        let found = c.state()["annotations"].clone();
        assert_eq!((&found["org.example.key"], &found["other"]), (&json!("value"), &json!("")));
        c.start();
        assert_eq!(c.state()["annotations"]["org.example.key"], "value");
    });
}

#[test]
fn they_are_what_create_was_given() {
    case(|c| {
        c.set("/annotations", json!({ "key": "first" }));
        c.create();
        c.set("/annotations", json!({ "key": "second" })).write();
        assert_eq!(c.state()["annotations"]["key"], "first");
    });
}
