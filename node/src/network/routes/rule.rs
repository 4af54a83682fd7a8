//! Which requests a route is for: Traefik's rules, as people have them in their labels.
//!
//! ```text
//! rule    := both ( "||" both )*
//! both    := one ( "&&" one )*
//! one     := "!" one | "(" rule ")" | Matcher "(" `text` ( "," `text` )* ")"
//! ```
//!
//! A text stands between backquotes or double quotes. Known matchers: `Host`, `Path`, `PathPrefix`, `Method`, and
//! `Header` (`Headers` in Traefik 2) with a name and a value. One that is not known makes the whole rule an error: a
//! rule that is half understood would send requests where they do not belong.

use std::fmt;

/// How deeply a rule may be nested.
const MAX_DEPTH: usize = 32;
/// The longest rule, in bytes.
const MAX_BYTES: usize = 4096;

/// A rule, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The request's host name, without port, is one of these; letters' case does not count.
    Host(Vec<String>),
    /// The path is one of these.
    Path(Vec<String>),
    /// The path begins with one of these.
    PathPrefix(Vec<String>),
    /// The method is one of these.
    Method(Vec<String>),
    /// A header has this value.
    Header(String, String),
    Not(Box<Rule>),
    All(Vec<Rule>),
    Any(Vec<Rule>),
}

/// What a rule is asked about.
pub trait Request {
    /// The host name, without port.
    fn host(&self) -> &str;
    fn path(&self) -> &str;
    fn method(&self) -> &str;
    fn has_header(&self, name: &str, value: &str) -> bool;
}

/// Why a rule is not understood, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("the rule has {0} bytes, more than {MAX_BYTES}")]
    TooLong(usize),
    #[error("the rule is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("'{0}' is not known here: Host, Path, PathPrefix, Method and Header are")]
    UnknownMatcher(String),
    #[error("'{0}' takes {1}")]
    Arguments(&'static str, &'static str),
    #[error("{wanted} is missing at character {at}")]
    Expected { wanted: &'static str, at: usize },
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text.len() > MAX_BYTES {
            return Err(RuleError::TooLong(text.len()));
        }
        let mut parser = Parser { text, at: 0 };
        let rule = parser.any(0)?;
        parser.skip_blanks();
        if parser.at < text.len() { Err(parser.expected("the end")) } else { Ok(rule) }
    }

    /// Whether the rule is about this request.
    pub fn matches(&self, request: &impl Request) -> bool {
        match self {
            Self::Host(hosts) => hosts.iter().any(|host| host.eq_ignore_ascii_case(request.host())),
            Self::Path(paths) => paths.iter().any(|path| path == request.path()),
            Self::PathPrefix(paths) => paths.iter().any(|path| request.path().starts_with(path)),
            Self::Method(methods) => {
                methods.iter().any(|method| method.eq_ignore_ascii_case(request.method()))
            }
            Self::Header(name, value) => request.has_header(name, value),
            Self::Not(rule) => !rule.matches(request),
            Self::All(rules) => rules.iter().all(|rule| rule.matches(request)),
            Self::Any(rules) => rules.iter().any(|rule| rule.matches(request)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expected(&self, wanted: &'static str) -> RuleError {
        let at = self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        RuleError::Expected { wanted, at }
    }

    fn any(&mut self, depth: usize) -> Result<Rule, RuleError> {
        let mut rules = vec![self.all(depth)?];
        while self.take("||") {
            rules.push(self.all(depth)?);
        }
        Ok(one_or(rules, Rule::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Rule, RuleError> {
        let mut rules = vec![self.one(depth)?];
        while self.take("&&") {
            rules.push(self.one(depth)?);
        }
        Ok(one_or(rules, Rule::All))
    }

    fn one(&mut self, depth: usize) -> Result<Rule, RuleError> {
        if depth >= MAX_DEPTH {
            return Err(RuleError::TooDeep);
        }
        if self.take("!") {
            return Ok(Rule::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take("(") {
            let rule = self.any(depth + 1)?;
            return if self.take(")") { Ok(rule) } else { Err(self.expected("')'")) };
        }
        self.skip_blanks();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(self.expected("a matcher"));
        }
        self.at += length;
        let arguments = self.arguments()?;
        matcher(&name, arguments)
    }

    fn arguments(&mut self) -> Result<Vec<String>, RuleError> {
        if !self.take("(") {
            return Err(self.expected("'('"));
        }
        let mut arguments = vec![self.argument()?];
        while self.take(",") {
            arguments.push(self.argument()?);
        }
        if self.take(")") { Ok(arguments) } else { Err(self.expected("')'")) }
    }

    fn argument(&mut self) -> Result<String, RuleError> {
        for quote in ["`", "\""] {
            if self.take(quote) {
                let end =
                    self.rest().find(quote).ok_or_else(|| self.expected("a closing quote"))?;
                let argument = self.rest().get(..end).unwrap_or_default().to_owned();
                self.at += end + quote.len();
                return Ok(argument);
            }
        }
        Err(self.expected("a text between backquotes"))
    }
}

fn one_or(mut rules: Vec<Rule>, several: impl FnOnce(Vec<Rule>) -> Rule) -> Rule {
    match (rules.len(), rules.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            rules.extend(last);
            several(rules)
        }
    }
}

fn matcher(name: &str, arguments: Vec<String>) -> Result<Rule, RuleError> {
    match name {
        "Host" => Ok(Rule::Host(arguments)),
        "Path" => Ok(Rule::Path(arguments)),
        "PathPrefix" => Ok(Rule::PathPrefix(arguments)),
        "Method" => Ok(Rule::Method(arguments)),
        "Header" | "Headers" => match <[String; 2]>::try_from(arguments) {
            Ok([header, value]) => Ok(Rule::Header(header, value)),
            Err(_) => Err(RuleError::Arguments("Header", "a name and a value")),
        },
        other => Err(RuleError::UnknownMatcher(other.to_owned())),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |f: &mut fmt::Formatter<'_>, name: &str, texts: &[String]| {
            write!(f, "{name}(`{}`)", texts.join("`, `"))
        };
        let joined = |f: &mut fmt::Formatter<'_>, rules: &[Self], by: &str| {
            let rules: Vec<String> = rules.iter().map(|rule| format!("{rule}")).collect();
            write!(f, "({})", rules.join(by))
        };
        match self {
            Self::Host(hosts) => listed(f, "Host", hosts),
            Self::Path(paths) => listed(f, "Path", paths),
            Self::PathPrefix(paths) => listed(f, "PathPrefix", paths),
            Self::Method(methods) => listed(f, "Method", methods),
            Self::Header(name, value) => write!(f, "Header(`{name}`, `{value}`)"),
            Self::Not(rule) => write!(f, "!{rule}"),
            Self::All(rules) => joined(f, rules, " && "),
            Self::Any(rules) => joined(f, rules, " || "),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Get(&'static str, &'static str);

    impl Request for Get {
        fn host(&self) -> &str {
            self.0
        }
        fn path(&self) -> &str {
            self.1
        }
        fn method(&self) -> &str {
            "GET"
        }
        fn has_header(&self, name: &str, value: &str) -> bool {
            name.eq_ignore_ascii_case("x-version") && value == "2"
        }
    }

    fn says(rule: &str, host: &'static str, path: &'static str) -> bool {
        Rule::parse(rule).unwrap().matches(&Get(host, path))
    }

    #[test]
    fn rules_mean_what_they_mean_in_traefik() {
        assert!(says("Host(`a.example`)", "A.Example", "/"));
        assert!(!says("Host(`a.example`)", "b.example", "/"));
        assert!(says("Host(`a.example`, `b.example`)", "b.example", "/"));
        assert!(says("Host(\"a.example\") && PathPrefix(`/api`)", "a.example", "/api/1"));
        assert!(!says("Host(`a.example`)&&PathPrefix(`/api`)", "a.example", "/other"));
        assert!(says("Host(`a`) || Host(`b`) && Path(`/x`)", "a", "/y"), "&& binds more closely");
        assert!(!says("(Host(`a`) || Host(`b`)) && Path(`/x`)", "a", "/y"));
        assert!(says("!Path(`/x`) && Method(`get`)", "a", "/y"));
        assert!(says("Headers(`X-Version`, `2`)", "a", "/"));
        assert!(says(" ( ( Path( `/a b` , `/c` ) ) ) ", "a", "/c"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let error = |rule: &str| Rule::parse(rule).unwrap_err().to_string();
        assert!(error("HostRegexp(`.*`)").contains("'HostRegexp' is not known"));
        assert_eq!(error("Host(`a`) &&"), "a matcher is missing at character 13");
        assert_eq!(error("Host(a)"), "a text between backquotes is missing at character 6");
        assert_eq!(error("Host(`ä`"), "')' is missing at character 9");
        assert_eq!(error("Host(`a`) Host(`b`)"), "the end is missing at character 11");
        assert_eq!(error("Header(`a`)"), "'Header' takes a name and a value");
        assert!(error(&"(".repeat(100)).contains("nested"));
        assert!(error(&"x".repeat(5000)).contains("5000 bytes"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[Host(`a\"ä)!&|, ]{0,40}") {
            let _ = Rule::parse(&text);
        }

        #[test]
        fn a_rule_reads_as_it_is_shown(host in "[a-z.]{1,9}", path in "/[a-z/]{0,9}", not in any::<bool>()) {
            let not = if not { "!" } else { "" };
            let rule = Rule::parse(&format!("{not}(Host(`{host}`) || Path(`{path}`)) && Method(`GET`)")).unwrap();
            prop_assert_eq!(Rule::parse(&rule.to_string()).unwrap(), rule);
        }
    }
}
