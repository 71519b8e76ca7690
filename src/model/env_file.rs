//! A file of environment variables, as systemd's `EnvironmentFile=` has it; `docs/spec.md` has the rules for people.
//!
//! Invariants: what systemd would skip with a warning is refused with its line; nothing in the file is replaced or
//! executed. Not here: reading the file (`agent::env_file`).

use std::collections::BTreeMap;

use super::template::is_variable;

/// Longest value.
const MAX_VALUE: usize = 128 << 10;

/// What is wrong, and in which line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    /// What is wrong and what to write.
    pub problem: String,
}

/// Reads `NAME=value` lines; of a name that comes twice the last one counts.
pub fn read_env_file(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let mut env = BTreeMap::new();
    let mut rest = Rest { chars: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    while let Some(c) = rest.peek() {
        match c {
            ' ' | '\t' | '\n' | '\r' => {
                rest.next();
            }
            '#' | ';' => rest.skip_line(),
            _ => {
                let line = rest.line;
                let (name, value) = rest.variable().map_err(|problem| Wrong { line, problem })?;
                env.insert(name, value);
            }
        }
    }
    Ok(env)
}

struct Rest<'a> {
    chars: &'a str,
    line: usize,
}

impl Rest<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.chars = self.chars.get(c.len_utf8()..).unwrap_or_default();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    fn variable(&mut self) -> Result<(String, String), String> {
        let line = self.chars.lines().next().unwrap_or_default();
        let (name, _) = line.split_once('=').ok_or("write NAME=value")?;
        for _ in 0..name.chars().count() + 1 {
            self.next();
        }
        let name = name.trim_end();
        if let Some(("export", name)) = name.split_once(char::is_whitespace) {
            return Err(format!("this file is no shell script: write {}= without \"export\"", name.trim()));
        }
        if !is_variable(name) {
            return Err(format!("{name:?} is no name of a variable: letters, digits, '_' and '.', no digit first"));
        }
        let value = self.value()?;
        if value.contains('\0') {
            return Err(format!("the value of {name} holds a NUL character"));
        }
        if value.len() > MAX_VALUE {
            return Err(format!("the value of {name} is longer than {MAX_VALUE} bytes"));
        }
        Ok((name.into(), value))
    }

    /// Up to the end of the line: what is quoted as it is, blanks around the rest dropped. A quote within a word is a
    /// character like others.
    fn value(&mut self) -> Result<String, String> {
        let mut value = String::new();
        // As far as blanks at the end are meant, and whether a word has not begun.
        let (mut kept, mut before) = (0, true);
        while let Some(c) = self.next() {
            match c {
                '\n' => break,
                '\r' if self.peek().is_none_or(|c| c == '\n') => continue,
                ' ' | '\t' if before => continue,
                ' ' | '\t' => {
                    value.push(c);
                    continue;
                }
                '\'' | '"' if before => self.quoted(c, &mut value)?,
                '\\' => {
                    value.extend(self.escaped());
                    before = false;
                }
                c => {
                    value.push(c);
                    before = false;
                }
            }
            kept = value.len();
        }
        value.truncate(kept);
        Ok(value)
    }

    /// What stands behind a backslash; nothing when that is the line's end, as the line then goes on.
    fn escaped(&mut self) -> Option<char> {
        if self.chars.starts_with("\r\n") {
            self.next();
        }
        self.next().filter(|c| *c != '\n')
    }

    fn quoted(&mut self, quote: char, value: &mut String) -> Result<(), String> {
        while let Some(c) = self.next() {
            if c == quote {
                return Ok(());
            }
            match (quote, c, self.peek()) {
                ('"', '\\', Some('"' | '\\' | '$' | '`' | '\n')) => value.extend(self.escaped()),
                _ => value.push(c),
            }
        }
        Err(format!("a quoted value has no closing {quote}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        let cases = [
            ("A=1", "1"),
            ("A = b c  ", "b c"),
            ("  A=\t1", "1"),
            ("A=", ""),
            ("A=''", ""),
            ("A='one two' ", "one two"),
            ("A=\"one two\"", "one two"),
            ("A=' kept '", " kept "),
            ("A=\"say \\\"hi\\\" \\$HOME \\n\"", "say \"hi\" $HOME \\n"),
            ("A='\\n'", "\\n"),
            ("A=a\\ b\\\\", "a b\\"),
            ("A=one\\\ntwo", "onetwo"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=x#y # z", "x#y # z"),
            ("A=b=c", "b=c"),
            ("A=${HOME}", "${HOME}"),
            ("\u{feff}A=1\r\n", "1"),
            ("# x\r\n; y\r\n\r\nA='1'\r\n", "1"),
            ("A=1\nA=2\n", "2"),
            ("A=it's", "it's"),
            ("A='a 'b", "a b"),
            ("A=\"a\" 'b'", "ab"),
        ];
        for (text, want) in cases {
            let env = read_env_file(text).unwrap_or_else(|e| panic!("{text:?}: {e:?}"));
            assert_eq!(env, BTreeMap::from([("A".to_owned(), want.to_owned())]), "{text:?}");
        }
        assert_eq!(read_env_file("spring.profiles.active=prod\nB_2=x").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_variable_is_refused_with_its_line() {
        for (text, line, says) in [
            ("A=1\nexport B=2\n", 2, "write B= without \"export\""),
            ("A=1\n\nwrong\n", 3, "write NAME=value"),
            ("# x\nA B=1", 2, "\"A B\" is no name"),
            ("1A=1", 1, "is no name"),
            ("=1", 1, "is no name"),
            ("A-B=1", 1, "is no name"),
            ("A=1\nB='open\nC=2\n", 2, "no closing '"),
            ("A=\"open", 1, "no closing \""),
            ("A=\0", 1, "NUL"),
        ] {
            let wrong = read_env_file(text).unwrap_err();
            assert!(wrong.line == line && wrong.problem.contains(says), "{text:?}: {wrong:?}");
        }
        let long = format!("A={}", "x".repeat(MAX_VALUE + 1));
        assert!(read_env_file(&long).is_err());
    }
}
