//! A small lexer for Rust source: enough to tell code from comments and strings, and a path from a number.
//!
//! It keeps line numbers and the comments beside the tokens. It does not check that the source is valid Rust (the
//! compiler does), so it never fails: what it does not know becomes a punctuation token.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ident,
    Lifetime,
    Integer,
    Float,
    /// String, byte string, character: the text is dropped.
    Literal,
    Punct,
}

/// One token and the line it begins on (from 1).
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text && matches!(self.kind, Kind::Ident | Kind::Punct)
    }
}

/// A comment with its text and the lines it covers.
#[derive(Clone, Debug)]
pub struct Comment {
    pub text: String,
    pub first: usize,
    pub last: usize,
}

/// A lexed file.
pub struct Lexed {
    pub tokens: Vec<Token>,
    pub comments: Vec<Comment>,
}

struct Cursor<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn done(&self) -> bool {
        self.at >= self.chars.len()
    }

    fn bump(&mut self) -> char {
        let c = self.peek(0);
        if c == '\n' {
            self.line += 1;
        }
        self.at += 1;
        c
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while !self.done() && keep(self.peek(0)) {
            text.push(self.bump());
        }
        text
    }

    /// The rest of a quoted literal after its opening quote.
    fn quoted(&mut self, quote: char) {
        while !self.done() {
            match self.bump() {
                '\\' => {
                    self.bump();
                }
                c if c == quote => return,
                _ => {}
            }
        }
    }

    /// The rest of a raw string, from its first `#` or quote.
    fn raw(&mut self) {
        let hashes = self.take_while(|c| c == '#').len();
        self.bump();
        while !self.done() {
            if self.bump() == '"' && (0..hashes).all(|i| self.peek(i) == '#') {
                self.at += hashes;
                return;
            }
        }
    }

    fn block_comment(&mut self) -> String {
        let (mut depth, mut text) = (0, String::new());
        while !self.done() {
            if self.peek(0) == '/' && self.peek(1) == '*' {
                depth += 1;
                self.at += 2;
            } else if self.peek(0) == '*' && self.peek(1) == '/' {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                text.push(self.bump());
            }
        }
        text
    }

    fn number(&mut self) -> (String, Kind) {
        let mut text = self.take_while(|c| c.is_alphanumeric() || c == '_');
        let radix = ["0x", "0b", "0o"].iter().any(|p| text.starts_with(p));
        let tail = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
        let exponent = tail.strip_prefix(['e', 'E']).is_some_and(|e| !e.starts_with(ident_start));
        let mut float = !radix && (exponent || tail == "f32" || tail == "f64");
        // `1.5` and `1.` are floats; `1..2`, `1.max(2)` and the field access `x.0.1` are not (the caller handles the
        // last).
        let next = self.peek(1);
        if !radix && self.peek(0) == '.' && next != '.' && !next.is_alphabetic() && next != '_' {
            float = true;
            text.push(self.bump());
            text.push_str(&self.take_while(|c| c.is_alphanumeric() || c == '_'));
        }
        if float && text.ends_with(['e', 'E']) && matches!(self.peek(0), '+' | '-') {
            text.push(self.bump());
            text.push_str(&self.take_while(|c| c.is_alphanumeric() || c == '_'));
        }
        (text, if float { Kind::Float } else { Kind::Integer })
    }
}

fn ident_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn ident_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Cuts `source` into tokens and comments.
pub fn lex(source: &str) -> Lexed {
    let chars: Vec<char> = source.chars().collect();
    let mut c = Cursor { chars: &chars, at: 0, line: 1 };
    let mut tokens: Vec<Token> = Vec::new();
    let mut comments = Vec::new();
    while !c.done() {
        let (ch, next, line) = (c.peek(0), c.peek(1), c.line);
        let mut push = |kind, text: String| tokens.push(Token { kind, text, line });
        if ch.is_whitespace() {
            c.bump();
        } else if ch == '/' && next == '/' {
            let text = c.take_while(|x| x != '\n');
            comments.push(Comment { text, first: line, last: line });
        } else if ch == '/' && next == '*' {
            let text = c.block_comment();
            comments.push(Comment { text, first: line, last: c.line });
        } else if ch == 'r' && next == '#' && ident_start(c.peek(2)) {
            c.at += 2;
            let text = c.take_while(ident_part);
            push(Kind::Ident, format!("r#{text}"));
        } else if ident_start(ch) {
            let text = c.take_while(ident_part);
            match (text.as_str(), c.peek(0), c.peek(1)) {
                ("r" | "br" | "cr", '"', _) | ("r" | "br" | "cr", '#', '"' | '#') => {
                    c.raw();
                    push(Kind::Literal, String::new());
                }
                ("b" | "c", '"', _) | ("b", '\'', _) => {
                    let quote = c.bump();
                    c.quoted(quote);
                    push(Kind::Literal, String::new());
                }
                _ => push(Kind::Ident, text),
            }
        } else if ch.is_ascii_digit() {
            let field = tokens.last().is_some_and(|t| t.is("."));
            let (text, kind) = if field { (c.take_while(|x| x.is_ascii_digit()), Kind::Integer) } else { c.number() };
            tokens.push(Token { kind, text, line });
        } else if ch == '"' {
            c.bump();
            c.quoted('"');
            push(Kind::Literal, String::new());
        } else if ch == '\'' {
            c.bump();
            // 'a' is a character, 'a is a lifetime, '\n' and '(' are characters.
            if ident_start(c.peek(0)) && c.peek(1) != '\'' {
                let text = c.take_while(ident_part);
                push(Kind::Lifetime, text);
            } else {
                c.quoted('\'');
                push(Kind::Literal, String::new());
            }
        } else if ch == ':' && next == ':' {
            c.at += 2;
            push(Kind::Punct, "::".into());
        } else {
            c.bump();
            push(Kind::Punct, ch.to_string());
        }
    }
    Lexed { tokens, comments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        lex(source).tokens.into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" r#\"i \" j\"# b\"k\" 'l' '\\'' 'm n";
        assert_eq!(texts(source), ["a", "e", "", "", "", "", "", "m", "n"]);
        assert_eq!(lex(source).comments.len(), 2);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let lexed = lex("/* one\n two */ a\n\"x\ny\" b");
        assert_eq!(lexed.tokens.iter().map(|t| t.line).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((lexed.comments[0].first, lexed.comments[0].last), (1, 2));
    }

    #[test]
    fn floats_are_told_from_ranges_methods_and_fields() {
        let float = |s: &str| lex(s).tokens.iter().any(|t| t.kind == Kind::Float);
        for yes in ["1.5", "1e3", "2.0e-3", "1f64", "3_f32", "(1.)"] {
            assert!(float(yes), "{yes}");
        }
        for no in ["1..2", "1.max(2)", "x.0.1", "0x1e3", "10_000", "1u64", "1usize", "0xf32"] {
            assert!(!float(no), "{no}");
        }
    }
}
