//! config.json as plain JSON: the smallest one that every case starts from, and pointers into it.

use serde_json::{Value, json};

/// What every container needs, and nothing else: a field that is here is held by every case.
pub(super) fn base(cgroup: &str) -> Value {
    let namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts"].iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
        ],
        "linux": { "namespaces": namespaces, "cgroupsPath": cgroup },
    })
}

/// Sets what a JSON pointer names and makes the objects on the way to it; `-` appends to an array, which is made as well.
///
/// # Panics
/// If the way leads through something that has no members.
pub fn set_pointer(root: &mut Value, pointer: &str, value: Value) {
    let mut at = root;
    for word in pointer.split('/').skip(1) {
        at = match (word, at.as_array_mut().map(|a| a.len())) {
            ("-", None) => {
                *at = json!([null]);
                &mut at[0]
            }
            ("-", Some(n)) => {
                at.as_array_mut().unwrap().push(Value::Null);
                &mut at[n]
            }
            (_, Some(_)) => &mut at[word.parse::<usize>().unwrap()],
            (_, None) => &mut at[word.replace("~1", "/").replace("~0", "~")],
        };
    }
    *at = value;
}

/// Removes what a pointer names, `*` standing for every member of an array or object; whether there was anything.
pub fn drop_pointer(root: &mut Value, pointer: &str) -> bool {
    let words: Vec<String> = pointer.split('/').skip(1).map(|w| w.replace("~1", "/").replace("~0", "~")).collect();
    remove(root, &words)
}

fn remove(at: &mut Value, words: &[String]) -> bool {
    let Some((word, rest)) = words.split_first() else { return false };
    match at {
        Value::Object(map) if rest.is_empty() && word == "*" => !std::mem::take(map).is_empty(),
        Value::Object(map) if rest.is_empty() => map.remove(word).is_some(),
        Value::Object(map) if word == "*" => map.values_mut().filter_map(|v| remove(v, rest).then_some(())).count() > 0,
        Value::Object(map) => map.get_mut(word).is_some_and(|v| remove(v, rest)),
        Value::Array(list) if rest.is_empty() && word == "*" => !std::mem::take(list).is_empty(),
        Value::Array(list) if word == "*" => list.iter_mut().filter_map(|v| remove(v, rest).then_some(())).count() > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_make_their_way() {
        let mut root = json!({});
        set_pointer(&mut root, "/a/b", json!(1));
        set_pointer(&mut root, "/a/list/-", json!({ "x": 1 }));
        set_pointer(&mut root, "/a/list/-", json!({ "x": 2 }));
        set_pointer(&mut root, "/a/list/0/y", json!(3));
        set_pointer(&mut root, "/a/~1dev", json!(4));
        assert_eq!(root, json!({ "a": { "b": 1, "list": [{ "x": 1, "y": 3 }, { "x": 2 }], "/dev": 4 } }));
    }

    #[test]
    fn dropping_takes_every_member_that_fits() {
        let mut root = json!({ "a": { "list": [{ "x": 1, "y": 3 }, { "x": 2 }], "map": { "k": 1 } } });
        assert!(drop_pointer(&mut root, "/a/list/*/x"));
        assert!(drop_pointer(&mut root, "/a/map/*"));
        assert!(!drop_pointer(&mut root, "/a/none"));
        assert!(!drop_pointer(&mut root, "/a/list/*/z"));
        assert_eq!(root, json!({ "a": { "list": [{ "y": 3 }, {}], "map": {} } }));
        assert!(drop_pointer(&mut root, "/a/list"));
    }
}
