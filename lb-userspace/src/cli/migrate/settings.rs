//! The Engine's settings with and without its own rules. Pure.

use serde_json::{Map, Value};

/// What is off when veer does the Engine's work.
pub(super) const SWITCHES: [&str; 3] = ["iptables", "ip6tables", "userland-proxy"];

/// The Engine's settings as an object. An empty text is one without keys.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(settings)) => Ok(settings),
        Ok(_) => Err("it is not an object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The same with every switch off.
pub(super) fn without_rules(mut settings: Map<String, Value>) -> Map<String, Value> {
    for switch in SWITCHES {
        settings.insert(switch.to_owned(), Value::Bool(false));
    }
    settings
}

/// The same with the switches as they were in `before`; other keys stay as they are now.
pub(super) fn with_switches_of(
    mut settings: Map<String, Value>,
    before: &Map<String, Value>,
) -> Map<String, Value> {
    for switch in SWITCHES {
        match before.get(switch) {
            Some(value) => settings.insert(switch.to_owned(), value.clone()),
            None => settings.remove(switch),
        };
    }
    settings
}

/// As a file.
pub(super) fn text(settings: &Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(settings.clone()))
}

/// The lines that differ, as `diff` marks them.
pub(super) fn difference(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let bare = |line: &str| line.trim().trim_end_matches(',').to_owned();
    let has = |lines: &[&str], line: &str| lines.iter().any(|other| bare(other) == bare(line));
    let gone = old
        .iter()
        .filter(|line| !has(&new, line))
        .map(|line| format!("- {line}"));
    let come = new
        .iter()
        .filter(|line| !has(&old, line))
        .map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"{ "live-restore": true, "iptables": true, "dns": ["192.0.2.53"] }"#;

    #[test]
    fn other_keys_are_kept_and_the_switches_come_back() {
        let before = parse(BEFORE).unwrap();

        let mut during = without_rules(before.clone());
        assert_eq!(during["iptables"], false);
        assert_eq!(during["dns"], before["dns"]);
        during.insert("debug".to_owned(), Value::Bool(true));
        let after = with_switches_of(during, &before);

        assert_eq!(after["iptables"], true);
        assert_eq!(after["debug"], true, "a later change stays");
        assert!(!after.contains_key("userland-proxy"));
    }

    #[test]
    fn no_file_is_one_without_keys_and_what_is_none_is_refused() {
        assert_eq!(parse(" \n"), Ok(Map::new()));
        assert!(parse("[]").is_err() && parse("{").is_err());
    }

    #[test]
    fn a_difference_is_what_changes_and_nothing_else() {
        let (before, after) = (
            "{\n  \"a\": 1\n}",
            "{\n  \"a\": 1,\n  \"iptables\": false\n}",
        );

        assert_eq!(difference(before, after), ["+   \"iptables\": false"]);
    }
}
