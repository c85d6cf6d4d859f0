//! Attribute lists (draft-pantos-hls-rfc8216bis-20 §4.2), read strictly.

use super::report::Report;

/// The attributes of one tag.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Attributes {
    pairs: Vec<(String, Value)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Quoted(String),
    Bare(String),
}

/// What an attribute's value has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Integer,
    Float,
    SignedFloat,
    Hex,
    Quoted,
    /// A quoted-string that may be empty.
    QuotedEmpty,
    Resolution,
    Enum(&'static [&'static str]),
    /// A quoted-string, or the one word.
    QuotedOr(&'static str),
}

impl Attributes {
    /// Reads `text`, the part of `tag`'s line behind the colon; what breaks §4.2 is reported.
    pub(crate) fn parse(tag: &str, text: &str, at: &str, report: &mut Report) -> Self {
        let mut pairs: Vec<(String, Value)> = Vec::new();
        let mut rest = text;
        let seen = |why: &str| format!("{tag}:{text} ({why})");
        while !rest.is_empty() {
            let Some((name, after)) = rest.split_once('=') else {
                report.must("§4.2", at, SYNTAX, seen("an attribute without ="));
                break;
            };
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
            {
                report.must(
                    "§4.2",
                    at,
                    "an AttributeName holds only A-Z, 0-9 and -",
                    seen(name),
                );
            }
            let (value, behind) = match after.strip_prefix('"') {
                Some(quoted) => match quoted.split_once('"') {
                    Some((inside, behind)) => (Value::Quoted(inside.to_owned()), behind),
                    None => {
                        report.must("§4.2", at, SYNTAX, seen("a quoted-string without an end"));
                        break;
                    }
                },
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    (Value::Bare(after[..end].to_owned()), &after[end..])
                }
            };
            if let Value::Bare(bare) = &value
                && (bare.is_empty() || bare.contains([' ', '\t', '"']))
            {
                report.must(
                    "§4.2",
                    at,
                    SYNTAX,
                    seen("an empty value, or whitespace or quotes in one"),
                );
            }
            if pairs.iter().any(|(other, _)| other == name) {
                report.must(
                    "§4.2",
                    at,
                    "an AttributeName does not appear twice in a list",
                    seen(name),
                );
            }
            pairs.push((name.to_owned(), value));
            rest = match behind.strip_prefix(',') {
                Some("") => {
                    report.must("§4.2", at, SYNTAX, seen("a comma at the end"));
                    ""
                }
                Some(next) => next,
                None if behind.is_empty() => "",
                None => {
                    report.must("§4.2", at, SYNTAX, seen("no comma behind a quoted-string"));
                    break;
                }
            };
        }
        Self { pairs }
    }

    /// Checks each known attribute's type, and that those named in `required` are there.
    pub(crate) fn check(
        &self,
        tag: &str,
        clause: &'static str,
        known: &[(&str, Kind)],
        required: &[&str],
        at: &str,
        report: &mut Report,
    ) {
        for (name, value) in &self.pairs {
            match known.iter().find(|(known, _)| known == name) {
                Some((_, kind)) if !kind.fits(value) => {
                    let seen = format!("{tag}: {name}={value:?} is no {kind:?}");
                    report.must(
                        "§4.2",
                        at,
                        "an attribute's value has the type that its definition says",
                        seen,
                    );
                }
                Some(_) => {}
                None if name.starts_with("X-") || name.starts_with("REQ-") => {}
                None => report.note(
                    clause,
                    at,
                    "an attribute that the draft does not define",
                    format!("{tag}: {name}"),
                ),
            }
        }
        for name in required.iter().filter(|name| self.value(name).is_none()) {
            report.must(
                clause,
                at,
                "a REQUIRED attribute is there",
                format!("{tag} without {name}"),
            );
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.pairs
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    /// The value's text, quoted or not.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).map(|value| match value {
            Value::Quoted(text) | Value::Bare(text) => text.as_str(),
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(crate) fn yes(&self, name: &str) -> bool {
        self.text(name) == Some("YES")
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn seconds(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        let float = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                && text.parse::<f64>().is_ok()
        };
        match (self, value) {
            (Self::Integer, Value::Bare(text)) => decimal(text).is_some(),
            (Self::Float, Value::Bare(text)) => float(text),
            (Self::SignedFloat, Value::Bare(text)) => float(text.strip_prefix('-').unwrap_or(text)),
            (Self::Hex, Value::Bare(text)) => text
                .strip_prefix("0x")
                .or_else(|| text.strip_prefix("0X"))
                .is_some_and(|hex| {
                    !hex.is_empty()
                        && hex
                            .bytes()
                            .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
                }),
            (Self::Quoted | Self::QuotedOr(_), Value::Quoted(text)) => !text.is_empty(),
            (Self::QuotedEmpty, Value::Quoted(_)) => true,
            (Self::QuotedOr(word), Value::Bare(text)) => text == word,
            (Self::Resolution, Value::Bare(text)) => text
                .split_once('x')
                .is_some_and(|(width, height)| decimal(width).is_some() && decimal(height).is_some()),
            (Self::Enum(words), Value::Bare(text)) => words.contains(&text.as_str()),
            _ => false,
        }
    }
}

/// A decimal-integer: 1 to 20 digits, at most 2^64-1.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

const SYNTAX: &str = "an attribute-list is NAME=VALUE pairs with commas between and no whitespace";

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> usize {
        let mut report = Report::default();
        Attributes::parse("EXT-X-TEST", text, "test", &mut report);
        report.findings.len()
    }

    #[test]
    fn a_proper_list_has_no_fault() {
        let mut report = Report::default();
        let list = Attributes::parse("T", "A=1,B=\"x,y=z\",C-2=YES,D=1.5", "test", &mut report);
        assert_eq!(report.findings, []);
        assert_eq!(list.text("B"), Some("x,y=z"));
        assert_eq!(
            (list.number("A"), list.seconds("D"), list.yes("C-2")),
            (Some(1), Some(1.5), true)
        );
    }

    #[test]
    fn each_break_of_the_syntax_is_found() {
        for text in [
            "A",
            "a=1",
            "A=1,A=2",
            "A=",
            "A= 1",
            "A=\"x",
            "A=1,",
            "A=\"x\"B=1",
            "A=x\"y\"",
        ] {
            assert!(faults(text) > 0, "{text}");
        }
    }

    #[test]
    fn each_type_refuses_what_is_another() {
        let bare = |text: &str| Value::Bare(text.to_owned());
        let quoted = |text: &str| Value::Quoted(text.to_owned());
        for (kind, good, bad) in [
            (
                Kind::Integer,
                bare("18446744073709551615"),
                bare("18446744073709551616"),
            ),
            (Kind::Integer, bare("0"), bare("-1")),
            (Kind::Float, bare("1.50"), bare("1e3")),
            (Kind::Float, bare("2"), quoted("2")),
            (Kind::SignedFloat, bare("-2.5"), bare("+2.5")),
            (Kind::Hex, bare("0x0AF"), bare("0af")),
            (Kind::Quoted, quoted("x"), quoted("")),
            (Kind::QuotedEmpty, quoted(""), bare("x")),
            (Kind::Resolution, bare("1280x720"), bare("1280X720")),
            (Kind::Enum(&["YES", "NO"]), bare("NO"), bare("no")),
            (Kind::QuotedOr("NONE"), bare("NONE"), bare("none")),
        ] {
            assert!(kind.fits(&good), "{kind:?} {good:?}");
            assert!(!kind.fits(&bad), "{kind:?} {bad:?}");
        }
    }
}
