//! The paths that a Rust source mentions, with their lines.

use std::{iter::Peekable, str::Chars};

/// One path in a source, `use` trees taken apart: `std::fs::File`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) path: String,
}

impl Mention {
    /// True if `name`, one or more segments, is part of this path.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let segments: Vec<&str> = self.path.split("::").collect();
        let wanted: Vec<&str> = name.split("::").collect();
        segments
            .windows(wanted.len())
            .any(|window| window == wanted)
    }
}

/// Every path and every single name in `source`, outside comments and literals.
pub(crate) fn mentions(source: &str) -> Vec<Mention> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut rest = tokens.as_slice();
    while let [first, after @ ..] = rest {
        rest = if first.is_name() {
            path(rest, "", &mut found)
        } else {
            after
        };
    }
    found
}

/// Reads one path that continues `prefix`, or a group of them; gives what follows.
fn path<'a>(mut rest: &'a [Token], prefix: &str, found: &mut Vec<Mention>) -> &'a [Token] {
    let line = rest.first().map_or(0, |token| token.line);
    let mut path = prefix.to_owned();
    while let [name, after @ ..] = rest {
        if name.text == "{" {
            return group(after, &path, found);
        }
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(&name.text);
        rest = after;
        match rest {
            [colons, after @ ..] if colons.text == "::" => rest = after,
            _ => break,
        }
    }
    found.push(Mention { line, path });
    rest
}

/// Reads the members of a `use` tree's group, and its closing brace.
fn group<'a>(mut rest: &'a [Token], prefix: &str, found: &mut Vec<Mention>) -> &'a [Token] {
    while let [first, after @ ..] = rest {
        rest = match first.text.as_str() {
            "}" => return after,
            "," => after,
            _ => path(rest, prefix, found),
        };
    }
    rest
}

/// A name, a `::`, or any other single character.
#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader {
        rest: source.chars().peekable(),
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(first) = reader.next() {
        let line = reader.line;
        match first {
            '/' if reader.rest.peek() == Some(&'/') => reader.until_end_of_line(),
            '/' if reader.rest.peek() == Some(&'*') => reader.until_end_of_comment(),
            '"' => reader.until_quote(),
            '\'' => reader.until_end_of_character(),
            'r' | 'b' | 'c' if reader.prefixed_string(first) => {}
            ':' if reader.rest.next_if_eq(&':').is_some() => {
                tokens.push(Token {
                    line,
                    text: "::".into(),
                });
            }
            _ if is_part_of_name(first) => {
                tokens.push(Token {
                    line,
                    text: reader.name(first),
                });
            }
            _ if first.is_whitespace() => {}
            _ => tokens.push(Token {
                line,
                text: first.into(),
            }),
        }
    }
    tokens
}

fn is_part_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn name(&mut self, first: char) -> String {
        let mut name = String::from(first);
        while let Some(c) = self.rest.next_if(|c| is_part_of_name(*c)) {
            name.push(c);
        }
        name
    }

    fn until_end_of_line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    /// Block comments nest.
    fn until_end_of_comment(&mut self) {
        let mut depth = 1;
        self.next();
        while depth > 0 {
            match self.next() {
                Some('*') if self.rest.next_if_eq(&'/').is_some() => depth -= 1,
                Some('/') if self.rest.next_if_eq(&'*').is_some() => depth += 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    fn until_quote(&mut self) {
        while let Some(c) = self.next() {
            match c {
                '\\' => drop(self.next()),
                '"' => return,
                _ => {}
            }
        }
    }

    /// Skips a character literal; a lifetime has no closing quote and stays.
    fn until_end_of_character(&mut self) {
        let mut ahead = self.rest.clone();
        let is_escape = ahead.next() == Some('\\');
        if is_escape {
            self.next();
            self.next();
            while self.next().is_some_and(|c| c != '\'') {}
        } else if ahead.next() == Some('\'') {
            self.next();
            self.next();
        }
    }

    /// Skips what follows the first letter of `b"…"`, `r#"…"#`, `br"…"` and the like; false, and
    /// nothing skipped, if none of them begins here.
    fn prefixed_string(&mut self, first: char) -> bool {
        let mut ahead = self.rest.clone();
        let is_raw = ahead.next_if_eq(&'r').is_some() || first == 'r';
        let hashes = std::iter::from_fn(|| ahead.next_if_eq(&'#')).count();
        if ahead.next() != Some('"') {
            return false;
        }
        while self.next().is_some_and(|c| c != '"') {}
        if is_raw {
            self.until_text(&format!("\"{}", "#".repeat(hashes)));
        } else {
            self.until_quote();
        }
        true
    }

    fn until_text(&mut self, end: &str) {
        let mut seen = String::new();
        while !seen.ends_with(end) {
            let Some(c) = self.next() else { return };
            seen.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        mentions(source)
            .into_iter()
            .map(|mention| mention.path)
            .collect()
    }

    #[test]
    fn a_use_tree_is_taken_apart() {
        let source = "use a::{b, c::{self, d}, e::*};";

        assert_eq!(
            paths(source),
            ["use", "a::b", "a::c::self", "a::c::d", "a::e::*"]
        );
    }

    #[test]
    fn a_block_after_a_path_is_no_group() {
        assert_eq!(
            paths("impl A for b::C { d::e!() }"),
            ["impl", "A", "for", "b::C", "d::e"]
        );
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let source = r##"/* a /* b */ c */ d("e\"f", 'g', '\'', r#"h"i"#, b"\"j", r"\") // k"##;

        assert_eq!(paths(source), ["d"]);
    }

    #[test]
    fn a_lifetime_does_not_hide_what_follows() {
        assert_eq!(paths("&'a str, 'b'"), ["a", "str"]);
    }

    #[test]
    fn lines_are_counted_over_comments_and_strings() {
        let found = mentions("// one\n/* two\n*/ \"three\n\" std::fs");

        assert_eq!(
            found,
            [Mention {
                line: 4,
                path: "std::fs".into()
            }]
        );
    }

    #[test]
    fn only_whole_segments_match() {
        let mention = Mention {
            line: 1,
            path: "std::net::TcpStream".into(),
        };

        assert!(mention.contains("net::TcpStream"));
        assert!(mention.contains("std"));
        assert!(!mention.contains("std::n"));
    }
}
