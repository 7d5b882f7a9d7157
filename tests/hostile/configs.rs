//! Configs that ask for what no container can be.

use crate::ground::{Ground, both};
use crate::image::{Image, Layer};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) fn busybox() -> Layer {
    Layer::plain(std::fs::read(tare_tests::busybox_tar()).unwrap())
}

/// Loads an image of busybox with this config; its id.
pub(crate) fn load(g: &Ground, more: &[Layer], run: &Value) -> String {
    let layers: Vec<Layer> = std::iter::once(busybox()).chain(more.iter().cloned()).collect();
    let out = g.succeeds(&["load", "--quiet"], Some(&Image::with_config(&layers, run).archive()));
    out.trim().rsplit(' ').next().unwrap().to_owned()
}

fn run<'a>(id: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--rm", "--network", "none", id], command].concat()
}

/// `config` objects, each of which asks for something that no container can be, or is content with little.
fn cases() -> Vec<Value> {
    let huge = "x".repeat(200_000);
    let many: Vec<String> = (0..20_000).map(|i| format!("V{i}=x")).collect();
    let deep = format!("/{}", "d/".repeat(2100));
    vec![
        json!({"Env": ["A=a\u{0}b", "PATH=/bin"]}),
        json!({"Env": ["", "=", "=x", "novalue", "A=\u{1b}[31m\n\r"]}),
        json!({"Env": [format!("A={huge}")]}),
        json!({"Env": many}),
        json!({"Cmd": ["tr\u{0}ue"]}),
        json!({"Cmd": [""]}),
        json!({"Cmd": [], "Entrypoint": []}),
        json!({"Cmd": ["/bin/true", huge]}),
        json!({"Cmd": ["\u{1b}]0;title\u{7}"]}),
        json!({"Entrypoint": ["../../../bin/true"]}),
        json!({"User": "root\nvictim:x:0:0"}),
        json!({"User": "0:0:0"}),
        json!({"User": "-1"}),
        json!({"User": "4294967295"}),
        json!({"User": "4294967296:0"}),
        json!({"User": "0:99999999999"}),
        json!({"User": "nobody\u{0}"}),
        json!({"User": huge}),
        json!({"WorkingDir": "relative"}),
        json!({"WorkingDir": "/../../../.."}),
        json!({"WorkingDir": "/a\u{0}b"}),
        json!({"WorkingDir": "/proc/self/fd/7"}),
        json!({"WorkingDir": "/proc/1/root/etc"}),
        json!({"WorkingDir": "/dev/null"}),
        json!({"WorkingDir": deep}),
        json!({"WorkingDir": "/tmp/\n\u{1b}[31m"}),
        json!({"StopSignal": "SIGNOPE"}),
        json!({"StopSignal": "-1"}),
        json!({"StopSignal": "99999999999999999999"}),
        json!({"StopSignal": ""}),
        json!({"ExposedPorts": {"99999/tcp": {}, "x": {}, "80/foo": {}, "-1": {}, "": {}, "1-99999999": {}}}),
        json!({"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": -1, "Timeout": 1, "Retries": -5}}),
        json!({"Healthcheck": [1, {"Test": 7}, "x"]}),
        json!({"Labels": {"": "", "a\u{0}b": "\u{1b}[31m", "x": huge}}),
        json!({"Volumes": {"/a\u{0}b": {}}}),
        json!({"Volumes": {"": {}}}),
        json!({"Volumes": {"relative": {}}}),
        json!({"Volumes": {"/": {}}}),
        json!({"Volumes": {"/..": {}}}),
        json!({"Volumes": {"/proc/self": {}, "/sys/kernel": {}}}),
        json!({"Volumes": {"/dev": {}, "/etc/hosts": {}, "/bin/busybox": {}}}),
        json!({"OnBuild": ["RUN rm -rf /"], "Shell": ["\u{0}"]}),
    ]
}

fn endures_configs(cases: &[Value]) {
    both(|g| {
        for config in cases {
            let what: String = config.to_string().chars().take(80).collect();
            let mut config = config.clone();
            if config.get("Cmd").is_none() && config.get("Entrypoint").is_none() {
                config["Cmd"] = json!(["/bin/true"]);
            }
            let id = load(g, &[], &config);
            let kept = g.stored();
            g.endures(&what, &run(&id, &[]), None);
            // Whoever watched over the container clears up after it has answered.
            let clean = tare_tests::eventually(Duration::from_secs(20), || g.stored() == kept);
            assert!(clean, "{what}: {:?}", g.stored());
            for args in [vec!["inspect", &id], vec!["history", "--no-trunc", &id]] {
                let out = g.endures(&what, &args, None);
                let spoken = out.stdout.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
                assert!(!spoken && out.code == 0, "{what}: {args:?}: {}", out.stdout);
            }
            g.succeeds(&["rmi", &id], None);
        }
    });
}

#[test]
fn an_environment_or_command_without_sense_is_one_error_or_none() {
    endures_configs(&cases()[..9]);
}

#[test]
fn a_user_without_sense_is_one_error_or_none() {
    endures_configs(&cases()[9..17]);
}

#[test]
fn a_working_directory_without_sense_is_one_error_or_none() {
    endures_configs(&cases()[17..25]);
}

#[test]
fn signals_ports_and_probes_without_sense_are_one_error_or_none() {
    endures_configs(&cases()[25..33]);
}

#[test]
fn volumes_without_sense_are_one_error_or_none() {
    endures_configs(&cases()[33..]);
}

#[test]
fn configs_of_the_wrong_shape_are_refused() {
    both(|g| {
        for config in [
            json!({"Env": "A=b"}),
            json!({"Env": [1]}),
            json!({"Cmd": "true"}),
            json!({"Volumes": ["/x"]}),
            json!({"User": 0}),
            json!({"Labels": {"a": 1}}),
            json!("x"),
        ] {
            g.refuses_image(&config.to_string(), &Image::with_config(&[busybox()], &config), "config");
        }
    });
}

#[test]
fn texts_of_a_config_do_not_speak_to_the_terminal() {
    both(|g| {
        let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nfake: line";
        let layer = busybox();
        let config = json!({"architecture": evil, "os": evil, "author": evil, "created": "99999-99-99T99:99:99Z",
            "variant": evil, "config": {"Cmd": [evil], "Labels": {evil: evil}, "User": evil},
            "rootfs": {"type": evil, "diff_ids": [layer.diff_id]},
            "history": [{"created": evil, "created_by": evil, "author": evil, "comment": evil}]});
        let image = Image::of_parts(&[layer], config.to_string().as_bytes());
        let out = g.succeeds(&["load", "--quiet"], Some(&image.archive()));
        let id = out.trim().rsplit(' ').next().unwrap().to_owned();
        g.refuses("run", &run(&id, &[]), None, "it is for");
        for args in
            [vec!["inspect", &id], vec!["history", &id], vec!["history", "--no-trunc", &id], vec!["images", "--all"]]
        {
            let out = g.endures("told", &args, None);
            assert!(!out.stdout.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{args:?}: {}", out.stdout);
            assert!(out.code == 0 && !out.stdout.contains("\nfake: line"), "{args:?}: {}", out.stdout);
        }
    });
}
