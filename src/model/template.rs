//! `${NAME}` in a spec's command, arguments and variables: one parser, for `apply` and for the agent.
//!
//! Invariants: what is not `${NAME}` is refused where the spec is read; `$${` stands for a literal `${`; any other `$`
//! for itself. Not here: which names an instance has (`agent::launch`).

/// Text with names to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
}

/// Whether a text can be the name of an environment variable: letters, digits, `_` and `.`, no digit first.
pub fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}

impl Template {
    /// Reads a text; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("$${") {
                plain.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let (name, after) = after
                    .split_once('}')
                    .ok_or_else(|| format!("{text:?} has a \"${{\" without \"}}\": write $${{ for a literal ${{"))?;
                if !is_variable(name) {
                    return Err(format!(
                        "{text:?}: only ${{NAME}} is replaced, and {name:?} is no name (there are no defaults or other forms): write \
                         $${{ for a literal ${{"
                    ));
                }
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Name(name.into()));
                rest = after;
            } else {
                plain.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|p| match p {
            Piece::Text(_) => None,
            Piece::Name(name) => Some(name.as_str()),
        })
    }

    /// The text with every name replaced, or the name that has no value.
    pub fn fill<'a>(&'a self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, &'a str> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => out.push_str(value(name).ok_or(name.as_str())?),
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_dollars_can_be_meant() {
        let fill =
            |text: &str| Template::parse(text).unwrap().fill(|n| (n == "A").then_some("1")).map_err(String::from);
        assert_eq!(fill("--l=${A},$A$${A}$$ é$"), Ok("--l=1,$A${A}$$ é$".into()));
        assert_eq!(fill("$$${A}"), Ok("$${A}".into()));
        assert_eq!(fill("${B}"), Err("B".into()));
    }

    #[test]
    fn other_forms_are_refused_with_what_to_write() {
        for text in ["${EXTRA:-none}", "${A-b}", "${}", "${1}", "${A", "${A b}", "${$A}", "${A:?}"] {
            let said = Template::parse(text).unwrap_err();
            assert!(said.contains("write $${ for a literal ${"), "{said}");
        }
    }
}
