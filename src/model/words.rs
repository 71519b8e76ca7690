//! Words in messages: what a text should have been, and what was probably meant.

use strum::VariantNames;

/// `"x" is not a, b or c`, of what an enum knows.
pub fn one_of<T: VariantNames>(text: &str) -> String {
    match T::VARIANTS {
        [] => format!("{text:?} is unknown"),
        [only] => format!("{text:?} is not {only}"),
        [first @ .., last] => format!("{text:?} is not {} or {last}", first.join(", ")),
    }
}

/// What is near enough of the known words, the nearest if several are: a letter in three may be wrong, up to four of
/// them, two that are swapped counting as one; or it begins as one does. Integers, as refusals are kept in State.
pub fn nearest<'a, T>(wanted: &str, known: impl IntoIterator<Item = &'a T>) -> Option<&'a str>
where
    T: 'a + AsRef<str> + ?Sized,
{
    let edits = |k: &str| strsim::damerau_levenshtein(k, wanted);
    let near = |k: &&str| (wanted.len() >= 3 && k.starts_with(wanted)) || edits(k) <= (k.len() / 3).clamp(1, 4);
    known.into_iter().map(AsRef::as_ref).filter(near).min_by_key(|k| edits(k))
}
