//! From a template's text to its parts: plain text, actions between double braces, and branches.
//!
//! The grammar is the part of Go's `text/template` that Swarm's templates are written in: fields,
//! calls, pipes, parentheses, strings and numbers, `if` with `else`, comments, and dashes that trim.
//! Whatever else Go knows (variables, loops, nested templates) is refused by name.

use super::TemplateError;

/// How deep parentheses and branches may nest: what a client sends must not exhaust the stack.
const MAX_DEPTH: usize = 32;

/// One part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Show(Pipe),
    If { condition: Pipe, then: Vec<Part>, otherwise: Vec<Part> },
}

/// Commands from left to right; each gets the result of the one before as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipe(pub(super) Vec<Vec<Term>>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// `.Task.Slot`; empty is the dot alone.
    Field(Vec<String>),
    /// The name of a function.
    Call(String),
    Text(String),
    Number(i64),
    Bool(bool),
    /// `(index .Service.Labels "x")`, with the fields behind it.
    Group(Pipe, Vec<String>),
}

fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError(text.into())
}

enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

/// Reads a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, TemplateError> {
    let pieces = split(text)?;
    let mut rest = pieces.iter();
    let (parts, end) = parts(&mut rest, 0)?;
    match end {
        Closed::NotAtAll => Ok(parts),
        Closed::Else(_) => Err(wrong("{{else}} stands outside of any {{if}}")),
        Closed::End => Err(wrong("{{end}} stands outside of any {{if}}")),
    }
}

/// What ended a list of parts.
enum Closed {
    NotAtAll,
    Else(Option<Pipe>),
    End,
}

fn parts<'a>(
    pieces: &mut impl Iterator<Item = &'a Piece<'a>>,
    depth: usize,
) -> Result<(Vec<Part>, Closed), TemplateError> {
    if depth > MAX_DEPTH {
        return Err(wrong(format!("more than {MAX_DEPTH} branches are nested")));
    }
    let mut parts = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text("") => continue,
            Piece::Text(text) => {
                parts.push(Part::Text((*text).to_owned()));
                continue;
            }
            Piece::Action(action) => *action,
        };
        if action.starts_with("/*") {
            if !action.ends_with("*/") || action.len() < 4 {
                return Err(wrong(format!("{{{{{action}}}}}: the comment does not end with */")));
            }
            continue;
        }
        let (word, after) = first_word(action);
        match word {
            "end" => return Ok((parts, Closed::End)),
            "else" => return Ok((parts, Closed::Else(else_condition(after)?))),
            "if" => parts.push(branch(pipe(after)?, pieces, depth)?),
            "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                return Err(wrong(format!(
                    "{{{{{action}}}}}: '{word}' is not supported: these templates know if, else and end"
                )));
            }
            _ => parts.push(Part::Show(pipe(action)?)),
        }
    }
    Ok((parts, Closed::NotAtAll))
}

fn first_word(action: &str) -> (&str, &str) {
    let end = action.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(action.len());
    action.split_at(end)
}

fn else_condition(after: &str) -> Result<Option<Pipe>, TemplateError> {
    let after = after.trim();
    match first_word(after) {
        ("", "") => Ok(None),
        ("if", condition) => pipe(condition).map(Some),
        _ => {
            Err(wrong(format!("{{{{else {after}}}}}: expected {{{{else}}}} or {{{{else if …}}}}")))
        }
    }
}

fn branch<'a>(
    condition: Pipe,
    pieces: &mut impl Iterator<Item = &'a Piece<'a>>,
    depth: usize,
) -> Result<Part, TemplateError> {
    let (then, end) = parts(pieces, depth + 1)?;
    let otherwise = match end {
        Closed::NotAtAll => return Err(wrong("an {{if}} has no {{end}}")),
        Closed::End => Vec::new(),
        // One `end` closes the whole chain of `else if`.
        Closed::Else(Some(condition)) => vec![branch(condition, pieces, depth + 1)?],
        Closed::Else(None) => match parts(pieces, depth + 1)? {
            (otherwise, Closed::End) => otherwise,
            _ => return Err(wrong("an {{else}} has no {{end}}")),
        },
    };
    Ok(Part::If { condition, then, otherwise })
}

/// Cuts at the braces; dashes inside them trim the text beside them.
fn split(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(open) = rest.find("{{") {
        let inside = &rest[open + 2..];
        let len = action_length(inside)?;
        let mut action = &inside[..len];
        let mut before = &rest[..open];
        if trim {
            before = before.trim_start();
        }
        if let Some(cut) = action.strip_prefix('-').filter(|a| a.starts_with(char::is_whitespace)) {
            action = cut;
            before = before.trim_end();
        }
        trim = false;
        if let Some(cut) = action.strip_suffix('-').filter(|a| a.ends_with(char::is_whitespace)) {
            action = cut;
            trim = true;
        }
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Action(action.trim()));
        rest = &inside[len + 2..];
    }
    pieces.push(Piece::Text(if trim { rest.trim_start() } else { rest }));
    Ok(pieces)
}

/// Where the closing braces are; those inside of strings do not count.
fn action_length(inside: &str) -> Result<usize, TemplateError> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if inside[at..].starts_with("}}") => return Ok(at),
            (None, _) => {}
        }
    }
    let shown: String = inside.chars().take(40).collect();
    Err(wrong(format!("{{{{{shown}: the action does not end with }}}}")))
}

fn pipe(action: &str) -> Result<Pipe, TemplateError> {
    let mut reader = Reader { action, rest: action };
    let pipe = reader.pipe(0)?;
    match reader.rest.trim_start() {
        "" => Ok(pipe),
        _ => Err(reader.wrong("a closing parenthesis is too many")),
    }
}

struct Reader<'a> {
    action: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn wrong(&self, why: &str) -> TemplateError {
        wrong(format!("{{{{{}}}}}: {why}", self.action))
    }

    fn pipe(&mut self, depth: usize) -> Result<Pipe, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("too many parentheses are nested"));
        }
        let mut commands = Vec::new();
        loop {
            let mut terms = Vec::new();
            while let Some(term) = self.term(depth)? {
                terms.push(term);
            }
            if terms.is_empty() {
                return Err(self.wrong("there is nothing to show"));
            }
            commands.push(terms);
            match self.rest.strip_prefix('|') {
                Some(rest) => self.rest = rest,
                None => return Ok(Pipe(commands)),
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<Option<Term>, TemplateError> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        match first {
            '|' | ')' => Ok(None),
            '(' => {
                self.rest = &self.rest[1..];
                let pipe = self.pipe(depth + 1)?;
                match self.rest.trim_start().strip_prefix(')') {
                    Some(rest) => self.rest = rest,
                    None => return Err(self.wrong("a closing parenthesis is missing")),
                }
                let fields = if self.rest.starts_with('.') { self.fields()? } else { Vec::new() };
                Ok(Some(Term::Group(pipe, fields)))
            }
            '.' => self.fields().map(Term::Field).map(Some),
            '"' => self.quoted().map(Term::Text).map(Some),
            '`' => {
                let Some(end) = self.rest[1..].find('`') else {
                    return Err(self.wrong("a string does not end"));
                };
                let text = self.rest[1..=end].to_owned();
                self.rest = &self.rest[end + 2..];
                Ok(Some(Term::Text(text)))
            }
            '$' => Err(self.wrong("variables are not supported")),
            '0'..='9' | '-' | '+' => {
                let word = self.word();
                let number =
                    word.parse().map_err(|_| self.wrong(&format!("'{word}' is no number")))?;
                Ok(Some(Term::Number(number)))
            }
            c if c.is_alphabetic() || c == '_' => Ok(Some(match self.word() {
                "true" => Term::Bool(true),
                "false" => Term::Bool(false),
                name => Term::Call(name.to_owned()),
            })),
            other => Err(self.wrong(&format!("'{other}' was not expected"))),
        }
    }

    /// Up to what ends a term.
    fn word(&mut self) -> &'a str {
        let stop = |c: char| c.is_whitespace() || matches!(c, '|' | ')' | '(' | '"' | '`');
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn fields(&mut self) -> Result<Vec<String>, TemplateError> {
        let word = self.word().to_owned();
        let path = word.strip_prefix('.').unwrap_or(&word);
        if path.is_empty() {
            return Ok(Vec::new());
        }
        path.split('.')
            .map(|name| {
                let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
                if plain {
                    return Ok(name.to_owned());
                }
                Err(self.wrong(&format!(
                    "'{word}' is no field; a label with dots or dashes is read with {{{{index .Service.Labels \"name\"}}}}"
                )))
            })
            .collect()
    }

    /// A string with Go's escapes.
    fn quoted(&mut self) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 2..];
                    return Ok(out);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    _ => {
                        return Err(
                            self.wrong("an escape in a string is none of \\n \\t \\r \\\" \\\\")
                        );
                    }
                },
                c => out.push(c),
            }
        }
        Err(self.wrong("a string does not end"))
    }
}
