//! A section of the configuration file, read key by key.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Wrong};

/// The text of a file, for line numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub file: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// The error at this place in the text, counted in bytes.
    pub(super) fn error(&self, at: usize, wrong: Wrong) -> ConfigError {
        let before = self.text.as_bytes().iter().take(at);
        ConfigError {
            file: self.file.to_path_buf(),
            line: Some(before.filter(|byte| **byte == b'\n').count() + 1),
            message: wrong.message,
            remedy: wrong.remedy,
        }
    }
}

/// A value of the file.
pub(super) type Value<'a> = &'a DeValue<'a>;

/// One table. Remembers which keys were asked for: any other one in it is unknown.
#[derive(Debug)]
pub(super) struct Section<'a> {
    source: Source<'a>,
    /// As in the file, `[timeouts]`; empty for the top of the file.
    name: String,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn top(source: Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            name: String::new(),
            table,
            asked: Vec::new(),
        }
    }

    /// Puts the value of `key`, if it is there, into `into`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        read: impl FnOnce(Value<'a>) -> Result<T, Wrong>,
    ) -> Result<(), ConfigError> {
        self.asked.push(key);
        if let Some(value) = self.table.get(key) {
            let at = |wrong: Wrong| {
                let message = format!("{} {}", self.full(key), wrong.message);
                let wrong = Wrong { message, ..wrong };
                self.source.error(value.span().start, wrong)
            };
            *into = read(value.get_ref()).map_err(at)?;
        }
        Ok(())
    }

    /// The same for a key that may be silent.
    pub(super) fn read_some<T>(
        &mut self,
        key: &'static str,
        into: &mut Option<T>,
        read: impl FnOnce(Value<'a>) -> Result<T, Wrong>,
    ) -> Result<(), ConfigError> {
        self.read(key, into, |value| read(value).map(Some))
    }

    /// Reads the section `key` of this one, if it is there.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.asked.push(key);
        let Some(value) = self.table.get(key) else {
            return Ok(());
        };
        let mut section = self.enter(value, key.to_string())?;
        read(&mut section)?;
        section.finish()
    }

    /// Reads each section `[key."name"]`. `parse` makes of the name what it stands for.
    pub(super) fn named<K>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<K, Wrong>,
        mut read: impl FnMut(K, &mut Section<'a>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.asked.push(key);
        let Some(value) = self.table.get(key) else {
            return Ok(());
        };
        for (name, value) in self.enter(value, key.to_string())?.table {
            let full = format!("{key}.\"{}\"", name.get_ref());
            let at = |wrong: Wrong| {
                let message = format!("[{full}] {}", wrong.message);
                self.source
                    .error(name.span().start, Wrong { message, ..wrong })
            };
            let name = parse(name.get_ref()).map_err(at)?;
            let mut section = self.enter(value, full)?;
            read(name, &mut section)?;
            section.finish()?;
        }
        Ok(())
    }

    /// Reads each section `[[key]]`, in the order of the file. `read` returns what is to be said about
    /// the section as a whole if it cannot be used.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'a>) -> Result<Option<Wrong>, ConfigError>,
    ) -> Result<(), ConfigError> {
        self.asked.push(key);
        let Some(value) = self.table.get(key) else {
            return Ok(());
        };
        let list = value.get_ref().as_array().ok_or_else(|| {
            let kind = value.get_ref().type_str();
            let message = format!("`{key}` is a list of sections, found a value of type {kind}");
            let remedy = format!("write a line [[{key}]] and its keys below it");
            self.source
                .error(value.span().start, Wrong::new(message, remedy))
        })?;
        for value in list {
            let mut section = self.enter(value, key.to_string())?;
            let wrong = read(&mut section)?;
            section.finish()?;
            if let Some(wrong) = wrong {
                let message = format!("[[{key}]] {}", wrong.message);
                return Err(self
                    .source
                    .error(value.span().start, Wrong { message, ..wrong }));
            }
        }
        Ok(())
    }

    /// Ends the reading: what was not asked for is unknown.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let mut keys = self.table.keys();
        let unknown = keys.find(|key| !self.asked.iter().any(|asked| asked == key.get_ref()));
        let Some(key) = unknown else {
            return Ok(());
        };
        let message = match self.name.as_str() {
            "" => format!("unknown key `{}`", key.get_ref()),
            section => format!("unknown key `{}` in [{section}]", key.get_ref()),
        };
        let remedy = match nearest(key.get_ref(), &self.asked) {
            Some(near) => format!("write `{near}`"),
            None => format!("remove it, or write one of: {}", self.asked.join(", ")),
        };
        let wrong = Wrong { message, remedy };
        Err(self.source.error(key.span().start, wrong))
    }

    fn enter(
        &self,
        value: &'a Spanned<DeValue<'a>>,
        name: String,
    ) -> Result<Section<'a>, ConfigError> {
        let table = value.get_ref().as_table().ok_or_else(|| {
            let kind = value.get_ref().type_str();
            let message = format!("`{name}` is a section, found a value of type {kind}");
            let wrong = Wrong::new(
                message,
                format!("write a line [{name}] and its keys below it"),
            );
            self.source.error(value.span().start, wrong)
        })?;
        Ok(Section {
            name,
            ..Section::top(self.source, table)
        })
    }

    /// The key with its section.
    fn full(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => format!("`{key}`"),
            section => format!("[{section}] {key}"),
        }
    }
}

/// The known key that was probably meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let lower = key.to_lowercase().replace('-', "_");
    let distances = known.iter().map(|known| (distance(&lower, known), *known));
    let (distance, known) = distances.min()?;
    (distance <= known.len() / 3 + 1).then_some(known)
}

/// How many letters have to be put in, taken out or replaced to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let known = ["tcp_new", "tcp_fin", "udp_new", "udp_replied"];

        assert_eq!(nearest("tcp_newe", &known), Some("tcp_new"));
        assert_eq!(nearest("UDP-replied", &known), Some("udp_replied"));
        assert_eq!(nearest("color", &known), None);
    }
}
