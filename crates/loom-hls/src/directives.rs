//! Delivery directives (RFC 8216bis §6.2.5): what a request for a media playlist asks for beside the playlist.

/// `_HLS_msn`, `_HLS_part` and `_HLS_skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Directives {
    pub(crate) block: Option<Block>,
    pub(crate) skip: Option<Skip>,
}

/// `_HLS_msn` and `_HLS_part` (§6.2.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) segment: u64,
    pub(crate) part: Option<u64>,
}

/// `_HLS_skip` (§6.2.5.1): which tags a delta update leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Skip {
    /// `YES`: segments.
    Segments,
    /// `v2`: segments and date ranges.
    DateRanges,
}

impl Directives {
    /// Reads a query. Names that are no directives of ours are ignored.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, String> {
        let (mut segment, mut part, mut skip) = (None, None, None);
        for (name, value) in pairs(query) {
            let into = match name {
                "_HLS_msn" => &mut segment,
                "_HLS_part" => &mut part,
                "_HLS_skip" => {
                    let asked = match value {
                        "YES" => Skip::Segments,
                        "v2" => Skip::DateRanges,
                        _ => return Err("_HLS_skip is YES or v2 (RFC 8216bis §6.2.5.1)".to_owned()),
                    };
                    if skip.replace(asked).is_some() {
                        return Err("_HLS_skip stands there twice (RFC 8216bis §6.2.5)".to_owned());
                    }
                    continue;
                }
                _ => continue,
            };
            let plain = (1..=15).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
            let value = plain.then(|| value.parse::<u64>().ok()).flatten();
            let value =
                value.ok_or_else(|| format!("{name} is not a decimal integer (RFC 8216bis §6.2.5.2)"))?;
            if into.replace(value).is_some() {
                return Err(format!("{name} stands there twice (RFC 8216bis §6.2.5.2)"));
            }
        }
        let block = match (segment, part) {
            (Some(segment), part) => Some(Block { segment, part }),
            (None, Some(_)) => return Err("_HLS_part needs _HLS_msn (RFC 8216bis §6.2.5.2)".to_owned()),
            (None, None) => None,
        };
        Ok(Self { block, skip })
    }
}

/// The names and values of a query.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_read_and_what_makes_no_sense_names_its_clause() {
        let read = Directives::parse(Some("a=b&_HLS_msn=7&_HLS_part=2&_HLS_skip=v2")).unwrap();
        assert_eq!(
            read.block,
            Some(Block {
                segment: 7,
                part: Some(2)
            })
        );
        assert_eq!(read.skip, Some(Skip::DateRanges));
        assert_eq!(
            Directives::parse(Some("_HLS_skip=YES")).unwrap().skip,
            Some(Skip::Segments)
        );
        for query in [
            "_HLS_skip=NO",
            "_HLS_skip=",
            "_HLS_skip=YES&_HLS_skip=v2",
            "_HLS_msn=1&_HLS_msn=2",
            "_HLS_part=1",
            "_HLS_msn=1&_HLS_part=1&_HLS_part=1",
            "_HLS_msn=+1",
        ] {
            let why = Directives::parse(Some(query)).unwrap_err();
            assert!(why.contains("RFC 8216bis §6.2.5"), "{query}: {why}");
        }
    }
}
