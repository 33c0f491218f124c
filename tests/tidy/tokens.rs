//! Reads Rust text as tokens, and from them paths, attributes and items.

use std::ops::Range;

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Kind {
    Word(String),
    Sign(char),
    Literal,
}

/// A token; a literal may end on a later line than it begins.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    pub(crate) line_end: usize,
}

impl Token {
    pub(crate) fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Splits Rust text into tokens, without comments; what is inside a literal is dropped.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found: Vec<Token> = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let (end, kind) = token_at(&chars, at);
        let lines = chars[at..end].iter().filter(|c| **c == '\n').count();
        if let Some(kind) = kind {
            found.push(Token { kind, line, line_end: line + lines });
        }
        line += lines;
        at = end;
    }
    found
}

/// The token at a place: where it ends, and what it is (nothing: space or comment).
fn token_at(chars: &[char], at: usize) -> (usize, Option<Kind>) {
    let rest = &chars[at..];
    let c = rest[0];
    let next = rest.get(1).copied().unwrap_or(' ');
    if c.is_whitespace() {
        (at + 1, None)
    } else if c == '/' && next == '/' {
        (at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), None)
    } else if c == '/' && next == '*' {
        (at + block_comment(rest), None)
    } else if c == '"' {
        (at + 1 + string(&rest[1..]), Some(Kind::Literal))
    } else if let Some(length) = raw_string(rest) {
        (at + length, Some(Kind::Literal))
    } else if c == 'b' && next == '"' {
        (at + 2 + string(&rest[2..]), Some(Kind::Literal))
    } else if c == '\'' {
        match character(rest) {
            Some(length) => (at + length, Some(Kind::Literal)),
            None => (at + 1, Some(Kind::Sign('\''))), // a lifetime: its name follows as a word
        }
    } else if c.is_alphabetic() || c == '_' {
        let length = rest.iter().position(|c| !(c.is_alphanumeric() || *c == '_')).unwrap_or(rest.len());
        (at + length, Some(Kind::Word(rest[..length].iter().collect())))
    } else if c.is_ascii_digit() {
        let length = rest.iter().position(|c| !(c.is_alphanumeric() || *c == '_')).unwrap_or(rest.len());
        (at + length, Some(Kind::Literal))
    } else {
        (at + 1, Some(Kind::Sign(c)))
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of what follows an opening quote, the closing one included.
fn string(rest: &[char]) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let start = if rest.starts_with(&['b', 'r']) { 2 } else { usize::from(rest[0] == 'r') };
    let hashes = rest[start..].iter().take_while(|c| **c == '#').count();
    if start == 0 || rest.get(start + hashes) != Some(&'"') {
        return None;
    }
    let mut closing = vec!['"'];
    closing.resize(hashes + 1, '#');
    let body = &rest[start + hashes + 1..];
    let length = body.windows(closing.len()).position(|w| w == closing).unwrap_or(body.len());
    Some((start + hashes + 1 + length + closing.len()).min(rest.len()))
}

/// Length of a character literal, if the quote opens one.
fn character(rest: &[char]) -> Option<usize> {
    if rest.get(1) == Some(&'\\') {
        return rest.iter().skip(3).position(|c| *c == '\'').map(|at| at + 4);
    }
    (rest.get(2) == Some(&'\'')).then_some(3)
}

/// A path that a file names, use-groups written out: its parts, where, inside which inline modules, and in test code or not.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) parts: Vec<String>,
    pub(crate) line: usize,
    pub(crate) inline: Vec<String>,
    pub(crate) test: bool,
}

/// Every path of at least two parts in the file.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Named> {
    let tests = test_ranges(tokens);
    let mut found = Vec::new();
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is('{') {
            depth += 1;
            if at >= 2
                && tokens[at - 2].word() == Some("mod")
                && let Some(name) = tokens[at - 1].word()
            {
                inline.push((name.to_owned(), depth));
            }
        } else if tokens[at].is('}') {
            if inline.last().is_some_and(|(_, at)| *at == depth) {
                inline.pop();
            }
            depth -= 1;
        } else if tokens[at].word().is_some() && joined(tokens, at + 1) {
            let mut written = Vec::new();
            let end = tree(tokens, at, &[], &mut written);
            let test = tests.iter().any(|range| range.contains(&at));
            let inline: Vec<String> = inline.iter().map(|(name, _)| name.clone()).collect();
            let line = tokens[at].line;
            found.extend(written.into_iter().map(|parts| Named { parts, line, inline: inline.clone(), test }));
            at = end;
            continue;
        }
        at += 1;
    }
    found
}

/// Whether `::` stands here.
fn joined(tokens: &[Token], at: usize) -> bool {
    at + 1 < tokens.len() && tokens[at].is(':') && tokens[at + 1].is(':')
}

/// Reads a path, or a tree of them as in `use a::{b, c::d}`, from a word on; returns where it ends.
fn tree(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut parts = before.to_vec();
    loop {
        match tokens.get(at).map(|token| &token.kind) {
            Some(Kind::Word(word)) => {
                parts.push(word.clone());
                at += 1;
            }
            Some(Kind::Sign('{')) => {
                at += 1;
                while at < tokens.len() && !tokens[at].is('}') {
                    at = if tokens[at].word().is_some() { tree(tokens, at, &parts, found) } else { at + 1 };
                    if tokens.get(at).and_then(Token::word) == Some("as") {
                        at += 2;
                    }
                }
                return at + 1;
            }
            _ => break, // a glob, or generic arguments: the path so far is what counts
        }
        if !joined(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push(parts);
    at
}

/// Ranges of tokens that are compiled for tests alone: the item after each `#[cfg(test)]`.
pub(crate) fn test_ranges(tokens: &[Token]) -> Vec<Range<usize>> {
    attributes(tokens, &["cfg", "(", "test", ")"]).into_iter().map(|at| at..item_end(tokens, at)).collect()
}

/// Places just after each attribute `#[...]` that begins with these words and signs.
pub(crate) fn attributes(tokens: &[Token], words: &[&str]) -> Vec<usize> {
    let same = |token: &Token, text: &str| match &token.kind {
        Kind::Word(word) => word == text,
        Kind::Sign(sign) => text.chars().eq([*sign]),
        Kind::Literal => false,
    };
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let open = at + 1 + usize::from(tokens.get(at + 1).is_some_and(|token| token.is('!')));
        let begins = tokens[at].is('#') && tokens.get(open).is_some_and(|token| token.is('['));
        let inside = tokens.get(open + 1..open + 1 + words.len());
        if begins && inside.is_some_and(|inside| inside.iter().zip(words).all(|(token, text)| same(token, text))) {
            found.push(closing(tokens, open) + 1);
        }
    }
    found
}

/// The place of the bracket that closes the one here.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Where the item that begins here ends: after its `;`, or its first block.
pub(crate) fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].kind {
            Kind::Sign(';') => return at + 1,
            Kind::Sign('{') => return closing(tokens, at) + 1,
            Kind::Sign('(' | '[') => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    at
}
