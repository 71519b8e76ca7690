//! Words in messages: what a text should have been, what was probably meant, and what is said of a name that is not
//! there.

use std::fmt::Display;

use strum::VariantNames;

/// Most names that a message lists.
const LISTED: usize = 8;

/// `"x" is not a, b or c`, of what an enum knows.
pub fn one_of<T: VariantNames>(text: &str) -> String {
    match T::VARIANTS {
        [] => format!("{text:?} is unknown"),
        [only] => format!("{text:?} is not {only}"),
        [first @ .., last] => format!("{text:?} is not {} or {last}", first.join(", ")),
    }
}

/// What is near enough of the known words, the nearest if several are: a letter in three may be wrong, up to four of
/// them, two that are swapped counting as one; or it begins as one does. Of `a/b` each part is held so. Integers, as
/// refusals are kept in State.
pub fn nearest<'a, T>(wanted: &str, known: impl IntoIterator<Item = &'a T>) -> Option<&'a str>
where
    T: 'a + AsRef<str> + ?Sized,
{
    let edits = |k: &str| strsim::damerau_levenshtein(k, wanted);
    known.into_iter().map(AsRef::as_ref).filter(|k| near(wanted, k)).min_by_key(|k| edits(k))
}

fn near(wanted: &str, known: &str) -> bool {
    match (wanted.split_once('/'), known.split_once('/')) {
        (Some((a, b)), Some((c, d))) => near(a, c) && near(b, d),
        (None, None) => {
            (wanted.len() >= 3 && known.starts_with(wanted))
                || strsim::damerau_levenshtein(known, wanted) <= (known.len() / 3).min(4)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// What somebody can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Named {
    Deployment,
    Environment,
    Node,
    Package,
    Release,
    Rollout,
    Service,
    Switch,
    Worker,
}

impl Named {
    /// The one text for a name that is not there, on both sides of the wire: `KIND NAME does not exist: ` and what to
    /// do. `known` are the names of its kind that there are; of a release the versions.
    pub fn missing(self, name: &str, known: impl IntoIterator<Item = impl Display>) -> String {
        format!("{self} {name} does not exist: {}", self.instead(name, known))
    }

    /// What to do instead: the nearest name, or what there is and what makes one.
    pub fn instead(self, name: &str, known: impl IntoIterator<Item = impl Display>) -> String {
        let make = match self {
            Self::Rollout => return "`slipway rollout list --all` shows those that do".into(),
            Self::Switch => return "`slipway traffic history` shows those that do".into(),
            Self::Package => return "`slipway release push` uploads it".into(),
            Self::Environment => format!("`slipway environment create {name}` makes it"),
            Self::Release => format!("`slipway release push {name} DIR` makes it"),
            Self::Deployment | Self::Service => "`slipway apply -f shop.yaml` makes one".into(),
            Self::Worker => "`slipwayd agent` on a machine makes one".into(),
            Self::Node => "`slipway cluster join` adds one".into(),
        };
        let mut known: Vec<String> = known.into_iter().map(|k| k.to_string()).collect();
        known.sort();
        known.dedup();
        let wanted = name.rsplit(' ').next().unwrap_or(name);
        match nearest(wanted, &known) {
            Some(near) => format!("did you mean {near}?"),
            None if known.is_empty() => format!("there is none yet; {make}"),
            None => {
                let more = known.len().saturating_sub(LISTED);
                known.truncate(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("there is {}{more}; {make}", known.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_told_with_the_nearest_one_or_with_all_there_are() {
        let there = ["production/shop", "staging/shop"];
        let said = |name: &str| Named::Deployment.instead(name, there);
        assert_eq!(said("production/shp"), "did you mean production/shop?");
        assert_eq!(said("productoin/shop"), "did you mean production/shop?");
        let all = "there is production/shop, staging/shop; `slipway apply -f shop.yaml` makes one";
        assert_eq!((said("production/till").as_str(), said("shop").as_str()), (all, all), "as far as a name goes");
        assert_eq!(Named::Worker.instead("w9", ["w1"]), "there is w1; `slipwayd agent` on a machine makes one");
        let none: [&str; 0] = [];
        let said = Named::Release.missing("shop 1.0.1", none);
        assert_eq!(
            said,
            "release shop 1.0.1 does not exist: there is none yet; `slipway release push shop 1.0.1 DIR` makes it"
        );
        assert_eq!(Named::Release.instead("shop 1.0.1", ["1.0.0"]), "did you mean 1.0.0?");
        let many = (10..30).map(|n| format!("s{n}"));
        assert!(
            Named::Service
                .instead("other", many)
                .starts_with("there is s10, s11, s12, s13, s14, s15, s16, s17 and 12 more; ")
        );
    }
}
