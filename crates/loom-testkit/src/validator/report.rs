use std::fmt;

/// How binding a rule is (BCP 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The clause says MUST, REQUIRED or SHALL, or makes a statement that can only be true or false.
    Must,
    /// The clause says SHOULD or RECOMMENDED, or is a requirement of a profile (appendix B).
    Should,
    /// Worth knowing, and no violation.
    Note,
}

/// One rule broken in one place, however often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How binding the rule is.
    pub level: Level,
    /// Where the rule stands: a clause of draft-pantos-hls-rfc8216bis-20 (`§4.4.4.9`), or another document's.
    pub clause: &'static str,
    /// The rule, in one sentence.
    pub rule: &'static str,
    /// The playlist or file that breaks it.
    pub at: String,
    /// What was seen, the first times.
    pub seen: Vec<String>,
    /// How often it was seen.
    pub count: usize,
}

/// What a validation found, and what it looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were met.
    pub findings: Vec<Finding>,
    /// Media playlists followed.
    pub playlists: usize,
    /// Versions of playlists read.
    pub reloads: usize,
    /// Segments read.
    pub segments: usize,
    /// Parts read.
    pub parts: usize,
    /// Bytes of media read.
    pub bytes: u64,
}

impl Report {
    /// The violations of a MUST or a SHOULD.
    pub fn violations(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.level != Level::Note)
    }

    /// Whether a rule of this clause was found broken.
    pub fn breaks(&self, clause: &str) -> bool {
        self.violations().any(|finding| finding.clause == clause)
    }

    pub(crate) fn must(
        &mut self,
        clause: &'static str,
        at: &str,
        rule: &'static str,
        seen: impl fmt::Display,
    ) {
        self.add(Level::Must, clause, at, rule, seen);
    }

    pub(crate) fn should(
        &mut self,
        clause: &'static str,
        at: &str,
        rule: &'static str,
        seen: impl fmt::Display,
    ) {
        self.add(Level::Should, clause, at, rule, seen);
    }

    pub(crate) fn note(
        &mut self,
        clause: &'static str,
        at: &str,
        rule: &'static str,
        seen: impl fmt::Display,
    ) {
        self.add(Level::Note, clause, at, rule, seen);
    }

    fn add(
        &mut self,
        level: Level,
        clause: &'static str,
        at: &str,
        rule: &'static str,
        seen: impl fmt::Display,
    ) {
        let same = |f: &&mut Finding| f.level == level && f.clause == clause && f.rule == rule && f.at == at;
        match self.findings.iter_mut().find(same) {
            Some(finding) => {
                finding.count += 1;
                if finding.seen.len() < SEEN {
                    finding.seen.push(seen.to_string());
                }
            }
            None => self.findings.push(Finding {
                level,
                clause,
                rule,
                at: at.to_owned(),
                seen: vec![seen.to_string()],
                count: 1,
            }),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.playlists += other.playlists;
        self.reloads += other.reloads;
        self.segments += other.segments;
        self.parts += other.parts;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: {}", self.level, self.clause, self.at, self.rule)?;
        write!(f, " — {}", self.seen.join(" | "))?;
        match self.count - self.seen.len() {
            0 => Ok(()),
            more => write!(f, " | and {more} times more"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Finding> = self.findings.iter().collect();
        sorted.sort_by_key(|finding| finding.level);
        for finding in sorted {
            writeln!(f, "{finding}")?;
        }
        let of = |level| {
            self.findings
                .iter()
                .filter(|finding| finding.level == level)
                .count()
        };
        write!(
            f,
            "{} playlists in {} versions, {} segments, {} parts, {} bytes: {} of MUST, {} of SHOULD, {} notes",
            self.playlists,
            self.reloads,
            self.segments,
            self.parts,
            self.bytes,
            of(Level::Must),
            of(Level::Should),
            of(Level::Note)
        )
    }
}

/// How many sightings of one fault are told in full.
const SEEN: usize = 3;
